// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// once loads spec, attaches it with attach, and removes both.
func (e *env) once(spec *ebpf.ProgramSpec, attach func(*ebpf.Program) (io.Closer, error)) error {
	prog, err := e.load(spec)
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := attach(prog)
	if err != nil {
		return atAttach(err)
	}
	return step("detach", l.Close())
}

// raises loads spec as a program that raises a flag, attaches it, makes its hook be passed, and
// requires the flag.
func (e *env) raises(spec *ebpf.ProgramSpec, attach func(*ebpf.Program) (io.Closer, error), pass func() error) error {
	flag, err := newFlag()
	if err != nil {
		return err
	}
	defer flag.close()
	spec.Instructions = flag.raise()
	prog, err := e.load(spec)
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := attach(prog)
	if err != nil {
		return atAttach(err)
	}
	defer l.Close()
	if err := pass(); err != nil {
		return err
	}
	return flag.raised()
}

func attachTracing(prog *ebpf.Program) (io.Closer, error) {
	return link.AttachTracing(link.TracingOptions{Program: prog})
}

func attachLSM(prog *ebpf.Program) (io.Closer, error) {
	return link.AttachLSM(link.LSMOptions{Program: prog})
}

// tpBTF attaches a tp_btf program to a tracepoint.
func tpBTF(tracepoint string) func(*env) error {
	return func(e *env) error {
		return e.once(&ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: tracepoint}, attachTracing)
	}
}

// rawTP attaches a raw tracepoint program to a tracepoint.
func rawTP(tracepoint string) func(*env) error {
	return func(e *env) error {
		return e.once(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint}, func(prog *ebpf.Program) (io.Closer, error) {
			return link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: prog})
		})
	}
}

// tracepoint attaches to a tracepoint in the better of the two ways, tp_btf or raw.
func tracepoint(name string) func(*env) error {
	return func(e *env) error {
		err := tpBTF(name)(e)
		if err == nil || rawTP(name)(e) == nil {
			return nil
		}
		return err
	}
}

// traced attaches a tracing program to a function that touch makes run.
func traced(attachType ebpf.AttachType) func(*env) error {
	return func(e *env) error {
		return e.raises(&ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: attachType, AttachTo: touched}, attachTracing, touch)
	}
}

// fmodRet attaches a fmod_ret program that changes nothing to a function.
func fmodRet(function string) func(*env) error {
	return func(e *env) error {
		return e.once(&ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachModifyReturn, AttachTo: function}, attachTracing)
	}
}

// lsm attaches an lsm program to a hook that touch passes: a kernel without `bpf` among its active
// security modules accepts the program and never calls it.
func lsm(e *env) error {
	return e.raises(&ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: touchedHook}, attachLSM, touch)
}

// lsmSleepable does the same in a hook in which a program may sleep.
func lsmSleepable(e *env) error {
	return e.raises(&ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open", Flags: sleepable},
		attachLSM, func() error {
			f, err := os.Open(ownProgram)
			if err != nil {
				return atRun(err)
			}
			return f.Close()
		})
}

// lsmHook attaches an lsm program that allows everything to a hook. Whether hooks call programs at
// all is known from lsm: many of them cannot be passed without consequences.
func lsmHook(hook string) func(*env) error {
	return func(e *env) error {
		if err := e.once(&ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook}, attachLSM); err != nil {
			return err
		}
		return e.lsmCalls()
	}
}

func lsmCgroup(e *env) error {
	err := onCgroup(ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMCgroup, AttachTo: "socket_bind"})(e)
	if err != nil {
		return err
	}
	return e.lsmCalls()
}

// lsmCalls is errNotCalled when lsm programs are not called here.
func (e *env) lsmCalls() error {
	e.lsmOnce.Do(func() { e.lsmErr = lsm(e) })
	if errors.Is(e.lsmErr, errNotCalled) {
		return errNotCalled
	}
	return nil
}

// freplace replaces the only function of a program that is attached nowhere. Both need BTF of their
// own, which the library makes.
func freplace(*env) error {
	insns := returning(0)
	insns[0] = btf.WithFuncMetadata(insns[0].WithSymbol("target"), extFunc("target", "xdp_md"))
	xdp, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: progName, Type: ebpf.XDP, License: license, Instructions: insns})
	if err != nil {
		return atLoad(err)
	}
	defer xdp.Close()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: progName, Type: ebpf.Extension, License: license,
		Instructions: insns, AttachTarget: xdp, AttachTo: "target"})
	if err != nil {
		return atLoad(err)
	}
	defer prog.Close()
	l, err := link.AttachFreplace(xdp, "target", prog)
	if err != nil {
		return atAttach(err)
	}
	return step("detach", l.Close())
}

