// SPDX-License-Identifier: Apache-2.0

// Package store keeps the past. In: batches of events, in the order of the hub. Out: pages of those that somebody asks
// for, and figures over them. Memory holds the last events; History writes all to disk, as Parquet segments, and keeps
// them as long as its bounds allow; Store reads both as one. Making room is not a loss, but the store says from when on
// nothing is missing.
package store

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/store/segment"
)

// Position is the place of an event over all runs of the agent.
type Position = segment.Position

// Store is the past as one: history on disk and, of this run of the agent, the last events in memory. Safe for concurrent
// use.
type Store struct {
	memory  *Memory
	history *History // nil when there is none
	run     int64
}

// NewStore joins a memory and a history, which may be nil. Events of the run that began at start are appended to memory in
// the order of their numbers, from 1 and without gaps, before they are handed to history.
func NewStore(memory *Memory, history *History, start time.Time) *Store {
	if history != nil {
		return &Store{memory: memory, history: history, run: history.run}
	}
	return &Store{memory: memory, run: start.UnixNano()}
}

// Query says what to read from a Store.
type Query struct {
	Keep         func(*model.Event) bool // nil takes all
	Since, Until time.Time               // not before, before; zero for no bound
	// Types and Tests repeat of Keep what can be decided without the whole event: what they leave out Keep would too.
	Types       map[model.Type]bool
	Tests       []segment.Test
	NewestFirst bool
	Recent      bool     // only what is in memory
	Limit       int      // events in a page, at least 1
	Cursor      Position // Page.Next of the page before; zero for the first page
}

// Page is a part of the answer to a Query.
type Page struct {
	Events []*model.Event
	Next   Position // cursor of the next page; zero when there is none
	// LastSeq is the greatest number among the events that are of this run of the agent; 0 when none is.
	LastSeq uint64
	// CompleteSince: no event that this run of the agent saw from this moment on is missing.
	CompleteSince time.Time
}

// Query reads one page. Events that come, go or move to disk meanwhile neither repeat nor shift the pages. Errors: ctx's.
func (s *Store) Query(ctx context.Context, q Query) (Page, error) {
	var page Page
	err := s.each(ctx, q, func(e *model.Event, at Position) bool {
		if len(page.Events) == max(q.Limit, 1) {
			page.Next = at
			if q.NewestFirst {
				page.Next = at.Next()
			}
			return false
		}
		page.Events = append(page.Events, e)
		if at.Run == s.run {
			page.LastSeq = max(page.LastSeq, at.Seq)
		}
		return true
	})
	page.CompleteSince = s.CompleteSince()
	if q.Recent {
		page.CompleteSince = s.memory.Stats().CompleteSince
	}
	return page, err
}

// Each calls yield with all events that are found, until it returns false. Limit does not count. Errors: ctx's.
func (s *Store) Each(ctx context.Context, q Query, yield func(*model.Event) bool) error {
	return s.each(ctx, q, func(e *model.Event, _ Position) bool { return yield(e) })
}

// Event is the event of this run with that number, or nil when it is not kept. Errors: ctx's.
func (s *Store) Event(ctx context.Context, seq uint64) (*model.Event, error) {
	page, err := s.Query(ctx, Query{Cursor: s.here(seq), Limit: 1})
	if err != nil || len(page.Events) == 0 || page.Events[0].Seq != seq {
		return nil, err
	}
	return page.Events[0], nil
}

// CompleteSince is since when no event is missing that this run of the agent saw.
func (s *Store) CompleteSince() time.Time {
	if s.history != nil {
		return s.history.completeSince()
	}
	return s.memory.Stats().CompleteSince
}

func (s *Store) each(ctx context.Context, q Query, yield func(*model.Event, Position) bool) error {
	r := reading{Store: s, Query: q, ctx: ctx, yield: yield}
	if q.NewestFirst {
		return r.newestFirst()
	}
	return r.oldestFirst()
}

// here is a position in this run.
func (s *Store) here(seq uint64) Position { return Position{Run: s.run, Seq: seq} }

// reading is one search as it goes on.
type reading struct {
	*Store
	Query
	ctx     context.Context
	yield   func(*model.Event, Position) bool
	stopped bool
	buf     [512]*model.Event
}

// oldestFirst reads from disk what memory no longer has, then memory. When memory has lost the next event meanwhile, disk
// has it.
func (r *reading) oldestFirst() error {
	at := r.Cursor
	for {
		first := r.here(r.memory.firstPosition())
		if r.history != nil && !r.Recent && at.Compare(first) < 0 {
			if err := r.disk(at, first); err != nil || r.stopped {
				return err
			}
		}
		if at.Compare(first) < 0 {
			at = first
		}
		for {
			if err := r.ctx.Err(); err != nil {
				return err
			}
			events, start := r.memory.read(r.buf[:], at.Seq, false)
			if start != at.Seq && at.Run == r.run {
				break // evicted meanwhile
			}
			if len(events) == 0 || at.Run > r.run {
				return nil
			}
			for i, e := range events {
				if r.give(e, r.here(start+uint64(i))); r.stopped {
					return nil
				}
			}
			at = r.here(start + uint64(len(events)))
		}
	}
}

// newestFirst reads memory down to where it begins, then disk from there.
func (r *reading) newestFirst() error {
	below := r.Cursor // what comes next is before it; zero: the newest
	if below.IsZero() || below.Run >= r.run {
		cursor := below.Seq
		if below.Run > r.run {
			cursor = 0
		}
		below = r.here(r.memory.firstPosition())
		if cursor != 0 && cursor < below.Seq {
			below.Seq = cursor
		}
		for {
			if err := r.ctx.Err(); err != nil {
				return err
			}
			events, start := r.memory.read(r.buf[:], cursor, true)
			if len(events) == 0 {
				break
			}
			for i, e := range events {
				if r.give(e, r.here(start-uint64(i))); r.stopped {
					return nil
				}
			}
			cursor = start - uint64(len(events)) + 1
			below = r.here(cursor)
			if cursor <= 1 {
				break
			}
		}
	}
	if r.history == nil || r.Recent {
		return nil
	}
	return r.disk(Position{}, below)
}

// disk reads what history has from from to to.
func (r *reading) disk(from, to Position) error {
	if to.Run == r.run && to.Seq > 1 {
		if err := r.history.await(r.ctx, to.Seq-1); err != nil {
			return err
		}
	} else if err := r.history.await(r.ctx, 0); err != nil {
		return err
	}
	w := r.history.walk(segment.Scan{From: from, To: to, Since: r.Since, Until: r.Until, Types: r.Types, Tests: r.Tests, Reverse: r.NewestFirst})
	defer w.close()
	for n := 0; ; n++ {
		if n%512 == 0 {
			if err := r.ctx.Err(); err != nil {
				return err
			}
		}
		e, at := w.next()
		if e == nil {
			return nil
		}
		if r.give(e, at); r.stopped {
			return nil
		}
	}
}

// give hands an event on if it is wanted.
func (r *reading) give(e *model.Event, at Position) {
	if !r.Since.IsZero() && e.Time.Before(r.Since) || !r.Until.IsZero() && !e.Time.Before(r.Until) || r.Keep != nil && !r.Keep(e) {
		return
	}
	r.stopped = !r.yield(e, at)
}
