// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Sink is one destination, as Delivery needs it. T is what is sent of an event.
type Sink[T any] interface {
	// Encode makes what is sent of an event, and says how many bytes that holds; not ok: nothing is. It is called
	// from another goroutine than the rest.
	Encode(*model.Event) (item T, bytes int, ok bool)
	// Send sends items in order and returns how many of them are dealt with: the rest is sent again when there is
	// an error. It obeys ctx, which has a deadline. Errors: *RefusedError, for items that will never be taken (they count
	// as dealt with), *LaterError, anything else that may pass.
	Send(ctx context.Context, items []T) (int, error)
	// Close releases the connection. Called once, at the end.
	Close() error
}

// RefusedError says that the destination took the batch but for some items of it, which it will not take later either.
type RefusedError struct {
	Items  int
	Reason string // one of few, for the loss counter: "http 400"
	Detail string // what the destination said; may be empty
}

func (r *RefusedError) Error() string {
	if r.Detail == "" {
		return "refused by the destination: " + r.Reason
	}
	return "refused by the destination: " + r.Reason + ": " + r.Detail
}

// LaterError says that the destination asks to be left alone for a while.
type LaterError struct {
	After time.Duration
	Err   error
}

func (l *LaterError) Error() string { return l.Err.Error() }
func (l *LaterError) Unwrap() error { return l.Err }

// Options configure a Delivery. What is zero has the default.
type Options struct {
	Name string
	Keep func(*model.Event) bool // nil takes all

	MaxWaiting int           // bytes that wait at most, those that are being sent included, and perItem for each; DefaultMaxWaiting
	BatchItems int           // DefaultBatchItems
	BatchBytes int           // DefaultBatchBytes
	Linger     time.Duration // how long an item waits for others; DefaultLinger
	Timeout    time.Duration // of one attempt; DefaultTimeout
	Drain      time.Duration // for what is left when the agent ends; DefaultDrain
	// Backoff is how long to wait after so many failures in a row, at least 1; Backoff by default.
	Backoff func(failures int) time.Duration

	Log    *slog.Logger
	Losses *pipeline.Losses
}

// The defaults of Options.
const (
	DefaultMaxWaiting = 8 << 20
	DefaultBatchItems = 1000
	DefaultBatchBytes = 1 << 20
	DefaultLinger     = time.Second
	DefaultTimeout    = 10 * time.Second
	DefaultDrain      = 3 * time.Second

	perItem = 64 // bytes that an item costs beside its own

	// hold is how long a full queue waits for a destination that works, in which time events wait in the hub: for bursts. A
	// destination that takes nothing is waited for once, not for every event.
	hold = 250 * time.Millisecond

	maxLater = 5 * time.Minute // a destination can't send an exporter to sleep for longer
)

// Backoff doubles from a quarter of a second to half a minute, less up to a half, by chance: so that many agents
// don't return all at once.
func Backoff(failures int) time.Duration {
	d := min(250*time.Millisecond<<min(failures-1, 20), 30*time.Second)
	return d/2 + rand.N(d/2+1)
}

// Delivery is an Exporter that sends to a Sink. Events are encoded as they come; what is encoded waits in a queue of
// bounded bytes while the destination is slow or gone. When that is full, what comes is lost and counted under the
// cause. An item may arrive twice: when its destination took it and the answer was lost.
type Delivery[T any] struct {
	options Options
	sink    Sink[T]
	box     *outbox[T]

	sent, retried, lost atomic.Uint64
	inFlight            atomic.Int64

	mu      sync.Mutex
	trouble string // the last failure, until something is sent
	cause   string // trouble as a reason of losses
}

var _ Exporter = (*Delivery[int])(nil)

// NewDelivery returns a Delivery to sink. It connects when it has something to send.
func NewDelivery[T any](o Options, sink Sink[T]) *Delivery[T] {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.MaxWaiting, DefaultMaxWaiting)
	set(&o.BatchItems, DefaultBatchItems)
	set(&o.BatchBytes, DefaultBatchBytes)
	wait(&o.Linger, DefaultLinger)
	wait(&o.Timeout, DefaultTimeout)
	wait(&o.Drain, DefaultDrain)
	if o.Backoff == nil {
		o.Backoff = Backoff
	}
	return &Delivery[T]{options: o, sink: sink, box: newOutbox[T](o.MaxWaiting)}
}

// Name implements Exporter.
func (d *Delivery[T]) Name() string { return d.options.Name }

// Subscribe implements Exporter.
func (d *Delivery[T]) Subscribe() pipeline.SubscribeOptions {
	return pipeline.SubscribeOptions{Name: d.options.Name, Keep: d.options.Keep}
}

// Reopen implements Exporter: there are no files.
func (d *Delivery[T]) Reopen() error { return nil }

