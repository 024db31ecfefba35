// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/vigie-io/vigie/internal/kernel"
)

// maxFollowed is how many sets there can be: a process has a bit for each.
const maxFollowed = 64

// followSet is processes and all their descendants: those that run a program, or that have an id.
type followSet struct {
	op     string // Equal, Prefix, Postfix; empty for ids
	values []string
	pids   []uint32
	inside bool // the ids are those in the processes' own pid namespaces
	users  int
}

func (f *followSet) same(o *followSet) bool {
	return f.op == o.op && f.inside == o.inside && slices.Equal(f.values, o.values) && slices.Equal(f.pids, o.pids)
}

// followers keeps the sets of all policies and the programs that maintain them: one at fork, where a child inherits; one at
// exec, and one that goes over all processes when the sets change, with the paths of the sets as operands.
type followers struct {
	sets  [maxFollowed]*followSet
	dirty uint64 // sets that were given up: their bits may still be set
	fork  *followProgram
	exec  *followProgram
	born  *followProgram // at fork too, when there are sets by ids inside of namespaces
}

type followProgram struct {
	collection *ebpf.Collection
	link       link.Link
}

func (p *followProgram) Close() error {
	if p == nil {
		return nil
	}
	err := p.link.Close()
	p.collection.Close()
	return err
}

var errFollowed = fmt.Errorf("all policies together follow at most %d sets of processes", maxFollowed)

// binaries returns the bit of the set of processes that run one of the programs, and their descendants.
func (f *followers) binaries(op string, values []string) (int, error) {
	return f.take(&followSet{op: op, values: values})
}

// pids returns the bit of processes by id, the host's or that inside of their pid namespace, and of their descendants.
func (f *followers) pids(pids []uint32, inside bool) (int, error) {
	return f.take(&followSet{pids: pids, inside: inside})
}

func (f *followers) take(want *followSet) (int, error) {
	free := -1
	for i, s := range f.sets {
		switch {
		case s == nil && free < 0:
			free = i
		case s != nil && s.same(want):
			s.users++
			return i, nil
		}
	}
	if free < 0 {
		return 0, errFollowed
	}
	want.users = 1
	f.sets[free] = want
	return free, nil
}

// snapshot is for taking sets back when a policy could not be loaded.
func (f *followers) snapshot() [maxFollowed]followSet {
	var out [maxFollowed]followSet
	for i, s := range f.sets {
		if s != nil {
			out[i] = *s
		}
	}
	return out
}

// used is how often each set was taken since the snapshot.
func (f *followers) used(before [maxFollowed]followSet) (users [maxFollowed]int) {
	for i, s := range f.sets {
		if s != nil {
			users[i] = s.users - before[i].users
		}
	}
	return users
}

// release gives sets up.
func (f *followers) release(users [maxFollowed]int) {
	for i, n := range users {
		if n == 0 {
			continue
		}
		if f.sets[i].users -= n; f.sets[i].users == 0 {
			f.sets[i] = nil
			f.dirty |= 1 << i
		}
	}
}

func (f *followers) empty() bool {
	return !slices.ContainsFunc(f.sets[:], func(s *followSet) bool { return s != nil })
}

// update makes the programs do what the sets say, and brings the processes that run up to date.
func (m *Manager) updateFollowers(types *btf.Cache) error {
	f := &m.follow
	if f.empty() {
		err := errors.Join(f.fork.Close(), f.exec.Close(), f.born.Close())
		f.fork, f.exec, f.born = nil, nil, nil
		return err
	}
	if f.fork == nil {
		p, err := m.followProgram(m.copyOf("vg_follow_fork"), "vg_follow_fork", types)
		if err != nil {
			return err
		}
		f.fork = p
	}
	if err := m.renew(&f.exec, "vg_follow_exec", "sched_process_exec", f.atExec(), types); err != nil {
		return err
	}
	if slices.ContainsFunc(f.sets[:], func(s *followSet) bool { return s != nil && s.inside }) {
		if err := m.renew(&f.born, "vg_follow_born", "sched_process_fork", f.atFork(), types); err != nil {
			return err
		}
	}
	return m.followRunning(types)
}

