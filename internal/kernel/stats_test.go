// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/testkit"
)

// A piece of a map of maps is named by no program, and takes memory all the same.
func TestMapMemoryHasPiecesOfMapsOfMaps(t *testing.T) {
	testkit.RequireBPF(t)
	const entries = 1 << 16
	var h kernel.Host
	before := h.MapMemory()
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: entries}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 4, InnerMap: inner})
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	piece, err := ebpf.NewMap(inner)
	if err != nil {
		t.Fatal(err)
	}
	defer piece.Close()
	if err := outer.Put(uint32(0), piece); err != nil {
		t.Fatal(err)
	}
	if more := h.MapMemory() - before; more < 8*entries || more > 2*8*entries {
		t.Errorf("%d bytes more for a piece of %d", more, 8*entries)
	}
}
