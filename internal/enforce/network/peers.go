// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
)

// peersOf names the workload of a table's rules: policy.Table.Peers[class-1].
type peersOf struct{ table, class uint16 }

// maxPeers is how many workloads can listen at one address and port, as one table tells them apart.
const maxPeers = 4

// SetPeers says where the workload of a class of a table listens, in place of what was said before; port 0 stands for all
// ports of the address. A table that is not loaded, or no more, has no peers.
func (b *Backend) SetPeers(table, class uint16, where []netip.AddrPort) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.host == nil || b.tables[table] == nil {
		return nil
	}
	of := peersOf{table, class}
	before := b.peers[of]
	next := make([]bpfVgNetPeerKey, 0, len(where))
	for _, a := range where {
		key := bpfVgNetPeerKey{Table: table, Port: kernel.NetworkOrder(a.Port()), Addr: mapped(a.Addr())}
		if !slices.Contains(next, key) {
			next = append(next, key)
		}
	}
	b.peers[of] = next
	var errs []error
	for _, key := range next {
		if !slices.Contains(before, key) {
			errs = append(errs, b.writePeer(key, class, true))
		}
	}
	for _, key := range before {
		if !slices.Contains(next, key) {
			errs = append(errs, b.writePeer(key, class, false))
		}
	}
	return errors.Join(errs...)
}

// writePeer adds a class to an address, or takes it from it.
func (b *Backend) writePeer(key bpfVgNetPeerKey, class uint16, add bool) error {
	var v bpfVgNetClasses
	if err := b.objs.VgNetPeers.Lookup(&key, &v); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return kernel.Explain("read where workloads listen", err)
	}
	classes := slices.DeleteFunc(slices.Clone(v.Classes[:]), func(c uint16) bool { return c == 0 || c == class })
	if add {
		classes = append(classes, class)
	}
	if len(classes) > maxPeers {
		return fmt.Errorf("more than %d workloads of one policy listen at %s port %d: join the rules about them", maxPeers, netip.AddrFrom16(key.Addr).Unmap(), portOf(key.Port))
	}
	if len(classes) == 0 {
		return deleteAll(b.objs.VgNetPeers, []bpfVgNetPeerKey{key})
	}
	v = bpfVgNetClasses{}
	copy(v.Classes[:], classes)
	if err := b.objs.VgNetPeers.Put(&key, &v); err != nil {
		return kernel.Explain("note where a workload listens", err)
	}
	return nil
}

func (b *Backend) forgetPeers(table uint16) error {
	var errs []error
	for of, keys := range b.peers {
		if of.table == table {
			errs = append(errs, deleteAll(b.objs.VgNetPeers, keys))
			delete(b.peers, of)
		}
	}
	return errors.Join(errs...)
}
