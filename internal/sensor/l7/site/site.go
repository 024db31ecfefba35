// SPDX-License-Identifier: Apache-2.0

// Package site finds the places in a function at which a uprobe costs little. In: machine code. Out: offsets.
//
// The kernel runs the instruction under a probe itself where it can (push, nop, jumps, calls), which costs about a
// microsecond. Any other it has the processor step over alone, with two more exceptions: on a virtual machine 15 to 30 µs. So a
// probe on the arguments goes to the first instruction of the first kind at which they still are in their registers, and
// one on the result to the last before the return.
package site

import (
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

// instruction is one of a function, at an offset from its beginning.
type instruction struct {
	x86asm.Inst
	at    int
	raw   []byte
	to    int  // where a jump goes; -1 for what is none, or goes out of the function
	cheap bool // the kernel does it itself
}

// decode reads a whole function; false when it is not understood. It takes what stands between instructions for some.
func decode(code []byte) ([]instruction, bool) {
	var out []instruction
	for at := 0; at < len(code); {
		i := instruction{at: at, to: -1}
		if rest := code[at:]; len(rest) >= 4 && rest[0] == 0xf3 && rest[1] == 0x0f && rest[2] == 0x1e && rest[3] >= 0xfa && rest[3] <= 0xfb {
			i.Op, i.Len = x86asm.NOP, 4 // endbr
		} else {
			inst, err := x86asm.Decode(rest, 64)
			if err != nil {
				return nil, false
			}
			i.Inst = inst
		}
		i.raw = code[at : at+i.Len]
		if rel, ok := i.Args[0].(x86asm.Rel); ok && i.Op != x86asm.CALL {
			if to := at + i.Len + int(rel); to >= 0 && to < len(code) {
				i.to = to
			}
		}
		i.cheap = emulated(i.raw)
		out = append(out, i)
		at += i.Len
	}
	return out, true
}

// emulated reports whether the kernel does an instruction itself (arch/x86/kernel/uprobes.c, branch_setup_xol_ops and
// push_setup_xol_ops).
func emulated(b []byte) bool {
	switch {
	case b[0] == 0x90, b[0] == 0xe8, b[0] == 0xe9, b[0] == 0xeb: // nop, call, jmp
		return true
	case b[0]&0xf0 == 0x70, b[0] == 0x0f && len(b) > 1 && b[1]&0xf0 == 0x80: // jcc
		return true
	case b[0]&0xf8 == 0x50, b[0] == 0x41 && len(b) > 1 && b[1]&0xf8 == 0x50: // push
		return true
	}
	return false
}

// Registers that are kept, in the order of arguments.
var (
	// CArgs is the first four of the System V ABI.
	CArgs = []x86asm.Reg{x86asm.RDI, x86asm.RSI, x86asm.RDX, x86asm.RCX}
	// GoArgs is the first three of Go's internal ABI.
	GoArgs = []x86asm.Reg{x86asm.RAX, x86asm.RBX, x86asm.RCX}
)

// Entry is where the arguments that keep names are still in their registers and a probe costs little: an offset that every call
// passes exactly once. It is 0, the beginning, where there is no better.
func Entry(code []byte, keep []x86asm.Reg) int {
	insts, ok := decode(code)
	if !ok {
		return 0
	}
	for _, i := range insts {
		if i.at > 0 && jumpedTo(insts, 1, i.at) {
			return 0
		}
		// Go's functions begin again when their stack has grown: what comes before that is passed twice.
		if i.cheap && (!isConditional(i.Op) || !jumpedTo(insts, 0, 0)) {
			return i.at
		}
		if i.Op == x86asm.CALL || i.Op == x86asm.JMP || i.Op == x86asm.RET || changes(i.Inst, keep) {
			return 0
		}
	}
	return 0
}

// jumpedTo reports whether something jumps into [from, to].
func jumpedTo(insts []instruction, from, to int) bool {
	return slices.ContainsFunc(insts, func(i instruction) bool { return i.to >= from && i.to <= to })
}

// Exits is where the result is in its register (RAX) before each return, and a probe costs little: one of them is passed
// by every call that returns, exactly once. It is nil where there are no such places; then a return probe does.
func Exits(code []byte) []int {
	insts, ok := decode(code)
	if !ok {
		return nil
	}
	var out []int
	for n, i := range insts {
		switch {
		case i.Op == x86asm.JMP && i.to < 0: // leaves for another function
			return nil
		case i.Op != x86asm.RET:
			continue
		}
		at := beforeReturn(insts, n)
		if at < 0 {
			return nil
		}
		if !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

// beforeReturn goes back from a return to the nearest cheap instruction, if the way from there is straight.
func beforeReturn(insts []instruction, n int) int {
	for k := n - 1; k >= 0; k-- {
		i := insts[k]
		if jumpedTo(insts, i.at+1, insts[n].at) || i.Op == x86asm.JMP || i.Op == x86asm.CALL {
			return -1
		}
		if i.cheap {
			// Where a jump leads instead, the result may still change: but not from the check of the stack's guard.
			if isConditional(i.Op) && (k == 0 || !readsGuard(insts[k-1].Inst)) {
				return -1
			}
			return i.at
		}
		if changes(i.Inst, []x86asm.Reg{x86asm.RAX}) {
			return -1
		}
	}
	return -1
}

// readsGuard reports whether an instruction compares with the guard of the stack, which lies at fs:0x28.
func readsGuard(i x86asm.Inst) bool {
	for _, a := range i.Args {
		if m, ok := a.(x86asm.Mem); ok && m.Segment == x86asm.FS && m.Disp == 0x28 {
			return true
		}
	}
	return false
}

// isConditional reports whether an operation is a conditional jump.
func isConditional(op x86asm.Op) bool {
	switch op {
	case x86asm.JA, x86asm.JAE, x86asm.JB, x86asm.JBE, x86asm.JE, x86asm.JG, x86asm.JGE, x86asm.JL, x86asm.JLE, x86asm.JNE,
		x86asm.JNO, x86asm.JNP, x86asm.JNS, x86asm.JO, x86asm.JP, x86asm.JS:
		return true
	}
	return false
}

// changes reports whether an instruction may change one of the registers. It knows what compilers put at the beginning and
// at the end of functions, and fears the rest.
func changes(i x86asm.Inst, regs []x86asm.Reg) bool {
	switch i.Op {
	case x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.PUSH, x86asm.LEAVE:
		return false
	case x86asm.MOV, x86asm.MOVSXD, x86asm.MOVSX, x86asm.MOVZX, x86asm.LEA, x86asm.XOR, x86asm.SUB, x86asm.ADD, x86asm.AND, x86asm.OR,
		x86asm.POP, x86asm.SHL, x86asm.SHR, x86asm.SAR, x86asm.MOVUPS, x86asm.MOVAPS, x86asm.MOVQ, x86asm.PXOR:
		to, ok := i.Args[0].(x86asm.Reg)
		return ok && slices.Contains(regs, whole(to))
	}
	return !isConditional(i.Op)
}

// whole is the 64-bit register of which r is a part.
func whole(r x86asm.Reg) x86asm.Reg {
	switch {
	case r >= x86asm.AL && r <= x86asm.BL: // AL, CL, DL, BL
		return x86asm.RAX + r - x86asm.AL
	case r >= x86asm.AH && r <= x86asm.BH:
		return x86asm.RAX + r - x86asm.AH
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return x86asm.RSP + r - x86asm.SPB
	case r >= x86asm.AX && r <= x86asm.R15W:
		return x86asm.RAX + r - x86asm.AX
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return x86asm.RAX + r - x86asm.EAX
	}
	return r
}
