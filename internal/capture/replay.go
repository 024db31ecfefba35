// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// ReplayOptions say how fast to play.
type ReplayOptions struct {
	// Speed is 1 for the pace in which things happened, 2 for twice that; 0 for as fast as it goes.
	Speed float64
	// Now and Sleep are the clock; nil for the real one. Sleep returns early with ctx's error.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Replay plays what r holds to publish, in batches of events that are due. What existed before the
// recording comes at once. It returns nil at the end of a whole capture, else what Reader.Next or
// publish said, or ctx's error.
func Replay(ctx context.Context, r *Reader, o ReplayOptions, publish func([]*model.Event) error) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	p := pacer{options: o}
	for {
		events, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for len(events) > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			due, wait := p.due(events)
			if due > 0 {
				if err := publish(events[:due:due]); err != nil {
					return err
				}
				events = events[due:]
			}
			if wait > 0 {
				if err := o.Sleep(ctx, wait); err != nil {
					return err
				}
			}
		}
	}
}

// pacer knows when an event is due: as long after the first as it happened after it, by the clock that
// counts from boot, which does not step.
type pacer struct {
	options ReplayOptions
	begun   bool
	start   time.Time // when the first event was played
	first   uint64    // its boot time
}

// due is how many of events are due now, and how long to wait for the next.
func (p *pacer) due(events []*model.Event) (n int, wait time.Duration) {
	if p.options.Speed <= 0 {
		return len(events), 0
	}
	for i, e := range events {
		if e.PreExisting || e.BootTime == 0 {
			continue
		}
		if !p.begun {
			p.begun, p.start, p.first = true, p.options.Now(), e.BootTime
		}
		if e.BootTime <= p.first {
			continue
		}
		after := time.Duration(float64(e.BootTime-p.first) / p.options.Speed)
		if wait = after - p.options.Now().Sub(p.start); wait > 0 {
			return i, wait
		}
	}
	return len(events), 0
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
