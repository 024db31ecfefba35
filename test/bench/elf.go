// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
)

// machineCode is what the tiny programs do, by architecture.
type machineCode struct {
	machine elf.Machine
	exit    []byte // _exit(0)
	pause   []byte // dies with the thread that started it; waits for a signal until then
}

func codeFor(arch string) (machineCode, error) {
	switch arch {
	case "amd64":
		return machineCode{machine: elf.EM_X86_64,
			exit: []byte{
				0x31, 0xff, // xor edi, edi
				0xb8, 60, 0, 0, 0, // mov eax, exit
				0x0f, 0x05, // syscall
			},
			pause: []byte{
				0xbf, 1, 0, 0, 0, // mov edi, PR_SET_PDEATHSIG
				0xbe, 9, 0, 0, 0, // mov esi, SIGKILL
				0xb8, 157, 0, 0, 0, // mov eax, prctl
				0x0f, 0x05, // syscall
				0xb8, 34, 0, 0, 0, // mov eax, pause
				0x0f, 0x05, // syscall
				0xeb, 0xf7, // jmp to mov eax, pause
			}}, nil
	case "arm64":
		words := func(w ...uint32) (b []byte) {
			for _, x := range w {
				b = binary.LittleEndian.AppendUint32(b, x)
			}
			return b
		}
		return machineCode{machine: elf.EM_AARCH64,
			exit: words(
				0xd2800000, // mov x0, #0
				0xd2800ba8, // mov x8, #93 (exit)
				0xd4000001, // svc #0
			),
			pause: words(
				0xd2800020, // mov x0, #1 (PR_SET_PDEATHSIG)
				0xd2800121, // mov x1, #9 (SIGKILL)
				0xd28014e8, // mov x8, #167 (prctl)
				0xd4000001, // svc #0
				0xd2800000, // mov x0, #0
				0xd2800001, // mov x1, #0
				0xd2800002, // mov x2, #0
				0xd2800003, // mov x3, #0
				0xd2800928, // mov x8, #73 (ppoll of nothing)
				0xd4000001, // svc #0
				0x17fffffa, // b to mov x0, #0
			)}, nil
	}
	return machineCode{}, fmt.Errorf("no machine code of the tiny programs for %s", arch)
}

// writeELF writes a static program of one page to path.
func writeELF(path string, machine elf.Machine, code []byte) error {
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(code))
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Entry: base + headers,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	p := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000}

	var b bytes.Buffer
	for _, part := range []any{h, p, code} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return fmt.Errorf("write an ELF header: %w", err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o755); err != nil {
		return fmt.Errorf("write a tiny program: %w", err)
	}
	return nil
}

// writePrograms writes the two tiny programs for this machine.
func writePrograms(exit, pause string) error {
	code, err := codeFor(runtime.GOARCH)
	if err != nil {
		return err
	}
	if err := writeELF(exit, code.machine, code.exit); err != nil {
		return err
	}
	return writeELF(pause, code.machine, code.pause)
}