// renew puts a newly written program in the place of the one before; for a moment both run.
func (m *Manager) renew(into **followProgram, name, event string, c *compiler, types *btf.Cache) error {
	spec, err := m.generatedFollower(ebpf.ProgramSpec{Name: name, Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: event}, c)
	if err != nil {
		return err
	}
	p, err := m.followProgram(spec, name, types)
	if err != nil {
		return err
	}
	old := *into
	*into = p
	return old.Close()
}

// followRunning goes over all processes: what each runs, then what each inherits, until nothing changes.
func (m *Manager) followRunning(types *btf.Cache) error {
	spec, err := m.generatedFollower(ebpf.ProgramSpec{Name: "vg_follow_iter", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "task"}, m.follow.atIteration())
	if err != nil {
		return err
	}
	if _, err := m.iterate(spec, "vg_follow_iter", types); err != nil {
		return err
	}
	m.follow.dirty = 0
	const deepest = 64 // generations in one pass are many: the list is mostly in the order of birth
	for range deepest {
		changed, err := m.iterate(m.copyOf("vg_follow_inherit"), "vg_follow_inherit", types)
		if err != nil || changed == 0 {
			return err
		}
	}
	return nil
}

// bits writes what leaves, at offBits on the stack, the bits of the sets that the program at s->path is in.
const offBits = -40

func (f *followers) bits(c *compiler) {
	c.emit(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, offBits, asm.R1, asm.DWord))
	end := c.label("end")
	c.pathText(end)
	for i, s := range f.sets {
		if s == nil || s.op == "" {
			continue
		}
		hit, next := c.label("hit"), c.label("next")
		c.textTest("", s.op, s.values, hit)
		c.jump(next)
		c.place(hit)
		c.setBit(i)
		c.place(next)
	}
	c.place(end)
}

func (c *compiler) setBit(bit int) {
	c.imm(asm.R1, 1<<bit)
	c.emit(asm.LoadMem(asm.R2, asm.RFP, offBits, asm.DWord), asm.Or.Reg(asm.R1, asm.R2), asm.StoreMem(asm.RFP, offBits, asm.R1, asm.DWord))
}

func (f *followers) compiler(prefix string) *compiler {
	return &compiler{builder: newBuilder(prefix), p: &Policy{}}
}

// atExec: what a process runs from now on.
func (f *followers) atExec() *compiler {
	c := f.compiler("vg_fexec")
	c.emit(asm.Mov.Reg(regCtx, asm.R1))
	c.call("vg_take")
	c.emit(asm.JEq.Imm(asm.R0, 0, "out"), asm.Mov.Reg(regScratch, asm.R0), asm.FnGetCurrentTaskBtf.Call(),
		asm.Mov.Reg(asm.R1, regScratch), asm.Mov.Reg(asm.R2, asm.R0))
	c.call("vg_exe")
	f.bits(c)
	c.emit(asm.FnGetCurrentTaskBtf.Call(), asm.Mov.Reg(asm.R1, asm.R0), asm.LoadMem(asm.R2, asm.RFP, offBits, asm.DWord))
	c.call("vg_follow_add")
	c.give()
	c.place("out")
	c.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return c
}

