// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

const (
	defaultRows = 20
	maxRows     = 10_000
	keyNode     = "node" // what a relay can count by, beside what agents can
)

// Aggregate implements the API. Every node counts, all of its rows are added up; rates, means and quantiles are made anew of
// their parts. A node that has more rows than one answer holds makes rows_left_out.
func (a *api) Aggregate(ctx context.Context, q *connect.Request[pb.AggregateRequest]) (*connect.Response[pb.AggregateResponse], error) {
	r, m := a.relay, q.Msg
	nodes, err := r.nodesOf(m.GetFilter())
	if err != nil {
		return nil, err
	}
	at := slices.Index(m.GetBy(), keyNode)
	keys := slices.DeleteFunc(slices.Clone(m.GetBy()), func(k string) bool { return k == keyNode })
	if len(m.GetBy())-len(keys) > 1 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("by: node stands there twice"))
	}
	r.unhurried(ctx, r.o.StudyTimeout)
	answers, errs, err := ask(ctx, nodes, "Aggregate", r.o.StudyTimeout, func(n *node) *pb.AggregateRequest {
		return &pb.AggregateRequest{Filter: r.translate(n, m.GetFilter()), By: keys, Measures: m.GetMeasures(), OrderBy: m.GetOrderBy(), Limit: maxRows,
			CompareSince: r.there(n, m.GetCompareSince()), CompareUntil: r.there(n, m.GetCompareUntil()), Parts: true}
	}, vigiev1connect.VigieClient.Aggregate)
	if err != nil {
		return nil, err
	}
	if err := checkChanges(m); err != nil {
		return nil, err
	}
	t := table{measures: m.GetMeasures(), rows: make(map[string]*sum)}
	out := &pb.AggregateResponse{By: m.GetBy(), Measures: m.GetMeasures(), NodeErrors: errs}
	for _, x := range answers {
		for _, row := range x.R.GetRows() {
			if at >= 0 {
				row.Keys = slices.Insert(row.GetKeys(), at, x.node.called())
			}
			t.add(row)
		}
		out.RowsLeftOut += x.R.GetRowsLeftOut()
		out.Events += x.R.GetEvents()
		if s := x.R.GetCompleteSince(); s != nil && (out.GetCompleteSince() == nil || s.AsTime().After(out.GetCompleteSince().AsTime())) {
			out.CompleteSince = s
		}
	}
	rows := t.draw(m.GetCompareSince() != nil || m.GetCompareUntil() != nil, m.GetChanges(), m.GetOrderBy())
	if limit := bounded(m.GetLimit(), defaultRows, maxRows); len(rows) > limit {
		out.RowsLeftOut += uint64(len(rows) - limit)
		rows = rows[:limit]
	}
	out.Rows = rows
	return connect.NewResponse(out), nil
}

// checkChanges refuses what an agent would, which is asked without them: what is new on one node may be old on another.
func checkChanges(m *pb.AggregateRequest) error {
	for _, c := range m.GetChanges() {
		switch {
		case c != "new" && c != "vanished":
			return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("changes: %q is unknown: use new or vanished", c))
		case m.GetCompareSince() == nil && m.GetCompareUntil() == nil:
			return connect.NewError(connect.CodeInvalidArgument, errors.New("changes: there is nothing to compare with: say compare_since and compare_until"))
		}
	}
	return nil
}

// table adds up rows of the same keys.
type table struct {
	measures []string
	rows     map[string]*sum
}

// sum is one row, of all nodes.
type sum struct {
	keys        []string
	now, before *side
}

// side is a row in one of the times that are compared.
type side struct {
	values []float64
	parts  pb.AggregateParts
	weight float64 // events of those who brought no parts
}

