// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// maxHolders bounds each of the two generations of addresses that are remembered, about 120 bytes each. What was not used
// for two generations is forgotten: the other end of a request is then host or world.
const maxHolders = 32_768

// holders knows which workload of this host held which address, and since and until when. A request is seen from one end;
// this says who is at the other one, if that is here. Safe for concurrent use.
type holders struct {
	mu         sync.Mutex
	young, old map[held]holder
}

// held is an address of a socket. Addresses of the loopback device are different ones in each network namespace.
type held struct {
	udp   bool
	netns uint32 // of addresses of the loopback device
	addr  netip.AddrPort
}

type holder struct {
	workload     *model.Workload // nil: several hold it, in different network namespaces
	netns        uint32
	since, until time.Time // until is zero as long as it is held
}

func newHolders() *holders { return &holders{young: make(map[held]holder)} }

func heldBy(protocol string, netns uint32, addr netip.AddrPort) held {
	h := held{udp: protocol == "udp", addr: netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())}
	if h.addr.Addr().IsLoopback() {
		h.netns = netns
	}
	return h
}

// see learns from an event who holds an address, or does so no longer.
func (h *holders) see(e *model.Event) {
	switch {
	case e.Socket != nil && e.Process != nil && e.Socket.Error == 0 && e.Socket.Protocol != "unix":
		s := e.Socket
		key := heldBy(s.Protocol, s.NetNS, s.Local)
		switch e.Type {
		case model.TypeConnect, model.TypeAccept, model.TypeListen:
			since := e.Time
			if e.PreExisting {
				since = time.Time{}
			}
			h.learn(key, holder{workload: e.Process.Workload, netns: s.NetNS, since: since})
		case model.TypeClose:
			if s.Direction != "inbound" { // a server goes on when one of its connections ends
				h.release(key, s.NetNS, e.Time)
			}
		}
	case e.Flow != nil && e.Flow.Direction == model.FlowLocal && e.Flow.Destination.Process != nil:
		f := e.Flow // of UDP nothing else says who serves
		h.learn(heldBy(f.Protocol, f.NetNS, f.Destination.Address), holder{workload: f.Destination.Workload, netns: f.NetNS, since: f.Start})
	}
}

func (h *holders) learn(key held, new holder) {
	if new.workload == nil || key.addr.Port() == 0 || !key.addr.Addr().IsValid() || key.addr.Addr().IsUnspecified() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before, known := h.get(key)
	if known && before.until.IsZero() {
		switch {
		case before.netns != new.netns:
			new = holder{netns: new.netns, since: new.since}
		case before.workload != nil && before.workload.ID == new.workload.ID:
			new.since = before.since // another connection of the same server
		}
	}
	if len(h.young) >= maxHolders {
		h.old, h.young = h.young, make(map[held]holder)
	}
	h.young[key] = new
}

func (h *holders) release(key held, netns uint32, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before, known := h.get(key); known && before.netns == netns && before.until.IsZero() {
		before.until = at
		h.young[key] = before
	}
}

func (h *holders) get(key held) (holder, bool) {
	if x, known := h.young[key]; known {
		return x, true
	}
	x, known := h.old[key]
	return x, known
}

// at is the workload that held an address at a moment, nil when it is not known. netns is where it was seen from.
func (h *holders) at(protocol string, netns uint32, addr netip.AddrPort, moment time.Time) *model.Workload {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, known := h.get(heldBy(protocol, netns, addr))
	if !known || moment.Before(x.since) || !x.until.IsZero() && moment.After(x.until) {
		return nil
	}
	return x.workload
}
