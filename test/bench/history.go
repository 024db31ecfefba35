// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/store"
	"github.com/vigie-io/vigie/internal/store/segment"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

const (
	historyBytes = 1 << 30 // bar: a day of 10 M events
	historyQuery = 300 * time.Millisecond
)

// historyDay is what a day of history takes. Times are CPU time.
type historyDay struct {
	Events   int             `json:"events"`
	Bytes    int64           `json:"bytes"`
	Segments int             `json:"segments"`
	CPU      time.Duration   `json:"cpu_ns"`  // of writing and merging, without making the events
	Heap     uint64          `json:"heap"`    // most that was in use, bytes, with what makes the events
	Found    int             `json:"found"`   // events of the question
	Wall     []time.Duration `json:"wall"`    // what did W connect to between 9 and 10: each event
	Query    []time.Duration `json:"query"`   // the same
	Figures  []time.Duration `json:"figures"` // as a table by destination
	Top      []time.Duration `json:"top"`     // top talkers of the whole day
	Read     int64           `json:"read"`    // bytes of the segments that the question is about
	Floor    []time.Duration `json:"floor"`   // reading these, in order, from the page cache
	Peer     []time.Duration `json:"peer"`    // DuckDB's answer to Figures, on one thread; none without a C++ compiler
	PeerTop  []time.Duration `json:"peer_top"`
}

