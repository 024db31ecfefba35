// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/kernel"
)

// pool is room for words in the pieces of a map of maps: each table has runs of them, each within one piece.
type pool struct {
	outer    *ebpf.Map
	newChunk func() (*ebpf.Map, error)
	chunks   []*chunk
}

type chunk struct {
	m    *ebpf.Map
	free []run // by offset, never adjacent
}

// run is a part of a piece.
type run struct{ chunk, offset, length uint32 }

// put finds room for values and writes them. The zero run for none.
func put[T ~uint64](p *pool, values []T) (run, error) {
	if len(values) == 0 {
		return run{}, nil
	}
	if len(values) > subject.Chunk {
		return run{}, fmt.Errorf("the policy needs room for %d words, at most %d fit: split it, or use fewer rules that differ", len(values), subject.Chunk)
	}
	r, ok := p.take(uint32(len(values)))
	if !ok {
		if err := p.grow(); err != nil {
			return run{}, err
		}
		r, _ = p.take(uint32(len(values)))
	}
	keys := make([]uint32, len(values))
	for i := range keys {
		keys[i] = r.offset + uint32(i)
	}
	if _, err := p.chunks[r.chunk].m.BatchUpdate(keys, values, nil); err != nil {
		p.release(r)
		return run{}, kernel.Explain("write a policy's table", err)
	}
	return r, nil
}

// take finds room in the pieces that there are: the first that is large enough.
func (p *pool) take(length uint32) (run, bool) {
	for i, c := range p.chunks {
		for j, f := range c.free {
			if f.length < length {
				continue
			}
			r := run{uint32(i), f.offset, length}
			if c.free[j].offset, c.free[j].length = f.offset+length, f.length-length; c.free[j].length == 0 {
				c.free = slices.Delete(c.free, j, j+1)
			}
			return r, true
		}
	}
	return run{}, false
}

func (p *pool) grow() error {
	if uint32(len(p.chunks)) >= p.outer.MaxEntries() {
		return errors.New("there is no room for more policies: delete some")
	}
	m, err := p.newChunk()
	if err != nil {
		return err
	}
	n := uint32(len(p.chunks))
	if err := p.outer.Put(n, m); err != nil {
		_ = m.Close()
		return kernel.Explain("make room for tables", err)
	}
	p.chunks = append(p.chunks, &chunk{m, []run{{n, 0, subject.Chunk}}})
	return nil
}

// release gives a run back. Whoever still reads it reads what the next one writes: release what no table names.
func (p *pool) release(r run) {
	if r.length == 0 {
		return
	}
	c := p.chunks[r.chunk]
	i, _ := slices.BinarySearchFunc(c.free, r.offset, func(f run, at uint32) int { return int(int64(f.offset) - int64(at)) })
	c.free = slices.Insert(c.free, i, r)
	if i+1 < len(c.free) && c.free[i].offset+c.free[i].length == c.free[i+1].offset {
		c.free[i].length += c.free[i+1].length
		c.free = slices.Delete(c.free, i+1, i+2)
	}
	if i > 0 && c.free[i-1].offset+c.free[i-1].length == c.free[i].offset {
		c.free[i-1].length += c.free[i].length
		c.free = slices.Delete(c.free, i, i+1)
	}
}

func (p *pool) close() (errs []error) {
	for _, c := range p.chunks {
		errs = append(errs, c.m.Close())
	}
	p.chunks = nil
	return errs
}
