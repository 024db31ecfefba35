// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/store/segment"
)

// clock is a time that a test sets.
type clock struct{ ns atomic.Int64 }

func clockAt(seconds int64) *clock {
	c := new(clock)
	c.ns.Store(seconds * 1e9)
	return c
}

func (c *clock) now() time.Time { return time.Unix(0, c.ns.Load()) }

// host is an agent as far as the store goes: it publishes events to memory and history.
type host struct {
	memory  *Memory
	history *History
	store   *Store
	losses  *pipeline.Losses
	hub     *pipeline.Hub
	seq     uint64
	ended   chan error
}

func newHost(t *testing.T, dir string, c *clock, change func(*HistoryConfig)) *host {
	t.Helper()
	h := &host{losses: new(pipeline.Losses), ended: make(chan error, 1), memory: NewMemory(Config{MaxEvents: 100}, c.now())}
	h.hub = pipeline.NewHub(h.losses)
	config := HistoryConfig{Dir: dir, Boot: "0123abcd", Run: c.now(), Log: slog.New(slog.DiscardHandler), Losses: h.losses, Now: c.now, Interval: time.Minute}
	if change != nil {
		change(&config)
	}
	h.history = NewHistory(config)
	h.store = NewStore(h.memory, h.history, c.now())
	sub := h.hub.Subscribe(h.history.Subscribe())
	go func() { h.ended <- h.history.Run(sub) }()
	return h
}

// publish makes n events, one a second from start on, of two families in turn.
func (h *host) publish(start int64, n int) {
	batch := make([]*model.Event, n)
	for i := range batch {
		h.seq++
		at := start + int64(i)
		p := &model.Process{Key: model.ProcessKey{PID: uint32(h.seq%7 + 1), Start: 1, Exec: 1}, Binary: "/bin/x",
			Workload: &model.Workload{Kind: model.WorkloadUnit, Name: fmt.Sprintf("w%d", h.seq%7)}}
		p.ExecID = p.Key.ExecID("0123abcd")
		batch[i] = &model.Event{Type: model.TypeExit, Seq: h.seq, Time: time.Unix(at, 0).UTC(), Count: 1, Key: p.Key, Process: p, Exit: &model.Exit{Code: 1}}
		if h.seq%2 == 0 {
			batch[i].Type, batch[i].Exit, batch[i].Socket = model.TypeConnect, nil, &model.Socket{Protocol: "tcp", Cookie: h.seq}
		}
	}
	h.memory.Append(batch)
	h.hub.Publish(batch)
}

// stop ends the agent as a signal does.
func (h *host) stop(t *testing.T) {
	t.Helper()
	h.hub.Close()
	if err := <-h.ended; err != nil {
		t.Fatal(err)
	}
}

// flushNow writes what has arrived up to the last event.
func (h *host) flushNow(t *testing.T) {
	t.Helper()
	if err := h.history.await(t.Context(), h.seq); err != nil {
		t.Fatal(err)
	}
	h.history.flush()
}

// times reads all pages and returns the seconds of their events.
func (h *host) times(t *testing.T, q Query) (list []int64) {
	t.Helper()
	for {
		page, err := h.store.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			list = append(list, e.Time.Unix())
		}
		if q.Cursor = page.Next; q.Cursor.IsZero() {
			return list
		}
	}
}

func span(from, to int64) (list []int64) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

