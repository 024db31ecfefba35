// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"strconv"

	"github.com/cilium/ebpf/asm"
)

// Offsets in struct pt_regs, arch/arm64/include/asm/ptrace.h: regs[31], sp, pc and pstate are struct user_pt_regs, which
// does not change; orig_x0 and syscallno follow it.

// functionRegisters is how many arguments of a function are in registers (AAPCS64).
const functionRegisters = 8

// functionRegister is where argument index of a function is.
func functionRegister(index int) int16 { return int16(8 * index) }

// syscallRegister is where argument index of a system call is. At the return the first register is the result.
func syscallRegister(index int, exit bool) int16 {
	if index == 0 && exit {
		return 272 // orig_x0
	}
	return int16(8 * index)
}

// syscallNumber is where the number of a system call is.
const (
	syscallNumber     = 280 // syscallno
	syscallNumberSize = asm.Word
)

// returnRegister is where a function's value is when it returns.
const returnRegister = 0

// usdtRegisters are the registers by the names that probe arguments have, and their offsets.
func usdtRegisters() map[string]register {
	regs := map[string]register{"sp": {248}, "pc": {256}}
	for i := range 31 {
		regs["x"+strconv.Itoa(i)] = register{int16(8 * i)}
		regs["w"+strconv.Itoa(i)] = register{int16(8 * i)}
	}
	return regs
}
