// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// sink is a destination whose mood a test changes.
type sink struct {
	mu     sync.Mutex
	got    []uint64
	sends  int
	send   func(ctx context.Context, items []uint64) (int, error) // nil takes all
	closed bool
}

func (s *sink) Encode(e *model.Event) (uint64, int, bool) {
	return e.Seq, 100 - perItem, e.Type != model.TypeLoss
}

func (s *sink) Send(ctx context.Context, items []uint64) (int, error) {
	s.mu.Lock()
	s.sends++
	send := s.send
	s.mu.Unlock()
	n, err := len(items), error(nil)
	if send != nil {
		n, err = send(ctx, items)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, items[:n]...)
	return n, err
}

func (s *sink) Close() error { s.closed = true; return nil }

func (s *sink) become(send func(context.Context, []uint64) (int, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send = send
}

func (s *sink) received() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

type running struct {
	*Delivery[uint64]
	t      *testing.T
	hub    *pipeline.Hub
	losses *pipeline.Losses
	seq    uint64
	end    func() error
}

func run(t *testing.T, s *sink, o Options) *running {
	t.Helper()
	r := &running{t: t, losses: new(pipeline.Losses)}
	o.Name, o.Log, o.Losses = "export test", slog.New(slog.DiscardHandler), r.losses
	if o.Backoff == nil {
		o.Backoff = func(int) time.Duration { return time.Millisecond }
	}
	if o.Linger == 0 {
		o.Linger = time.Millisecond
	}
	r.hub, r.Delivery = pipeline.NewHub(r.losses), NewDelivery(o, s)
	sub := r.hub.Subscribe(r.Subscribe())
	done := make(chan error, 1)
	go func() { done <- r.Run(sub) }()
	r.end = sync.OnceValue(func() error { r.hub.Close(); return <-done })
	t.Cleanup(func() { _ = r.end() })
	return r
}

func (r *running) publish(n int) {
	for range n {
		r.seq++
		r.hub.Publish([]*model.Event{{Type: model.TypeExec, Seq: r.seq}})
	}
}

func (r *running) eventually(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatalf("%s did not happen: %+v", what, r.Stats())
}

// counted are the losses of the exporter by reason.
func (r *running) counted() map[string]uint64 {
	m := make(map[string]uint64)
	for _, l := range r.losses.Snapshot() {
		if l.Stage == "export test" && l.Count > 0 {
			m[l.Reason] = l.Count
		}
	}
	return m
}

func sequence(n int) []uint64 {
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i + 1)
	}
	return list
}

func TestEverythingArrivesInOrder(t *testing.T) {
	s := new(sink)
	r := run(t, s, Options{})
	r.publish(5000)
	if err := r.end(); err != nil || !slices.Equal(s.received(), sequence(5000)) || !s.closed {
		t.Errorf("%v, %d events, closed %v", err, len(s.received()), s.closed)
	}
	if got := r.Stats(); got.Sent != 5000 || got.Waiting != 0 || got.Lost != 0 || got.Retried != 0 || got.Bytes != 0 {
		t.Errorf("%+v", got)
	}
}

// A destination that is gone holds nobody up; what has no room is counted under the cause, and when it comes back, what
// waited arrives.
func TestDestinationThatIsGoneAndComesBack(t *testing.T) {
	s := &sink{send: func(context.Context, []uint64) (int, error) { return 0, syscall.ECONNREFUSED }}
	r := run(t, s, Options{MaxWaiting: 100 * 50, BatchItems: 10})
	r.publish(1)
	r.eventually("the failure", func() bool { return strings.Contains(r.Stats().Trouble, "refused") })
	r.publish(999)
	r.eventually("the loss", func() bool { return r.Stats().Lost == 950 && r.Stats().Retried > 0 })
	if got := r.Stats(); got.Waiting != 50 || got.Bytes != 5000 || got.Capacity != 5000 {
		t.Errorf("%+v", got)
	}
	s.become(nil)
	r.eventually("the delivery", func() bool { return len(s.received()) == 50 })
	if err := r.end(); err != nil || !slices.Equal(s.received(), sequence(50)) {
		t.Errorf("%v, %v", err, s.received())
	}
	if got := r.counted(); len(got) != 1 || got["connection refused"] != 950 {
		t.Errorf("losses %v", got)
	}
	if got := r.Stats(); got.Trouble != "" || got.Sent+got.Lost != 1000 {
		t.Errorf("%+v", got)
	}
}

