// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"context"
	"slices"

	"github.com/vigie-io/vigie/internal/model"
)

// List returns what is open now and wanted, those that said most first, at most limit; and how many more there are. The
// reports that it makes are none of the flow's own. Errors: ctx's.
func (t *Table) List(ctx context.Context, now uint64, keep func(*model.Event) bool, limit int) ([]*model.Event, int, error) {
	type candidate struct {
		*conversation
		said uint64
	}
	t.mu.Lock()
	all := make([]candidate, 0, t.open)
	for _, c := range t.index {
		for ; c != nil; c = c.next {
			if c.open() {
				all = append(all, candidate{c, c.total.BytesSent + c.total.BytesReceived})
			}
		}
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.said, a.said), cmp.Compare(a.id, b.id))
	})
	var out []*model.Event
	left := 0
	const atOnce = 256 // the river waits meanwhile
	for chunk := range slices.Chunk(all, atOnce) {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		for _, ev := range t.views(now, len(chunk), func(i int) *conversation { return chunk[i].conversation }) {
			switch {
			case !keep(ev):
			case len(out) < limit:
				out = append(out, ev)
			default:
				left++
			}
		}
	}
	return out, left, nil
}

// views makes events of conversations as they are now.
func (t *Table) views(now uint64, n int, at func(int) *conversation) []*model.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*model.Event, 0, n)
	for i := range n {
		c := at(i)
		if c.flags&indexed == 0 {
			continue // it has ended meanwhile
		}
		f := t.flow(c, model.FlowOpen)
		f.Report = c.report
		out = append(out, t.wrap(c, f, now))
	}
	return out
}
