// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"debug/elf"
	"encoding/binary"
	"errors"
)

// image is what of an ELF file tells a program from a library. debug/elf reads sections too, which whoever wrote the file
// can make as large as he likes; this reads the few tables that the loader itself goes by.
type image struct {
	kind        elf.Type
	interpreter bool
	soname, pie bool
}

var errNoELF = errors.New("no 64-bit ELF file")

const (
	elfHeaderSize  = 64
	elfProgSize    = 56
	elfMaxProgs    = 64
	elfDynSize     = 16
	elfMaxDyn      = 256
	elfFlagsOnePIE = uint64(elf.DF_1_PIE)
)

func newELF(fd int32) (image, error) {
	var (
		f      image
		header [elfHeaderSize]byte
		r      = descriptor(fd)
		order  = binary.NativeEndian
	)
	if _, err := r.ReadAt(header[:], 0); err != nil {
		return f, err
	}
	if string(header[:4]) != elf.ELFMAG || header[elf.EI_CLASS] != byte(elf.ELFCLASS64) {
		return f, errNoELF
	}
	f.kind = elf.Type(order.Uint16(header[16:]))
	off, count := order.Uint64(header[32:]), int(order.Uint16(header[56:]))
	if count > elfMaxProgs || order.Uint16(header[54:]) != elfProgSize {
		return f, errNoELF
	}
	progs := make([]byte, count*elfProgSize)
	if _, err := r.ReadAt(progs, int64(off)); err != nil {
		return f, err
	}
	for ; len(progs) > 0; progs = progs[elfProgSize:] {
		switch elf.ProgType(order.Uint32(progs)) {
		case elf.PT_INTERP:
			f.interpreter = true
		case elf.PT_DYNAMIC:
			f.readDynamic(r, order.Uint64(progs[8:]), order.Uint64(progs[32:]))
		}
	}
	return f, nil
}

func (f *image) readDynamic(r descriptor, off, size uint64) {
	dyn := make([]byte, min(size, elfMaxDyn*elfDynSize)/elfDynSize*elfDynSize)
	n, _ := r.ReadAt(dyn, int64(off)) // what is cut off says nothing
	for dyn = dyn[:max(n, 0)]; len(dyn) >= elfDynSize; dyn = dyn[elfDynSize:] {
		switch tag, value := elf.DynTag(binary.NativeEndian.Uint64(dyn)), binary.NativeEndian.Uint64(dyn[8:]); tag {
		case elf.DT_NULL:
			return
		case elf.DT_SONAME:
			f.soname = true
		case elf.DT_FLAGS_1:
			f.pie = value&elfFlagsOnePIE != 0
		}
	}
}

func (f image) program() bool {
	switch f.kind {
	case elf.ET_EXEC:
		return true
	case elf.ET_DYN:
		return !f.soname && (f.interpreter || f.pie)
	}
	return false
}
