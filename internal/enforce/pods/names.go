// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/policy/netpol"
)

// names are the addresses that pods got for names.
type names struct {
	asked map[netip.Addr]map[asking]uint64 // until when it counts, ns since boot
	count int
}

// asking is a question of a pod.
type asking struct{ uid, name string }

const (
	leastTTL  = time.Minute // programs keep what they have resolved
	mostAsked = 16384       // what does not fit is not learned: its next answer may be
)

// Learn takes the addresses of a dns event for those of the names that rules allow, for the pod that asked. They are known
// when the agent has read the answer: the first packet to such an address can be dropped, and TCP sends it again.
func (e *Enforcer) Learn(ev *model.Event) error {
	if ev.DNS == nil || len(ev.DNS.Answers) == 0 || ev.Process == nil || ev.Process.Workload == nil || !e.domains.Load() {
		return nil
	}
	uid := ev.Process.Workload.PodUID
	if uid == "" {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range ev.DNS.Answers {
		addr, err := netip.ParseAddr(a.Data)
		if err != nil || (a.Type != "A" && a.Type != "AAAA") {
			continue
		}
		addr = addr.Unmap()
		if e.learned.asked == nil {
			e.learned.asked = make(map[netip.Addr]map[asking]uint64)
		}
		of := e.learned.asked[addr]
		if of == nil {
			of = make(map[asking]uint64)
			e.learned.asked[addr] = of
		}
		what := asking{uid, ev.DNS.Name}
		if _, known := of[what]; !known {
			if e.learned.count >= mostAsked {
				continue
			}
			e.learned.count++
		}
		of[what] = ev.BootTime + uint64(max(a.TTL, leastTTL))
		if err := e.teach(addr); err != nil {
			return err
		}
	}
	return nil
}

// teach writes what tables say of an address by its names. Under mu.
func (e *Enforcer) teach(addr netip.Addr) error {
	for t, in := range e.tables {
		if len(t.Domains) == 0 {
			continue
		}
		var v bpfVgNpPlaces
		n := 0
		for what := range e.learned.asked[addr] {
			if !e.judges(t, what.uid) {
				continue
			}
			for _, d := range t.Domains {
				if n < len(v.Profiles) && d.Profile != 0 && policy.MatchName(d.Pattern, what.name) && !slices.Contains(v.Profiles[:n], d.Profile) {
					v.Profiles[n] = d.Profile
					n++
				}
			}
		}
		key := bpfVgNpNameKey{Table: in.number, Addr: addr.As16()}
		if n == 0 {
			if err := remove(e.objs.VgNpNames, key); err != nil {
				return kernel.Explain("take out an address of a name", err)
			}
			continue
		}
		if err := put(e.objs.VgNpNames, key, v, "addresses of names"); err != nil {
			return err
		}
	}
	return nil
}

// judges reports whether a pod is judged by a table. Under mu.
func (e *Enforcer) judges(t *netpol.Table, uid string) bool {
	for id, pod := range e.forVerdict.Load().pods {
		if pod.UID == uid {
			in, now := e.in.pods[id], e.in.generation&1
			n := e.tables[t].number
			return in.Tables[now] == n || in.Audits[now] == n
		}
	}
	return false
}

// teachAll has tables that are new know what was asked before. Under mu.
func (e *Enforcer) teachAll() error {
	domains := false
	for t := range e.tables {
		domains = domains || len(t.Domains) > 0
	}
	e.domains.Store(domains)
	if !domains {
		return nil
	}
	for addr := range e.learned.asked {
		if err := e.teach(addr); err != nil {
			return err
		}
	}
	return nil
}

// Sweep forgets the names that do not count any more.
func (e *Enforcer) Sweep() error {
	now, err := kernel.BootTime()
	if err != nil {
		return fmt.Errorf("forget old names: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for addr, of := range e.learned.asked {
		before := len(of)
		for what, end := range of {
			if end < now {
				delete(of, what)
			}
		}
		if len(of) == before {
			continue
		}
		e.learned.count -= before - len(of)
		if err := e.teach(addr); err != nil {
			return err
		}
		if len(of) == 0 {
			delete(e.learned.asked, addr)
		}
	}
	return nil
}

// forgetNames takes out what a table that goes knows by names.
func (e *Enforcer) forgetNames(in *table) error {
	var key bpfVgNpNameKey
	var v bpfVgNpPlaces
	var keys []bpfVgNpNameKey
	it := e.objs.VgNpNames.Iterate()
	for it.Next(&key, &v) {
		if key.Table == in.number {
			keys = append(keys, key)
		}
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return err
	}
	return removeAll(e.objs.VgNpNames, keys)
}
