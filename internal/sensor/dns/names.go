// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// NamesOptions configure Names.
type NamesOptions struct {
	// Max is how many pairs of a process and an address are remembered; 32,768 when 0.
	Max int
	// MinTTL and MaxTTL bound how long an answer counts: 1 minute and 24 hours when 0. Processes use an address
	// longer than a server that says 0 would have it.
	MinTTL, MaxTTL time.Duration
}

// Names remembers by which name a process asked for an address. In: dns events, after they were enriched. Out: the
// name for an address that a process talks to. Time is the events' own (BootTime), so that a replay gives the
// same. Safe for concurrent use.
type Names struct {
	options NamesOptions

	mu sync.Mutex
	// Two generations bound the size: when the young one is full, the old one is dropped. What is
	// asked for again is young again.
	young, old map[nameKey]nameEntry
	evicted    uint64
}

// nameKey names who knows a name: a process, by pid and start, or everybody in a network namespace.
type nameKey struct {
	pid   uint32
	netns uint32
	start uint64
	addr  netip.Addr
}

type nameEntry struct {
	name    string
	expires uint64 // ns since boot
	// ambiguous: of a network namespace, where several names have that address.
	ambiguous bool
}

// NewNames returns an empty memory.
func NewNames(o NamesOptions) *Names {
	if o.Max == 0 {
		o.Max = 32768
	}
	if o.MinTTL == 0 {
		o.MinTTL = time.Minute
	}
	if o.MaxTTL == 0 {
		o.MaxTTL = 24 * time.Hour
	}
	return &Names{options: o, young: make(map[nameKey]nameEntry)}
}

// Learn remembers the addresses of a dns event, under the name that was asked for, whatever aliases (CNAME) the answer
// went through. Other events, and answers without addresses, teach nothing.
func (n *Names) Learn(ev *model.Event) {
	if ev.DNS == nil || ev.DNS.RCode != "NOERROR" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ttl := n.options.MaxTTL
	for _, a := range ev.DNS.Answers {
		// An alias that ends sooner ends what it leads to.
		ttl = min(ttl, a.TTL)
		if a.Type != "A" && a.Type != "AAAA" {
			continue
		}
		addr, err := netip.ParseAddr(a.Data)
		if err != nil {
			continue
		}
		e := nameEntry{name: ev.DNS.Name, expires: ev.BootTime + uint64(max(ttl, n.options.MinTTL))}
		if ev.Key.PID != 0 {
			n.put(nameKey{pid: ev.Key.PID, start: ev.Key.Start, addr: addr}, e, ev.BootTime)
		}
		if ev.Process == nil || ev.Process.Namespaces.Net == 0 {
			continue
		}
		key := nameKey{netns: ev.Process.Namespaces.Net, addr: addr}
		if before, ok := n.get(key, ev.BootTime); ok && (before.ambiguous || before.name != e.name) {
			e.ambiguous = true
			e.expires = max(e.expires, before.expires)
		}
		n.put(key, e, ev.BootTime)
	}
}

// Lookup is the name by which a process asked for an address; else the one by which another process of its network
// namespace did, when all asked by the same. now is the time of the event, ns since boot.
func (n *Names) Lookup(key model.ProcessKey, netns uint32, addr netip.Addr, now uint64) (name string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr = addr.Unmap()
	if e, ok := n.get(nameKey{pid: key.PID, start: key.Start, addr: addr}, now); ok {
		return e.name, true
	}
	if netns == 0 {
		return "", false
	}
	e, ok := n.get(nameKey{netns: netns, addr: addr}, now)
	if !ok || e.ambiguous {
		return "", false
	}
	return e.name, true
}

// Evicted is how many names that still counted were forgotten for want of room.
func (n *Names) Evicted() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.evicted
}

func (n *Names) get(k nameKey, now uint64) (nameEntry, bool) {
	e, ok := n.young[k]
	if !ok {
		e, ok = n.old[k]
	}
	return e, ok && now < e.expires
}

func (n *Names) put(k nameKey, e nameEntry, now uint64) {
	if _, ok := n.young[k]; !ok && len(n.young) >= max(n.options.Max/2, 1) {
		for k, dropped := range n.old {
			if _, again := n.young[k]; !again && now < dropped.expires {
				n.evicted++
			}
		}
		n.old, n.young = n.young, make(map[nameKey]nameEntry, len(n.young))
	}
	n.young[k] = e
}
