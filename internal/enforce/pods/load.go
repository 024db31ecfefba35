// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/policy/netpol"
)

// Bits of the keys that stand before what is looked up by its prefix (tables.h).
const (
	blockBits = 64
	portBits  = 80
)

// Bits of vg_np_table.flags; the first three are shifted by the direction.
const (
	speaksFlag  = 0x01
	blocksFlag  = 0x04
	outsideAlso = 0x10
	namesFlag   = 0x40
)

// table is one that is in the maps.
type table struct {
	number   uint32
	classes  [netpol.Directions]map[uint32]uint32 // profiles by class; those that are Base, too
	profiles map[uint32]bool
}

// loadTable writes a table that nobody is judged by yet; on an error nothing of it stays.
func (e *Enforcer) loadTable(t *netpol.Table) (err error) {
	e.next++
	in := &table{number: e.next, profiles: make(map[uint32]bool)}
	e.tables[t] = in
	defer func() {
		if err != nil {
			err = errors.Join(err, e.unloadTable(t, in))
		}
	}()
	entry := bpfVgNpTable{Isolated: t.Isolated, Base: t.Base}
	for d := range netpol.Directions {
		in.classes[d] = make(map[uint32]uint32)
		for _, f := range []struct {
			set bool
			bit uint32
		}{{t.Speaks[d], speaksFlag}, {len(t.Blocks[d]) > 0, blocksFlag}, {len(t.Outside[d]) > 0, outsideAlso}} {
			if f.set {
				entry.Flags |= f.bit << d
			}
		}
		if err := e.loadProfile(t, in, t.Base[d]); err != nil {
			return err
		}
		for _, b := range blocks(t, d) {
			if err := e.loadProfile(t, in, b.Profile); err != nil {
				return err
			}
		}
	}
	if len(t.Domains) > 0 {
		entry.Flags |= namesFlag
	}
	for _, d := range t.Domains {
		if err := e.loadProfile(t, in, d.Profile); err != nil {
			return err
		}
	}
	keys, values := blockKeys(t, in)
	if err := putAll(e.objs.VgNpBlocks, keys, values, "CIDRs"); err != nil {
		return err
	}
	return put(e.objs.VgNpTables, in.number, entry, "tables of pods")
}

func blocks(t *netpol.Table, d netpol.Direction) []netpol.BlockProfile {
	return append(t.Blocks[d][:len(t.Blocks[d]):len(t.Blocks[d])], t.Outside[d]...)
}

func blockKeys(t *netpol.Table, in *table) (keys []bpfVgNpBlockKey, values []uint32) {
	for d := range netpol.Directions {
		for i, list := range [][]netpol.BlockProfile{t.Blocks[d], t.Outside[d]} {
			for _, b := range list {
				k := bpfVgNpBlockKey{Bits: blockBits + uint32(b.Prefix.Bits), Table: in.number, Direction: uint32(d) | uint32(i)<<1, Addr: b.Prefix.Addr}
				keys, values = append(keys, k), append(values, b.Profile)
			}
		}
	}
	return keys, values
}

// loadProfile writes the answers of a profile, once.
func (e *Enforcer) loadProfile(t *netpol.Table, in *table, n uint32) error {
	if n == 0 || in.profiles[n] {
		return nil
	}
	in.profiles[n] = true
	keys, values := portKeys(t, in, n)
	return putAll(e.objs.VgNpPorts, keys, values, "combinations of other ends and ports")
}

func portKeys(t *netpol.Table, in *table, n uint32) (keys []bpfVgNpPortKey, values []uint64) {
	for _, a := range t.Ports(n) {
		for first, last := uint32(a.First), uint32(a.Last); first <= last; {
			// The largest aligned range that begins here and does not end behind the last.
			size := min(uint32(bits.TrailingZeros32(first|1<<16)), 16)
			for first+1<<size-1 > last {
				size--
			}
			keys = append(keys, bpfVgNpPortKey{Bits: portBits + 16 - size, Table: in.number, Profile: n, Protocol: a.Protocol, Port: kernel.NetworkOrder(uint16(first))})
			values = append(values, uint64(a.Answer))
			first += 1 << size
		}
	}
	return keys, values
}

// loadClasses writes what a table says of classes that it has not been asked about yet.
func (e *Enforcer) loadClasses(t *netpol.Table, in *table, every map[uint32]*netpol.Class) error {
	var keys []bpfVgNpClassKey
	var values []uint32
	for d := range netpol.Directions {
		if !t.Speaks[d] {
			continue
		}
		for n, c := range every {
			if _, done := in.classes[d][n]; done {
				continue
			}
			profile := t.Profile(d, c)
			in.classes[d][n] = profile
			if profile == t.Base[d] {
				continue
			}
			if err := e.loadProfile(t, in, profile); err != nil {
				return err
			}
			keys = append(keys, bpfVgNpClassKey{Table: in.number, Class: n, Direction: uint32(d)})
			values = append(values, profile)
		}
	}
	return putAll(e.objs.VgNpClasses, keys, values, "kinds of other ends")
}

// unloadTable takes back what is there of a table. No pod may be judged by it any more.
func (e *Enforcer) unloadTable(t *netpol.Table, in *table) error {
	delete(e.tables, t)
	e.keepHits(t, in)
	errs := []error{remove(e.objs.VgNpTables, in.number)}
	keys, _ := blockKeys(t, in)
	errs = append(errs, removeAll(e.objs.VgNpBlocks, keys))
	if len(t.Domains) > 0 {
		errs = append(errs, e.forgetNames(in))
	}
	for n := range in.profiles {
		keys, _ := portKeys(t, in, n)
		errs = append(errs, removeAll(e.objs.VgNpPorts, keys))
	}
	for d, classes := range in.classes {
		for n, profile := range classes {
			if profile != t.Base[d] {
				errs = append(errs, remove(e.objs.VgNpClasses, bpfVgNpClassKey{Table: in.number, Class: n, Direction: uint32(d)}))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take out a table of pods: %w", err)
	}
	return nil
}

// putAll writes entries, in one call where the kernel has it.
func putAll[K, V any](m *ebpf.Map, keys []K, values []V, what string) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := m.BatchUpdate(keys, values, nil)
	if errors.Is(err, ebpf.ErrNotSupported) {
		for i := range keys {
			if err = m.Put(&keys[i], &values[i]); err != nil {
				break
			}
		}
	}
	if err != nil {
		return kernel.Explain(fmt.Sprintf("write %d %s, where there is room for %d of all pods together", len(keys), what, m.MaxEntries()), err)
	}
	return nil
}

func removeAll[K any](m *ebpf.Map, keys []K) error {
	for i := range keys {
		if err := remove(m, keys[i]); err != nil {
			return err
		}
	}
	return nil
}
