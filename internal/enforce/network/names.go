// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

const (
	leastTTL   = time.Minute      // VG_DNS_LEAST
	sweepEvery = 30 * time.Second // expired names go
)

// asked is an address that a process got for a name.
type asked struct {
	process model.ProcessKey // without its exec: the same through all of its images
	name    string
	addr    netip.Addr
}

// answered is until when it counts, and for which policies the process asked.
type answered struct {
	end      uint32 // seconds of CLOCK_BOOTTIME
	policies []string
}

// mostAsked bounds what is kept for tables to come. When it is full an arbitrary one goes, and is not known to the next
// table until it is asked for again.
const mostAsked = 16384

// Learn takes the addresses of a dns event for those that the names of rules allow. The kernel has done so already, before
// the program saw the answer, but for answers over TCP and those that it could not read. They are kept for the tables that
// come after these, too, so call it for every dns event.
func (b *Backend) Learn(ev *model.Event) error {
	if ev.DNS == nil || len(ev.DNS.Answers) == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	tables := b.tablesOf(ev.Key)
	policies := make([]string, 0, len(tables))
	for _, t := range tables {
		policies = append(policies, t.Policy.Name)
	}
	for _, a := range ev.DNS.Answers {
		addr, err := netip.ParseAddr(a.Data)
		if err != nil || (a.Type != "A" && a.Type != "AAAA") {
			continue
		}
		end := uint32((time.Duration(ev.BootTime) + max(a.TTL, leastTTL)) / time.Second)
		what := asked{model.ProcessKey{PID: ev.Key.PID, Start: ev.Key.Start}, ev.DNS.Name, addr}
		b.keep(what, answered{end, policies})
		for n, t := range tables {
			if err := b.teach(n, t, what, end); err != nil {
				return err
			}
		}
	}
	return b.sweep()
}

// tablesOf are the tables that judge a process and have names.
func (b *Backend) tablesOf(key model.ProcessKey) map[uint16]*table {
	var entry subject.Entry
	if b.host == nil || b.kernel.Subjects.Lookup(key.PID, &entry) != nil || entry.Start != key.Start {
		return nil // under no policy, or gone
	}
	out := make(map[uint16]*table)
	for _, slot := range entry.Slots[:min(entry.Count, subject.Slots)] {
		if t := b.tables[slot.Table]; t != nil && len(t.Names.Cells) > 0 {
			out[slot.Table] = t
		}
	}
	return out
}

func (b *Backend) keep(what asked, a answered) {
	if _, known := b.asked[what]; !known && len(b.asked) >= mostAsked {
		for other := range b.asked {
			delete(b.asked, other)
			break
		}
	}
	b.asked[what] = a
}

// inherit has a new table know what was asked for under the policy's earlier ones.
func (b *Backend) inherit(n uint16, t *table) error {
	for what, a := range b.asked {
		if slices.Contains(a.policies, t.Policy.Name) {
			if err := b.teach(n, t, what, a.end); err != nil {
				return err
			}
		}
	}
	return nil
}

// recall has the tables in force know what their processes asked for before they were under them.
func (b *Backend) recall() error {
	tables := make(map[model.ProcessKey]map[uint16]*table)
	for what, a := range b.asked {
		of, looked := tables[what.process]
		if !looked {
			of = b.tablesOf(what.process)
			tables[what.process] = of
		}
		for n, t := range of {
			if err := b.teach(n, t, what, a.end); err != nil {
				return err
			}
		}
	}
	return nil
}

// teach adds an address if the table has a rule about its name. The program does it, as the kernel's side may be at the same
// entry.
func (b *Backend) teach(n uint16, t *table, what asked, end uint32) error {
	class := t.Names.Class(what.name)
	if class == 0 {
		return nil
	}
	lesson := bpfVgNetLesson{Addr: mapped(what.addr), Table: uint32(n), Class: uint32(class), End: end}
	if _, err := b.objs.VgNetTeach.Run(&ebpf.RunOptions{Context: &lesson}); err != nil {
		return kernel.Explain("add an address to those that a policy allows by name", err)
	}
	return nil
}

// sweep takes out addresses whose names have expired, now and then.
func (b *Backend) sweep() error {
	now, err := kernel.BootTime()
	if err != nil {
		return err
	}
	if now-b.swept < uint64(sweepEvery) || now < uint64(leastTTL) { // in the first minute after boot nothing can have expired
		return nil
	}
	b.swept = now
	// Not at once, so that one which is being prolonged just now is not caught in between.
	before := uint32((time.Duration(now) - leastTTL) / time.Second)
	maps.DeleteFunc(b.asked, func(_ asked, a answered) bool { return a.end < before })
	if b.host == nil {
		return nil
	}
	return b.dropNames(func(_ *bpfVgNetNameKey, p *bpfVgNetPlaces) bool {
		for _, place := range p.Places {
			if place != 0 && uint32(place) >= before {
				return false
			}
		}
		return true
	})
}

func (b *Backend) forgetNames(table uint16) error {
	return b.dropNames(func(k *bpfVgNetNameKey, _ *bpfVgNetPlaces) bool { return k.Table == uint32(table) })
}

func (b *Backend) dropNames(drop func(*bpfVgNetNameKey, *bpfVgNetPlaces) bool) error {
	var gone []bpfVgNetNameKey
	var key bpfVgNetNameKey
	var places bpfVgNetPlaces
	it := b.objs.VgNetNames.Iterate()
	for it.Next(&key, &places) {
		if drop(&key, &places) {
			gone = append(gone, key)
		}
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("look for names that have expired: %w", err)
	}
	return deleteAll(b.objs.VgNetNames, gone)
}

// portOf reads a port of a record.
func portOf(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}
