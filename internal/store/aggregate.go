// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/store/segment"
)

// maxGroups bounds the memory of an aggregation.
const maxGroups = 200_000

// Aggregation asks for figures over the past.
type Aggregation struct {
	Query            // what to count; NewestFirst, Recent, Limit and Cursor do not apply
	Exact   bool     // Query's Keep takes nothing away that Types, Since, Until and Tests leave
	Before  *Query   // what to compare with; nil for no comparison
	By      []string // of Keys()
	Figures []string // of Figures()
	OrderBy string   // one of Figures, largest first; the first when empty
	Changes []string // only rows whose Change is one of these; all when empty
	Limit   int      // rows
}

// Table is the answer to an Aggregation.
type Table struct {
	Rows    []Row
	LeftOut uint64 // rows that Limit left out
	Events  uint64 // rows of history that were looked at
}

// Row is a row of a Table.
type Row struct {
	Keys   []string
	Values []float64
	Before []float64 // of a comparison: nil when there was nothing
	Change string    // of a comparison: new, vanished, or empty for what is in both

	Parts, PartsBefore *Parts // what of Values and Before does not add up is made of; nil where there is nothing
}

// Parts is what rates, means and quantiles are made of, as far as the figures asked for need it.
type Parts struct {
	Events, Errors uint64
	RTTSum         float64 // seconds
	RTTs           uint64
	Latencies      map[uint16]uint64 // how many of n nanoseconds, by floor(32*log2(n))
}

// The changes of a comparison.
const (
	ChangeNew      = "new"
	ChangeVanished = "vanished"
)

// InvalidError says what of an Aggregation makes no sense.
type InvalidError struct{ Err error }

// Error implements error.
func (e *InvalidError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *InvalidError) Unwrap() error { return e.Err }

func invalid(format string, args ...any) error { return &InvalidError{fmt.Errorf(format, args...)} }

func (a *Aggregation) check() error {
	if len(a.Figures) == 0 {
		return invalid("measures: say what to count: %s", strings.Join(Figures(), ", "))
	}
	for _, k := range a.By {
		if !slices.Contains(Keys(), k) {
			return invalid("by: %q is unknown: use %s", k, strings.Join(Keys(), ", "))
		}
	}
	for _, f := range a.Figures {
		if !slices.Contains(Figures(), f) {
			return invalid("measures: %q is unknown: use %s", f, strings.Join(Figures(), ", "))
		}
	}
	if a.OrderBy != "" && !slices.Contains(a.Figures, a.OrderBy) {
		return invalid("order_by: %q is none of the measures %s", a.OrderBy, strings.Join(a.Figures, ", "))
	}
	for _, c := range a.Changes {
		if c != ChangeNew && c != ChangeVanished {
			return invalid("changes: %q is unknown: use %s or %s", c, ChangeNew, ChangeVanished)
		}
	}
	if len(a.Changes) > 0 && a.Before == nil {
		return invalid("changes: there is nothing to compare with: say compare_since and compare_until")
	}
	return nil
}

// Aggregate counts. Errors: *InvalidError, ctx's.
func (s *Store) Aggregate(ctx context.Context, a Aggregation) (Table, error) {
	if err := a.check(); err != nil {
		return Table{}, err
	}
	now, err := s.count(ctx, &a, &a.Query)
	if err != nil {
		return Table{}, err
	}
	table := Table{Events: now.events}
	before := &groups{}
	if a.Before != nil {
		if before, err = s.count(ctx, &a, a.Before); err != nil {
			return Table{}, err
		}
		table.Events += before.events
	}
	for key, g := range now.byKey {
		row := Row{Keys: splitKey(key, len(a.By)), Values: g.values(a.Figures), Parts: g.parts()}
		if a.Before != nil {
			if was := before.byKey[key]; was != nil {
				row.Before, row.PartsBefore = was.values(a.Figures), was.parts()
			} else {
				row.Change = ChangeNew
			}
		}
		table.Rows = append(table.Rows, row)
	}
	for key, was := range before.byKey {
		if now.byKey[key] == nil {
			table.Rows = append(table.Rows, Row{Keys: splitKey(key, len(a.By)), Values: new(group).values(a.Figures), Before: was.values(a.Figures), PartsBefore: was.parts(), Change: ChangeVanished})
		}
	}
	table.order(&a)
	return table, nil
}

