// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/policy/netpol"
)

// write makes the maps hold what is planned. What nobody is judged by yet is written first; then the generation is raised,
// if something changes for conversations that there are.
func (e *Enforcer) write(p *plan) error {
	for _, t := range p.pods {
		for _, one := range []*netpol.Table{t.enforced, t.audit} {
			if one != nil && e.tables[one] == nil {
				if err := e.loadTable(one); err != nil {
					return err
				}
			}
		}
	}
	for t, in := range e.tables {
		if err := e.loadClasses(t, in, p.every); err != nil {
			return err
		}
	}
	e.remember(p.names)
	current := e.in.generation & 1
	changed := false
	for a, class := range p.addrs {
		was, there := e.in.addrs[a]
		now := address{bpfVgNpAddr{Classes: was.Classes, Flags: p.flags[a]}, p.uids[a]}
		if now.Classes[current^1] = class.Number; !there || was.uid != now.uid {
			now.Classes[current] = class.Number // nobody's conversations: it holds at once
		}
		if there && was == now {
			continue
		}
		changed = changed || now.Classes[0] != now.Classes[1]
		if err := put(e.objs.VgNpAddrs, a.As16(), now.bpfVgNpAddr, "addresses of pods and nodes"); err != nil {
			return err
		}
		e.in.addrs[a] = now
	}
	for id, t := range p.pods {
		was, there := e.in.pods[id]
		now := bpfVgNpPod{Kind: uint32(t.kind), Tables: was.Tables, Audits: was.Audits}
		now.Tables[current^1], now.Audits[current^1] = e.number(t.enforced), e.number(t.audit)
		if !there || was.Kind != uint32(t.kind) {
			now.Tables[current], now.Audits[current] = now.Tables[current^1], now.Audits[current^1]
			changed = changed || there && was.Kind == uint32(bpfVgNpKindVG_NP_FREE)
		}
		if there && was == now {
			continue
		}
		changed = changed || now.Tables[0] != now.Tables[1] || now.Audits[0] != now.Audits[1]
		if err := put(e.objs.VgNpPods, id, now, "cgroups of pods"); err != nil {
			return err
		}
		e.in.pods[id] = now
	}
	for a, id := range p.local {
		if e.in.local[a] == id {
			continue
		}
		if err := put(e.objs.VgNpLocal, a.As16(), id, "addresses of this node's pods"); err != nil {
			return err
		}
		e.in.local[a] = id
	}
	if err := e.writeServices(p); err != nil {
		return err
	}
	if !changed && e.in.generation != 0 {
		return nil
	}
	return e.raise()
}

// raise makes what was written what is in force.
func (e *Enforcer) raise() error {
	next := bpfVgNpForce{Generation: e.in.generation + 1, Netns: e.netns}
	if next.Generation == 0 { // none is 0: it stands for what was never decided
		next.Generation = 2
	}
	if e.forward != nil {
		next.Translated = 1
	}
	if err := e.objs.VgNpState.Put(uint32(0), &next); err != nil {
		return kernel.Explain("put network policies in force", err)
	}
	e.in.generation, e.switched = next.Generation, time.Now()
	return nil
}

func put[K, V any](m *ebpf.Map, key K, value V, what string) error {
	if err := m.Put(&key, &value); err != nil {
		return kernel.Explain(fmt.Sprintf("write %s, of which %d fit", what, m.MaxEntries()), err)
	}
	return nil
}

func remove[K any](m *ebpf.Map, key K) error {
	if err := m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// grace is longer than a program runs that has read a generation.
const grace = 20 * time.Millisecond

// settle makes both halves of what the generation chooses from the same, when nobody reads the old one any more, and takes
// out the tables that none of them names.
func (e *Enforcer) settle(ctx context.Context) error {
	if e.in.generation == 0 {
		return nil
	}
	if left := grace - time.Since(e.switched); left > 0 {
		wait := time.NewTimer(left)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	current := e.in.generation & 1
	for a, was := range e.in.addrs {
		if was.Classes[0] == was.Classes[1] {
			continue
		}
		was.Classes[current^1] = was.Classes[current]
		if err := put(e.objs.VgNpAddrs, a.As16(), was.bpfVgNpAddr, "addresses of pods and nodes"); err != nil {
			return err
		}
		e.in.addrs[a] = was
	}
	used := make(map[uint32]bool)
	for id, was := range e.in.pods {
		now := was
		now.Tables[current^1], now.Audits[current^1] = was.Tables[current], was.Audits[current]
		if now != was {
			if err := put(e.objs.VgNpPods, id, now, "cgroups of pods"); err != nil {
				return err
			}
			e.in.pods[id] = now
		}
		used[now.Tables[current]], used[now.Audits[current]] = true, true
	}
	var errs []error
	for t, in := range e.tables {
		if !used[in.number] {
			errs = append(errs, e.unloadTable(t, in))
		}
	}
	return errors.Join(errs...)
}

// prune takes out what is not in the state any more.
func (e *Enforcer) prune(p *plan) error {
	var errs []error
	for a := range e.in.addrs {
		if p.addrs[a] == nil {
			errs = append(errs, remove(e.objs.VgNpAddrs, a.As16()))
			delete(e.in.addrs, a)
		}
	}
	for id := range e.in.pods {
		if _, ok := p.pods[id]; !ok {
			errs = append(errs, remove(e.objs.VgNpPods, id))
			delete(e.in.pods, id)
		}
	}
	for a := range e.in.local {
		if _, ok := p.local[a]; !ok {
			errs = append(errs, remove(e.objs.VgNpLocal, a.As16()))
			delete(e.in.local, a)
		}
	}
	for k, s := range e.in.services {
		if _, ok := p.services[k]; !ok {
			errs = append(errs, remove(e.objs.VgNpServices, k), e.removeBackends(s.bpfVgNpService))
			delete(e.in.services, k)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take out what is gone: %w", err)
	}
	return nil
}

func (e *Enforcer) number(t *netpol.Table) uint32 {
	if t == nil {
		return 0
	}
	return e.tables[t].number
}
