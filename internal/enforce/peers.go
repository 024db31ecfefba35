// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vigie-io/vigie/internal/model"
)

// Listeners knows where workloads listen, for rules that name a workload as the other end. In: events of listen and close.
// Out: addresses and ports by workload. Safe for concurrent use.
type Listeners struct {
	addresses func(netns uint32, pid uint32) []netip.Addr

	mu   sync.Mutex
	open map[uint64]*listener // by socket cookie
}

type listener struct {
	workload *model.Workload
	at       []netip.AddrPort
}

// maxListeners bounds what is remembered; a host has some hundred.
const maxListeners = 65536

// NewListeners returns an empty memory. addresses are those of a network namespace in which a process is: what a socket
// that is bound to no address listens at.
func NewListeners(addresses func(netns, pid uint32) []netip.Addr) *Listeners {
	return &Listeners{addresses: addresses, open: make(map[uint64]*listener)}
}

// Observe takes an enriched event in and reports whether it changed who listens where.
func (l *Listeners) Observe(ev *model.Event) bool {
	s := ev.Socket
	if s == nil || s.Cookie == 0 || !s.Local.IsValid() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case ev.Type == model.TypeListen && ev.Process != nil && ev.Process.Workload != nil && len(l.open) < maxListeners:
		at := []netip.AddrPort{s.Local}
		if s.Local.Addr().Unmap().IsUnspecified() {
			at = at[:0]
			for _, a := range l.addresses(s.NetNS, ev.Process.Key.PID) {
				if a.Is6() && !s.Local.Addr().Is6() {
					continue
				}
				at = append(at, netip.AddrPortFrom(a, s.Local.Port()))
			}
		}
		l.open[s.Cookie] = &listener{ev.Process.Workload, at}
		return true
	case ev.Type == model.TypeClose && s.Direction == "listener" && l.open[s.Cookie] != nil:
		delete(l.open, s.Cookie)
		return true
	}
	return false
}

// Replace puts a workload of which more is known in the place of an earlier one.
func (l *Listeners) Replace(old, new *model.Workload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.open {
		if x.workload == old {
			x.workload = new
		}
	}
}

// At is where the workloads listen that selects picks.
func (l *Listeners) At(selects func(*model.Workload) bool) (out []netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.open {
		if selects(x.workload) {
			out = append(out, x.at...)
		}
	}
	return out
}

// peering is a back-end whose tables name workloads as the other end.
type peering interface {
	SetPeers(table, class uint16, where []netip.AddrPort) error
}

// UpdatePeers tells the back-ends where the workloads that policies name listen now. Run calls it when listeners change.
func (e *Enforcer) UpdatePeers() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.setPeers(e.inForce)
}

func (e *Enforcer) setPeers(tables map[string]*loaded) error {
	if e.options.Listeners == nil {
		return nil
	}
	var errs []error
	for _, in := range tables {
		for i, p := range in.Table.Peers {
			where := e.options.Listeners.At(p.Selector.SelectsWorkload)
			for _, b := range e.options.Backends {
				if s, ok := b.(peering); ok {
					if err := s.SetPeers(in.Number, uint16(i+1), where); err != nil {
						errs = append(errs, fmt.Errorf("policy %s: %w", in.Table.Policy.Name, err))
					}
				}
			}
		}
	}
	return errors.Join(errs...)
}
