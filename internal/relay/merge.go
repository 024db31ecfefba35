// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"container/heap"
	"time"
)

// merger puts what several nodes say into one order, that of time. Each node has a lane, in which its own order is kept. What
// is oldest is taken when every lane that is waited for has something younger, or when it has waited as long as the window:
// then a node that is slower stands behind, which is counted, and nothing is lost. It reads no clock and starts nothing; not
// safe for concurrent use.
type merger[T any] struct {
	window  time.Duration
	limit   int  // what a lane may hold
	patient bool // a full lane waits like any other: what fills it can wait too
	heads   lanes[T]
	waiting int       // lanes that are waited for and empty
	full    int       // lanes that hold as much as they may
	high    time.Time // the youngest that was taken
}

// lane is what came from one node and was not taken yet.
type lane[T any] struct {
	name   string
	items  []item[T]
	last   time.Time // of its items
	wanted bool      // it is waited for
	late   uint64    // items that were taken behind younger ones of other lanes
}

// item is one thing that a node said. at never falls within a lane.
type item[T any] struct {
	value       T
	at, arrived time.Time
}

// newMerger returns a merger without lanes. One that is not patient takes from full lanes at once: their nodes go on meanwhile.
func newMerger[T any](window time.Duration, limit int, patient bool) *merger[T] {
	return &merger[T]{window: window, limit: limit, patient: patient}
}

// add makes the lane of a node. Nobody waits for it yet.
func (m *merger[T]) add(name string) *lane[T] { return &lane[T]{name: name} }

// want says whether l is waited for: whether its node is expected to say something soon if it has anything to say.
func (m *merger[T]) want(l *lane[T], wanted bool) {
	if l.wanted == wanted {
		return
	}
	l.wanted = wanted
	if len(l.items) > 0 {
		return
	}
	if wanted {
		m.waiting++
	} else {
		m.waiting--
	}
}

// push appends to a lane. at is when the thing happened, by the clock that all lanes share.
func (m *merger[T]) push(l *lane[T], value T, at, now time.Time) {
	if at.Before(l.last) {
		at = l.last // a node's own order is right: it numbers its events
	}
	l.last = at
	l.items = append(l.items, item[T]{value, at, now})
	if len(l.items) == m.limit {
		m.full++
	}
	if len(l.items) == 1 {
		if l.wanted {
			m.waiting--
		}
		heap.Push(&m.heads, l)
	}
}

// isFull reports whether l holds as much as it may.
func (m *merger[T]) isFull(l *lane[T]) bool { return len(l.items) >= m.limit }

// take is what is next at the moment now. When there is nothing to take yet, wait is for how long to wait unless something
// comes before; 0 when there is nothing at all.
func (m *merger[T]) take(now time.Time) (from *lane[T], value T, wait time.Duration, ok bool) {
	if len(m.heads) == 0 {
		return nil, value, 0, false
	}
	l := m.heads[0]
	head := l.items[0]
	if m.waiting > 0 && (m.full == 0 || m.patient) {
		if wait = m.window - now.Sub(head.arrived); wait > 0 {
			return nil, value, wait, false
		}
	}
	if len(l.items) == m.limit {
		m.full--
	}
	l.items[0] = item[T]{}
	if l.items = l.items[1:]; len(l.items) > 0 {
		heap.Fix(&m.heads, 0)
	} else {
		l.items = nil
		heap.Pop(&m.heads)
		if l.wanted {
			m.waiting++
		}
	}
	if head.at.Before(m.high) {
		l.late++
	} else {
		m.high = head.at
	}
	return l, head.value, 0, true
}

// lanes is a heap of those that are not empty, the oldest head first; of the same time, in the order of their names.
type lanes[T any] []*lane[T]

// Len implements heap.Interface.
func (h lanes[T]) Len() int { return len(h) }

// Less implements heap.Interface.
func (h lanes[T]) Less(i, j int) bool {
	a, b := h[i], h[j]
	if !a.items[0].at.Equal(b.items[0].at) {
		return a.items[0].at.Before(b.items[0].at)
	}
	return a.name < b.name
}

// Swap implements heap.Interface.
func (h lanes[T]) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *lanes[T]) Push(x any) {
	if l, ok := x.(*lane[T]); ok {
		*h = append(*h, l)
	}
}

// Pop implements heap.Interface.
func (h *lanes[T]) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = nil
	*h = (*h)[:len(*h)-1]
	return last
}
