// SPDX-License-Identifier: Apache-2.0

package tracing

import "github.com/cilium/ebpf/asm"

// Offsets in struct pt_regs, arch/x86/include/uapi/asm/ptrace.h: part of what user space sees, so they do not change.

// functionRegisters is how many arguments of a function are in registers (System V ABI).
const functionRegisters = 6

// functionRegister is where argument index of a function is.
func functionRegister(index int) int16 {
	return [functionRegisters]int16{112, 104, 96, 88, 72, 64}[index] // di, si, dx, cx, r8, r9
}

// syscallRegister is where argument index of a system call is; all are kept until it returns.
func syscallRegister(index int, _ bool) int16 {
	return [6]int16{112, 104, 96, 56, 72, 64}[index] // di, si, dx, r10, r8, r9
}

// syscallNumber is where the number of a system call is.
const (
	syscallNumber     = 120 // orig_ax
	syscallNumberSize = asm.DWord
)

// returnRegister is where a function's value is when it returns.
const returnRegister = 80 // ax

// usdtRegisters are the registers by the names that probe arguments have, and their offsets.
func usdtRegisters() map[string]register {
	regs := make(map[string]register)
	for names, at := range map[[4]string]int16{
		{"rax", "eax", "ax", "al"}: 80, {"rbx", "ebx", "bx", "bl"}: 40, {"rcx", "ecx", "cx", "cl"}: 88,
		{"rdx", "edx", "dx", "dl"}: 96, {"rsi", "esi", "si", "sil"}: 104, {"rdi", "edi", "di", "dil"}: 112,
		{"rbp", "ebp", "bp", "bpl"}: 32, {"rsp", "esp", "sp", "spl"}: 152, {"rip", "eip", "ip", ""}: 128,
		{"r8", "r8d", "r8w", "r8b"}: 72, {"r9", "r9d", "r9w", "r9b"}: 64, {"r10", "r10d", "r10w", "r10b"}: 56,
		{"r11", "r11d", "r11w", "r11b"}: 48, {"r12", "r12d", "r12w", "r12b"}: 24, {"r13", "r13d", "r13w", "r13b"}: 16,
		{"r14", "r14d", "r14w", "r14b"}: 8, {"r15", "r15d", "r15w", "r15b"}: 0,
	} {
		for _, n := range names {
			regs[n] = register{at}
		}
	}
	delete(regs, "")
	return regs
}