// Stats implements Exporter.
func (d *Delivery[T]) Stats() Stats {
	items, bytes := d.box.size()
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{Waiting: uint64(items) + uint64(d.inFlight.Load()), Bytes: uint64(bytes), Capacity: uint64(d.options.MaxWaiting),
		Sent: d.sent.Load(), Retried: d.retried.Load(), Lost: d.lost.Load(), Trouble: d.trouble}
}

// Run implements Exporter.
func (d *Delivery[T]) Run(sub *pipeline.Subscription) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		d.read(sub)
		time.AfterFunc(d.options.Drain, stop)
	})
	for {
		batch, bytes := d.box.take(ctx, d.options.BatchItems, d.options.BatchBytes, d.options.Linger)
		if len(batch) == 0 {
			break
		}
		d.inFlight.Store(int64(len(batch)))
		d.deliver(ctx, batch)
		d.inFlight.Store(0)
		d.box.release(bytes)
	}
	wg.Wait()
	if left := d.box.empty(); left > 0 {
		d.lose(left, d.reasonNow("the agent ended"))
	}
	return d.sink.Close()
}

// read encodes events until the subscription ends.
func (d *Delivery[T]) read(sub *pipeline.Subscription) {
	defer d.box.close()
	gaveUp := false // the last wait was in vain: no more until there is room again
	for {
		batch, err := sub.Next(context.Background())
		if err != nil {
			return // closed: nothing else ends it
		}
		for _, event := range batch {
			if d.options.Keep != nil && !d.options.Keep(event) {
				continue // a loss of the subscription's own, which no filter has seen
			}
			if item, bytes, ok := d.sink.Encode(event); ok && !d.put(item, bytes+perItem, &gaveUp) {
				d.lose(1, d.reasonNow("the destination is too slow"))
			}
		}
	}
}

// put puts an item into the queue, and reports whether there was room.
func (d *Delivery[T]) put(item T, bytes int, gaveUp *bool) bool {
	if d.box.put(item, bytes) {
		*gaveUp = false
		return true
	}
	if *gaveUp || d.reasonNow("") != "" {
		return false
	}
	timer := time.NewTimer(hold)
	defer timer.Stop()
	for !d.box.put(item, bytes) {
		select {
		case <-d.box.space:
		case <-timer.C:
			*gaveUp = true
			return false
		}
	}
	return true
}

// deliver sends a batch until all of it is dealt with, or ctx ends.
func (d *Delivery[T]) deliver(ctx context.Context, batch []T) {
	for failures := 0; len(batch) > 0; {
		attempt, cancel := context.WithTimeout(ctx, d.options.Timeout)
		n, err := d.sink.Send(attempt, batch)
		cancel()
		n = min(max(n, 0), len(batch))
		batch = batch[n:]
		var refused *RefusedError
		switch {
		case err == nil:
			d.sent.Add(uint64(n))
			d.recovered()
			if n == 0 && len(batch) > 0 { // a sink that claims neither success nor failure would be asked for ever
				d.lose(len(batch), "not sent")
				return
			}
			failures = 0
			continue
		case errors.As(err, &refused):
			items := min(refused.Items, n)
			d.sent.Add(uint64(n - items))
			d.lose(items, refused.Reason)
			d.options.Log.Warn("a destination refuses events: they are lost", "exporter", d.options.Name, "events", items, "error", err)
			continue
		}
		d.sent.Add(uint64(n))
		if n > 0 {
			failures = 0
		}
		failures++
		if ctx.Err() == nil { // else it is the end that has interrupted it
			d.failed(err)
		}
		if !d.wait(ctx, failures, err) {
			d.lose(len(batch), d.reasonNow("the agent ended"))
			return
		}
		d.retried.Add(uint64(len(batch)))
	}
}

// wait waits before the next attempt and reports whether there is to be one.
func (d *Delivery[T]) wait(ctx context.Context, failures int, err error) bool {
	after := d.options.Backoff(failures)
	var later *LaterError
	if errors.As(err, &later) {
		after = max(after, min(later.After, maxLater))
	}
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (d *Delivery[T]) lose(n int, reason string) {
	d.lost.Add(uint64(n))
	d.options.Losses.Counter(d.options.Name, reason).Add(uint64(n))
}

// failed tells of a failure, once for each cause.
func (d *Delivery[T]) failed(err error) {
	cause := Cause(err)
	d.mu.Lock()
	told := d.cause == cause
	d.cause, d.trouble = cause, err.Error()
	d.mu.Unlock()
	if !told {
		d.options.Log.Error("events can't be exported: they wait, and are lost when too many do", "exporter", d.options.Name, "error", err)
	}
}

func (d *Delivery[T]) recovered() {
	d.mu.Lock()
	was := d.cause
	d.cause, d.trouble = "", ""
	d.mu.Unlock()
	if was != "" {
		d.options.Log.Info("events are exported again", "exporter", d.options.Name, "lost", d.lost.Load())
	}
}

// reasonNow is why something is lost now: what keeps the exporter from delivering, or otherwise.
func (d *Delivery[T]) reasonNow(otherwise string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause != "" {
		return d.cause
	}
	return otherwise
}
