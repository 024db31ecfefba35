// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// hiddenFields end where programs may begin to read: the kernel keeps a pointer of its own in the first eight bytes.
const hiddenFields = 8

// formatSource is the record of a tracepoint, laid out by its format.
type formatSource struct{ fields []field }

func (s formatSource) check(index int) string {
	if index >= len(s.fields) {
		return fmt.Sprintf("the tracepoint has %d fields, the common ones included, counted from 0", len(s.fields))
	}
	if f := s.fields[index]; f.offset < hiddenFields {
		return fmt.Sprintf("the field %s is one that the kernel does not show to programs", f.name)
	}
	return ""
}

// load puts a number into dst; of an array and of data elsewhere in the record, the address.
func (s formatSource) load(b *builder, dst asm.Register, index int) {
	f := s.fields[index]
	sizes := map[int]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word, 8: asm.DWord}
	size, number := sizes[f.size]
	switch {
	case f.dataLoc:
		b.emit(asm.LoadMem(asm.R1, regCtx, int16(f.offset), asm.Word), asm.And.Imm(asm.R1, 0xffff),
			asm.Mov.Reg(dst, regCtx), asm.Add.Reg(dst, asm.R1))
	case number && !strings.Contains(f.decl, "["):
		b.emit(asm.LoadMem(dst, regCtx, int16(f.offset), size))
		if f.signed && f.size < 8 {
			b.emit(asm.LSh.Imm(dst, int32(64-8*f.size)), asm.ArSh.Imm(dst, int32(64-8*f.size)))
		}
	default:
		b.emit(asm.Mov.Reg(dst, regCtx), asm.Add.Imm(dst, int32(f.offset)))
	}
}

// tracepointCandidates: the record that the tracepoint makes for tracing.
func (c *compiler) tracepointCandidates(r *request) []candidate {
	t := r.tracepoint
	fs, err := openTracefs()
	if err != nil {
		return []candidate{{carrier: "tracepoint", err: err}}
	}
	defer fs.Close()
	e, err := fs.event(t.Subsystem, t.Event)
	if err != nil {
		c.fail(r.path+".event", "%v; /sys/kernel/tracing/events lists them when tracefs is mounted", err)
		return nil
	}
	c.src = formatSource{e.fields}
	for _, v := range c.hook.args {
		if v.arg.Resolve != "" || v.arg.BTFType != "" {
			c.fail(v.path+".resolve", "a field of a tracepoint has no members: take raw: true, whose arguments are the kernel's own")
		}
		if v.arg.Type == "auto" && c.src.check(int(v.arg.Index)) == "" {
			v.arg.Type = fieldType(e.fields[v.arg.Index])
			v.typ = valueTypes()[v.arg.Type]
		}
	}
	c.checkValues(nil)
	f := c.fork()
	f.site = noSite
	p := f.program(ebpf.ProgramSpec{Type: ebpf.TracePoint}, f.entry())
	p.attach = func(prog *ebpf.Program) ([]link.Link, error) { return attachEvent(prog, e.id) }
	c.errs = append(c.errs, f.errs...)
	return []candidate{{carrier: "tracepoint", programs: []*program{p}, names: []string{r.name}}}
}

// fieldType is the type of a field that the policy does not give one.
func fieldType(f field) string {
	switch {
	case f.dataLoc:
		return "data_loc"
	case strings.Contains(f.decl, "char") && (strings.Contains(f.decl, "*") || strings.Contains(f.decl, "[")):
		return "string"
	case strings.Contains(f.decl, "["):
		return "nop"
	}
	return intName(uint32(f.size), f.signed)
}

// attachEvent attaches a program to a tracepoint by its number, on all CPUs.
func attachEvent(p *ebpf.Program, id uint64) ([]link.Link, error) {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Sample_type: unix.PERF_SAMPLE_RAW, Sample: 1, Wakeup: 1}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open the tracepoint: %w", err)
	}
	defer unix.Close(fd) // the link holds it
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		return nil, fmt.Errorf("enable the tracepoint: %w", err)
	}
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: fd, Program: p, Attach: ebpf.AttachPerfEvent})
	if err != nil {
		return nil, err
	}
	return []link.Link{l}, nil
}