// order puts the largest first and leaves out what is not asked for. A row that vanished counts by what it was.
func (t *Table) order(a *Aggregation) {
	if len(a.Changes) > 0 {
		t.Rows = slices.DeleteFunc(t.Rows, func(r Row) bool { return !slices.Contains(a.Changes, r.Change) })
	}
	by := max(0, slices.Index(a.Figures, a.OrderBy))
	size := func(r *Row) float64 {
		if r.Change == ChangeVanished {
			return r.Before[by]
		}
		return r.Values[by]
	}
	slices.SortFunc(t.Rows, func(x, y Row) int {
		return cmp.Or(cmp.Compare(size(&y), size(&x)), slices.Compare(x.Keys, y.Keys))
	})
	if limit := max(a.Limit, 1); len(t.Rows) > limit {
		t.LeftOut = uint64(len(t.Rows) - limit)
		t.Rows = t.Rows[:limit]
	}
}

// groups are the rows of a table while it is counted.
type groups struct {
	byKey  map[string]*group
	events uint64
	key    []byte
}

func splitKey(key string, n int) []string {
	if n == 0 {
		return nil
	}
	return strings.SplitN(key, "\x00", n)
}

// count counts what a query finds.
func (s *Store) count(ctx context.Context, a *Aggregation, q *Query) (*groups, error) {
	out := &groups{byKey: make(map[string]*group)}
	families := segment.Families()
	if s.history != nil {
		families = s.history.families
	}
	plans := make(map[string]*plan)
	for _, f := range families {
		if q.Types == nil || slices.ContainsFunc(f.Types, func(t model.Type) bool { return q.Types[t] }) {
			plans[f.Name] = newPlan(f, a.By, a.Figures)
		}
	}
	if s.history == nil || !a.Exact {
		return out, s.countEvents(ctx, *q, families, plans, out)
	}
	// All that memory has, history has or is about to get.
	if err := s.history.await(ctx, s.memory.lastPosition()); err != nil {
		return nil, err
	}
	for _, p := range plans {
		if err := s.history.countFamily(ctx, p, q, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// countEvents counts event by event: for filters that need the whole of it, and without a history.
func (s *Store) countEvents(ctx context.Context, q Query, families []*segment.Family, plans map[string]*plan, out *groups) error {
	waiting := make(map[*segment.Family][]*model.Event)
	var failed error
	add := func(f *segment.Family, least int) bool {
		if list := waiting[f]; len(list) >= least && failed == nil {
			p := plans[f.Name]
			failed = p.add(f.CellsOf(segment.Options{Run: s.run}, list, p.columns), out)
			waiting[f] = list[:0]
		}
		return failed == nil
	}
	err := s.Each(ctx, q, func(e *model.Event) bool {
		f := segment.FamilyOf(families, e.Type)
		if f == nil || plans[f.Name] == nil {
			return true
		}
		waiting[f] = append(waiting[f], e)
		return add(f, 512)
	})
	for f := range waiting {
		add(f, 1)
	}
	return errors.Join(err, failed)
}

// countFamily counts the rows of one family, column by column.
func (h *History) countFamily(ctx context.Context, p *plan, q *Query, out *groups) error {
	w := way{h: h, f: h.folders[p.family.Name], scan: segment.Scan{Since: q.Since, Until: q.Until, Types: q.Types, Tests: q.Tests, Cache: segment.NewCache()}}
	defer w.closeFile()
	for w.open() {
		if w.event != nil { // it does not open, and was noted
			w.event = nil
			continue
		}
		err := w.file.Cells(w.scan, p.columns, func(cells [][]segment.Cell) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return p.add(cells, out)
		})
		var bad *InvalidError
		switch {
		case err != nil && (ctx.Err() != nil || errors.As(err, &bad)):
			return err
		case err != nil:
			h.cannotRead(w.reading.path, err)
		}
		w.leave()
	}
	var waiting []*model.Event
	for _, e := range w.pending {
		if !e.Time.Before(q.Since) && (q.Until.IsZero() || e.Time.Before(q.Until)) && (q.Types == nil || q.Types[e.Type]) && (q.Keep == nil || q.Keep(e)) {
			waiting = append(waiting, e)
		}
	}
	return p.add(p.family.CellsOf(segment.Options{Boot: h.c.Boot, Run: h.run}, waiting, p.columns), out)
}
