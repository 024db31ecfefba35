// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Lists that are longer become a map of the kernel: a hash, or an LPM trie. Shorter ones are instructions.
const (
	maxTexts   = 16
	maxNumbers = 32
	maxNets    = 16
)

// selector writes the tests of selector i, what costs least first. It goes on when all hold, and jumps to next at the
// first that does not.
func (c *compiler) selector(i int, next string) {
	s := &c.hook.selectors[i]
	for k := range s.MatchPIDs {
		c.matchPID(fmt.Sprintf("%s.matchPIDs[%d]", s.path, k), &s.MatchPIDs[k], next)
	}
	for k := range s.MatchNamespaces {
		c.matchNamespace(fmt.Sprintf("%s.matchNamespaces[%d]", s.path, k), &s.MatchNamespaces[k], next)
	}
	for k := range s.MatchCapabilities {
		c.matchCapability(fmt.Sprintf("%s.matchCapabilities[%d]", s.path, k), &s.MatchCapabilities[k], next)
	}
	c.matchChanges(s, next)
	if s.MatchWorkloads != nil {
		c.inWorkloads(c.env.workloads(c, s.path+".matchWorkloads", s.MatchWorkloads), next)
	}
	for k := range s.MatchArgs {
		c.matchArg(fmt.Sprintf("%s.matchArgs[%d]", s.path, k), &s.MatchArgs[k], c.hook.args, next)
	}
	for k := range s.MatchData {
		c.matchArg(fmt.Sprintf("%s.matchData[%d]", s.path, k), &s.MatchData[k], c.hook.data, next)
	}
	for k := range s.MatchBinaries {
		c.matchBinary(fmt.Sprintf("%s.matchBinaries[%d]", s.path, k), &s.MatchBinaries[k], false, next)
	}
	for k := range s.MatchParentBinaries {
		c.matchBinary(fmt.Sprintf("%s.matchParentBinaries[%d]", s.path, k), &s.MatchParentBinaries[k], true, next)
	}
}

// returnSelector writes the tests of what is returned. The first that does not hold drops the event.
func (c *compiler) returnSelector(i int, drop string) {
	s := &c.hook.selectors[i]
	for k := range s.MatchReturnArgs {
		m := &s.MatchReturnArgs[k]
		c.compareValue(fmt.Sprintf("%s.matchReturnArgs[%d]", s.path, k), m, c.hook.ret, drop)
	}
	c.actions(s.path+".matchReturnActions", s.MatchReturnActions)
}

// matchArg writes the test of one argument or datum.
func (c *compiler) matchArg(path string, m *ArgMatch, values []*value, fail string) {
	if m.Operator == "CapabilitiesGained" {
		c.capabilitiesGained(m, values, fail)
		return
	}
	if m.Operator == "CelExpr" {
		c.celExpr(path, m, values, fail)
		return
	}
	c.compareValue(path, m, chosen(m, values), fail)
}

// chosen is the value that a match means: by its place in the list of arguments, else by its index in the hook.
func chosen(m *ArgMatch, values []*value) *value {
	if len(m.Args) > 0 {
		if int(m.Args[0]) < len(values) {
			return values[m.Args[0]]
		}
		return nil
	}
	for _, v := range values {
		if v.arg.Index == m.Index {
			return v
		}
	}
	return nil
}

// operator is an operator without its negation.
func operator(name string) (positive string, negated bool) {
	switch name {
	case "NotEqual", "NotPrefix", "NotPostfix", "NotSAddr", "NotDAddr", "NotSPort", "NotDPort", "NotDPortPriv",
		"NotInMap", "NotInRange", "NotFileType", "NotSubString":
		return name[3:], true
	case "NotSportPriv", "NotSPortPriv":
		return "SPortPriv", true
	case "GT":
		return "GreaterThan", false
	case "LT":
		return "LessThan", false
	}
	return name, false
}

// compareValue writes a test: jump to fail unless the operator holds for one of its values, or, negated, for none.
func (c *compiler) compareValue(path string, m *ArgMatch, v *value, fail string) {
	op, negated := operator(m.Operator)
	hit, miss := c.label("hit"), fail
	if negated {
		hit, miss = fail, c.label("none")
	}
	switch {
	case op == "FileType":
		c.fileType(path, m, v, hit)
	case v.typ.class == classSock:
		c.sockTest(path, op, m, v, hit, miss)
	case v.typ.class == classText || v.typ.class == classBytes:
		if op == "Family" { // of a sockaddr_un
			c.numberTest(path, op, m, v, hit)
			break
		}
		c.text(v.slot, miss)
		c.textTest(path, op, m.Values, hit)
	default:
		c.numberTest(path, op, m, v, hit)
	}
	if negated {
		c.place(miss)
		return
	}
	c.jump(miss)
	c.place(hit)
}

