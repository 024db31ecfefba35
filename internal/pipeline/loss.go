// SPDX-License-Identifier: Apache-2.0

// Package pipeline moves events from the sensors to whoever wants them, through bounded queues that
// count what they lose. In: batches of *model.Event from the enrich stage. Out: one Subscription for
// each client, exporter and store; and Losses, the one table of everything that was lost anywhere.
package pipeline

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// LossKey names a place where events can be lost, and why.
type LossKey struct {
	Stage  string // kernel, decode, enrich, pipeline, subscriber, export, …
	Reason string
}

// LossCount is how many events were lost in one place since the agent started.
type LossCount struct {
	LossKey
	Count uint64
}

// Losses counts what was lost, by stage and reason. The zero value is ready; safe for concurrent use.
type Losses struct {
	mu       sync.Mutex
	counters map[LossKey]*Counter
}

// Counter is one loss count. It only grows.
type Counter struct{ n atomic.Uint64 }

// Add counts n more lost events.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Load is the count so far.
func (c *Counter) Load() uint64 { return c.n.Load() }

// Raise sets the count to total if that is more than it holds: for counters that the kernel keeps.
func (c *Counter) Raise(total uint64) {
	for {
		old := c.n.Load()
		if total <= old || c.n.CompareAndSwap(old, total) {
			return
		}
	}
}

// Counter returns the counter of a stage and reason, making it on first use. Keep it where the loss
// happens: the look-up takes a lock, the counter does not.
func (l *Losses) Counter(stage, reason string) *Counter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counters == nil {
		l.counters = make(map[LossKey]*Counter)
	}
	key := LossKey{stage, reason}
	c := l.counters[key]
	if c == nil {
		c = new(Counter)
		l.counters[key] = c
	}
	return c
}

// Snapshot lists all counters, also those at zero, ordered by stage and reason.
func (l *Losses) Snapshot() []LossCount {
	l.mu.Lock()
	out := make([]LossCount, 0, len(l.counters))
	for k, c := range l.counters {
		out = append(out, LossCount{k, c.Load()})
	}
	l.mu.Unlock()
	slices.SortFunc(out, func(a, b LossCount) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}
