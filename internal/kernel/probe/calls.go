// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"regexp"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// inTracepoint is a tp_btf program on the tracepoint that vigie uses most.
func inTracepoint() ebpf.ProgramSpec {
	return ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sched_process_exec"}
}

func inIterator(target string, flags uint32) ebpf.ProgramSpec {
	return ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: target, Flags: flags}
}

func inLSM(hook string, flags uint32) ebpf.ProgramSpec {
	return ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook, Flags: flags}
}

// helper tests that the verifier lets a program of spec's kind call a helper.
func helper(fn asm.BuiltinFunc, name string, spec ebpf.ProgramSpec) func(*env) error {
	return func(e *env) error {
		return e.callable(fn.Call(), "helper "+name, spec)
	}
}

// kfunc tests that the verifier lets a program of spec's kind call a function of the kernel, which
// has one of the given names: some were renamed before their release.
func kfunc(spec ebpf.ProgramSpec, names ...string) func(*env) error {
	return func(e *env) error {
		for _, name := range names {
			var fn *btf.Func
			id, found, err := e.kernelType(name, &fn)
			if err != nil {
				return err
			}
			if found {
				return e.callable(kfuncCall(id), "kfunc "+name, spec)
			}
		}
		return &missingError{"kfunc " + names[0]}
	}
}

// kfuncCall calls a function of vmlinux by its BTF id.
func kfuncCall(id btf.TypeID) asm.Instruction {
	return asm.Instruction{
		OpCode:   asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call),
		Src:      asm.PseudoKfuncCall,
		Constant: int64(id),
	}
}

// callable loads a program that makes a call without having prepared its arguments. A verifier that
// complains of the arguments has accepted the call itself: it looks at the function first.
func (e *env) callable(call asm.Instruction, what string, spec ebpf.ProgramSpec) error {
	spec.Instructions = append(asm.Instructions{call}, returning(0)...)
	prog, err := e.load(&spec)
	if err == nil {
		return prog.Close()
	}
	var v *loadError
	if !errors.As(err, &v) {
		return err
	}
	for _, line := range v.log {
		if callRefused.MatchString(line) {
			return &refusedError{what: what, line: strings.TrimSpace(line), err: err}
		}
	}
	for _, line := range v.log {
		if callAccepted.MatchString(line) {
			return nil
		}
	}
	return err
}

var (
	// What kernels 5.15 to 6.18 say of a function that this program may not call.
	callRefused = regexp.MustCompile(`unknown func|invalid func|cannot use helper|cannot call|is not allowed|might sleep|must be sleepable|without JIT`)
	// What they say of its arguments, or of what the program did with it.
	callAccepted = regexp.MustCompile(`^R\d |^arg ?#\d|^Possibly NULL|Unreleased reference|inside bpf_rcu_read_lock|bpf_rcu_read_unlock is missing`)
)
