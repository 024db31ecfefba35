// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// program is a generated program that is not loaded yet.
type program struct {
	spec ebpf.ProgramSpec
	code asm.Instructions
	maps map[string]*ebpf.MapSpec
	// attach makes a loaded program run. Nil for one that a dispatcher calls: calls are the numbers then.
	attach func(p *ebpf.Program) ([]link.Link, error)
	calls  []int
	exit   bool // of calls: at the return
}

// candidate is one way to carry a hook.
type candidate struct {
	carrier  string // for people: "tp_btf/sys_enter", "fentry"
	programs []*program
	names    []string // of the hook's sites, by number; a system call's site is its own number
	target   string   // file that is probed
	err      error    // why it is none
}

// candidates are the ways to carry a request on this kernel, best first. What is wrong with the policy is in errs.
func (c *compiler) candidates(r *request) []candidate {
	switch {
	case r.function != nil && r.function.syscall:
		return c.syscallCandidates(r)
	case r.function != nil:
		return c.functionCandidates(r)
	case r.tracepoint != nil && r.tracepoint.Raw:
		return c.rawCandidates(r)
	case r.tracepoint != nil:
		return c.tracepointCandidates(r)
	case r.uprobe != nil:
		return c.uprobeCandidates(r)
	case r.usdt != nil:
		return c.usdtCandidates(r)
	default:
		return c.lsmCandidates(r)
	}
}

// fork makes a compiler for one more program of the same hook.
func (c *compiler) fork() *compiler {
	f := *c
	f.builder = newBuilder(c.prefix)
	c.forks++
	f.number = c.forks
	f.void, f.errs = c.void || len(c.errs) > 0, nil
	return &f
}

// noSite is for hooks with one place.
func noSite(b *builder, dst asm.Register) { b.emit(asm.Mov.Imm(dst, 0)) }

func constSite(n int) func(*builder, asm.Register) {
	return func(b *builder, dst asm.Register) { b.emit(asm.Mov.Imm(dst, int32(n))) }
}

// cookieSite takes the place's number from what the program was attached with.
func cookieSite(b *builder, dst asm.Register) {
	b.emit(asm.Mov.Reg(asm.R1, regCtx), asm.FnGetAttachCookie.Call(), asm.Mov.Reg(dst, asm.R0))
}

func (h *hookPlan) overrides() bool {
	return slices.ContainsFunc(h.selectors, func(s selectorPlan) bool {
		is := func(a Action) bool { return a.Action == "Override" }
		return slices.ContainsFunc(s.MatchActions, is) || slices.ContainsFunc(s.MatchReturnActions, is)
	})
}

// maxMaps is how many maps a program can have (MAX_USED_MAPS is 64 in the kernel) but for those of the library.
const maxMaps = 56

// maxInstructions is how far a jump goes.
const maxInstructions = 1<<15 - 1

// program finishes what a compiler has written.
func (c *compiler) program(spec ebpf.ProgramSpec, code asm.Instructions) *program {
	spec.Name = c.prefix
	if n := len(code); n > maxInstructions {
		c.fail(c.hook.path+".selectors", "they make a program of %d instructions, more than the %d that its jumps reach: put values that are tested alike into one list, which is one look-up beyond %d", n, maxInstructions, maxTexts)
	}
	if n := len(c.maps); n > maxMaps {
		c.fail(c.hook.path+".selectors", "they have %d different lists that are look-ups, more than the %d that a program can have: make them fewer, or none longer than %d", n, maxMaps, maxTexts)
	}
	return &program{spec: spec, code: code, maps: c.maps}
}

// checkValues resolves members and finds the types that are left to the hook. params are the types of its arguments, nil where
// they are not known.
func (c *compiler) checkValues(params []btf.Type) {
	for _, v := range slices.Concat(c.hook.args, c.hook.data) {
		v.chain, v.size = nil, 0
		if v.task {
			c.resolveValue(v, nil)
			continue
		}
		if problem := c.src.check(int(v.arg.Index)); problem != "" {
			c.fail(v.path+".index", "there is no argument %d: %s", v.arg.Index, problem)
			continue
		}
		var t btf.Type
		if int(v.arg.Index) < len(params) {
			t = params[v.arg.Index]
		}
		c.resolveValue(v, t)
		c.auto(v, t)
		if n := int(v.arg.SizeArgIndex); n > 0 {
			if problem := c.src.check(n - 1); problem != "" {
				c.fail(v.path+".sizeArgIndex", "there is no argument %d, counted from 1: %s", n, problem)
			}
		}
	}
	if v := c.hook.ret; v != nil && v.arg.Type == "auto" {
		c.fail(v.path+".type", "the type of what is returned must be given")
	}
}

// auto gives a value the type of the argument.
func (c *compiler) auto(v *value, t btf.Type) {
	if v.arg.Type != "auto" {
		return
	}
	name := ""
	if t != nil {
		name = typeOf(t)
	}
	if name == "" {
		c.fail(v.path+".type", "the argument's type is not known here: give one")
		return
	}
	v.arg.Type, v.typ = name, valueTypes()[name]
	if v.used {
		for _, s := range c.hook.selectors {
			for i := range s.MatchArgs {
				if chosen(&s.MatchArgs[i], c.hook.args) == v {
					l := planner{p: c.p}
					l.operator(fmt.Sprintf("%s.matchArgs[%d]", s.path, i), &s.MatchArgs[i], v)
					c.errs = append(c.errs, l.errs...)
				}
			}
		}
	}
}

