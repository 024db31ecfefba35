// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/filter"
)

const (
	defaultRows = 20
	maxRows     = 10_000 // rows of a table of figures
)

// queryTimeout is how long a figure, or a page, over all of history may take.
const queryTimeout = 2 * time.Minute

// AggregateQuery asks for figures over the past; vigie.v1.AggregateRequest documents the fields.
type AggregateQuery struct {
	Filter   *filter.Filter
	Before   *filter.Filter // the same, at the time compared with; nil for no comparison
	By       []string
	Measures []string
	OrderBy  string
	Changes  []string
	Limit    int
}

// AggregateTable is the answer to an AggregateQuery.
type AggregateTable struct {
	Rows          []AggregateRow
	LeftOut       uint64
	Events        uint64
	CompleteSince time.Time
}

// AggregateRow is a row of an AggregateTable.
type AggregateRow struct {
	Keys           []string
	Values, Before []float64
	Change         string

	Parts, PartsBefore *AggregateParts // nil where there is nothing
}

// AggregateParts is what of a row does not add up is made of; vigie.v1.AggregateParts documents the fields.
type AggregateParts struct {
	Events, Errors uint64
	RTTSum         float64
	RTTs           uint64
	Latencies      map[uint16]uint64
}

func (p *AggregateParts) proto() *pb.AggregateParts {
	if p == nil {
		return nil
	}
	m := &pb.AggregateParts{Events: p.Events, Errors: p.Errors, RttSum: p.RTTSum, Rtts: p.RTTs, Latencies: make(map[uint32]uint64, len(p.Latencies))}
	for step, n := range p.Latencies {
		m.Latencies[uint32(step)] = n
	}
	return m
}

// Aggregate implements the API.
func (s *service) Aggregate(ctx context.Context, r *connect.Request[pb.AggregateRequest]) (*connect.Response[pb.AggregateResponse], error) {
	m := r.Msg
	if len(m.GetFilter().GetTypes()) == 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("filter types: name at least one, as flow or request"))
	}
	f, _, err := s.compile(m.GetFilter())
	if err != nil {
		return nil, err
	}
	q := AggregateQuery{Filter: f, By: m.GetBy(), Measures: m.GetMeasures(), OrderBy: m.GetOrderBy(), Changes: m.GetChanges(),
		Limit: pageSize(m.GetLimit(), defaultRows, maxRows)}
	if m.GetCompareSince() != nil || m.GetCompareUntil() != nil {
		then := proto.CloneOf(m.GetFilter())
		then.Since, then.Until = m.GetCompareSince(), m.GetCompareUntil()
		if q.Before, _, err = s.compile(then); err != nil {
			return nil, err
		}
	}
	AnswerWithin(ctx, queryTimeout)
	table, err := s.backend.Aggregate(ctx, q)
	if err != nil {
		return nil, refused(fmt.Errorf("count events: %w", err))
	}
	out := &pb.AggregateResponse{By: q.By, Measures: q.Measures, RowsLeftOut: table.LeftOut, Events: table.Events, CompleteSince: timestamppb.New(table.CompleteSince)}
	for _, row := range table.Rows {
		x := &pb.AggregateRow{Keys: row.Keys, Values: row.Values, Before: row.Before, Change: row.Change}
		if m.GetParts() {
			x.Parts, x.PartsBefore = row.Parts.proto(), row.PartsBefore.proto()
		}
		out.Rows = append(out.Rows, x)
	}
	return connect.NewResponse(out), nil
}
