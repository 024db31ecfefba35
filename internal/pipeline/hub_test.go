// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

func batch(n int) []*model.Event {
	b := make([]*model.Event, n)
	for i := range b {
		b[i] = &model.Event{Type: model.TypeExec, Count: 1}
	}
	return b
}

func TestEverySubscriberGetsEveryEvent(t *testing.T) {
	h := NewHub(new(Losses))
	a, b := h.Subscribe(SubscribeOptions{Name: "a"}), h.Subscribe(SubscribeOptions{Name: "b",
		Keep: func(e *model.Event) bool { return e.Type == model.TypeExit }})
	h.Publish(append(batch(2), &model.Event{Type: model.TypeExit}))
	h.Close()
	for _, c := range []struct {
		s    *Subscription
		want int
	}{{a, 3}, {b, 1}} {
		got := 0
		for {
			evs, err := c.s.Next(context.Background())
			if errors.Is(err, ErrClosed) {
				break
			}
			got += len(evs)
		}
		if got != c.want {
			t.Errorf("%s: got %d events, want %d", c.s.name, got, c.want)
		}
	}
}

func TestSlowSubscriberLosesForItselfAndIsTold(t *testing.T) {
	losses := new(Losses)
	h := NewHub(losses)
	slow, quick := h.Subscribe(SubscribeOptions{Name: "slow", Queue: 10}), h.Subscribe(SubscribeOptions{Name: "quick"})
	for range 5 {
		h.Publish(batch(4))
	}
	h.Close()
	count := func(s *Subscription) (events int, lost uint64) {
		for {
			evs, err := s.Next(context.Background())
			if err != nil {
				return events, lost
			}
			for _, e := range evs {
				if e.Type == model.TypeLoss {
					lost += e.Loss.Count
				} else {
					events++
				}
			}
		}
	}
	if n, lost := count(slow); n != 10 || lost != 10 {
		t.Errorf("slow: %d events and %d lost, want 10 and 10", n, lost)
	}
	if n, lost := count(quick); n != 20 || lost != 0 {
		t.Errorf("quick: %d events and %d lost, want 20 and 0", n, lost)
	}
	if got := losses.Counter("subscriber", "slow").Load(); got != 10 {
		t.Errorf("loss counter is %d, want 10", got)
	}
}

func TestWaitingSubscriberHoldsThePublisher(t *testing.T) {
	h := NewHub(new(Losses))
	s := h.Subscribe(SubscribeOptions{Name: "file", Queue: 4, Wait: time.Minute})
	go func() {
		for range 100 {
			h.Publish(batch(3))
		}
		h.Close()
	}()
	got := 0
	for {
		evs, err := s.Next(context.Background())
		if err != nil {
			break
		}
		got += len(evs)
	}
	if got != 300 || s.Lost() != 0 {
		t.Errorf("got %d events, lost %d; want 300 and 0", got, s.Lost())
	}
}

func TestSubscribeAfterCloseEndsAtOnce(t *testing.T) {
	h := NewHub(new(Losses))
	h.Close()
	if _, err := h.Subscribe(SubscribeOptions{}).Next(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestRaiseOnlyGrows(t *testing.T) {
	c := new(Losses).Counter("kernel", "ring full")
	c.Raise(5)
	c.Raise(3)
	if c.Load() != 5 {
		t.Errorf("got %d, want 5", c.Load())
	}
}

// A reader that takes nothing holds the publisher once, or it would hold everybody for ever.
func TestStuckWaitingSubscriberHoldsThePublisherOnce(t *testing.T) {
	h := NewHub(new(Losses))
	s := h.Subscribe(SubscribeOptions{Name: "file", Queue: 1, Wait: time.Millisecond})
	h.Publish(batch(1))
	h.Publish(batch(1)) // waits in vain
	if !s.gaveUp {
		t.Fatal("it did not give up")
	}
	s.wait = time.Hour
	for range 100 {
		h.Publish(batch(1)) // would never end if it waited
	}
	if _, err := s.Next(context.Background()); err != nil || s.Lost() != 101 {
		t.Errorf("%d lost, %v", s.Lost(), err)
	}
	if _, err := s.Next(context.Background()); err != nil || s.gaveUp {
		t.Errorf("it does not wait again for a reader that reads: %v", err)
	}
}

// Close does not wait for a publisher that waits for the subscription.
func TestCloseEndsAWait(t *testing.T) {
	h := NewHub(new(Losses))
	s := h.Subscribe(SubscribeOptions{Name: "file", Queue: 1, Wait: time.Hour})
	h.Publish(batch(1))
	published := make(chan struct{})
	go func() {
		h.Publish(batch(1))
		close(published)
	}()
	s.Close()
	<-published
}