// syscallCandidates: what observes goes through the dispatcher; what changes the result needs a program at the call's
// own function.
func (c *compiler) syscallCandidates(r *request) []candidate {
	var numbers []int
	for _, n := range r.function.names {
		numbers = append(numbers, syscallNumbers()[n])
	}
	c.src, c.native = syscallSource{}, true
	c.checkValues(nil)
	if r.overrides() {
		return []candidate{c.overriddenSyscalls(r, numbers)}
	}
	enter := c.fork()
	if slices.ContainsFunc(r.args, func(v *value) bool { return v.used && ofProcess(v.arg.Type) }) {
		enter.defers = c.put()
	}
	enter.site = func(b *builder, dst asm.Register) { b.emit(asm.LoadMem(dst, regCtx, 8, asm.DWord)) }
	p := enter.program(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sys_enter"}, enter.entry())
	p.calls = numbers
	c.errs = append(c.errs, enter.errs...)
	out := candidate{carrier: "tp_btf/sys_enter"}
	// The exits first: a call that begins before its exit is watched would never be reported.
	if r.returns {
		out.carrier += " + sys_exit"
		out.programs = append(out.programs, c.syscallExit(numbers))
	}
	if enter.defers != nil {
		out.programs = append(out.programs, c.deferredExit(enter.defers, numbers))
	}
	out.programs = append(out.programs, p)
	return []candidate{out}
}

// put is the map of what was put off. A task is in one call at a time; it is there only until that returns.
func (c *compiler) put() *ebpf.MapSpec {
	number := &btf.Int{Name: "unsigned int", Size: 4}
	return &ebpf.MapSpec{Name: c.prefix + "_late", Type: ebpf.TaskStorage, Flags: 1 /* BPF_F_NO_PREALLOC */, KeySize: 4, ValueSize: 4,
		Key: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Value: number}
}

// deferredExit is the program at the return of calls whose arguments could not be read before.
func (c *compiler) deferredExit(late *ebpf.MapSpec, numbers []int) *program {
	exit := c.fork()
	exit.src, exit.late, exit.native = syscallSource{exit: true}, late, false
	exit.site = func(b *builder, dst asm.Register) {
		b.emit(asm.LoadMem(asm.R1, regCtx, 0, asm.DWord), asm.LoadMem(dst, asm.R1, syscallNumber, syscallNumberSize))
	}
	p := exit.program(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sys_exit"},
		exit.whole(func(b *builder, dst asm.Register) { b.emit(asm.LoadMem(dst, regCtx, 8, asm.DWord)) }))
	p.calls, p.exit = numbers, true
	c.errs = append(c.errs, exit.errs...)
	return p
}

// syscallExit is the program at the return of system calls.
func (c *compiler) syscallExit(numbers []int) *program {
	exit := c.fork()
	exit.src = syscallSource{exit: true}
	exit.deny = denyNot
	p := exit.program(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sys_exit"},
		exit.exit(func(b *builder, dst asm.Register) { b.emit(asm.LoadMem(dst, regCtx, 8, asm.DWord)) }))
	p.calls, p.exit = numbers, true
	c.errs = append(c.errs, exit.errs...)
	return p
}

// overriddenSyscalls puts a program in front of each call.
func (c *compiler) overriddenSyscalls(r *request, numbers []int) candidate {
	out := candidate{carrier: "fmod_ret"}
	if r.returns {
		out.carrier += " + tp_btf/sys_exit"
		out.programs = append(out.programs, c.syscallExit(numbers))
	}
	for i, n := range r.function.names {
		f := c.fork()
		f.deny = denyReturn
		f.site = constSite(numbers[i])
		p := f.program(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachModifyReturn, AttachTo: syscallFunction(n)}, f.entry())
		p.attach = attachTracing
		out.programs = append(out.programs, p)
		c.errs = append(c.errs, f.errs...)
	}
	return out
}

// syscallFunction is the kernel's function of a system call.
func syscallFunction(name string) string { return "__" + nativeABI + "_sys_" + name }

func attachTracing(p *ebpf.Program) ([]link.Link, error) {
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		return nil, err
	}
	return []link.Link{l}, nil
}

// rawCandidates: the tracepoint's own arguments.
func (c *compiler) rawCandidates(r *request) []candidate {
	event := r.tracepoint.Event
	var def *btf.Typedef
	var params []btf.Type
	if err := c.env.types.TypeByName("btf_trace_"+event, &def); err == nil {
		if p, ok := btf.UnderlyingType(def).(*btf.Pointer); ok {
			if proto, ok := p.Target.(*btf.FuncProto); ok && len(proto.Params) > 0 {
				for _, a := range proto.Params[1:] { // the first is the tracepoint's own data
					params = append(params, a.Type)
				}
			}
		}
	} else {
		c.fail(r.path+".event", "this kernel has no tracepoint %s", event)
		return nil
	}
	c.src = contextSource{count: len(params)}
	c.checkValues(params)
	f := c.fork()
	f.site = noSite
	p := f.program(ebpf.ProgramSpec{Type: ebpf.RawTracepoint}, f.entry())
	p.attach = func(prog *ebpf.Program) ([]link.Link, error) {
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: event, Program: prog})
		return []link.Link{l}, err
	}
	c.errs = append(c.errs, f.errs...)
	return []candidate{{carrier: "raw_tracepoint", programs: []*program{p}, names: []string{r.name}}}
}

// oneLine makes one line of what errors.Join has put on several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
