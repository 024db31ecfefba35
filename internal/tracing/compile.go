// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// value is something that a hook reads: an argument, a datum or what is returned.
type value struct {
	path  string // field of the policy
	slot  int
	arg   *Arg
	typ   valueType
	chain []step // from what the source has to the value; nil for the source's own
	size  int    // bytes at the end of the chain; 0 for the type's own
	task  bool   // the chain begins at the current task
	late  bool   // read at the return
	used  bool   // by a filter
}

// maxValues is how many arguments, and how many data, a hook can have.
const maxValues = 5

// hookPlan is one hook of a policy, with names, lists and macros resolved.
type hookPlan struct {
	path      string // field of the policy
	kind      string // as model.Probe.Kind
	name      string // as it was asked for
	id        uint32
	args      []*value
	data      []*value
	ret       *value
	returns   bool // reported at the return
	slots     int  // of its records: arguments, then data, then what is returned
	result    int  // the slot of what is returned, with or without a type
	selectors []selectorPlan
	message   string
	tags      []string
	track     string // TrackSock or UntrackSock, of what is returned
	scope     *workloadSet
}

// selectorPlan is one selector. A hook without any has one that matches always.
type selectorPlan struct {
	path string
	Selector
}

// compiler writes the programs of one hook.
type compiler struct {
	*builder
	p        *Policy
	hook     *hookPlan
	src      source
	site     func(b *builder, dst asm.Register) // puts the place's number into dst
	deny     denial
	errs     []error
	defers   *ebpf.MapSpec            // where this entry puts off what it cannot read
	late     *ebpf.MapSpec            // what was put off there is what this return is for
	forks    int                      // programs that were begun
	exeTests int                      // how many tests of a program's path there are
	native   bool                     // a system call of the own ABI of this architecture is wanted
	void     bool                     // something is wrong with the hook already: no code is written
	shared   map[string]*ebpf.MapSpec // of the policy: mode and tallies
	env      *environment
	follow   *followers
}

// denial is how a program makes what it is attached to fail; none if it cannot.
type denial int

const (
	denyNot      denial = iota
	denyReturn          // by its own return value: LSM and fmod_ret
	denyOverride        // bpf_override_return: a kprobe on a function that allows it
)

func (c *compiler) fail(field, format string, args ...any) {
	c.errs = append(c.errs, c.p.problem(field, format, args...))
}

// entry writes the program that runs when the hook is hit.
func (c *compiler) entry() asm.Instructions {
	if c.void {
		return nil
	}
	out, done := "out", "done"
	c.emit(asm.Mov.Reg(regCtx, asm.R1))
	if c.deny == denyReturn {
		c.emit(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, offReturn, asm.R1, asm.DWord))
	}
	c.prologue(out)
	for _, v := range c.hook.args {
		if v.used || v.late {
			c.read(v)
		}
		if v.used {
			c.unread(v, done)
		}
	}
	for _, v := range c.hook.data {
		if v.used {
			c.read(v)
		}
	}
	for i := range c.hook.selectors {
		next := c.label("selector")
		c.selector(i, next)
		c.act(i, done)
		c.place(next)
	}
	c.place(done)
	c.give()
	c.place(out)
	if c.deny == denyReturn {
		c.emit(asm.LoadMem(asm.R0, asm.RFP, offReturn, asm.DWord), asm.Return())
	} else {
		c.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	}
	return c.finish()
}

// unread goes on when a value that filters need was read. At the entry of a system call that can be put off, it is, until what
// the value lies in is in memory; elsewhere the hit is counted as lost.
func (c *compiler) unread(v *value, done string) {
	if v.typ.class != classText && v.typ.class != classBytes && v.typ.class != classSock {
		return
	}
	read := c.label("read")
	c.emit(asm.LoadMem(asm.R1, regScratch, slotOffset(v.slot, unsafe.Offsetof(bpfVgProbeSlot{}.Flags)), asm.Byte),
		asm.And.Imm(asm.R1, slotUnread), asm.JEq.Imm(asm.R1, 0, read),
		asm.LoadMem(asm.R1, regScratch, slotValue(v.slot), asm.DWord), asm.JEq.Imm(asm.R1, 0, read)) // no pointer is no loss
	if c.defers != nil {
		c.loadMap(asm.R1, c.defers)
		c.call("vg_defer")
		c.jump(done)
	} else {
		c.call("vg_unjudged")
	}
	c.place(read)
}

