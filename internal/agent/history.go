// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/filter"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/store"
	"github.com/vigie-io/vigie/internal/store/segment"
)

// historyDir is where history is on disk; empty for nowhere.
func (c *Config) historyDir() string {
	switch {
	case c.History == Off, c.History == "" && c.Replay != "":
		return ""
	case c.History == "":
		return filepath.Join(c.StateDir, "history")
	}
	return c.History
}

func (c *Config) checkHistory(bad func(field, format string, args ...any)) {
	if _, err := strconv.Atoi(c.History); err == nil {
		bad("history", "%q is a number: it takes a directory or %q; how many events are in memory is memory-events", c.History, Off)
	} else if c.History != "" && c.History != Off && !filepath.IsAbs(c.History) {
		bad("history", "%q is no absolute path; use %q for none", c.History, Off)
	}
	if c.HistoryMaxSize < 1<<20 {
		bad("history-max-size", "%s is less than 1MiB", c.HistoryMaxSize.String())
	}
	if c.HistoryMaxAge < time.Minute {
		bad("history-max-age", "%s is less than a minute", c.HistoryMaxAge)
	}
	if c.HistoryInterval < time.Second || c.HistoryInterval > time.Hour {
		bad("history-interval", "%s is outside 1s to 1h", c.HistoryInterval)
	}
}

// startStore makes the past: memory, and history on disk if it is wanted. The function returned waits until all that was
// published is on disk; the hub is closed before it is called.
func (a *Agent) startStore() (wait func()) {
	a.memory = store.NewMemory(store.Config{MaxEvents: a.config.MemoryEvents, MaxBytes: memoryBytes(a.config.MemoryEvents)}, a.started)
	dir := a.config.historyDir()
	if dir == "" {
		a.store = store.NewStore(a.memory, nil, a.started)
		return func() {}
	}
	a.history = store.NewHistory(store.HistoryConfig{Dir: dir, MaxSize: int64(a.config.HistoryMaxSize), MaxAge: a.config.HistoryMaxAge,
		Interval: a.config.HistoryInterval, Boot: a.boot, Run: a.started, Agent: a.deps.Version, Log: a.log, Losses: a.losses, Now: time.Now,
		Tidy: debug.FreeOSMemory})
	a.store = store.NewStore(a.memory, a.history, a.started)
	a.historyQueue = a.hub.Subscribe(a.history.Subscribe())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.history.Run(a.historyQueue); err != nil {
			a.log.Error("history is not kept", "error", err)
			a.historyQueue.Close()
		}
	}()
	return func() { <-done }
}

// memoryBytes bounds the memory of the events in memory: by experience an event takes 400 bytes, those of an exec 2,000.
func memoryBytes(events int) int { return max(events, 1000) * 500 }

// columnsOf says which columns of history a field of a filter is in. Of flows it is that of either end.
func columnsOf(field string) []string {
	own := field
	if field == "binary" {
		own = "process_binary"
	}
	return []string{own, "source_" + field, "destination_" + field}
}

// search is a filter as the store takes it.
func search(f *filter.Filter) store.Query {
	q := store.Query{Keep: f.Keep, Types: f.Types()}
	q.Since, q.Until = f.Span()
	for _, t := range f.Tests() {
		q.Tests = append(q.Tests, segment.Test{Columns: columnsOf(t.Field), Text: t.Text, Number: t.Number})
	}
	return q
}

// Aggregate implements server.Backend.
func (a *Agent) Aggregate(ctx context.Context, q server.AggregateQuery) (server.AggregateTable, error) {
	what := store.Aggregation{Query: search(q.Filter), Exact: q.Filter.OnlyTests(), By: q.By, Figures: q.Measures, OrderBy: q.OrderBy,
		Changes: q.Changes, Limit: q.Limit}
	if q.Before != nil {
		before := search(q.Before)
		what.Before = &before
	}
	table, err := a.store.Aggregate(ctx, what)
	var invalid *store.InvalidError
	if errors.As(err, &invalid) {
		return server.AggregateTable{}, server.Refuse(server.Invalid, invalid.Err)
	}
	out := server.AggregateTable{LeftOut: table.LeftOut, Events: table.Events, CompleteSince: a.store.CompleteSince()}
	for _, row := range table.Rows {
		out.Rows = append(out.Rows, server.AggregateRow{Keys: row.Keys, Values: row.Values, Before: row.Before, Change: row.Change,
			Parts: (*server.AggregateParts)(row.Parts), PartsBefore: (*server.AggregateParts)(row.PartsBefore)})
	}
	return out, err
}

// historyStatus is what history holds; nil when it is off.
func (a *Agent) historyStatus() *server.History {
	if a.history == nil {
		return nil
	}
	h := a.history.Stats()
	return &server.History{Directory: h.Dir, Events: uint64(h.Events), Segments: uint64(h.Segments), Bytes: uint64(h.Bytes), MaxBytes: uint64(h.MaxSize),
		Oldest: h.Oldest, MaxAge: h.MaxAge, WriteInterval: h.Interval}
}

// historySubscriber is history among those who receive events.
func (a *Agent) historySubscriber() []server.Subscriber {
	if a.historyQueue == nil {
		return nil
	}
	return []server.Subscriber{{Name: "history", Queued: uint64(a.historyQueue.Queued()), Lost: a.historyQueue.Lost()}}
}

// ByteSize is a number of bytes that is written with a unit: 512MiB, 2GiB.
type ByteSize int64

// units are the units of a ByteSize, the larger first.
func units() []struct {
	name  string
	bytes int64
} {
	return []struct {
		name  string
		bytes int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
		{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1}}
}

// Set implements pflag.Value.
func (b *ByteSize) Set(s string) error {
	number, scale := s, int64(1)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			number, scale = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || n*float64(scale) > 1<<62 {
		return fmt.Errorf("give bytes with a unit, as 512MiB or 2GiB")
	}
	*b = ByteSize(n * float64(scale))
	return nil
}

// String implements pflag.Value.
func (b *ByteSize) String() string {
	for _, u := range units() {
		if n := int64(*b); strings.HasSuffix(u.name, "iB") && n >= u.bytes && n%(u.bytes/1024) == 0 {
			return strconv.FormatFloat(float64(n)/float64(u.bytes), 'g', 6, 64) + u.name
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Type implements pflag.Value.
func (b *ByteSize) Type() string { return "size" }
