// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// functionCandidates: functions of the kernel that are no system calls. A program that attaches by BTF is cheapest and knows
// types; a kprobe works where trampolines do not.
func (c *compiler) functionCandidates(r *request) []candidate {
	names := r.function.names
	if r.function.pattern != "" {
		if names = functionsLike(r.function.pattern); len(names) == 0 || len(names) > maxFunctions {
			c.fail(r.path+".call", "%d functions of this kernel match %s; 1 to %d are possible", len(names), r.function.pattern, maxFunctions)
			return nil
		}
	}
	protos := make(map[string]*btf.FuncProto)
	var missing []string
	for _, n := range names {
		var f *btf.Func
		if err := c.env.types.TypeByName(n, &f); err != nil {
			missing = append(missing, n)
			continue
		}
		protos[n] = f.Type.(*btf.FuncProto)
	}
	if r.function.ignoreMissing {
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(missing, n) })
		missing = nil
		if len(names) == 0 {
			return []candidate{{carrier: "none: the function is missing, which the policy ignores"}}
		}
	}
	byType := candidate{carrier: "fentry"}
	if len(missing) > 0 {
		byType.err = fmt.Errorf("this kernel's types have no function %s; ignore: {callNotFound: true} goes on without it", strings.Join(missing, ", "))
	} else {
		byType = c.typedFunctions(r, names, protos)
	}
	out := []candidate{byType}
	if r.function.fentry {
		return out
	}
	if h, ok := strings.CutPrefix(names[0], "security_"); ok && len(names) == 1 && !r.returns {
		out = append(out, c.lsmProgram(r, h))
	}
	return append(out, c.kprobes(r, names, paramTypes(protos[names[0]])))
}

// maxFunctions is how many functions a pattern may stand for: where trampolines carry them, each has a program.
const maxFunctions = 256

// functionsLike are the kernel's functions whose names match.
func functionsLike(pattern string) []string {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return nil // refused by plan
	}
	var out []string
	for _, s := range kernelSymbols("/proc/kallsyms") {
		if match.MatchString(s.name) && !strings.Contains(s.name, ".") { // clones that the compiler made have no types
			out = append(out, s.name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func paramTypes(p *btf.FuncProto) []btf.Type {
	if p == nil {
		return nil
	}
	var out []btf.Type
	for _, a := range p.Params {
		out = append(out, a.Type)
	}
	return out
}

// typedFunctions writes a program for each function, as their arguments may differ.
func (c *compiler) typedFunctions(r *request, names []string, protos map[string]*btf.FuncProto) candidate {
	out := candidate{carrier: "fentry", names: names}
	spec := ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry}
	deny := denyNot
	switch {
	case r.overrides():
		out.carrier, spec.AttachType, deny = "fmod_ret", ebpf.AttachModifyReturn, denyReturn
	case r.returns:
		out.carrier, spec.AttachType = "fexit", ebpf.AttachTraceFExit
	}
	for i, n := range names {
		params := paramTypes(protos[n])
		c.src = contextSource{count: len(params)}
		c.checkValues(params)
		f := c.fork()
		f.deny, f.site = deny, constSite(i)
		spec.AttachTo = n
		var code asm.Instructions
		result := func(b *builder, dst asm.Register) { b.emit(asm.LoadMem(dst, regCtx, int16(8*len(params)), asm.DWord)) }
		switch {
		case r.returns && r.overrides():
			exit := c.fork()
			p := exit.program(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: n}, exit.exit(result))
			p.attach = attachTracing
			out.programs = append(out.programs, p)
			c.errs = append(c.errs, exit.errs...)
			code = f.entry()
		case r.returns:
			code = f.whole(result)
		default:
			code = f.entry()
		}
		p := f.program(spec, code)
		p.attach = attachTracing
		out.programs = append(out.programs, p)
		c.errs = append(c.errs, f.errs...)
	}
	return out
}

// lsmCandidates: a hook of the security modules.
func (c *compiler) lsmCandidates(r *request) []candidate {
	return []candidate{c.lsmProgram(r, strings.TrimPrefix(r.lsm.Hook, "security_"))}
}

// lsmProgram is a program of the BPF security module.
func (c *compiler) lsmProgram(r *request, hook string) candidate {
	out := candidate{carrier: "lsm", names: []string{r.name}}
	var fn *btf.Func
	if err := c.env.types.TypeByName("bpf_lsm_"+hook, &fn); err != nil {
		out.err = fmt.Errorf("this kernel has no security hook %s", hook)
		return out
	}
	if !c.env.lsmActive() {
		out.err = errors.New("the BPF security module is not among the active ones; it takes lsm=…,bpf on the kernel's command line")
		return out
	}
	params := paramTypes(fn.Type.(*btf.FuncProto))
	c.src = contextSource{count: len(params)}
	c.checkValues(params)
	f := c.fork()
	f.deny, f.site = denyReturn, noSite
	p := f.program(ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook}, f.entry())
	p.attach = func(prog *ebpf.Program) ([]link.Link, error) {
		l, err := link.AttachLSM(link.LSMOptions{Program: prog})
		if err != nil {
			return nil, err
		}
		return []link.Link{l}, nil
	}
	out.programs = []*program{p}
	c.errs = append(c.errs, f.errs...)
	return out
}