// iterator links an iterator program and opens it. Only the task iterator is also read to its end:
// walking every open file or socket of a large host takes longer than a probe should.
func iterator(target string, flags uint32) func(*env) error {
	return func(e *env) error {
		open := func(prog *ebpf.Program) (io.Closer, error) {
			it, err := link.AttachIter(link.IterOptions{Program: prog})
			if err != nil {
				return nil, err
			}
			defer it.Close()
			return it.Open()
		}
		spec := &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: target, Flags: flags}
		if target != "task" {
			return e.once(spec, open)
		}
		var reader io.Reader
		return e.raises(spec, func(prog *ebpf.Program) (io.Closer, error) {
			c, err := open(prog)
			if err == nil {
				reader = c.(io.Reader)
			}
			return c, err
		}, func() error {
			_, err := io.Copy(io.Discard, reader)
			return atRun(err)
		})
	}
}

// onCgroup attaches a program to a cgroup without processes.
func onCgroup(spec ebpf.ProgramSpec) func(*env) error {
	return func(e *env) error {
		s := spec
		s.Instructions = returning(1) // "go on": some kinds accept nothing else, all accept it
		prog, err := e.load(&s)
		if err != nil {
			return err
		}
		defer prog.Close()
		dir, err := e.cgroup()
		if err != nil {
			return err
		}
		l, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: s.AttachType, Program: prog})
		if err != nil {
			return atAttach(err)
		}
		return step("detach", l.Close())
	}
}

// onNetns attaches a program inside a network namespace of the probe's own.
func onNetns(spec ebpf.ProgramSpec, attach func(prog *ebpf.Program, nsfd int) (io.Closer, error)) func(*env) error {
	return func(e *env) error {
		s := spec
		prog, err := e.load(&s)
		if err != nil {
			return err
		}
		defer prog.Close()
		return e.inNetns(func(nsfd int) error {
			l, err := attach(prog, nsfd)
			if err != nil {
				return atAttach(err)
			}
			return step("detach", l.Close())
		})
	}
}

// loopback is the number of the loopback interface in a new network namespace.
const loopback = 1

func tcx(attachType ebpf.AttachType) func(*env) error {
	return onNetns(ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: attachType}, func(prog *ebpf.Program, _ int) (io.Closer, error) {
		return link.AttachTCX(link.TCXOptions{Interface: loopback, Program: prog, Attach: attachType})
	})
}

func attachXDP(prog *ebpf.Program, _ int) (io.Closer, error) {
	return link.AttachXDP(link.XDPOptions{Program: prog, Interface: loopback, Flags: link.XDPGenericMode})
}

func attachSkLookup(prog *ebpf.Program, nsfd int) (io.Closer, error) {
	return link.AttachNetNs(nsfd, prog)
}

func attachNetfilter(prog *ebpf.Program, _ int) (io.Closer, error) {
	return link.AttachNetfilter(link.NetfilterOptions{Program: prog, ProtocolFamily: link.NetfilterProtoIPv4,
		Hook: link.NetfilterInetLocalOut, Priority: -128})
}

// onSockmap attaches a program to a map of sockets that holds none.
func onSockmap(progType ebpf.ProgramType, attachType ebpf.AttachType) func(*env) error {
	return func(e *env) error {
		prog, err := e.load(&ebpf.ProgramSpec{Type: progType, AttachType: attachType, Instructions: returning(1)})
		if err != nil {
			return err
		}
		defer prog.Close()
		m, err := ebpf.NewMap(&ebpf.MapSpec{Name: progName, Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if err != nil {
			return step("create a map", err)
		}
		defer m.Close()
		opts := link.RawAttachProgramOptions{Target: m.FD(), Program: prog, Attach: attachType}
		if err := link.RawAttachProgram(opts); err != nil {
			return atAttach(err)
		}
		return step("detach", link.RawDetachProgram(link.RawDetachProgramOptions(opts)))
	}
}

// structOps runs a method of the kernel's own dummy structure, which exists to be tested with: it
// needs the same trampoline as a real structure and is visible to nobody.
func structOps(e *env) error {
	// The attach type of such a program is the number of the method in the structure: 0, test_1.
	prog, err := e.load(&ebpf.ProgramSpec{Type: ebpf.StructOps, AttachTo: "bpf_dummy_ops"})
	if err != nil {
		return err
	}
	defer prog.Close()
	_, err = prog.Run(&ebpf.RunOptions{Context: [1]uint64{}})
	return atRun(err)
}

// syscallProgram runs a syscall program.
func syscallProgram(e *env) error {
	flag, err := newFlag()
	if err != nil {
		return err
	}
	defer flag.close()
	prog, err := e.load(&ebpf.ProgramSpec{Type: ebpf.Syscall, Flags: sleepable, Instructions: flag.raise()})
	if err != nil {
		return err
	}
	defer prog.Close()
	if _, err := prog.Run(&ebpf.RunOptions{Context: [1]uint64{}}); err != nil {
		return atRun(err)
	}
	return flag.raised()
}

// mustHave is the id of one of the kernel's types; without it, an error that says what is missing.
func (e *env) mustHave(name string, typ any, what string) (btf.TypeID, error) {
	id, found, err := e.kernelType(name, typ)
	if err == nil && !found {
		err = &missingError{what}
	}
	return id, err
}