// textTest jumps to hit when regText and regValue are, begin with, end with or contain one of the values.
func (c *compiler) textTest(path, op string, values []string, hit string) {
	var short []string
	var long []string
	for i, v := range values {
		t := trimNUL(v)
		if len(values) > maxTexts && len(t) <= keyMax && op != "SubString" && op != "SubStringIgnCase" {
			long = append(long, t)
			continue
		}
		if len(t) > textMax {
			c.fail(fmt.Sprintf("%s.values[%d]", path, i), "the value has %d bytes; a text is compared up to %d", len(t), textMax)
			continue
		}
		short = append(short, t)
	}
	for _, v := range short {
		differ := c.label("differ")
		n := int32(len(v))
		switch op {
		case "Equal", "In":
			c.emit(asm.JNE.Imm(regValue, n, differ))
			c.compare(regText, 0, []byte(v), differ)
		case "Prefix":
			c.emit(asm.JLT.Imm(regValue, n, differ))
			c.compare(regText, 0, []byte(v), differ)
		case "Postfix":
			c.emit(asm.JLT.Imm(regValue, n, differ), asm.Mov.Reg(asm.R3, regText), asm.Mov.Reg(asm.R4, regValue), asm.Sub.Imm(asm.R4, n),
				asm.JGT.Imm(asm.R4, dataMax, differ), asm.Add.Reg(asm.R3, asm.R4))
			c.compare(asm.R3, 0, []byte(v), differ)
		case "SubString", "SubStringIgnCase":
			c.substring(path, v, op == "SubStringIgnCase", hit)
			c.place(differ)
			continue
		}
		c.jump(hit)
		c.place(differ)
	}
	if len(long) > 0 {
		c.textSet(op, long, hit)
	}
}

// trimNUL takes the NUL away that policies write at the end of a string, as a byte or as \0.
func trimNUL(s string) string {
	for len(s) > 0 && s[len(s)-1] == 0 {
		s = s[:len(s)-1]
	}
	if len(s) > 1 && s[len(s)-2:] == `\0` {
		s = s[:len(s)-2]
	}
	return s
}

// textSet tests a long list with one look-up.
func (c *compiler) textSet(op string, values []string, hit string) {
	key := strings.Join(append([]string{op}, values...), "\x00")
	m, f := c.textMap(op, key, values)
	c.emit(asm.Mov.Reg(asm.R1, regScratch), asm.Mov.Reg(asm.R2, regText), asm.Mov.Reg(asm.R3, regValue))
	c.loadMap(asm.R4, m)
	c.call(f)
	c.emit(asm.JNE.Imm(asm.R0, 0, hit))
}

// textMap is the map of a list and the function that looks it up. Equal lists of a program share one.
func (c *compiler) textMap(op, same string, values []string) (*ebpf.MapSpec, string) {
	m := &ebpf.MapSpec{Name: c.mapName("text"), Type: ebpf.Hash, KeySize: 4 + keyMax, ValueSize: 1, MaxEntries: uint32(len(values)), Flags: 1 /* BPF_F_NO_PREALLOC */}
	f := "vg_in_texts"
	switch op {
	case "Prefix":
		m.Type, f = ebpf.LPMTrie, "vg_in_prefixes"
	case "Postfix":
		m.Type, f = ebpf.LPMTrie, "vg_in_suffixes"
	}
	if known := c.lists[same]; known != nil {
		return known, f
	}
	c.lists[same] = m
	seen := make(map[string]bool)
	for _, v := range values {
		key := make([]byte, 4+keyMax)
		copy(key[4:], v)
		bits := uint32(len(v))
		if m.Type == ebpf.LPMTrie {
			bits *= 8
		}
		if op == "Postfix" {
			slices.Reverse(key[4 : 4+len(v)])
		}
		binary.NativeEndian.PutUint32(key, bits)
		if !seen[string(key)] {
			seen[string(key)] = true
			m.Contents = append(m.Contents, ebpf.MapKV{Key: key, Value: []byte{1}})
		}
	}
	return m, f
}

// substring tests whether regText contains v.
func (c *compiler) substring(path, v string, fold bool, hit string) {
	const longest = 64
	if len(v) == 0 || len(v) > longest {
		c.fail(path, "%q has %d bytes; a substring has 1 to %d", v, len(v), longest)
		return
	}
	var p bpfVgPattern
	p.Len = uint64(len(v))
	text := []byte(v)
	if fold {
		p.Fold = 1
		for i, ch := range text {
			if ch >= 'A' && ch <= 'Z' {
				text[i] = ch + 'a' - 'A'
			}
		}
	}
	text = append(text, make([]byte, longest-len(text))...)
	for i := range p.Word {
		p.Word[i] = binary.LittleEndian.Uint64(text[8*i:])
		if left := len(v) - 8*i; left >= 8 {
			p.Mask[i] = ^uint64(0)
		} else if left > 0 {
			p.Mask[i] = 1<<(8*left) - 1
		}
	}
	place := c.pattern(p)
	c.emit(asm.Mov.Reg(asm.R1, regText), asm.Mov.Reg(asm.R2, regValue), asm.LoadMapValue(asm.R3, 0, place).WithReference(c.patterns()))
	c.call("vg_substring")
	c.emit(asm.JNE.Imm(asm.R0, 0, hit))
}