// A destination that answers nothing costs one attempt its time, and the end no longer than the time to drain.
func TestDestinationThatHangs(t *testing.T) {
	s := &sink{send: func(ctx context.Context, _ []uint64) (int, error) { <-ctx.Done(); return 0, ctx.Err() }}
	r := run(t, s, Options{MaxWaiting: 1000, Timeout: time.Millisecond, Drain: time.Millisecond})
	r.publish(100)
	r.eventually("the failure", func() bool { return r.Stats().Trouble != "" && r.Stats().Lost == 90 })
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if got := r.counted(); got["timeout"]+got["the destination is too slow"] != 100 || r.Stats().Lost != 100 || len(s.received()) != 0 {
		t.Errorf("losses %v, %+v", got, r.Stats())
	}
}

// What is refused is lost, and only that.
func TestRefusal(t *testing.T) {
	s := &sink{send: func(_ context.Context, items []uint64) (int, error) {
		return len(items), &RefusedError{Items: 2, Reason: "http 400"}
	}}
	r := run(t, s, Options{BatchItems: 5, Linger: time.Hour})
	r.publish(10)
	r.eventually("both batches", func() bool { return r.Stats().Sent == 6 })
	if got := r.counted(); got["http 400"] != 4 || r.Stats().Retried != 0 {
		t.Errorf("losses %v, %+v", got, r.Stats())
	}
}

// A destination that takes a part of what it is sent is sent the rest.
func TestPartOfABatch(t *testing.T) {
	s := &sink{send: func(_ context.Context, items []uint64) (int, error) {
		if len(items) == 1 {
			return 1, nil
		}
		return len(items) / 2, errors.New("no more")
	}}
	r := run(t, s, Options{})
	r.publish(100)
	if err := r.end(); err != nil || !slices.Equal(s.received(), sequence(100)) {
		t.Errorf("%v, %v", err, s.received())
	}
	if len(r.counted()) != 0 {
		t.Errorf("losses %v", r.counted())
	}
}

// A destination that claims to have taken more or less than there is, or nothing at all, can't keep the exporter busy for ever.
func TestDestinationThatLies(t *testing.T) {
	s := &sink{send: func(context.Context, []uint64) (int, error) { return 0, nil }}
	r := run(t, s, Options{})
	r.publish(10)
	r.eventually("giving up", func() bool { return r.Stats().Lost == 10 })
	if got := r.counted(); got["not sent"] != 10 {
		t.Errorf("losses %v", got)
	}
}

func TestLaterIsObeyedButNotForLong(t *testing.T) {
	d := NewDelivery(Options{Backoff: func(int) time.Duration { return time.Millisecond }}, new(sink))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if d.wait(ctx, 1, &LaterError{After: time.Hour, Err: errors.New("busy")}) {
		t.Error("another attempt although the end has come")
	}
	if !d.wait(context.Background(), 1, &LaterError{Err: errors.New("busy")}) {
		t.Error("no other attempt")
	}
}

func TestBackoffGrowsToABound(t *testing.T) {
	for failures, most := range map[int]time.Duration{1: 250 * time.Millisecond, 3: time.Second, 100: 30 * time.Second} {
		for range 100 {
			if d := Backoff(failures); d < most/2 || d > most {
				t.Fatalf("after %d failures %s, want %s to %s", failures, d, most/2, most)
			}
		}
	}
}

func TestFilterOfAnExporter(t *testing.T) {
	s := new(sink)
	r := run(t, s, Options{Keep: func(e *model.Event) bool { return e.Seq%2 == 0 }})
	r.publish(10)
	if err := r.end(); err != nil || !slices.Equal(s.received(), []uint64{2, 4, 6, 8, 10}) {
		t.Errorf("%v, %v", err, s.received())
	}
}

// A burst that is larger than the queue costs a destination that works nothing.
func TestBurst(t *testing.T) {
	s := new(sink)
	r := run(t, s, Options{MaxWaiting: 100 * 10, BatchItems: 10})
	r.publish(10_000)
	if err := r.end(); err != nil || !slices.Equal(s.received(), sequence(10_000)) {
		t.Errorf("%v, %d events", err, len(s.received()))
	}
}
