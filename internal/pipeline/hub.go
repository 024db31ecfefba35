// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// ErrClosed is returned by Subscription.Next when the subscription or its hub was closed and
// everything queued before has been read.
var ErrClosed = errors.New("subscription closed")

// Hub fans batches of events out to subscriptions. A slow subscriber loses events for itself alone,
// and is told how many. Safe for concurrent use.
type Hub struct {
	losses *Losses

	mu     sync.RWMutex
	subs   map[*Subscription]struct{}
	closed bool
}

// NewHub returns a hub that reports what its subscribers lose to losses.
func NewHub(losses *Losses) *Hub {
	return &Hub{losses: losses, subs: make(map[*Subscription]struct{})}
}

// SubscribeOptions configure a subscription.
type SubscribeOptions struct {
	Name string // for loss counters and status: "client", "export json", "store"
	// Queue is how many events may wait; DefaultQueue when 0.
	Queue int
	// Keep selects events; nil takes all. It runs in the publisher's goroutine: keep it quick.
	Keep func(*model.Event) bool
	// Wait makes a full queue hold the publisher up to this long before events are dropped: for what
	// must lose nothing under a burst (a local file). Zero never waits. A reader that is stuck holds the
	// publisher once, not for every batch.
	Wait time.Duration
}

// DefaultQueue is the number of events that wait for a subscriber, unless it says otherwise.
const DefaultQueue = 16384

// Subscribe adds a subscription that receives everything published from now on. The caller closes it.
func (h *Hub) Subscribe(o SubscribeOptions) *Subscription {
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	s := &Subscription{hub: h, name: o.Name, limit: o.Queue, keep: o.Keep, wait: o.Wait,
		ready: make(chan struct{}, 1), space: make(chan struct{}, 1), done: make(chan struct{}),
		lost: h.losses.Counter("subscriber", o.Name)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		s.closed = true
		close(s.done)
		return s
	}
	h.subs[s] = struct{}{}
	return s
}

// Publish hands batch to every subscription. The events belong to the subscribers from then on:
// nobody changes them. The slice itself must not be reused.
func (h *Hub) Publish(batch []*model.Event) {
	if len(batch) == 0 {
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for s := range h.subs {
		s.offer(batch)
	}
}

// Subscribers is the number of open subscriptions.
func (h *Hub) Subscribers() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.subs)
}

// Close ends all subscriptions; what is queued can still be read.
func (h *Hub) Close() {
	h.mu.Lock()
	subs := h.subs
	h.subs, h.closed = make(map[*Subscription]struct{}), true
	h.mu.Unlock()
	for s := range subs {
		s.end()
	}
}

// Subscription is one reader's bounded queue. Next may be called from one goroutine at a time.
type Subscription struct {
	hub   *Hub
	name  string
	limit int
	keep  func(*model.Event) bool
	wait  time.Duration
	lost  *Counter

	mu        sync.Mutex
	queue     [][]*model.Event
	queued    int    // events in queue
	missed    uint64 // dropped since the last loss event
	missedAll uint64
	gaveUp    bool // the last wait was in vain: no more until the reader takes something
	closed    bool

	ready chan struct{} // something was queued
	space chan struct{} // something was taken
	done  chan struct{} // closed
}

func (s *Subscription) offer(batch []*model.Event) {
	if s.keep != nil {
		var kept []*model.Event // grown as needed: most batches have nothing for most subscribers
		for _, e := range batch {
			if s.keep(e) {
				kept = append(kept, e)
			}
		}
		if batch = kept; len(batch) == 0 {
			return
		}
	}
	s.mu.Lock()
	if s.wait > 0 && s.queued+len(batch) > s.limit && !s.closed && !s.gaveUp {
		s.awaitSpace(len(batch))
	}
	// An empty queue takes any batch: one larger than the limit must not starve for ever.
	if room := s.limit - s.queued; len(batch) > room && s.queued > 0 {
		over := uint64(len(batch) - max(room, 0))
		s.missed += over
		s.missedAll += over
		s.lost.Add(over)
		batch = batch[:max(room, 0)]
	}
	if len(batch) > 0 && !s.closed {
		s.queue = append(s.queue, batch)
		s.queued += len(batch)
	}
	s.mu.Unlock()
	signal(s.ready)
}

// awaitSpace is called and returns with s.mu held.
func (s *Subscription) awaitSpace(n int) {
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	for s.queued+n > s.limit && s.queued > 0 && !s.closed {
		s.mu.Unlock()
		select {
		case <-s.space:
		case <-s.done:
		case <-timer.C:
			s.mu.Lock()
			s.gaveUp = true
			return
		}
		s.mu.Lock()
	}
}

// Next returns the events that wait, at least one, or blocks until there are some. Where events were
// dropped for this subscriber, a loss event that says how many comes first. Errors: ctx's, ErrClosed.
func (s *Subscription) Next(ctx context.Context) ([]*model.Event, error) {
	for {
		s.mu.Lock()
		if s.missed > 0 {
			e := &model.Event{Type: model.TypeLoss, Time: time.Now(), Count: 1, Loss: &model.Loss{
				Stage: "subscriber", Reason: "reader too slow", Count: s.missed, Total: s.missedAll}}
			s.missed = 0
			s.mu.Unlock()
			return []*model.Event{e}, nil
		}
		if len(s.queue) > 0 {
			batch := s.queue[0]
			s.queue[0] = nil
			s.queue = s.queue[1:]
			s.queued -= len(batch)
			s.gaveUp = false
			if len(s.queue) == 0 {
				s.queue = nil
			}
			s.mu.Unlock()
			signal(s.space)
			return batch, nil
		}
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return nil, ErrClosed
		}
		select {
		case <-s.ready:
		case <-s.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Lost is the number of events dropped for this subscriber so far.
func (s *Subscription) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missedAll
}

// Queued is the number of events that wait to be read.
func (s *Subscription) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued
}

// Close ends the subscription; Next returns what is queued and then ErrClosed. Closing twice is fine.
func (s *Subscription) Close() {
	s.end() // first: a publisher that waits for this subscription holds the hub
	s.hub.mu.Lock()
	delete(s.hub.subs, s)
	s.hub.mu.Unlock()
}

func (s *Subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
