// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// staticProbe is one place of a statically defined probe, from the notes that sys/sdt.h makes.
type staticProbe struct {
	provider, name string
	offset         uint64 // in the file
	semaphore      uint64 // in the file; 0 for none
	args           []probeArg
}

// probeArg is where an argument is: a constant, a register, or memory that registers point to.
type probeArg struct {
	size      int // bytes, negative for a signed number
	constant  bool
	value     int64 // the constant, or what is added to the registers
	reg       *register
	index     *register
	scale     int64
	indirect  bool
	described string
}

// register is where a register is in struct pt_regs.
type register struct{ offset int16 }

// usdtCandidates: a program for each place, because each has its arguments elsewhere.
func (c *compiler) usdtCandidates(r *request) []candidate {
	probes, err := staticProbes(r.usdt.Path)
	if err != nil {
		c.fail(r.path+".path", "%v", err)
		return nil
	}
	exe, err := link.OpenExecutable(r.usdt.Path)
	if err != nil {
		c.fail(r.path+".path", "%v", err)
		return nil
	}
	out := candidate{carrier: "uprobe", target: r.usdt.Path}
	for i, probe := range probes {
		if probe.provider != r.usdt.Provider || probe.name != r.usdt.Name {
			continue
		}
		c.src = probeSource{probe.args}
		c.checkValues(nil)
		if len(c.errs) > 0 {
			return nil
		}
		f := c.fork()
		f.site = noSite
		p := f.program(ebpf.ProgramSpec{Type: ebpf.Kprobe}, f.entry())
		p.attach = func(prog *ebpf.Program) ([]link.Link, error) {
			l, err := exe.Uprobe("", prog, &link.UprobeOptions{Address: probes[i].offset, RefCtrOffset: probes[i].semaphore})
			if err != nil {
				return nil, err
			}
			return []link.Link{l}, nil
		}
		out.programs, out.names = append(out.programs, p), []string{r.name}
		c.errs = append(c.errs, f.errs...)
	}
	if len(out.programs) == 0 {
		c.fail(r.path+".name", "%s has no probe %s:%s; `readelf -n` lists them", r.usdt.Path, r.usdt.Provider, r.usdt.Name)
	}
	return []candidate{out}
}

// probeSource is the arguments of a static probe.
type probeSource struct{ args []probeArg }

func (s probeSource) check(index int) string {
	if index >= len(s.args) {
		return fmt.Sprintf("the probe has %d arguments, counted from 0", len(s.args))
	}
	return ""
}

func (s probeSource) load(b *builder, dst asm.Register, index int) {
	a := s.args[index]
	if a.constant {
		b.imm(dst, uint64(a.value))
		return
	}
	b.emit(asm.LoadMem(asm.R3, regCtx, a.reg.offset, asm.DWord))
	if a.indirect {
		if a.index != nil {
			b.emit(asm.LoadMem(asm.R1, regCtx, a.index.offset, asm.DWord), asm.Mul.Imm(asm.R1, int32(a.scale)), asm.Add.Reg(asm.R3, asm.R1))
		}
		b.emit(asm.Add.Imm(asm.R3, int32(a.value)), asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, int32(max(a.size, -a.size))),
			asm.FnProbeReadUser.Call(), asm.LoadMem(asm.R3, asm.RFP, -8, asm.DWord))
	}
	if shift := int32(64 - 8*max(a.size, -a.size)); shift > 0 {
		b.emit(asm.LSh.Imm(asm.R3, shift))
		if a.size < 0 {
			b.emit(asm.ArSh.Imm(asm.R3, shift))
		} else {
			b.emit(asm.RSh.Imm(asm.R3, shift))
		}
	}
	if dst != asm.R3 {
		b.emit(asm.Mov.Reg(dst, asm.R3))
	}
}

// staticProbes reads the notes of a file (.note.stapsdt, sourceware.org/systemtap/wiki/UserSpaceProbeImplementation).
func staticProbes(path string) ([]staticProbe, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".note.stapsdt")
	if section == nil {
		return nil, fmt.Errorf("%s has no static probes", path)
	}
	notes, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read the static probes of %s: %w", path, err)
	}
	var base uint64
	if s := f.Section(".stapsdt.base"); s != nil {
		base = s.Addr
	}
	var out []staticProbe
	for len(notes) >= 12 {
		nameSize, descSize := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:])
		start := 12 + uint64(nameSize+3)&^3
		end := start + uint64(descSize+3)&^3
		if uint64(len(notes)) < end || descSize < 24 {
			return nil, fmt.Errorf("the notes of %s end in the middle of one", path)
		}
		p, err := parseProbe(f, notes[start:start+uint64(descSize)], base)
		if err != nil {
			return nil, fmt.Errorf("static probe of %s: %w", path, err)
		}
		out = append(out, p)
		notes = notes[end:]
	}
	return out, nil
}