// prologue takes scratch space and begins a record there. Nothing is done for who is outside of the policy's workloads.
func (c *compiler) prologue(out string) {
	if c.native {
		c.call("vg_compat")
		c.emit(asm.JNE.Imm(asm.R0, 0, out))
	}
	c.inWorkloads(c.hook.scope, out)
	c.call("vg_take")
	c.emit(asm.JEq.Imm(asm.R0, 0, out), asm.Mov.Reg(regScratch, asm.R0))
	c.site(c.builder, asm.R3)
	c.emit(asm.Mov.Reg(asm.R1, regScratch))
	c.imm(asm.R2, uint64(c.hook.id))
	c.emit(asm.Mov.Imm(asm.R4, int32(c.hook.slots)))
	c.call("vg_begin")
}

// give returns the scratch space.
func (c *compiler) give() {
	c.emit(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(regScratch, offBusy, asm.R1, asm.DWord))
}

// exit writes the program that runs at the return, for a hook that is reported then.
func (c *compiler) exit(result func(b *builder, dst asm.Register)) asm.Instructions {
	if c.void {
		return nil
	}
	out, done := "out", "done"
	c.emit(asm.Mov.Reg(regCtx, asm.R1))
	c.call("vg_take")
	c.emit(asm.JEq.Imm(asm.R0, 0, out), asm.Mov.Reg(regScratch, asm.R0))
	c.emit(asm.Mov.Reg(asm.R1, regScratch))
	stash := c.stash()
	c.loadMap(asm.R2, stash)
	c.imm(asm.R3, uint64(stash.ValueSize))
	c.call("vg_unstash")
	c.emit(asm.JEq.Imm(asm.R0, 0, done))
	result(c.builder, asm.R3)
	if c.hook.ret != nil {
		c.keep(c.hook.ret, asm.R3)
	} else {
		c.emit(asm.StoreMem(regScratch, slotValue(c.hook.result), asm.R3, asm.DWord))
	}
	for _, v := range c.hook.args {
		if v.late {
			c.readLate(v)
		}
	}
	for i, s := range c.hook.selectors {
		if len(s.MatchReturnArgs) == 0 && len(s.MatchReturnActions) == 0 {
			continue
		}
		next := c.label("selector")
		c.emit(asm.LoadMem(asm.R1, regScratch, offSelect, asm.Byte), asm.JNE.Imm(asm.R1, int32(i), next))
		c.returnSelector(i, done)
		c.place(next)
	}
	c.trackReturned()
	c.post(done)
	c.place(done)
	c.give()
	c.place(out)
	c.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return c.finish()
}

// whole writes one program for a hook whose arguments and result are seen at the same time.
func (c *compiler) whole(result func(b *builder, dst asm.Register)) asm.Instructions {
	if c.void {
		return nil
	}
	out, done := "out", "done"
	c.emit(asm.Mov.Reg(regCtx, asm.R1))
	if c.late != nil {
		c.loadMap(asm.R1, c.late)
		c.call("vg_deferred")
		c.emit(asm.JEq.Imm(asm.R0, 0, out))
	}
	c.prologue(out)
	for _, v := range slices.Concat(c.hook.args, c.hook.data) {
		c.read(v)
		if v.used {
			c.unread(v, done)
		}
	}
	if c.hook.ret != nil {
		result(c.builder, asm.R3)
		c.keep(c.hook.ret, asm.R3)
	}
	for _, v := range c.hook.args {
		if v.late {
			c.readLate(v)
		}
	}
	for i := range c.hook.selectors {
		s := &c.hook.selectors[i]
		next := c.label("selector")
		c.selector(i, next)
		c.emit(asm.StoreImm(regScratch, offSelect, int64(i), asm.Byte))
		c.actions(s.path+".matchActions", s.MatchActions)
		c.reported(i, done)
		c.returnSelector(i, done)
		c.trackReturned()
		c.post(done)
		c.jump(done)
		c.place(next)
	}
	c.place(done)
	c.give()
	c.place(out)
	c.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return c.finish()
}

// stash is the map in which an entry waits for its return: large enough for all that the entry can have read.
func (c *compiler) stash() *ebpf.MapSpec {
	size := recordSize + c.hook.slots*int(slotSize) + 2*stackBytes
	for _, v := range slices.Concat(c.hook.args, c.hook.data) {
		if !v.late {
			size += v.typ.room(v.arg)
		}
	}
	room := (uint32(min(size, recordSize+tailMax+dataMax)) + 7) &^ 7
	octet := &btf.Int{Name: "unsigned char", Size: 1}
	return &ebpf.MapSpec{Name: c.prefix + "_stash", Type: ebpf.TaskStorage, Flags: 1 /* BPF_F_NO_PREALLOC */, KeySize: 4, ValueSize: room,
		Key:   &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Value: &btf.Array{Index: &btf.Int{Name: "unsigned int", Size: 4}, Type: octet, Nelems: room}}
}

