// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Addresses are used again, and the API server tells late: of a new holder about a second after its first packet, of the end of an
// old one some moments after its last. So an answer is given only where it cannot be another's: a pod is never named for what
// the one before or after it did. What remains is what nobody can know yet: an address that was given away some
// milliseconds ago, of which the API server has not told.

// moment is a time; the zero one is now.
type moment = time.Time

// holding is who has an address, or had it.
type holding struct {
	entry *podEntry
	since time.Time // when that became known
	until time.Time // zero: it has it
}

// release is a holding that has ended.
type release struct {
	addr  netip.Addr
	until time.Time
}

const (
	// releasedAge is how long it is remembered who had an address: for reports of what has ended.
	releasedAge = 2 * time.Minute
	// maxReleased bounds them, at about 100 bytes each; the oldest go first.
	maxReleased = 16384
	// skew is how far the API server's clock, by which pods are created, may be ahead of ours. Its times are whole seconds.
	skew = 2 * time.Second
)

// PodByAddress is the pod that has an address now, by what the API server has told; nil when none does. A pod that ended has none, nor
// has one in its node's network.
func (v *View) PodByAddress(addr netip.Addr) *model.Pod { return v.PodByAddressAt(addr, moment{}) }

// PodByAddressAt is the pod that had an address at a moment in the last two minutes; nil when none had it, or when it can
// have been one of two.
func (v *View) PodByAddressAt(addr netip.Addr, at time.Time) *model.Pod {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if e := v.holder(addr.Unmap(), at); e != nil {
		return e.pod
	}
	return nil
}

// holder is the entry of the pod that had an address at a moment. Under mu.
func (v *View) holder(addr netip.Addr, at moment) *podEntry {
	list := v.holders[addr]
	if len(list) == 0 {
		return nil
	}
	last := &list[len(list)-1]
	if at.IsZero() || last.until.IsZero() && !at.Before(last.since) {
		if !last.until.IsZero() {
			return nil
		}
		return last.entry
	}
	var found *podEntry
	for i := range list {
		h := &list[i]
		if !h.until.IsZero() && h.until.Before(at) || h.entry.pod.Created.After(at.Add(skew)) {
			continue
		}
		if found != nil {
			return nil
		}
		found = h.entry
	}
	return found
}

// hold brings the holders up to date with a pod that has changed from old. Under mu.
func (v *View) hold(e *podEntry, old *model.Pod) {
	had, has := addressesOf(old), addressesOf(e.pod)
	for _, a := range had {
		if !slices.Contains(has, a) {
			v.release(a, e)
		}
	}
	now := v.now()
	for _, a := range has {
		if slices.Contains(had, a) {
			continue
		}
		list := v.holders[a]
		if n := len(list); n > 0 && list[n-1].until.IsZero() {
			v.release(a, list[n-1].entry)
			list = v.holders[a]
		}
		v.holders[a] = append(list, holding{entry: e, since: now})
	}
}

// pastPod takes in that a pod of another node has ended. One that ran for a moment may be told of only now: for what it did it is
// remembered as long as any that ended, and then nobody asks for it any more.
func (v *View) pastPod(p *model.Pod) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.pods[p.UID]
	if e != nil {
		v.dropPod(p.UID)
	} else {
		e = &podEntry{pod: p}
	}
	if p.HostNetwork {
		return
	}
	now := v.now()
	for _, a := range p.Addresses {
		list := v.holders[a]
		if slices.ContainsFunc(list, func(h holding) bool { return h.entry.pod.UID == p.UID }) {
			continue
		}
		at := len(list)
		if at > 0 && list[at-1].until.IsZero() {
			at-- // who has it now stays last
		}
		v.holders[a] = slices.Insert(list, at, holding{entry: e, since: now, until: now})
		v.released = append(v.released, release{a, now})
	}
	v.forgetReleased()
}

// addressesOf are those that are a pod's alone.
func addressesOf(p *model.Pod) []netip.Addr {
	if p == nil || p.Ended || p.HostNetwork {
		return nil
	}
	return p.Addresses
}

// release notes that a pod no longer has an address. Under mu.
func (v *View) release(addr netip.Addr, e *podEntry) {
	list := v.holders[addr]
	for i := range list {
		if list[i].entry == e && list[i].until.IsZero() {
			list[i].until = v.now()
			v.released = append(v.released, release{addr, list[i].until})
		}
	}
	v.forgetReleased()
}

// forgetReleased drops what was held too long ago. Under mu.
func (v *View) forgetReleased() {
	before := v.now().Add(-releasedAge)
	n := 0
	for n < len(v.released) && (v.released[n].until.Before(before) || len(v.released)-n > maxReleased) {
		r := v.released[n]
		n++
		list := v.holders[r.addr]
		kept := list[:0]
		for _, h := range list {
			if h.until.IsZero() || h.until.After(r.until) {
				kept = append(kept, h)
			}
		}
		clear(list[len(kept):])
		if len(kept) == 0 {
			delete(v.holders, r.addr)
		} else {
			v.holders[r.addr] = kept
		}
	}
	if n > 0 {
		v.released = append(v.released[:0], v.released[n:]...)
	}
}

// PodEnded tells that the sandbox of a pod of this node is gone, which its node knows before the API server: its
// addresses may be given to another from now on.
func (v *View) PodEnded(uid string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.pods[uid]
	if e == nil {
		e = v.static[uid]
	}
	if e == nil || e.pod.Node != v.node || e.pod.Ended {
		return
	}
	for _, a := range addressesOf(e.pod) {
		v.release(a, e)
	}
}