// lsmActive says whether programs of the BPF security module are run.
func (*environment) lsmActive() bool {
	b, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return true // securityfs is not mounted: loading will tell
	}
	return slices.Contains(strings.Split(strings.TrimSpace(string(b)), ","), "bpf")
}

// kprobes is one program at the beginning of all functions, and one at their return.
func (c *compiler) kprobes(r *request, names []string, params []btf.Type) candidate {
	out := candidate{carrier: "kprobe", names: names}
	if out.err = c.env.kprobable(names); out.err != nil {
		return out
	}
	c.src = registerSource{}
	saved := c.errs
	c.checkValues(params)
	if len(c.errs) > len(saved) { // what needs types is no fault of the policy
		out.err, c.errs = errors.Join(c.errs[len(saved):]...), saved
		return out
	}
	if r.returns {
		out.carrier = "kprobe + kretprobe"
		exit := c.fork()
		p := exit.program(ebpf.ProgramSpec{Type: ebpf.Kprobe},
			exit.exit(func(b *builder, dst asm.Register) { b.emit(asm.LoadMem(dst, regCtx, returnRegister, asm.DWord)) }))
		p.attach = attachKprobes(names, link.Kretprobe)
		out.programs = append(out.programs, p)
		c.errs = append(c.errs, exit.errs...)
	}
	f := c.fork()
	f.site = cookieSite
	if r.overrides() {
		f.deny = denyOverride
	}
	p := f.program(ebpf.ProgramSpec{Type: ebpf.Kprobe}, f.entry())
	p.attach = attachKprobes(names, link.Kprobe)
	out.programs = append(out.programs, p)
	c.errs = append(c.errs, f.errs...)
	return out
}

// kprobable says why functions cannot have kprobes, or nothing.
func (*environment) kprobable(names []string) error {
	if _, err := os.Stat("/sys/bus/event_source/devices/kprobe"); err != nil {
		return errors.New("the kernel has no kprobes (CONFIG_KPROBE_EVENTS)")
	}
	known := make(map[string]bool)
	for _, s := range kernelSymbols("/proc/kallsyms") {
		known[s.name] = true
	}
	for _, n := range names {
		if len(known) > 0 && !known[n] {
			return fmt.Errorf("the kernel has no function %s; ignore: {callNotFound: true} goes on without it", n)
		}
	}
	return nil
}

// attachKprobes attaches one program to functions, each with its number as the cookie.
func attachKprobes(names []string, attach func(string, *ebpf.Program, *link.KprobeOptions) (link.Link, error)) func(*ebpf.Program) ([]link.Link, error) {
	return func(p *ebpf.Program) ([]link.Link, error) {
		var links []link.Link
		for i, n := range names {
			l, err := attach(n, p, &link.KprobeOptions{Cookie: uint64(i)})
			if err != nil {
				return links, fmt.Errorf("%s: %w", n, err)
			}
			links = append(links, l)
		}
		return links, nil
	}
}
