// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// slotsInWindow is in how many steps a window moves on.
const slotsInWindow = 30

// slot is a part of the window: what it brought is taken away again when it is over.
type slot struct {
	until time.Time
	tally map[*edge]*tally
}

// count adds to an edge, and to the slot that will take it away.
func (g *Graph) count(e *edge, at time.Time, t *tally) {
	e.add(t, 1)
	if g.window == 0 {
		return
	}
	s := g.slot(at)
	sum := s.tally[e]
	if sum == nil {
		sum = new(tally)
		s.tally[e] = sum
	}
	sum.add(t, 1)
}

// slot is the part of the window that a moment is in. What comes late counts as now.
func (g *Graph) slot(at time.Time) *slot {
	if n := len(g.slots); n > 0 && at.Before(g.slots[n-1].until) {
		return g.slots[n-1]
	}
	step := g.window / slotsInWindow
	s := &slot{until: at.Truncate(step).Add(step), tally: make(map[*edge]*tally)}
	g.slots = append(g.slots, s)
	return s
}

// patience is how long a request waits for its flow to be told: longer than until its first report.
const patience = 5 * time.Second

// Advance moves the window on: edges over which nothing was said in it, and nothing is open, go, and so do their nodes.
func (g *Graph) Advance(now time.Time) {
	g.settleAll(now.Add(-patience))
	for len(g.slots) > 0 && !g.slots[0].until.Add(g.window).After(now) {
		for e, t := range g.slots[0].tally {
			e.add(t, -1)
		}
		g.slots = g.slots[1:]
	}
	for k, e := range g.edges {
		if e.open == 0 && e.last.Add(g.window).Before(now) {
			delete(g.edges, k)
			e.source.edges--
			e.destination.edges--
		}
	}
	for id, n := range g.nodes {
		if n.edges <= 0 && n.Kind != model.MapWorkload {
			delete(g.nodes, id)
		}
	}
	for k, t := range g.talks {
		if t.last.Add(g.window).Before(now) {
			delete(g.talks, k)
		}
	}
}