// parseProbe reads one note: three addresses, then three strings.
func parseProbe(f *elf.File, desc []byte, base uint64) (staticProbe, error) {
	pc, noteBase, semaphore := binary.LittleEndian.Uint64(desc), binary.LittleEndian.Uint64(desc[8:]), binary.LittleEndian.Uint64(desc[16:])
	if base != 0 { // prelink moved the file's parts, and not the notes
		pc += base - noteBase
		if semaphore != 0 {
			semaphore += base - noteBase
		}
	}
	texts := bytes.SplitN(desc[24:], []byte{0}, 4)
	if len(texts) < 3 {
		return staticProbe{}, fmt.Errorf("a note has no name")
	}
	p := staticProbe{provider: string(texts[0]), name: string(texts[1])}
	var err error
	if p.offset, err = offsetIn(f, pc); err != nil {
		return p, err
	}
	if semaphore != 0 {
		if p.semaphore, err = offsetIn(f, semaphore); err != nil {
			return p, err
		}
	}
	p.args, err = parseProbeArgs(string(texts[2]))
	return p, err
}

// parseProbeArgs reads descriptions such as "-4@%edi 8@-16(%rbp) 8@8(%rax,%rdx,8) -4@$5", or of arm64 "4@w0 8@[sp, 16]".
func parseProbeArgs(text string) ([]probeArg, error) {
	var out []probeArg
	for _, m := range regexp.MustCompile(`(-?\d+)f?@(\[[^\]]*\]|\S+)`).FindAllStringSubmatch(text, -1) {
		size, err := strconv.Atoi(m[1])
		if err != nil || size == 0 || size > 8 || size < -8 {
			return nil, fmt.Errorf("argument %q has no size from 1 to 8", m[0])
		}
		a := probeArg{size: size, described: m[0]}
		if err := a.parse(m[2]); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func (a *probeArg) parse(operand string) error {
	regs := usdtRegisters()
	lookup := func(name string) (*register, error) {
		r, ok := regs[strings.TrimPrefix(name, "%")]
		if !ok {
			return nil, fmt.Errorf("argument %q is in %s, which is no register that is known", a.described, name)
		}
		return &r, nil
	}
	var err error
	if digits, ok := strings.CutPrefix(operand, "$"); ok || operand[0] >= '0' && operand[0] <= '9' && !strings.Contains(operand, "(") {
		a.constant = true
		a.value, err = strconv.ParseInt(digits, 0, 64)
		return err
	}
	if m := regexp.MustCompile(`^(-?\d*)\((%\w+)(?:,(%\w+)(?:,(\d))?)?\)$`).FindStringSubmatch(operand); m != nil {
		a.indirect, a.scale = true, 1
		if a.reg, err = lookup(m[2]); err != nil {
			return err
		}
		if m[3] != "" {
			if a.index, err = lookup(m[3]); err != nil {
				return err
			}
		}
		if m[4] != "" {
			a.scale = int64(m[4][0] - '0')
		}
		if m[1] != "" {
			a.value, err = strconv.ParseInt(m[1], 10, 32)
		}
		return err
	}
	if m := regexp.MustCompile(`^\[(\w+)(?:, *(-?\d+))?\]$`).FindStringSubmatch(operand); m != nil {
		a.indirect = true
		if m[2] != "" {
			if a.value, err = strconv.ParseInt(m[2], 10, 32); err != nil {
				return err
			}
		}
		a.reg, err = lookup(m[1])
		return err
	}
	a.reg, err = lookup(operand)
	return err
}

// fileOffset is where an address of a program is in its file.
func fileOffset(path string, addr uint64) (uint64, error) {
	f, err := elf.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	return offsetIn(f, addr)
}

func offsetIn(f *elf.File, addr uint64) (uint64, error) {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr < p.Vaddr+p.Memsz {
			return addr - p.Vaddr + p.Off, nil
		}
	}
	return 0, fmt.Errorf("%#x: %w", addr, errNoSegment)
}