// history writes a day of events as fast as it goes, and asks it.
func (b *bench) history(ctx context.Context) error {
	dir := filepath.Join(b.dir, "history")
	defer os.RemoveAll(dir)
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	r := &historyDay{Events: b.events}
	making, err := cpuOf(func() error {
		d := newDay(b.seed, start, b.events)
		for range b.events {
			d.next()
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	now := start
	past := store.NewHistory(store.HistoryConfig{Dir: dir, MaxAge: 1000 * time.Hour, Boot: dayBoot, Run: start, Agent: "bench",
		Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses), Now: func() time.Time { return now }})
	all, err := cpuOf(func() error { return b.writeDay(ctx, past, newDay(b.seed, start, b.events), r) })
	if err != nil {
		return err
	}
	r.CPU = all - making
	stats := past.Stats()
	r.Bytes, r.Segments = stats.Bytes, stats.Segments
	if int(stats.Events) != b.events {
		return fmt.Errorf("%d events of %d are in history", stats.Events, b.events)
	}
	b.say("  %d events: %.0f MB in %d segments, %v of CPU an event, heap %d MB", r.Events, float64(r.Bytes)/1e6, r.Segments, r.CPU/time.Duration(r.Events), r.Heap>>20)
	// The next agent asks it: what the one before saw is all on disk.
	now = start.Add(24 * time.Hour)
	next := store.NewHistory(store.HistoryConfig{Dir: dir, MaxAge: 1000 * time.Hour, Boot: dayBoot, Run: now, Agent: "bench",
		Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses), Now: func() time.Time { return now }})
	hub := pipeline.NewHub(new(pipeline.Losses))
	sub := hub.Subscribe(next.Subscribe())
	ended := make(chan error, 1)
	go func() { ended <- next.Run(sub) }()
	err = b.askDay(ctx, next, dir, start, r)
	hub.Close()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	b.results.History = r
	return nil
}

// writeDay hands a day to history, waiting for it where it is slower.
func (b *bench) writeDay(ctx context.Context, past *store.History, d *day, r *historyDay) error {
	hub := pipeline.NewHub(new(pipeline.Losses))
	o := past.Subscribe()
	o.Wait = time.Minute
	sub := hub.Subscribe(o)
	ended := make(chan error, 1)
	go func() { ended <- past.Run(sub) }()
	for made := 0; made < b.events && ctx.Err() == nil; {
		batch := make([]*model.Event, min(500, b.events-made))
		for i := range batch {
			batch[i] = d.next()
		}
		made += len(batch)
		hub.Publish(batch)
		if made%100_000 < 500 {
			r.Heap = max(r.Heap, heapInUse())
		}
	}
	hub.Close()
	if err := <-ended; err != nil {
		return err
	}
	return ctx.Err()
}

// askDay asks what a service connected to between 9 and 10.
func (b *bench) askDay(ctx context.Context, past *store.History, dir string, start time.Time, r *historyDay) error {
	s := store.NewStore(store.NewMemory(store.Config{}, start), past, start)
	const name = "service-7.service"
	q := store.Query{Since: start.Add(9 * time.Hour), Until: start.Add(10 * time.Hour), Types: map[model.Type]bool{model.TypeConnect: true},
		Tests: []segment.Test{{Columns: []string{"workload_name"}, Text: func(s string) bool { return s == name }}},
		Keep:  func(e *model.Event) bool { return e.Type == model.TypeConnect && e.Process.Workload.Name == name }}
	whole := store.Query{Since: start, Types: map[model.Type]bool{model.TypeFlow: true}}
	table := store.Aggregation{Query: q, Exact: true, By: []string{"destination", "port"}, Figures: []string{"flows"}, Limit: 100}
	top := store.Aggregation{Query: whole, Exact: true, By: []string{"source", "destination"}, Figures: []string{"bytes", "flows"}, Limit: 20}
	for range max(b.n, 3) {
		for _, ask := range []struct {
			into *[]time.Duration
			f    func() error
		}{
			{&r.Query, func() error {
				r.Found = 0
				wall, err := timed(func() error { return s.Each(ctx, q, func(*model.Event) bool { r.Found++; return true }) })
				r.Wall = append(r.Wall, wall)
				return err
			}},
			{&r.Figures, func() error { _, err := s.Aggregate(ctx, table); return err }},
			{&r.Top, func() error { _, err := s.Aggregate(ctx, top); return err }},
			{&r.Floor, func() (err error) {
				r.Read, err = readSegments(filepath.Join(dir, "network"), q.Since, q.Until)
				return err
			}},
		} {
			took, err := cpuOf(ask.f)
			if err != nil {
				return err
			}
			*ask.into = append(*ask.into, took)
		}
	}
	b.say("  one hour of one service: %d events in %v (%v by the clock), as a table in %v; top talkers of the day in %v; reading its %.1f MB of segments takes %v",
		r.Found, medianTime(r.Query), medianTime(r.Wall), medianTime(r.Figures), medianTime(r.Top), float64(r.Read)/1e6, medianTime(r.Floor))
	return b.askDuckDB(ctx, dir, r)
}

// askDuckDB has DuckDB answer the same questions, where it can be linked.
func (b *bench) askDuckDB(ctx context.Context, dir string, r *historyDay) error {
	for _, ask := range []struct {
		into *[]time.Duration
		sql  string
	}{
		{&r.Peer, fmt.Sprintf(`SELECT coalesce(remote_name, remote_address) AS destination, remote_port, count(*) FROM read_parquet('%s/network/*.parquet')
			WHERE type = 'connect' AND workload_name = 'service-7.service' AND time >= '2026-03-01 09:00:00' AND time < '2026-03-01 10:00:00' GROUP BY ALL`, dir)},
		{&r.PeerTop, fmt.Sprintf(`SELECT source_workload_name, coalesce(destination_workload_name, destination_name, destination_address) AS destination,
			sum(interval_bytes_sent + interval_bytes_received) AS bytes, count(*) FROM read_parquet('%s/flow/*.parquet') GROUP BY ALL ORDER BY bytes DESC LIMIT 20`, dir)},
	} {
		c := exec.CommandContext(ctx, "go", "run", "-C", "test/history", "-mod=mod", "./duck", fmt.Sprint(max(b.n, 3)), ask.sql)
		out, err := c.Output()
		if err != nil {
			b.say("  DuckDB does not answer (%v): it needs a C++ compiler", err)
			return nil
		}
		for line := range strings.Lines(string(out)) {
			var ns int64
			var rows int
			if _, err := fmt.Sscan(line, &ns, &rows); err != nil || rows == 0 {
				return fmt.Errorf("DuckDB answers %q: %w", line, err)
			}
			*ask.into = append(*ask.into, time.Duration(ns))
		}
	}
	b.say("  DuckDB on the same files: the table in %v, top talkers in %v", medianTime(r.Peer), medianTime(r.PeerTop))
	return nil
}

// readSegments reads the segments of a folder that have rows of a time, as bytes.
func readSegments(dir string, since, until time.Time) (n int64, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil {
		return 0, err
	}
	families := segment.Families()
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return 0, err
		}
		s, err := segment.Open(f, info.Size(), families)
		if err != nil {
			return 0, err
		}
		if s.Until.Before(since) || !s.Since.Before(until) {
			f.Close()
			continue
		}
		m, err := io.Copy(io.Discard, f)
		if n += m; err != nil {
			return n, err
		}
		if err := f.Close(); err != nil {
			return n, err
		}
	}
	return n, nil
}

func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

// cpuOf is the CPU time that this process takes while f runs.
func cpuOf(f func() error) (time.Duration, error) {
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		return 0, err
	}
	err := f()
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		return 0, err
	}
	return time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()), err
}

func medianTime(list []time.Duration) time.Duration {
	values := make([]float64, len(list))
	for i, d := range list {
		values[i] = float64(d)
	}
	return time.Duration(measure.Median(values)).Round(100 * time.Microsecond)
}

// heapInUse is the heap of this process, bytes.
func heapInUse() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
