// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// numbered makes the events from..to, one a second.
func numbered(from, to int) []*model.Event {
	var list []*model.Event
	for i := from; i <= to; i++ {
		list = append(list, &model.Event{Type: model.TypeExit, Seq: uint64(i), Time: time.Unix(int64(i), 0), Exit: &model.Exit{}})
	}
	return list
}

func seqs(events []*model.Event) (list []int) {
	for _, e := range events {
		list = append(list, int(e.Seq))
	}
	return list
}

// query asks a store that has nothing but m.
func query(m *Memory, q Query) (Page, error) {
	return NewStore(m, nil, time.Unix(0, 1)).Query(context.Background(), q)
}

// all reads every page.
func all(t *testing.T, m *Memory, q Query) (list []int) {
	t.Helper()
	for {
		page, err := query(m, q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) > q.Limit {
			t.Fatalf("a page of %d events, limit %d", len(page.Events), q.Limit)
		}
		list = append(list, seqs(page.Events)...)
		if q.Cursor = page.Next; q.Cursor.IsZero() {
			return list
		}
	}
}

func TestPages(t *testing.T) {
	m := NewMemory(Config{MaxEvents: 2000}, time.Unix(0, 0))
	m.Append(numbered(1, 3000)) // 1001..3000 stay
	for _, limit := range []int{1, 7, 1000, 2000, 5000} {
		for _, newest := range []bool{false, true} {
			got := all(t, m, Query{Limit: limit, NewestFirst: newest})
			if len(got) != 2000 {
				t.Fatalf("limit %d, newest %v: %d events", limit, newest, len(got))
			}
			for i, n := range got {
				want := 1001 + i
				if newest {
					want = 3000 - i
				}
				if n != want {
					t.Fatalf("limit %d, newest %v: event %d at %d, want %d", limit, newest, n, i, want)
				}
			}
		}
	}
}

func TestLastPageHasNoNext(t *testing.T) {
	m := NewMemory(Config{}, time.Unix(0, 0))
	for _, newest := range []bool{false, true} {
		if page, _ := query(m, Query{Limit: 3, NewestFirst: newest}); !page.Next.IsZero() || len(page.Events) != 0 {
			t.Errorf("empty store: %+v", page)
		}
	}
	m.Append(numbered(1, 3))
	for _, newest := range []bool{false, true} {
		if page, _ := query(m, Query{Limit: 3, NewestFirst: newest}); !page.Next.IsZero() || len(page.Events) != 3 {
			t.Errorf("newest %v: %d events, next %v", newest, len(page.Events), page.Next)
		}
	}
}

func TestFilterAndSpan(t *testing.T) {
	m := NewMemory(Config{}, time.Unix(0, 0))
	m.Append(numbered(1, 100))
	got := all(t, m, Query{Limit: 4, Since: time.Unix(10, 0), Until: time.Unix(50, 0),
		Keep: func(e *model.Event) bool { return e.Seq%10 == 0 }})
	if want := "[10 20 30 40]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestPagesStandStillWhileEventsComeAndGo(t *testing.T) {
	m := NewMemory(Config{MaxEvents: 10}, time.Unix(0, 0))
	m.Append(numbered(1, 10))
	page, _ := query(m, Query{Limit: 3, NewestFirst: true}) // 10 9 8
	m.Append(numbered(11, 13))                              // evicts 1 2 3
	got := all(t, m, Query{Limit: 3, NewestFirst: true, Cursor: page.Next})
	if want := "[7 6 5 4]"; fmt.Sprint(got) != want {
		t.Errorf("newest first: got %v, want %s", got, want)
	}
	page, _ = query(m, Query{Limit: 2}) // 4 5
	m.Append(numbered(14, 20))          // evicts up to 10
	got = all(t, m, Query{Limit: 4, Cursor: page.Next})
	if want := "[11 12 13 14 15 16 17 18 19 20]"; fmt.Sprint(got) != want {
		t.Errorf("oldest first: got %v, want %s", got, want)
	}
	if got := all(t, m, Query{Limit: 4, Cursor: Position{Run: 1, Seq: 3}, NewestFirst: true}); got != nil {
		t.Errorf("evicted cursor, newest first: got %v", got)
	}
}

func TestSaysSinceWhenItIsComplete(t *testing.T) {
	start := time.Unix(0, 500)
	m := NewMemory(Config{MaxEvents: 3}, start)
	if got := m.Stats().CompleteSince; !got.Equal(start) {
		t.Errorf("empty: %v", got)
	}
	m.Append(numbered(1, 3))
	if got := m.Stats().CompleteSince; !got.Equal(start) {
		t.Errorf("nothing evicted: %v", got)
	}
	m.Append(numbered(4, 5))
	page, _ := query(m, Query{Limit: 1})
	if got := page.CompleteSince; !got.After(time.Unix(2, 0)) || got.After(time.Unix(3, 0)) {
		t.Errorf("2 evicted: %v", got)
	}
	if got := m.Stats().Evicted; got != 2 {
		t.Errorf("%d evicted", got)
	}
}

func TestBoundedByBytes(t *testing.T) {
	m := NewMemory(Config{MaxBytes: 100_000}, time.Time{})
	for i := range 1000 {
		m.Append([]*model.Event{{Type: model.TypeExec, Seq: uint64(i), Process: &model.Process{Args: []string{string(make([]byte, 1000))}}}})
	}
	s := m.Stats()
	if s.Bytes > 100_000 || s.Events < 30 || s.Events > 100 {
		t.Errorf("%+v", s)
	}
	m.Append([]*model.Event{{Type: model.TypeExec, Process: &model.Process{Args: []string{string(make([]byte, 200_000))}}}})
	if s := m.Stats(); s.Events != 1 {
		t.Errorf("one event larger than the store: %+v", s)
	}
}

func TestQueryEndsWithItsContext(t *testing.T) {
	m := NewMemory(Config{}, time.Time{})
	m.Append(numbered(1, 10))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewStore(m, nil, time.Unix(0, 1)).Query(ctx, Query{Limit: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestReadersAndAWriter(t *testing.T) {
	m := NewMemory(Config{MaxEvents: 100}, time.Time{})
	var wg sync.WaitGroup
	done := make(chan struct{})
	for _, newest := range []bool{false, true} {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got := all(t, m, Query{Limit: 1000, NewestFirst: newest})
				for i := 1; i < len(got); i++ {
					if (got[i] > got[i-1]) == newest {
						t.Errorf("out of order: %v", got)
						return
					}
				}
			}
		})
	}
	for i := range 200 {
		m.Append(numbered(i*50+1, i*50+50))
	}
	close(done)
	wg.Wait()
}

func BenchmarkAppend(b *testing.B) {
	m := NewMemory(Config{}, time.Time{})
	batch := numbered(1, 100)
	for b.Loop() {
		m.Append(batch)
	}
}
