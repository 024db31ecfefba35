// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// What generated programs keep in registers that calls preserve.
const (
	regCtx     = asm.R6
	regScratch = asm.R7 // struct vg_probe_scratch
	regText    = asm.R8 // a text or a struct in the scratch space
	regValue   = asm.R9 // its length, or a number
)

// Where things are in struct vg_probe_scratch.
const (
	offBusy     = int16(unsafe.Offsetof(bpfVgProbeScratch{}.Busy))
	offPathPos  = int16(unsafe.Offsetof(bpfVgProbeScratch{}.PathPos))
	offImagePid = int16(unsafe.Offsetof(bpfVgProbeScratch{}.Image) + unsafe.Offsetof(bpfVgImage{}.Pid))
	offPath     = int32(unsafe.Offsetof(bpfVgProbeScratch{}.Path))
	offRecord   = unsafe.Offsetof(bpfVgProbeScratch{}.R)
	offTail     = int32(unsafe.Offsetof(bpfVgProbeScratch{}.Tail))
	offHeader   = int16(offRecord + unsafe.Offsetof(bpfVgProbe{}.H))
	offActions  = int16(offRecord + unsafe.Offsetof(bpfVgProbe{}.Actions))
	offSelect   = int16(offRecord + unsafe.Offsetof(bpfVgProbe{}.Selector))
	offMonitor  = int16(offRecord + unsafe.Offsetof(bpfVgProbe{}.Monitored))
	recordSize  = int(unsafe.Sizeof(bpfVgProbe{}))
	slotSize    = unsafe.Sizeof(bpfVgProbeSlot{})

	textMax    = 4096  // VG_TEXT_MAX
	dataMax    = 8192  // VG_DATA_MAX
	tailMax    = 12288 // VG_TAIL_MAX
	keyMax     = 256   // VG_KEY_MAX
	stackBytes = 512   // VG_STACK_BYTES
)

// slotOffset is where a member of a slot stands, member being its offset in the slot.
func slotOffset(slot int, member uintptr) int16 {
	return int16(uintptr(offTail) + uintptr(slot)*slotSize + member)
}

func slotValue(slot int) int16 { return slotOffset(slot, unsafe.Offsetof(bpfVgProbeSlot{}.Value)) }

// builder writes one program. Labels are unique names; a jump to one that is never placed fails at load.
type builder struct {
	ins    asm.Instructions
	labels int
	next   string            // label of the next instruction
	same   map[string]string // labels at the place of another
	maps   map[string]*ebpf.MapSpec
	lists  map[string]*ebpf.MapSpec // of texts, by what is in them
	prefix string                   // of the names of maps, so that entry and exit of a hook can share
	number int                      // of the program among the hook's
}

func newBuilder(prefix string) *builder {
	return &builder{maps: make(map[string]*ebpf.MapSpec), lists: make(map[string]*ebpf.MapSpec), same: make(map[string]string), prefix: prefix}
}

func (b *builder) emit(ins ...asm.Instruction) {
	for _, i := range ins {
		if b.next != "" {
			i = i.WithSymbol(b.next)
			b.next = ""
		}
		b.ins = append(b.ins, i)
	}
}

// label invents one.
func (b *builder) label(what string) string {
	b.labels++
	return fmt.Sprintf("%s_%d", what, b.labels)
}

// place puts a label before the next instruction.
func (b *builder) place(label string) {
	if b.next != "" {
		b.same[label] = b.next
		return
	}
	b.next = label
}

// finish is the program without what no jump leads to, which the verifier refuses: a selector after one that matches always.
func (b *builder) finish() asm.Instructions {
	at := make(map[string]int)
	for i := range b.ins {
		if l, ok := b.same[b.ins[i].Reference()]; ok && !b.ins[i].IsFunctionReference() {
			b.ins[i] = b.ins[i].WithReference(l)
		}
		if l := b.ins[i].Symbol(); l != "" {
			at[l] = i
		}
	}
	reached := make([]bool, len(b.ins))
	for todo := []int{0}; len(todo) > 0; {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for ; i < len(b.ins) && !reached[i]; i++ {
			reached[i] = true
			op := b.ins[i].OpCode
			if target, ok := at[b.ins[i].Reference()]; ok && op.Class().IsJump() && op.JumpOp() != asm.Call {
				todo = append(todo, target)
			}
			if op.JumpOp() == asm.Ja || op.JumpOp() == asm.Exit {
				break
			}
		}
	}
	var out asm.Instructions
	for i, ins := range b.ins {
		if reached[i] {
			out = append(out, ins)
		}
	}
	return out
}

