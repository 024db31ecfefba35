// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"math"
	"slices"
	"testing"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// What does not add up is made anew of its parts: the rate of 1 in 10 and of 9 in 90 is one in ten, and the median of the
// latencies of two nodes is that of all of them.
func TestFiguresOfAllNodes(t *testing.T) {
	step := func(seconds float64) uint32 { return uint32(math.Log2(seconds*1e9) * 32) }
	parts := func(events, errors uint64, latencies map[uint32]uint64) *pb.AggregateParts {
		return &pb.AggregateParts{Events: events, Errors: errors, Latencies: latencies, RttSum: float64(events) * 0.001, Rtts: events}
	}
	tb := table{measures: []string{"requests", "error_rate", "latency_p50", "rtt"}, rows: make(map[string]*sum)}
	tb.add(&pb.AggregateRow{Keys: []string{"web"}, Values: []float64{10, 0.1, 0.001, 0.001}, Parts: parts(10, 1, map[uint32]uint64{step(0.001): 10}),
		Before: []float64{5, 0, 0, 0}, PartsBefore: parts(5, 5, nil)})
	tb.add(&pb.AggregateRow{Keys: []string{"web"}, Values: []float64{90, 0.3, 0.1, 0.001}, Parts: parts(90, 29, map[uint32]uint64{step(0.1): 90}), Change: "new"})
	tb.add(&pb.AggregateRow{Keys: []string{"old"}, Values: []float64{0, 0, 0, 0}, Before: []float64{7, 0, 0, 0}, Change: "vanished"})
	tb.add(&pb.AggregateRow{Keys: []string{"fresh"}, Values: []float64{3, 0, 0, 0}, Parts: parts(3, 0, nil), Change: "new"})
	rows := tb.draw(true, nil, "requests")
	if len(rows) != 3 || rows[0].GetKeys()[0] != "web" || rows[1].GetKeys()[0] != "old" || rows[2].GetKeys()[0] != "fresh" {
		t.Fatalf("rows are %v", rows)
	}
	web := rows[0]
	near := func(what string, got, want float64) {
		if math.Abs(got-want) > want*0.02 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("requests", web.GetValues()[0], 100)
	near("error rate", web.GetValues()[1], 0.3)
	near("median", web.GetValues()[2], 0.1)
	near("round-trip time", web.GetValues()[3], 0.001)
	near("error rate before", web.GetBefore()[1], 1)
	if web.GetChange() != "" || rows[1].GetChange() != "vanished" || rows[2].GetChange() != "new" {
		t.Errorf("new on one node and old on another is %q; %q, %q", web.GetChange(), rows[1].GetChange(), rows[2].GetChange())
	}
	if rows := tb.draw(true, []string{"new"}, "requests"); len(rows) != 1 || rows[0].GetKeys()[0] != "fresh" {
		t.Errorf("what is new: %v", rows)
	}
}

func TestFiguresOfOlderAgentsAreTheirMean(t *testing.T) {
	tb := table{measures: []string{"latency_p99"}, rows: make(map[string]*sum)}
	tb.add(&pb.AggregateRow{Keys: []string{"a"}, Values: []float64{1}})
	tb.add(&pb.AggregateRow{Keys: []string{"a"}, Values: []float64{3}})
	if rows := tb.draw(false, nil, ""); !slices.Equal(rows[0].GetValues(), []float64{2}) {
		t.Errorf("got %v", rows[0].GetValues())
	}
}