// atIteration: what every process runs now, and who it is.
func (f *followers) atIteration() *compiler {
	c := f.compiler("vg_fiter")
	task := func(r asm.Register) { c.emit(asm.LoadMem(r, regCtx, 8, asm.DWord)) } // struct bpf_iter__task
	c.emit(asm.Mov.Reg(regCtx, asm.R1))
	task(asm.R1)
	c.emit(asm.JEq.Imm(asm.R1, 0, "out"))
	c.call("vg_take")
	c.emit(asm.JEq.Imm(asm.R0, 0, "out"), asm.Mov.Reg(regScratch, asm.R0))
	task(asm.R2)
	c.emit(asm.JEq.Imm(asm.R2, 0, "done"), asm.Mov.Reg(asm.R1, regScratch))
	c.call("vg_exe")
	f.bits(c)
	c.emit(asm.LoadMem(regValue, regScratch, offImagePid, asm.Word))
	f.ids(c, false)
	task(asm.R1)
	c.emit(asm.JEq.Imm(asm.R1, 0, "done"))
	c.call("vg_ns_pid_of")
	c.emit(asm.Mov.Reg(regValue, asm.R0))
	f.ids(c, true)
	task(asm.R1)
	c.emit(asm.JEq.Imm(asm.R1, 0, "done"))
	c.imm(asm.R2, ^f.dirty)
	c.emit(asm.LoadMem(asm.R3, asm.RFP, offBits, asm.DWord))
	c.call("vg_follow_renew")
	c.place("done")
	c.give()
	c.place("out")
	c.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return c
}

// ids adds the bits of the sets that have the id in regValue.
func (f *followers) ids(c *compiler, inside bool) {
	for i, s := range f.sets {
		if s == nil || s.op != "" || s.inside != inside {
			continue
		}
		hit, next := c.label("hit"), c.label("next")
		for _, pid := range s.pids {
			c.jumpIf(asm.JEq, regValue, uint64(pid), hit)
		}
		c.jump(next)
		c.place(hit)
		c.setBit(i)
		c.place(next)
	}
}

// atFork: the first process of a new pid namespace, say, which no list could hold before.
func (f *followers) atFork() *compiler {
	c := f.compiler("vg_fborn")
	child := func(r asm.Register) { c.emit(asm.LoadMem(r, regCtx, 8, asm.DWord)) }
	c.emit(asm.Mov.Reg(regCtx, asm.R1), asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, offBits, asm.R1, asm.DWord))
	child(asm.R1)
	c.call("vg_ns_pid_of")
	c.emit(asm.Mov.Reg(regValue, asm.R0))
	f.ids(c, true)
	child(asm.R1)
	c.imm(asm.R2, ^uint64(0))
	c.emit(asm.LoadMem(asm.R3, asm.RFP, offBits, asm.DWord))
	c.call("vg_follow_renew")
	c.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return c
}

func (m *Manager) generatedFollower(spec ebpf.ProgramSpec, c *compiler) (*ebpf.CollectionSpec, error) {
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return m.library.collection(spec, c.finish(), c.maps)
}

// copyOf is a program of the embedded object, alone with its maps.
func (m *Manager) copyOf(program string) *ebpf.CollectionSpec {
	p := m.object.Programs[program].Copy()
	spec := &ebpf.CollectionSpec{Maps: make(map[string]*ebpf.MapSpec), Programs: map[string]*ebpf.ProgramSpec{program: p}}
	for i, ins := range p.Instructions {
		if i > 0 {
			p.Instructions[i] = static(ins)
		}
		if own := m.object.Maps[ins.Reference()]; ins.IsLoadFromMap() && own != nil {
			spec.Maps[ins.Reference()] = own.Copy()
		}
	}
	return spec
}

func (m *Manager) followProgram(spec *ebpf.CollectionSpec, name string, types *btf.Cache) (*followProgram, error) {
	c, err := m.load(name, spec, types)
	if err != nil {
		return nil, err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: c.Programs[name]})
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("attach %s: %w", name, err)
	}
	return &followProgram{c, l}, nil
}

// iterate runs an iterator once and returns how many processes it changed.
func (m *Manager) iterate(spec *ebpf.CollectionSpec, name string, types *btf.Cache) (uint64, error) {
	c, err := m.load(name, spec, types)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := m.host.Iterate(c.Programs[name], func(kernel.Record) error { return nil }); err != nil {
		return 0, err
	}
	changed := c.Maps["vg_follow_changed"]
	if changed == nil {
		return 0, nil
	}
	var n uint64
	if err := changed.Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("read how many processes were put into sets: %w", err)
	}
	return n, nil
}
