// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// license is what vigie's own programs carry: helpers for GPL programs only are open to them.
const license = "Dual BSD/GPL"

// progName is the name of every program and map of the probe, as bpftool shows it.
const progName = "vigie_probe"

// sleepable is BPF_F_SLEEPABLE of include/uapi/linux/bpf.h.
const sleepable = 1 << 4

// returning is the smallest program: it returns value.
func returning(value int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, value), asm.Return()}
}

// flag is a map of one number in which a program notes that it ran.
type flag struct{ m *ebpf.Map }

func newFlag() (*flag, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: progName, Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return nil, step("create a map", err)
	}
	return &flag{m}, nil
}

func (f *flag) close() { f.m.Close() }

// raise is a program that raises the flag and returns 0.
func (f *flag) raise() asm.Instructions {
	return append(asm.Instructions{
		asm.LoadMapValue(asm.R1, f.m.FD(), 0),
		asm.StoreImm(asm.R1, 0, 1, asm.Word),
	}, returning(0)...)
}

func (f *flag) raised() error {
	var value uint32
	if err := f.m.Lookup(uint32(0), &value); err != nil {
		return step("read a map", err)
	}
	if value == 0 {
		return errNotCalled
	}
	return nil
}

// touched is the kernel function that touch runs, and touchedHook the LSM hook in it.
const (
	touched     = "security_task_getpgid"
	touchedHook = "task_getpgid"
)

// touch makes the kernel ask for the process group of this process by number: a call that is rare,
// cheap, and changes nothing.
func touch() error {
	_, err := unix.Getpgid(os.Getpid())
	return atRun(err)
}

// extFunc is the type of a BPF function `int f(struct CTX *ctx)`, as BTF: programs that replace or
// are replaced need one.
func extFunc(name, ctx string) *btf.Func {
	return &btf.Func{Name: name, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Struct{Name: ctx}}}},
	}}
}