// read puts a value into its slot.
func (c *compiler) read(v *value) {
	if v.typ.class == classNone {
		return
	}
	if v.task {
		c.emit(asm.FnGetCurrentTask.Call(), asm.Mov.Reg(asm.R3, asm.R0))
	} else {
		c.src.load(c.builder, asm.R3, int(v.arg.Index))
	}
	c.walk(v.chain, v.size)
	c.keep(v, asm.R3)
}

// keep makes a slot of what is in R3.
func (c *compiler) keep(v *value, from asm.Register) {
	// Through the slot: what was a pointer for the verifier is a number then.
	c.emit(asm.StoreMem(regScratch, slotValue(v.slot), from, asm.DWord), asm.LoadMem(asm.R3, regScratch, slotValue(v.slot), asm.DWord))
	kind := slotOffset(v.slot, unsafe.Offsetof(bpfVgProbeSlot{}.Kind))
	switch {
	case v.late:
		c.keepSize(v)
	case v.typ.caps > 0:
		c.emit(asm.Mov.Reg(asm.R1, asm.R3), asm.Mov.Imm(asm.R2, int32(v.typ.caps-1)))
		c.call("vg_cap_set")
		c.emit(asm.StoreMem(regScratch, slotValue(v.slot), asm.R0, asm.DWord), asm.StoreImm(regScratch, kind, int64(bpfVgSlotKindVG_SLOT_NUMBER), asm.Byte))
	case v.typ.reader == "":
		c.extend(asm.R3, v.typ)
		c.emit(asm.StoreMem(regScratch, slotValue(v.slot), asm.R3, asm.DWord), asm.StoreImm(regScratch, kind, int64(bpfVgSlotKindVG_SLOT_NUMBER), asm.Byte))
	case v.typ.class == classBytes:
		c.size(v, asm.R4)
		c.readBytes(v)
	default:
		c.readWith(v)
	}
}

func (c *compiler) readWith(v *value) {
	c.emit(asm.Mov.Reg(asm.R1, regScratch))
	c.slot(asm.R2, v.slot)
	c.call(v.typ.reader)
}

// readBytes reads a buffer whose address is in the slot and whose length, or number of buffers, is in R4.
func (c *compiler) readBytes(v *value) {
	c.emit(asm.LoadMem(asm.R3, regScratch, slotValue(v.slot), asm.DWord), asm.Mov.Imm(asm.R5, textMax))
	if v.arg.MaxData {
		c.emit(asm.Mov.Imm(asm.R5, dataMax))
	}
	c.readWith(v)
}

// size puts the argument that is a buffer's length into dst.
func (c *compiler) size(v *value, dst asm.Register) {
	if v.arg.SizeArgIndex == 0 {
		c.imm(dst, textMax)
		return
	}
	c.src.load(c.builder, dst, int(v.arg.SizeArgIndex)-1)
}

// keepSize remembers the length of a buffer that is read at the return.
func (c *compiler) keepSize(v *value) {
	pad := slotOffset(v.slot, unsafe.Offsetof(bpfVgProbeSlot{}.Pad))
	c.size(v, asm.R4)
	if v.arg.SizeArgIndex == 0 && v.arg.MaxData {
		c.imm(asm.R4, dataMax)
	}
	c.emit(asm.StoreMem(regScratch, pad, asm.R4, asm.Word))
}

// readLate reads what the call has written: as much as it says that it has, and no more than there was room for.
func (c *compiler) readLate(v *value) {
	whole := c.label("whole")
	c.emit(asm.LoadMem(asm.R4, regScratch, slotOffset(v.slot, unsafe.Offsetof(bpfVgProbeSlot{}.Pad)), asm.Word))
	if v.typ.reader != "vg_arg_iovec" {
		c.emit(asm.LoadMem(asm.R1, regScratch, slotValue(c.hook.result), asm.DWord),
			asm.JSLE.Imm(asm.R1, 0, whole), asm.JGE.Reg(asm.R1, asm.R4, whole), asm.Mov.Reg(asm.R4, asm.R1))
		c.place(whole)
	}
	c.readBytes(v)
}

// extend makes 64 bits of a number of fewer.
func (c *compiler) extend(r asm.Register, t valueType) {
	if shift := int32(64 - t.bits); shift > 0 {
		c.emit(asm.LSh.Imm(r, shift))
		if t.signed {
			c.emit(asm.ArSh.Imm(r, shift))
		} else {
			c.emit(asm.RSh.Imm(r, shift))
		}
	}
}
