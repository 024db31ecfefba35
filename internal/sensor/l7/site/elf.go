// SPDX-License-Identifier: Apache-2.0

package site

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
)

// Function is one function of a file.
type Function struct {
	Name   string
	Offset uint64 // in the file
	Code   []byte
	addr   uint64
}

// maxSymbols is how large a program's own table of symbols may be that is read, in bytes: it takes several times that of memory.
const maxSymbols = 32 << 20

// maxCode is how large a function may be that is looked at: none of a TLS library comes near.
const maxCode = 64 << 10

// ErrNone says that a file has none of the functions that were asked for.
var ErrNone = errors.New("no such functions")

// Functions finds functions by the names that a program or library gives them, exported or not. Errors: ErrNone, or what is wrong
// with the file.
func Functions(f *elf.File, want func(name string) bool) ([]Function, error) {
	var out []Function
	seen := make(map[uint64]bool)
	lists := []func() ([]elf.Symbol, error){f.DynamicSymbols}
	if s := f.Section(".symtab"); s != nil && s.Size <= maxSymbols {
		lists = append(lists, f.Symbols)
	}
	for _, list := range lists {
		symbols, err := list()
		if err != nil {
			continue // a file without this table
		}
		for _, s := range symbols {
			if s.Section == elf.SHN_UNDEF || elf.ST_TYPE(s.Info) != elf.STT_FUNC || seen[s.Value] || !want(s.Name) {
				continue
			}
			fn, err := function(f, s.Name, s.Value, s.Size)
			if err != nil {
				return nil, err
			}
			seen[s.Value] = true
			out = append(out, fn)
		}
	}
	if len(out) == 0 {
		return nil, ErrNone
	}
	return out, nil
}

// function reads the code between an address and its end.
func function(f *elf.File, name string, addr, size uint64) (Function, error) {
	if size > maxCode {
		return Function{}, fmt.Errorf("read %s: its %d bytes are more than a function of a TLS library has", name, size)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 || addr < p.Vaddr || addr+size > p.Vaddr+p.Filesz {
			continue
		}
		code := make([]byte, size)
		if _, err := p.ReadAt(code, int64(addr-p.Vaddr)); err != nil && !errors.Is(err, io.EOF) {
			return Function{}, fmt.Errorf("read %s: %w", name, err)
		}
		return Function{Name: name, Offset: addr - p.Vaddr + p.Off, Code: code, addr: addr}, nil
	}
	return Function{}, fmt.Errorf("read %s: the file loads nothing at its address %#x", name, addr)
}