func (c *compiler) patterns() string { return fmt.Sprintf("%s_find_%d", c.prefix, c.number) }

// pattern puts a pattern into the map of all that the program looks for, and returns its place there.
func (c *compiler) pattern(p bpfVgPattern) uint32 {
	name := c.patterns()
	m := c.maps[name]
	if m == nil {
		m = &ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, MaxEntries: 1, Contents: []ebpf.MapKV{{Key: uint32(0), Value: []byte(nil)}}}
		c.maps[name] = m
	}
	all := m.Contents[0].Value.([]byte)
	place := uint32(len(all))
	all = binary.NativeEndian.AppendUint64(all, p.Len)
	all = binary.NativeEndian.AppendUint64(all, p.Fold)
	for _, w := range slices.Concat(p.Word[:], p.Mask[:]) {
		all = binary.NativeEndian.AppendUint64(all, w)
	}
	m.Contents[0].Value, m.ValueSize = all, uint32(len(all))
	return place
}

// numberTest jumps to hit when the slot's number is, exceeds, … one of the values.
func (c *compiler) numberTest(path, op string, m *ArgMatch, v *value, hit string) {
	c.emit(asm.LoadMem(regValue, regScratch, slotValue(v.slot), asm.DWord))
	numbers, ranges := c.numbers(path, op, m.Values, v)
	greater, less := asm.JGT, asm.JLT
	if v.typ.signed {
		greater, less = asm.JSGT, asm.JSLT
	}
	switch op {
	case "Equal", "InMap", "Family":
		c.numberIn(numbers, hit)
	case "GreaterThan":
		for _, n := range numbers {
			c.jumpIf(greater, regValue, n, hit)
		}
	case "LessThan":
		for _, n := range numbers {
			c.jumpIf(less, regValue, n, hit)
		}
	case "Mask":
		for _, n := range numbers {
			c.imm(asm.R1, n)
			c.emit(asm.And.Reg(asm.R1, regValue), asm.JNE.Imm(asm.R1, 0, hit))
		}
	}
	for _, r := range ranges {
		outside := c.label("outside")
		c.jumpIf(less, regValue, r[0], outside)
		c.jumpIf(greater, regValue, r[1], outside)
		c.jump(hit)
		c.place(outside)
	}
}

// numberIn jumps to hit when regValue is one of the numbers.
func (c *compiler) numberIn(numbers []uint64, hit string) {
	if len(numbers) <= maxNumbers {
		for _, n := range numbers {
			c.jumpIf(asm.JEq, regValue, n, hit)
		}
		return
	}
	m := &ebpf.MapSpec{Name: c.mapName("nums"), Type: ebpf.Hash, KeySize: 8, ValueSize: 1, MaxEntries: uint32(len(numbers))}
	seen := make(map[uint64]bool)
	for _, n := range numbers {
		if !seen[n] {
			seen[n] = true
			m.Contents = append(m.Contents, ebpf.MapKV{Key: n, Value: []byte{1}})
		}
	}
	c.emit(asm.StoreMem(asm.RFP, -8, regValue, asm.DWord), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8))
	c.loadMap(asm.R1, m)
	c.emit(asm.FnMapLookupElem.Call(), asm.JNE.Imm(asm.R0, 0, hit))
}

// fileType jumps to hit when the slot's file is of one of the types.
func (c *compiler) fileType(path string, m *ArgMatch, v *value, hit string) {
	types := map[string]uint64{"sock": unix.S_IFSOCK, "socket": unix.S_IFSOCK, "lnk": unix.S_IFLNK, "link": unix.S_IFLNK, "reg": unix.S_IFREG,
		"regular": unix.S_IFREG, "blk": unix.S_IFBLK, "block": unix.S_IFBLK, "dir": unix.S_IFDIR, "chr": unix.S_IFCHR, "char": unix.S_IFCHR,
		"fifo": unix.S_IFIFO, "pipe": unix.S_IFIFO}
	c.emit(asm.LoadMem(regValue, regScratch, slotOffset(v.slot, unsafe.Offsetof(bpfVgProbeSlot{}.Mode)), asm.Half), asm.And.Imm(regValue, unix.S_IFMT))
	for i, s := range m.Values {
		t, ok := types[s]
		if !ok {
			c.fail(fmt.Sprintf("%s.values[%d]", path, i), "there is no file type %q; there are sock, lnk, reg, blk, dir, chr and fifo", s)
			continue
		}
		c.jumpIf(asm.JEq, regValue, t, hit)
	}
}
