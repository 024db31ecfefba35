// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// libraryProgram is the program of tracing.bpf.c that names all functions which generated programs call.
const libraryProgram = "vg_library"

// library is the C functions of tracing.bpf.c, each apart, ready to be linked to generated programs.
type library struct {
	functions map[string]asm.Instructions
	maps      map[string]*ebpf.MapSpec
}

func newLibrary(spec *ebpf.CollectionSpec) (*library, error) {
	p := spec.Programs[libraryProgram]
	if p == nil {
		return nil, fmt.Errorf("embedded object has no program %s", libraryProgram)
	}
	l := &library{functions: make(map[string]asm.Instructions), maps: spec.Maps}
	var name string
	for _, ins := range p.Instructions {
		if s := ins.Symbol(); s != "" {
			name = s
		}
		// Line information would have to be complete, and generated instructions have none.
		l.functions[name] = append(l.functions[name], static(ins).WithSource(nil))
	}
	delete(l.functions, libraryProgram)
	return l, nil
}

// static makes a function one of the program alone, if ins begins one: the verifier looks at it where it is called, with what is
// known of the arguments there.
func static(ins asm.Instruction) asm.Instruction {
	f := btf.FuncMetadata(&ins)
	if f == nil {
		return ins
	}
	own := *f
	own.Linkage = btf.StaticFunc
	return btf.WithFuncMetadata(ins, &own)
}

// link appends to main what it calls, and what that calls. It returns the maps that all of them use.
func (l *library) link(main asm.Instructions) (asm.Instructions, map[string]*ebpf.MapSpec, error) {
	out := append(asm.Instructions(nil), main...)
	linked := make(map[string]bool)
	used := make(map[string]*ebpf.MapSpec)
	for i := 0; i < len(out); i++ {
		ref := out[i].Reference()
		switch {
		case out[i].IsFunctionReference():
			if linked[ref] {
				continue
			}
			linked[ref] = true
			f := l.functions[ref]
			if f == nil {
				return nil, nil, fmt.Errorf("link: the embedded object has no function %q", ref)
			}
			out = append(out, f...)
		case out[i].IsLoadFromMap() && l.maps[ref] != nil:
			used[ref] = l.maps[ref].Copy()
		}
	}
	return out, used, nil
}

// programFunc is the type under which the kernel knows a generated program.
func programFunc(name string) *btf.Func {
	return &btf.Func{Name: name, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Void{}}}}}}
}

// collection makes one of a generated program: spec says type and place, main is its code, own are its own maps.
func (l *library) collection(spec ebpf.ProgramSpec, main asm.Instructions, own map[string]*ebpf.MapSpec) (*ebpf.CollectionSpec, error) {
	main[0] = btf.WithFuncMetadata(main[0].WithSymbol(spec.Name), programFunc(spec.Name))
	code, used, err := l.link(main)
	if err != nil {
		return nil, err
	}
	maps.Copy(used, own)
	spec.Instructions, spec.License = code, "Dual BSD/GPL"
	return &ebpf.CollectionSpec{Maps: used, Programs: map[string]*ebpf.ProgramSpec{spec.Name: &spec}}, nil
}
