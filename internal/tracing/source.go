// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// source is where the program of a hook finds arguments.
type source interface {
	// load emits what puts argument index, whole, into dst. It may use R1 to R5.
	load(b *builder, dst asm.Register, index int)
	// check says what is wrong with an index, or nothing.
	check(index int) string
}

// contextSource is the context of raw tracepoints and of programs that attach to functions by BTF: an array of
// 64-bit words. count is 0 where it is not known.
type contextSource struct{ count int }

func (contextSource) load(b *builder, dst asm.Register, index int) {
	b.emit(asm.LoadMem(dst, regCtx, int16(8*index), asm.DWord))
}

func (s contextSource) check(index int) string {
	if s.count > 0 && index >= s.count {
		return fmt.Sprintf("the hook has %d arguments, counted from 0", s.count)
	}
	return ""
}

// syscallSource is the registers of a system call, to which the first word of the context points.
type syscallSource struct{ exit bool }

func (s syscallSource) load(b *builder, dst asm.Register, index int) {
	b.emit(asm.LoadMem(asm.R1, regCtx, 0, asm.DWord), asm.LoadMem(dst, asm.R1, syscallRegister(index, s.exit), asm.DWord))
}

func (syscallSource) check(index int) string {
	if index > 5 {
		return "a system call has at most six arguments, counted from 0"
	}
	return ""
}

// registerSource is the registers of a function, in the kernel or in a program, at its beginning.
type registerSource struct{}

func (registerSource) load(b *builder, dst asm.Register, index int) {
	b.emit(asm.LoadMem(dst, regCtx, functionRegister(index), asm.DWord))
}

func (registerSource) check(index int) string {
	if index >= functionRegisters {
		return fmt.Sprintf("of a function's arguments only the first %d are in registers", functionRegisters)
	}
	return ""
}