func segmentsIn(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPagesGoOnOverMemoryDiskAndRuns(t *testing.T) {
	dir := t.TempDir()
	first := newHost(t, dir, clockAt(1000), nil)
	first.publish(1000, 300)
	first.stop(t)
	second := newHost(t, dir, clockAt(2000), nil)
	second.publish(2000, 250)
	if err := second.history.await(t.Context(), 250); err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(span(1000, 1300), span(2000, 2250))
	for _, written := range []bool{false, true} {
		if written { // what waits, and what is written, read alike
			second.flushNow(t)
		}
		for _, limit := range []int{1, 7, 100, 10_000} {
			for _, newest := range []bool{false, true} {
				got := second.times(t, Query{Limit: limit, NewestFirst: newest})
				if newest {
					slices.Reverse(got)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("written %v, limit %d, newest %v: %d events, want %d: %v", written, limit, newest, len(got), len(want), got)
				}
			}
		}
	}
	for _, seq := range []uint64{1, 77, 250} {
		if e, err := second.store.Event(t.Context(), seq); err != nil || e == nil || e.Time.Unix() != 1999+int64(seq) {
			t.Errorf("event %d: %v, %v", seq, e, err)
		}
	}
	if e, err := second.store.Event(t.Context(), 251); err != nil || e != nil {
		t.Errorf("an event that is yet to come: %v, %v", e, err)
	}
	second.publish(2250, 10)
	if got := second.times(t, Query{Limit: 9, Since: time.Unix(1290, 0), Until: time.Unix(2010, 0)}); !slices.Equal(got, slices.Concat(span(1290, 1300), span(2000, 2010))) {
		t.Errorf("a time over both runs: %v", got)
	}
	if got := second.times(t, Query{Limit: 9, Recent: true}); !slices.Equal(got, span(2160, 2260)) {
		t.Errorf("memory only: %v", got)
	}
	workload := segment.Test{Columns: []string{"workload_name"}, Text: func(s string) bool { return s == "w3" }}
	got := second.times(t, Query{Limit: 9, Types: map[model.Type]bool{model.TypeConnect: true}, Tests: []segment.Test{workload},
		Keep: func(e *model.Event) bool { return e.Type == model.TypeConnect && e.Process.Workload.Name == "w3" }})
	if len(got) != 21+18 { // numbers 10, 24, … of 300 and of 260
		t.Errorf("a workload's connections: %d, %v", len(got), got)
	}
	second.stop(t)
}

// Pages do not move while events come, are written and merged.
func TestPagesStandStillWhileSegmentsAreMerged(t *testing.T) {
	h := newHost(t, t.TempDir(), clockAt(1000), nil)
	for i := range 40 {
		h.publish(1000+int64(i)*10, 10)
		h.flushNow(t)
	}
	for _, newest := range []bool{false, true} {
		var got []int64
		q := Query{Limit: 37, NewestFirst: newest}
		for n := int64(0); ; n++ {
			page, err := h.store.Query(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Events {
				got = append(got, e.Time.Unix())
			}
			if q.Cursor = page.Next; q.Cursor.IsZero() {
				break
			}
			if n < 9 {
				h.publish(1400+n, 1)
				h.flushNow(t)
				for _, f := range h.history.folders {
					for h.history.mergeOne(f) {
					}
				}
			}
		}
		got = slices.DeleteFunc(got, func(at int64) bool { return at >= 1400 })
		if newest {
			slices.Reverse(got)
		}
		if !slices.Equal(got, span(1000, 1400)) {
			t.Fatalf("newest %v: %v", newest, got)
		}
	}
	if n := h.history.Stats().Segments; n > 30 {
		t.Errorf("%d segments are left apart", n)
	}
	h.stop(t)
}

func TestRunsStayInOrderWhenTheClockIsSetBack(t *testing.T) {
	dir := t.TempDir()
	for i, at := range []int64{5000, 1000} {
		h := newHost(t, dir, clockAt(at), nil)
		h.publish(at, 10)
		h.stop(t)
		if i == 1 {
			if got := h.times(t, Query{Limit: 3}); !slices.Equal(got, slices.Concat(span(5000, 5010), span(1000, 1010))) {
				t.Errorf("%v", got)
			}
		}
	}
}

func TestWhatTheQueueLostIsInHistory(t *testing.T) {
	h := newHost(t, t.TempDir(), clockAt(1000), nil)
	h.publish(1000, 3)
	if err := h.history.await(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	h.history.arrive([]*model.Event{{Type: model.TypeExit, Seq: 4, Time: time.Unix(1003, 0), Exit: &model.Exit{}}})
	h.history.arrive([]*model.Event{{Type: model.TypeLoss, Time: time.Unix(1003, 0), Count: 1, Loss: &model.Loss{Stage: "subscriber", Count: 5, Total: 5}}})
	h.history.arrive([]*model.Event{{Type: model.TypeExit, Seq: 5, Time: time.Unix(1003, 0), Exit: &model.Exit{}}}) // was in the queue when it was full
	h.seq = 10
	h.publish(1008, 2)
	h.stop(t)
	w := h.history.walk(segment.Scan{})
	defer w.close()
	var got []string
	for e, at := w.next(); e != nil; e, at = w.next() {
		if e.Loss != nil {
			got = append(got, fmt.Sprint(at.Seq, e.Loss.Stage, e.Loss.Count))
		} else {
			got = append(got, fmt.Sprint(at.Seq))
		}
	}
	if want := "[1 2 3 4 5 6store5 11 12]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	c := clockAt(1000)
	h := newHost(t, dir, c, func(hc *HistoryConfig) { hc.MaxAge = time.Hour })
	h.publish(1000, 10)
	h.flushNow(t)
	h.publish(3000, 10)
	h.flushNow(t)
	c.ns.Store(1100e9 + 3600e9)
	h.history.retain()
	if got := h.history.Stats(); got.Segments != 2 || got.Oldest.Unix() > 3001 || got.Oldest.Unix() < 3000 {
		t.Errorf("%+v", got)
	}
	page, err := h.store.Query(t.Context(), Query{Limit: 1})
	if err != nil || page.CompleteSince.Unix() < 1008 || page.CompleteSince.Unix() > 1010 {
		t.Errorf("complete since %v, %v", page.CompleteSince.Unix(), err)
	}
	h.history.c.MaxSize = h.history.Stats().Bytes - 1
	h.history.retain()
	if got := h.history.Stats(); got.Segments != 1 || len(segmentsIn(t, dir)) != 1 {
		t.Errorf("%+v, files %v", got, segmentsIn(t, dir))
	}
	h.stop(t)
}

func TestDamagedAndForeignFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, dir, clockAt(1000), nil)
	h.publish(1000, 100)
	h.stop(t)
	exits, err := filepath.Glob(filepath.Join(dir, "process", "*"))
	if err != nil || len(exits) != 1 {
		t.Fatal(exits, err)
	}
	whole, err := os.ReadFile(exits[0])
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"process/zz.parquet": "no parquet", "dns/" + filepath.Base(exits[0]): string(whole),
		"process/half.parquet": string(whole[:len(whole)/2]), "file/left.tmp": "x", "file/README": "mine"} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A page in the middle of a column is overwritten: the footer is whole.
	broken := slices.Clone(whole)
	for i := len(broken) / 8; i < len(broken)/2; i++ {
		broken[i] ^= 0x55
	}
	if err := os.WriteFile(exits[0], broken, 0o600); err != nil {
		t.Fatal(err)
	}

	again := newHost(t, dir, clockAt(2000), nil)
	again.publish(2000, 10)
	var connects, exitsSeen, missing int
	err = again.store.Each(t.Context(), Query{}, func(e *model.Event) bool {
		switch e.Type {
		case model.TypeConnect:
			connects++
		case model.TypeExit:
			exitsSeen++
		case model.TypeLoss:
			missing += int(e.Loss.Count)
		}
		return true
	})
	if err != nil || connects != 55 || exitsSeen+missing != 55 || missing == 0 {
		t.Errorf("%d connects, %d exits and %d missing, %v", connects, exitsSeen, missing, err)
	}
	problems := strings.Join(again.history.Problems(), "\n")
	for _, want := range []string{"process/zz.parquet", "dns/" + filepath.Base(exits[0]), "process/half.parquet"} {
		if !strings.Contains(problems, want) && !strings.Contains(problems, "1 more") {
			t.Errorf("problems do not name %s:\n%s", want, problems)
		}
	}
	if n := again.losses.Counter("store", "unreadable segment").Load(); n != 4 {
		t.Errorf("%d segments are counted as unreadable", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "file", "left.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was half written is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "file", "README")); err != nil {
		t.Error(err)
	}
	again.stop(t)
}

// An agent that was killed between a merge and the removal of what was merged leaves both: nothing is read twice.
func TestMergedSegmentsAreReadOnce(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, dir, clockAt(1000), nil)
	kept := make(map[string][]byte)
	for i := range mergeCount {
		h.publish(1000+int64(i)*10, 10)
		h.flushNow(t)
	}
	for _, path := range segmentsIn(t, dir) {
		if b, err := os.ReadFile(path); err == nil { // else it is merged already
			kept[path] = b
		}
	}
	h.stop(t)
	for _, f := range h.history.folders {
		for h.history.mergeOne(f) {
		}
	}
	for path, b := range kept {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := newHost(t, dir, clockAt(2000), nil)
	if got := again.times(t, Query{Limit: 1000}); !slices.Equal(got, span(1000, 1000+10*mergeCount)) {
		t.Errorf("%v", got)
	}
	if n := len(segmentsIn(t, dir)); n != 2 {
		t.Errorf("%d files are left", n)
	}
	again.stop(t)
}

func TestAFullDiskIsCountedAndNotTheEnd(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, dir, clockAt(1000), nil)
	h.publish(1000, 10)
	h.flushNow(t)
	// Root writes where it may not: a file in place of the folder stops it too.
	away := filepath.Join(dir, "away")
	if err := os.Rename(filepath.Join(dir, "network"), away); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "network"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		h.publish(2000, flushEvents/2)
		h.flushNow(t)
	}
	// Half of 4 × 4,096 events wait: as many as may.
	lost := h.losses.Counter("store", "not written")
	if lost.Load() != 0 {
		t.Errorf("%d are lost too early", lost.Load())
	}
	h.publish(3000, 100)
	h.flushNow(t)
	if lost.Load() != 50 {
		t.Errorf("%d are lost, want 50", lost.Load())
	}
	if p := h.history.Problems(); len(p) != 1 || !strings.Contains(p[0], "cannot be written") || !strings.Contains(p[0], "50 events") {
		t.Errorf("%v", p)
	}
	if err := os.Remove(filepath.Join(dir, "network")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, filepath.Join(dir, "network")); err != nil {
		t.Fatal(err)
	}
	h.stop(t)
	if p := h.history.Problems(); len(p) != 0 {
		t.Errorf("%v", p)
	}
	if got := len(h.times(t, Query{Limit: 10_000})); got != int(h.seq)-50 {
		t.Errorf("%d events of %d", got, h.seq)
	}
}

func TestQueriesEndWithTheirContext(t *testing.T) {
	h := newHost(t, t.TempDir(), clockAt(1000), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.store.Query(ctx, Query{Limit: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	h.stop(t)
}
