// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/testkit"
)

// What is in a pool is where it was put, whatever came and went around it, and all room comes back.
func TestPool(t *testing.T) {
	testkit.RequireBPF(t)
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: subject.Chunk}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 4, InnerMap: inner})
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	p := pool{outer: outer, newChunk: func() (*ebpf.Map, error) { return ebpf.NewMap(inner) }}
	defer p.close()
	rng := rand.New(rand.NewPCG(1, 2))
	held := make(map[run]uint64)
	for i := range uint64(300) {
		if rng.IntN(3) == 0 {
			for r := range held {
				p.release(r)
				delete(held, r)
				break
			}
			continue
		}
		values := make([]uint64, 1+rng.IntN(5000))
		for j := range values {
			values[j] = i
		}
		r, err := put(&p, values)
		if err != nil {
			t.Fatal(err)
		}
		held[r] = i
	}
	for r, want := range held {
		for _, at := range []uint32{r.offset, r.offset + r.length - 1} {
			var got uint64
			if err := p.chunks[r.chunk].m.Lookup(at, &got); err != nil || got != want {
				t.Errorf("at %d of piece %d is %d, %v; want %d", at, r.chunk, got, err, want)
			}
		}
		p.release(r)
	}
	for i, c := range p.chunks {
		if len(c.free) != 1 || c.free[0].length != subject.Chunk {
			t.Errorf("piece %d: %v is free, want all", i, c.free)
		}
	}
	if _, err := put(&p, make([]uint64, subject.Chunk+1)); err == nil {
		t.Error("more than a piece was taken")
	}
}
