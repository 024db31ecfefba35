// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// settle is how long an agent is left alone before it is watched.
const settle = 5 * time.Second

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// idling watches an agent on a host on which nothing is done on purpose.
func (b *bench) idling(ctx context.Context) error {
	return b.withAgent(ctx, func(a *agent) error {
		if err := pause(ctx, settle); err != nil {
			return err
		}
		st, err := a.status(ctx)
		if err != nil {
			return err
		}
		events := sum(st.Events)
		before, err := a.cpu()
		if err != nil {
			return err
		}
		start := time.Now()
		if err := pause(ctx, b.idle); err != nil {
			return err
		}
		after, err := a.cpu()
		if err != nil {
			return err
		}
		r := idle{For: time.Since(start), CPU: after - before}
		if r.RSS, r.Peak, err = a.memory(); err != nil {
			return err
		}
		if st, err = a.status(ctx); err != nil {
			return err
		}
		r.Events, r.Heap, r.Maps, r.Processes = sum(st.Events)-events, st.Memory.GetHeap(), st.Memory.GetMaps(), st.ProcessTable.GetLive()
		b.results.Idle = &r
		b.say("  %+v", r)
		return nil
	})
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// manyProcesses looks at the agent's memory with a full table: filled while it ran, and found at its start.
func (b *bench) manyProcesses(ctx context.Context) error {
	n, restore, err := raisePIDs(b.processes)
	if err != nil {
		return err
	}
	defer restore()
	r := crowded{Wanted: b.processes, Processes: n}
	var crowd *crewMember
	defer func() {
		if crowd != nil {
			crowd.dismiss()
		}
	}()
	if err := b.withAgent(ctx, func(a *agent) (err error) {
		if crowd, err = b.crowd(ctx, n); err != nil {
			return err
		}
		if err := a.caughtUp(); err != nil {
			return err
		}
		r.Grown, r.GrownPeak, r.Live, err = b.residentAfter(ctx, a)
		return err
	}); err != nil {
		return err
	}
	b.say("  grown: %+v", r)
	if err := b.withAgent(ctx, func(a *agent) (err error) {
		r.FoundReady = a.ready
		r.Found, r.FoundPeak, r.FoundLive, err = b.residentAfter(ctx, a)
		return err
	}); err != nil {
		return err
	}
	b.say("  found: %+v", r)
	b.results.Crowded = &r
	return nil
}

// residentAfter is the agent's memory when it had time to collect its garbage.
func (b *bench) residentAfter(ctx context.Context, a *agent) (rss, peak, live uint64, err error) {
	if err := pause(ctx, min(b.idle, 30*time.Second)); err != nil {
		return 0, 0, 0, err
	}
	st, err := a.status(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	if rss, peak, err = a.memory(); err != nil {
		return 0, 0, 0, err
	}
	if rss == 0 {
		return 0, 0, 0, errors.New("the agent has no resident memory: did it end?")
	}
	if st.ProcessTable == nil {
		return 0, 0, 0, fmt.Errorf("agent %s does not tell how many processes are in its table", st.Version)
	}
	return rss, peak, st.ProcessTable.Live, nil
}
