// SPDX-License-Identifier: Apache-2.0

package site

import (
	"debug/elf"
	"debug/gosym"
	"fmt"
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

// GoTLS is where a Go program's crypto/tls has plain text in memory, as offsets in the file.
type GoTLS struct {
	// Write is in (*Conn).Write: the receiver, the text and its length are in the first three registers.
	Write uint64
	// Read is in (*Conn).Read: the receiver is where the caller has room for it, above the return address.
	Read uint64
	// Reader: at Read, the registers are those of bytes.(*Reader).Read; else those of the runtime's memmove.
	Reader bool
}

const (
	goWrite   = "crypto/tls.(*Conn).Write"
	goRead    = "crypto/tls.(*Conn).Read"
	goCopy    = "runtime.memmove"
	goReadOut = "bytes.(*Reader).Read"
)

// Go finds the places of a Go program on amd64. Errors: ErrNone when it is none or has no TLS, or why it is not understood.
func Go(f *elf.File) (GoTLS, error) {
	functions, err := goFunctions(f)
	if err != nil {
		return GoTLS{}, err
	}
	write, read := functions[goWrite], functions[goRead]
	out := GoTLS{Write: write.Offset + uint64(Entry(write.Code, GoArgs))}
	insts, ok := decode(read.Code)
	if !ok || !keepsReceiver(insts) {
		return GoTLS{}, fmt.Errorf("%s is not built as it is known: its receiver is not where it should be", goRead)
	}
	for _, to := range []string{goCopy, goReadOut} {
		calls := callsOf(insts, read.addr, functions[to].addr)
		if len(calls) == 1 {
			out.Read, out.Reader = read.Offset+uint64(calls[0]), to == goReadOut
			return out, nil
		}
	}
	return GoTLS{}, fmt.Errorf("%s is not built as it is known: it copies the text in another way", goRead)
}

// goFunctions reads the functions that matter by the table that every Go program has, stripped or not.
func goFunctions(f *elf.File) (map[string]Function, error) {
	lines, text := f.Section(".gopclntab"), f.Section(".text")
	if lines == nil {
		lines = f.Section(".data.rel.ro.gopclntab") // position-independent
	}
	if lines == nil || text == nil || f.Machine != elf.EM_X86_64 {
		return nil, ErrNone
	}
	data, err := lines.Data()
	if err != nil {
		return nil, fmt.Errorf("read the table of functions: %w", err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return nil, fmt.Errorf("read the table of functions: %w", err)
	}
	out := make(map[string]Function)
	for _, name := range []string{goWrite, goRead, goCopy, goReadOut} {
		fn := table.LookupFunc(name)
		if fn == nil {
			if name == goReadOut {
				continue
			}
			return nil, ErrNone
		}
		if out[name], err = function(f, name, fn.Entry, min(fn.End-fn.Entry, maxCode)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keepsReceiver checks that a function stores its first register in the room that its caller has left for it, and keeps a frame
// pointer: so that it is found there from anywhere inside.
func keepsReceiver(insts []instruction) bool {
	framed, frame := false, int64(-1)
	for _, i := range insts[:min(len(insts), 32)] {
		switch i.Op {
		case x86asm.SUB:
			if n, ok := i.Args[1].(x86asm.Imm); ok && i.Args[0] == x86asm.RSP {
				frame = int64(n)
			}
		case x86asm.MOV:
			if i.Args[0] == x86asm.RBP && i.Args[1] == x86asm.RSP {
				framed = true
			}
			// The frame, the caller's frame pointer, the return address.
			if m, ok := i.Args[0].(x86asm.Mem); ok && framed && frame >= 0 && m.Base == x86asm.RSP && m.Index == 0 && m.Disp == frame+16 {
				return i.Args[1] == x86asm.RAX
			}
		}
	}
	return false
}

// callsOf lists the direct calls of a function at an address.
func callsOf(insts []instruction, base, addr uint64) []int {
	var out []int
	for _, i := range insts {
		rel, ok := i.Args[0].(x86asm.Rel)
		if ok && i.Op == x86asm.CALL && addr != 0 && base+uint64(i.at+i.Len)+uint64(int64(rel)) == addr {
			out = append(out, i.at)
		}
	}
	return slices.Compact(out)
}
