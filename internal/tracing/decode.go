// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// hookInfo is what is said of the hits of a hook, beside what is in the record.
type hookInfo struct {
	id                uint32
	policy, namespace string
	path              string // field of the policy
	kind, hook        string
	carrier, target   string
	message           string
	tags              []string
	sites             []string // by number; nil: the number is a system call's
	values            []*Arg   // by slot; nil for one that is not told
	ret               *Arg     // of the last slot
}

func newHookInfo(p *Policy, r *request, w *candidate) *hookInfo {
	h := &hookInfo{id: r.id, policy: p.Name, namespace: p.Namespace, path: r.path, kind: r.kind, hook: r.name, carrier: w.carrier,
		target: w.target, message: r.message, tags: r.tags, sites: w.names}
	for _, v := range slices.Concat(r.args, r.data) {
		if v.typ.class == classNone {
			h.values = append(h.values, nil)
			continue
		}
		h.values = append(h.values, v.arg)
	}
	if r.ret != nil {
		h.ret = r.ret.arg
	}
	return h
}

// retired is how many hooks of policies that are gone are remembered, for the records of theirs that are still in the ring.
const retired = 256

// hookTable is the hooks by number.
type hookTable struct {
	unknown  *pipeline.Counter
	syscalls map[uint32]string
	symbols  symbols

	mu   sync.RWMutex
	last uint32
	byID map[uint32]*hookInfo
	old  []uint32
}

// init begins numbers where an earlier agent's are not: its programs may go on for a while (kernel.Host.Handover).
func (t *hookTable) init(losses *pipeline.Losses) error {
	now, err := kernel.BootTime()
	if err != nil {
		return err
	}
	t.last = uint32(now >> 20)
	t.unknown = losses.Counter("decode", "probe of an unknown policy")
	t.byID = make(map[uint32]*hookInfo)
	t.syscalls = make(map[uint32]string)
	for name, nr := range syscallNumbers() {
		t.syscalls[uint32(nr)] = "sys_" + name
	}
	return nil
}

func (t *hookTable) nextID() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	return t.last
}

func (t *hookTable) add(h *hookInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[h.id] = h
}

func (t *hookTable) retire(h *hookInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.old = append(t.old, h.id); len(t.old) > retired {
		delete(t.byID, t.old[0])
		t.old = t.old[1:]
	}
}