func (b *builder) jump(label string) { b.emit(asm.Ja.Label(label)) }

// call calls a function of the library. Its arguments are in R1 to R5, its result in R0.
func (b *builder) call(name string) {
	b.emit(asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}.WithReference(name))
}

// imm loads a constant of any width.
func (b *builder) imm(dst asm.Register, v uint64) {
	if int64(v) == int64(int32(v)) {
		b.emit(asm.Mov.Imm(dst, int32(v)))
		return
	}
	b.emit(asm.LoadImm(dst, int64(v), asm.DWord))
}

// jumpIf compares a register with a constant of any width. R2 is lost.
func (b *builder) jumpIf(op asm.JumpOp, r asm.Register, v uint64, label string) {
	if int64(v) == int64(int32(v)) {
		b.emit(op.Imm(r, int32(v), label))
		return
	}
	b.emit(asm.LoadImm(asm.R2, int64(v), asm.DWord), op.Reg(r, asm.R2, label))
}

// slot puts a pointer to a slot into dst.
func (b *builder) slot(dst asm.Register, slot int) {
	b.emit(asm.Mov.Reg(dst, regScratch), asm.Add.Imm(dst, int32(slotOffset(slot, 0))))
}

// loadMap puts a map of this program into dst, made when it is new.
func (b *builder) loadMap(dst asm.Register, m *ebpf.MapSpec) {
	b.maps[m.Name] = m
	b.emit(asm.LoadMapPtr(dst, 0).WithReference(m.Name))
}

// mapName makes a name for a map of this program alone. Programs find maps by the whole name; the kernel keeps its beginning.
func (b *builder) mapName(what string) string {
	return fmt.Sprintf("%s_%s%d_%d", b.prefix, what, len(b.maps), b.number)
}

// compare jumps to differ unless the bytes at r+off are those of want: immediate operands, eight bytes at a time.
// The memory must reach that far. R1 and R2 are lost.
func (b *builder) compare(r asm.Register, off int, want []byte, differ string) {
	for len(want) > 0 {
		n, size := 8, asm.DWord
		switch {
		case len(want) >= 8:
		case len(want) >= 4:
			n, size = 4, asm.Word
		case len(want) >= 2:
			n, size = 2, asm.Half
		default:
			n, size = 1, asm.Byte
		}
		var word [8]byte
		copy(word[:], want[:n])
		v := binary.LittleEndian.Uint64(word[:])
		b.emit(asm.LoadMem(asm.R1, r, int16(off), size))
		if size == asm.Word && v > math.MaxInt32 {
			b.emit(asm.LoadImm(asm.R2, int64(v), asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, differ))
		} else {
			b.jumpIf(asm.JNE, asm.R1, v, differ)
		}
		want, off = want[n:], off+n
	}
}

// text puts the text of a slot into regText and regValue, for comparisons.
func (b *builder) text(slot int, fail string) {
	b.emit(
		asm.LoadMem(regText, regScratch, slotOffset(slot, unsafe.Offsetof(bpfVgProbeSlot{}.Off)), asm.Half),
		asm.LoadMem(regValue, regScratch, slotOffset(slot, unsafe.Offsetof(bpfVgProbeSlot{}.Len)), asm.Half),
		asm.JGT.Imm(regText, tailMax, fail),
		asm.JGT.Imm(regValue, dataMax, fail),
		asm.Add.Reg(regText, regScratch),
		asm.Add.Imm(regText, offTail),
	)
}

// pathText is text for what vg_exe has found.
func (b *builder) pathText(fail string) {
	b.emit(
		asm.LoadMem(regText, regScratch, offPathPos, asm.Word),
		asm.JGT.Imm(regText, textMax, fail),
		asm.Mov.Imm(regValue, textMax),
		asm.Sub.Reg(regValue, regText),
		asm.Add.Reg(regText, regScratch),
		asm.Add.Imm(regText, offPath),
	)
}
