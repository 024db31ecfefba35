// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/store/segment"
)

// The default bounds of a History.
const (
	DefaultMaxSize  = 2 << 30
	DefaultMaxAge   = 7 * 24 * time.Hour
	DefaultInterval = 30 * time.Second
)

// flushEvents is how many events make a flush before its time. Twice as many wait at most, for a disk that is full.
const flushEvents = 8 << 10

// HistoryConfig says where history is and how much of it there is.
type HistoryConfig struct {
	Dir     string
	MaxSize int64         // bytes of all segments; DefaultMaxSize when 0
	MaxAge  time.Duration // of the youngest event of a segment; DefaultMaxAge when 0
	// Interval is how long an event may wait to be written: what kill -9 loses at most. DefaultInterval when 0.
	Interval time.Duration
	Boot     string    // beginning of the boot id, as exec_ids carry it
	Run      time.Time // start of the agent: names its run
	Agent    string    // version of the agent
	Log      *slog.Logger
	Losses   *pipeline.Losses
	Now      func() time.Time
	// Tidy is called after a flush that came in its time, when there is little to do, and at most once in DefaultInterval: for
	// giving memory back. May be nil.
	Tidy func()
}

// History is what happened, on disk: a folder for each family of events, with segments that follow each other. Safe for
// concurrent use.
type History struct {
	c        HistoryConfig
	run      int64
	families []*segment.Family
	loaded   chan struct{} // closed when the folder has been looked through

	unread, unwritten *pipeline.Counter

	mu      sync.RWMutex
	folders map[string]*folder
	taken   uint64         // number of the last event that arrived
	missed  uint64         // events that the queue had no room for, not told yet
	pending []*model.Event // arrived and not written, in the order of their numbers
	arrived chan struct{}  // closed and replaced when something arrives
	closed  bool           // nothing arrives any more
	cut     time.Time      // what this run saw until then is no longer kept
	trouble trouble

	merge chan struct{} // there may be something to merge

	flushing, merging sync.Mutex // one flush, and one merge, at a time

	packer segment.Packer // of flushes
}

// folder is the segments of a family, in the order of their positions. The slice is replaced, never changed.
type folder struct {
	family   *segment.Family
	dir      string
	segments []*stored
}

// stored is one segment on disk.
type stored struct {
	segment.Info
	path  string
	bytes int64
	apart bool // could not be merged: it stays as it is
}

// NewHistory prepares a history. Run begins it.
func NewHistory(c HistoryConfig) *History {
	if c.MaxSize <= 0 {
		c.MaxSize = DefaultMaxSize
	}
	if c.MaxAge <= 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	}
	h := &History{c: c, families: segment.Families(), loaded: make(chan struct{}),
		unread: c.Losses.Counter("store", "unreadable segment"), unwritten: c.Losses.Counter("store", "not written"),
		packer: segment.Packer{Quick: true}, folders: make(map[string]*folder), arrived: make(chan struct{}), merge: make(chan struct{}, 1)}
	for _, f := range h.families {
		h.folders[f.Name] = &folder{family: f, dir: filepath.Join(c.Dir, f.Name)}
	}
	// The clock may have been set back: a run is after the runs before it all the same.
	h.run = max(c.Run.UnixNano(), h.lastRun()+1)
	return h
}

// Subscribe is how history wants to receive events.
func (h *History) Subscribe() pipeline.SubscribeOptions {
	return pipeline.SubscribeOptions{Name: "history", Queue: 2 * pipeline.DefaultQueue}
}

// Run takes events from sub until it ends, and writes them. It returns when all that arrived is written, or could not be.
// Errors: what keeps history from being kept at all.
func (h *History) Run(sub *pipeline.Subscription) error {
	if err := h.load(); err != nil {
		h.mu.Lock()
		h.trouble.write = err
		h.mu.Unlock()
		h.end()
		return fmt.Errorf("history: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.mergeUntil(ctx) })
	h.retain()
	h.signalMerge()
	h.take(sub)
	h.mu.Lock()
	h.tellMissed(h.c.Now())
	h.mu.Unlock()
	h.flush()
	h.end()
	stop()
	wg.Wait()
	return nil
}

// take receives until the subscription ends.
func (h *History) take(sub *pipeline.Subscription) {
	due, tidied := h.c.Now().Add(h.c.Interval), h.c.Now()
	enough := flushEvents
	for {
		ctx, cancel := context.WithTimeout(context.Background(), max(due.Sub(h.c.Now()), time.Millisecond))
		batch, err := sub.Next(ctx)
		cancel()
		inTime := !h.c.Now().Before(due)
		if h.arrive(batch) >= enough || inTime {
			enough = h.flush() + flushEvents // what could not be written is not tried again with each event
			due = h.c.Now().Add(h.c.Interval)
		}
		if inTime && h.c.Tidy != nil && h.c.Now().Sub(tidied) >= DefaultInterval {
			h.c.Tidy()
			tidied = h.c.Now()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return
		}
	}
}

// arrive takes a batch in and returns how many events wait.
func (h *History) arrive(batch []*model.Event) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range batch {
		if e.Seq == 0 && e.Loss != nil {
			h.missed += e.Loss.Count // told before the events that still were in the queue: it belongs where numbers are missing
			continue
		}
		if e.Seq > h.taken+1 {
			h.tellMissed(e.Time)
		}
		h.taken = max(h.taken, e.Seq)
		h.pending = append(h.pending, e)
	}
	if len(batch) > 0 {
		close(h.arrived)
		h.arrived = make(chan struct{})
	}
	return len(h.pending)
}

// tellMissed puts what the queue had no room for where the next event stands. The first of those that are missing lends its
// number. The caller holds the lock.
func (h *History) tellMissed(when time.Time) {
	if h.missed == 0 {
		return
	}
	h.pending = append(h.pending, &model.Event{Type: model.TypeLoss, Time: when, Count: 1, Seq: h.taken + 1,
		Loss: &model.Loss{Stage: "store", Reason: "history too slow", Count: h.missed}})
	h.missed = 0
}

// end tells those who wait for events that no more arrive.
func (h *History) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	close(h.arrived)
}

// await waits until the event with that number of this run has arrived or cannot any more, a second at most: one that the
// queue lost never arrives alone.
func (h *History) await(ctx context.Context, seq uint64) error {
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	select {
	case <-h.loaded:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		h.mu.RLock()
		done, next := h.taken >= seq || h.closed, h.arrived
		h.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-next:
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// HistoryStats is what a History holds.
type HistoryStats struct {
	Dir            string
	Segments       int
	Events         int64
	Bytes, MaxSize int64
	Oldest         time.Time // time of the oldest event; zero when there is none
	MaxAge         time.Duration
	Interval       time.Duration
}

// Stats says what h holds.
func (h *History) Stats() HistoryStats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := HistoryStats{Dir: h.c.Dir, MaxSize: h.c.MaxSize, MaxAge: h.c.MaxAge, Interval: h.c.Interval, Events: int64(len(h.pending))}
	for _, f := range h.folders {
		for _, g := range f.segments {
			s.Segments++
			s.Events += g.Rows
			s.Bytes += g.bytes
			if s.Oldest.IsZero() || g.Since.Before(s.Oldest) {
				s.Oldest = g.Since
			}
		}
	}
	return s
}

// completeSince is since when nothing is missing of what this run of the agent saw.
func (h *History) completeSince() time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.cut.After(h.c.Run) {
		return h.cut
	}
	return h.c.Run
}