func (t *hookTable) find(id uint32) *hookInfo {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// Decode fills an event from a record of type kernel.RecordProbe (record.h). A record of a policy that nobody remembers is
// counted and makes no event.
func (m *Manager) Decode(r kernel.Record, ev *model.Event) (bool, error) {
	rec, tail, err := kernel.View[bpfVgProbe](r)
	if err != nil {
		return false, err
	}
	if tail, _, err = kernel.Take(tail, int(rec.Tail)); err != nil {
		return false, err
	}
	h := m.hooks.find(rec.Hook)
	if h == nil {
		m.hooks.unknown.Add(1)
		return false, nil
	}
	p := &model.Probe{Policy: h.policy, Namespace: h.namespace, Kind: h.kind, Hook: m.hooks.site(h, rec.Site), Carrier: h.carrier, Target: h.target,
		Action: strongest(rec.Actions), Message: h.message, Tags: h.tags}
	stacks := int(rec.KernelStack) + int(rec.UserStack)
	if stacks > len(tail) {
		return false, fmt.Errorf("record's stacks of %d bytes are longer than its tail of %d", stacks, len(tail))
	}
	frames := tail[len(tail)-stacks:]
	p.KernelStack = m.hooks.symbols.kernel(frames[:rec.KernelStack])
	p.UserStack = m.hooks.symbols.user(rec.H.Pid, frames[rec.KernelStack:])
	if int(rec.Slots)*int(slotSize) > len(tail) || int(rec.Slots) < len(h.values) {
		return false, fmt.Errorf("record has %d slots in a tail of %d bytes, the hook %d values", rec.Slots, len(tail), len(h.values))
	}
	slots := unsafe.Slice((*bpfVgProbeSlot)(unsafe.Pointer(unsafe.SliceData(tail))), rec.Slots)
	for i, a := range h.values {
		if a == nil {
			continue
		}
		arg, err := decodeSlot(a, &slots[i], tail)
		if err != nil {
			return false, err
		}
		p.Args = append(p.Args, arg)
	}
	if h.ret != nil && len(slots) > len(h.values) {
		arg, err := decodeSlot(h.ret, &slots[len(h.values)], tail)
		if err != nil {
			return false, err
		}
		p.Return = &arg
	}
	ev.Type, ev.Probe = model.TypeProbe, p
	return true, nil
}

// site is the name of the place that was hit.
func (t *hookTable) site(h *hookInfo, number uint32) string {
	if h.sites == nil {
		if name, ok := t.syscalls[number]; ok {
			return name
		}
		return fmt.Sprintf("sys_%d", number)
	}
	if int(number) < len(h.sites) {
		return h.sites[number]
	}
	return h.hook
}

// strongest is the event's name of the strongest action that was taken.
func strongest(set uint32) string {
	if set == 0 {
		return "post"
	}
	i := min(bits.Len32(set), len(actions())) - 1
	return actions()[i].event
}

func decodeSlot(a *Arg, s *bpfVgProbeSlot, tail []byte) (model.ProbeArg, error) {
	out := model.ProbeArg{Label: a.Label, Type: a.Type, Int: int64(s.Value), Truncated: s.Flags&slotCut != 0}
	end := int(s.Off) + int(s.Len)
	if end > len(tail) {
		return out, fmt.Errorf("value %s ends at %d of a tail of %d bytes", a.Type, end, len(tail))
	}
	data := tail[s.Off:end]
	switch bpfVgSlotKind(s.Kind) {
	case bpfVgSlotKindVG_SLOT_TEXT:
		out.Text = model.CleanString(data)
		out.Flags, out.Mode = s.FileFlags, uint32(s.Mode)
		switch a.Type {
		case "fd", "bpf_attr", "sockaddr_un": // beside the text there is a number
		default:
			out.Int = 0
		}
	case bpfVgSlotKindVG_SLOT_BYTES:
		out.Int, out.Data = 0, slices.Clone(data)
	case bpfVgSlotKindVG_SLOT_SOCK:
		return out, decodeSock(&out, data)
	case bpfVgSlotKindVG_SLOT_CRED:
		return out, decodeCred(&out, data)
	}
	return out, nil
}

// The bits of vg_probe_slot.flags.
const (
	slotCut    = 0x1
	slotUnread = 0x2
)

func decodeSock(out *model.ProbeArg, data []byte) error {
	var s bpfVgProbeSock
	if len(data) < int(unsafe.Sizeof(s)) {
		return nil // it could not be read
	}
	s = *(*bpfVgProbeSock)(unsafe.Pointer(unsafe.SliceData(data)))
	out.Int, out.Cookie = int64(s.Family), s.Cookie
	out.Local, out.Remote = addrPort(s.Family, s.Saddr, s.Sport), addrPort(s.Family, s.Daddr, s.Dport)
	out.Protocol = nameOf(protocols(), uint64(s.Protocol))
	if out.Type == "sockaddr" {
		out.Protocol = ""
	}
	return nil
}

func addrPort(family uint16, addr [16]uint8, port uint16) netip.AddrPort {
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), port)
}

func nameOf(names map[string]uint64, number uint64) string {
	for n, v := range names {
		if v == number {
			return strings.ToLower(n)
		}
	}
	return fmt.Sprint(number)
}

func decodeCred(out *model.ProbeArg, data []byte) error {
	var c bpfVgCred
	if len(data) < int(unsafe.Sizeof(c)) {
		return nil // it could not be read
	}
	c = *(*bpfVgCred)(unsafe.Pointer(unsafe.SliceData(data)))
	out.Int = 0
	out.Creds = &model.Creds{UID: c.Uid, GID: c.Gid, EUID: c.Euid, EGID: c.Egid, SUID: c.Suid, SGID: c.Sgid, FSUID: c.Fsuid, FSGID: c.Fsgid,
		LoginUID: c.Loginuid, CapPermitted: model.CapSet(c.Permitted), CapEffective: model.CapSet(c.Effective), CapInheritable: model.CapSet(c.Inheritable),
		CapBounding: model.CapSet(c.Bounding), CapAmbient: model.CapSet(c.Ambient)}
	return nil
}
