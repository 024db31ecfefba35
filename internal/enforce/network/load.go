// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/policy"
)

// Bits of the keys that stand before what is looked up by its prefix (network.h).
const (
	prefixBits = 32
	portBits   = 80
)

// table is one that is in the maps.
type table struct {
	*policy.Table
	kills bool // a decision about the network kills
}

// Load implements enforce.Backend. It writes what is new before it takes out what is gone. When something does not fit,
// nothing of what was new stays.
func (b *Backend) Load(_ context.Context, tables []enforce.Loaded) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted = tables
	if b.host == nil {
		return nil // Attach does it
	}
	return b.reload()
}

// reload makes the maps hold the wanted tables and no others.
func (b *Backend) reload() error {
	wanted := make(map[uint16]*policy.Table, len(b.wanted))
	for _, l := range b.wanted {
		if l.Table.Policy.Network != nil {
			wanted[l.Number] = l.Table
		}
	}
	var fresh []uint16
	var errs []error
	for n, t := range wanted {
		before := b.tables[n]
		if before != nil && before.Table == t {
			continue
		}
		if before != nil { // the number has come round to another
			errs = append(errs, b.remove(n))
		}
		b.tables[n] = &table{Table: t, kills: kills(t)}
		fresh = append(fresh, n)
		if err := b.insert(n, t); err != nil {
			errs = append(errs, err)
			for _, n := range fresh {
				errs = append(errs, b.remove(n))
			}
			return errors.Join(errs...)
		}
	}
	for n := range maps.Clone(b.tables) {
		if wanted[n] == nil {
			errs = append(errs, b.remove(n))
		}
	}
	return errors.Join(append(errs, b.attachKill())...)
}

// insert writes a table that nobody is judged by yet.
func (b *Backend) insert(n uint16, t *policy.Table) error {
	prefixes, classes := prefixKeys(n, t)
	ports, decisions := portKeys(n, t)
	if err := putAll(b.objs.VgNetPrefixes, prefixes, classes); err != nil {
		return full("CIDRs", len(prefixes), b.objs.VgNetPrefixes, err)
	}
	if err := putAll(b.objs.VgNetPorts, ports, decisions); err != nil {
		return full("combinations of addresses, ports and binaries", len(ports), b.objs.VgNetPorts, err)
	}
	if err := b.speak(n, directions(t)); err != nil {
		return err
	}
	return b.inherit(n, b.tables[n])
}

// full explains why a table could not be written.
func full(what string, n int, m *ebpf.Map, err error) error {
	return kernel.Explain(fmt.Sprintf("write the %d %s of a policy, where there is room for %d of all policies together", n, what, m.MaxEntries()), err)
}

// remove takes a table out.
func (b *Backend) remove(n uint16) error {
	t := b.tables[n]
	delete(b.tables, n)
	prefixes, _ := prefixKeys(n, t.Table)
	ports, _ := portKeys(n, t.Table)
	err := errors.Join(b.speak(n, 0), deleteAll(b.objs.VgNetPrefixes, prefixes), deleteAll(b.objs.VgNetPorts, ports), b.forgetPeers(n))
	if len(t.Names.Cells) > 0 {
		err = errors.Join(err, b.forgetNames(n))
	}
	if err != nil {
		return fmt.Errorf("take a retired table out of the network's maps: %w", err)
	}
	return nil
}

// speak notes which directions a table says something of.
func (b *Backend) speak(n uint16, directions uint32) error {
	key, shift := uint32(n)/8, n%8*4
	var word uint32
	if err := b.objs.VgNetTables.Lookup(key, &word); err != nil {
		return kernel.Explain("read what tables speak of", err)
	}
	word = word&^(0xf<<shift) | directions<<shift
	if err := b.objs.VgNetTables.Put(key, word); err != nil {
		return kernel.Explain("note what a table speaks of", err)
	}
	return nil
}

// directions has a bit for each direction of which a table says something.
func directions(t *policy.Table) (bits uint32) {
	for d, decision := range t.Default {
		if decision != 0 {
			bits |= 1 << d
		}
	}
	for _, p := range t.Ports {
		bits |= 1 << p.Direction
	}
	return bits
}

func kills(t *policy.Table) bool {
	for _, d := range t.Default {
		if d.Action() == policy.ActKill {
			return true
		}
	}
	for _, p := range t.Ports {
		if p.Decision.Action() == policy.ActKill {
			return true
		}
	}
	return t.Sockets.Action() == policy.ActKill
}

func prefixKeys(n uint16, t *policy.Table) ([]bpfVgNetPrefixKey, []uint32) {
	keys, values := make([]bpfVgNetPrefixKey, len(t.Prefixes)), make([]uint32, len(t.Prefixes))
	for i, p := range t.Prefixes {
		keys[i] = bpfVgNetPrefixKey{Bits: prefixBits + uint32(p.Prefix.Bits()), Table: n, Direction: uint8(p.Direction), Addr: p.Prefix.Addr().As16()}
		values[i] = uint32(p.Class)
	}
	return keys, values
}

func portKeys(n uint16, t *policy.Table) ([]bpfVgNetPortKey, []uint32) {
	keys, values := make([]bpfVgNetPortKey, len(t.Ports)), make([]uint32, len(t.Ports))
	for i, p := range t.Ports {
		keys[i] = bpfVgNetPortKey{Bits: portBits + uint32(p.Bits), Table: n, Direction: uint8(p.Direction), Protocol: p.Protocol,
			Class: p.Class, Subject: p.Subject, Port: kernel.NetworkOrder(p.Port)}
		values[i] = uint32(p.Decision)
	}
	return keys, values
}

// putAll writes entries, in one call where the kernel has it.
func putAll[K, V any](m *ebpf.Map, keys []K, values []V) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := m.BatchUpdate(keys, values, nil)
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	for i := range keys {
		if err := m.Put(&keys[i], &values[i]); err != nil {
			return err
		}
	}
	return nil
}

// deleteAll takes entries out that are there.
func deleteAll[K any](m *ebpf.Map, keys []K) error {
	for i := range keys {
		if err := m.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}