func (t *table) add(row *pb.AggregateRow) {
	key := strings.Join(row.GetKeys(), "\x00")
	s := t.rows[key]
	if s == nil {
		s = &sum{keys: row.GetKeys()}
		t.rows[key] = s
	}
	if row.GetChange() != "vanished" {
		s.now = t.join(s.now, row.GetValues(), row.GetParts())
	}
	if len(row.GetBefore()) > 0 {
		s.before = t.join(s.before, row.GetBefore(), row.GetPartsBefore())
	}
}

// join adds values to a side. What does not add up is made of parts at the end; of agents that bring none, it is the mean.
func (t *table) join(to *side, values []float64, parts *pb.AggregateParts) *side {
	if to == nil {
		to = &side{values: make([]float64, len(t.measures))}
	}
	for i, m := range t.measures {
		switch {
		case i >= len(values):
		case !isMade(m):
			to.values[i] += values[i]
		case parts == nil:
			to.values[i] = (to.values[i]*to.weight + values[i]) / (to.weight + 1)
		}
	}
	if parts == nil {
		to.weight++
		return to
	}
	p := &to.parts
	p.Events += parts.GetEvents()
	p.Errors += parts.GetErrors()
	p.RttSum += parts.GetRttSum()
	p.Rtts += parts.GetRtts()
	for step, n := range parts.GetLatencies() {
		if p.Latencies == nil {
			p.Latencies = make(map[uint32]uint64)
		}
		p.Latencies[step] += n
	}
	return to
}

// isMade reports whether a measure is made of parts.
func isMade(measure string) bool {
	switch measure {
	case "error_rate", "rtt", "latency_p50", "latency_p90", "latency_p99":
		return true
	}
	return false
}

// finish makes the values that do not add up.
func (t *table) finish(s *side) []float64 {
	for i, m := range t.measures {
		p := &s.parts
		switch m {
		case "error_rate":
			if p.GetEvents() > 0 {
				s.values[i] = float64(p.GetErrors()) / float64(p.GetEvents())
			}
		case "rtt":
			if p.GetRtts() > 0 {
				s.values[i] = p.GetRttSum() / float64(p.GetRtts())
			}
		case "latency_p50":
			s.quantile(i, 0.5)
		case "latency_p90":
			s.quantile(i, 0.9)
		case "latency_p99":
			s.quantile(i, 0.99)
		}
	}
	return s.values
}

// quantile sets a value to a quantile of the latencies, in seconds: the middle of the step in which it lies.
func (s *side) quantile(i int, q float64) {
	steps := slices.Sorted(maps.Keys(s.parts.GetLatencies()))
	var n uint64
	for _, step := range steps {
		n += s.parts.GetLatencies()[step]
	}
	left := uint64(math.Ceil(q * float64(n)))
	for _, step := range steps {
		if here := s.parts.GetLatencies()[step]; here < left {
			left -= here
			continue
		}
		s.values[i] = math.Exp2((float64(step)+0.5)/32) / 1e9
		return
	}
}

// draw is the rows, the largest of the measure orderBy first.
func (t *table) draw(compared bool, changes []string, orderBy string) []*pb.AggregateRow {
	by := max(0, slices.Index(t.measures, orderBy))
	var rows []*pb.AggregateRow
	for _, s := range t.rows {
		row := &pb.AggregateRow{Keys: s.keys}
		if s.now == nil {
			row.Values, row.Change = make([]float64, len(t.measures)), "vanished"
		} else {
			row.Values = t.finish(s.now)
		}
		if s.before != nil {
			row.Before = t.finish(s.before)
		} else if compared {
			row.Change = "new"
		}
		if len(changes) == 0 || slices.Contains(changes, row.GetChange()) {
			rows = append(rows, row)
		}
	}
	size := func(row *pb.AggregateRow) float64 {
		if row.GetChange() == "vanished" && by < len(row.GetBefore()) {
			return row.GetBefore()[by]
		}
		if by < len(row.GetValues()) {
			return row.GetValues()[by]
		}
		return 0
	}
	slices.SortFunc(rows, func(a, b *pb.AggregateRow) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), slices.Compare(a.GetKeys(), b.GetKeys()))
	})
	return rows
}
