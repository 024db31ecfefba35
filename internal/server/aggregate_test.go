// SPDX-License-Identifier: Apache-2.0

package server

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

func TestAggregate(t *testing.T) {
	r := start(t, nil)
	at := func(seconds int64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(seconds, 0)) }
	answer, err := r.client().Aggregate(t.Context(), connect.NewRequest(&pb.AggregateRequest{
		Filter: &pb.Filter{Types: []string{"flow"}, Since: at(200), Until: at(300)}, By: []string{"workload"}, Measures: []string{"bytes", "flows"},
		CompareSince: at(100), CompareUntil: at(150)}))
	if err != nil {
		t.Fatal(err)
	}
	m := answer.Msg
	row := m.GetRows()[0]
	if m.GetBy()[0] != "workload" || m.GetMeasures()[1] != "flows" || m.GetRowsLeftOut() != 3 || m.GetEvents() != 9 || row.GetChange() != "new" ||
		row.GetValues()[0] != 200 || row.GetValues()[1] != 20 || row.GetBefore()[0] != 100 || row.GetBefore()[1] != 150 {
		t.Errorf("%v", m)
	}
}

func TestAggregateRefuses(t *testing.T) {
	r := start(t, nil)
	for want, req := range map[string]*pb.AggregateRequest{
		"types":    {Measures: []string{"events"}},
		"measures": {Filter: &pb.Filter{Types: []string{"flow"}}},
		"until": {Filter: &pb.Filter{Types: []string{"flow"}}, Measures: []string{"events"},
			CompareSince: timestamppb.New(time.Unix(2, 0)), CompareUntil: timestamppb.New(time.Unix(1, 0))},
	} {
		_, err := r.client().Aggregate(t.Context(), connect.NewRequest(req))
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
