// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
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

// Learn takes the addresses of a dns event for those that the names of rules allow. The kernel has done so already, before
// the program saw the answer, but for answers over TCP and those that it could not read.
func (b *Backend) Learn(ev *model.Event) error {
	if ev.DNS == nil || len(ev.DNS.Answers) == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.host == nil {
		return nil
	}
	var entry subject.Entry
	if err := b.kernel.Subjects.Lookup(ev.Key.PID, &entry); err != nil {
		return nil // under no policy, or gone
	}
	for _, slot := range entry.Slots[:min(entry.Count, subject.Slots)] {
		t := b.tables[slot.Table]
		if t == nil {
			continue
		}
		class := t.Names.Class(ev.DNS.Name)
		if class == 0 {
			continue
		}
		for _, a := range ev.DNS.Answers {
			if err := b.teach(slot.Table, class, ev.BootTime, a); err != nil {
				return err
			}
		}
	}
	return b.sweep()
}

// teach adds one address of an answer. The program does it, as the kernel's side may be at the same entry.
func (b *Backend) teach(table, class uint16, seen uint64, a model.DNSAnswer) error {
	if a.Type != "A" && a.Type != "AAAA" {
		return nil
	}
	addr, err := netip.ParseAddr(a.Data)
	if err != nil {
		return nil //nolint:nilerr // no address: nothing to allow
	}
	end := time.Duration(seen) + max(a.TTL, leastTTL)
	lesson := bpfVgNetLesson{Addr: mapped(addr), Table: uint32(table), Class: uint32(class), End: uint32(end / time.Second)}
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
	if now-b.swept < uint64(sweepEvery) {
		return nil
	}
	b.swept = now
	// Not at once, so that one which is being prolonged just now is not caught in between.
	before := uint32((time.Duration(now) - leastTTL) / time.Second)
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
