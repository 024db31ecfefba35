// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/store"
)

// counting is an agent that answers queries and keeps what it was asked.
type counting struct {
	fakeAgent
	asked  *vigiev1.AggregateRequest
	answer *vigiev1.AggregateResponse
}

func (c *counting) Aggregate(_ context.Context, r *connect.Request[vigiev1.AggregateRequest]) (*connect.Response[vigiev1.AggregateResponse], error) {
	c.asked = r.Msg
	return connect.NewResponse(c.answer), nil
}

func TestQueryTop(t *testing.T) {
	a := &counting{answer: &vigiev1.AggregateResponse{By: []string{"workload", "remote"}, Measures: []string{"bytes", "flows", "error_rate", "latency_p99"},
		Rows:        []*vigiev1.AggregateRow{{Keys: []string{"web", "db\x1b[2J"}, Values: []float64{2048, 12, 0.25, 0.004}}, {Keys: []string{"", "x"}, Values: []float64{1, 1, 0, 0}}},
		RowsLeftOut: 3, CompleteSince: timestamppb.New(testNow.Add(-time.Minute))}}
	socket := serveHandler(t, a)
	code, out, errs := vigie(t, "query", "top", "--socket", socket, "--measure", "bytes,flows,error_rate,latency_p99", "--workload", "web")
	want := `WORKLOAD  REMOTE     BYTES  FLOWS  ERROR_RATE  LATENCY_P99
web       db\x1b[2J   2.0K     12       25.0%        4.0ms
-         x              1      1        0.0%            -
`
	if code != 0 || out != want {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
	if !strings.Contains(errs, "3 more rows") || !strings.Contains(errs, "only since") {
		t.Errorf("notes: %s", errs)
	}
	if got := a.asked; got.GetFilter().GetTypes()[0] != "request" || !got.GetFilter().GetSince().AsTime().Equal(testNow.Add(-time.Hour)) || got.GetLimit() != 20 ||
		got.GetFilter().GetWorkloadNames()[0] != "web" || got.GetCompareSince() != nil {
		t.Errorf("asked %v", got)
	}
	code, out, errs = vigie(t, "query", "top", "--socket", socket, "-o", "json")
	if want := `{"workload":"web","remote":"db\u001b[2J","bytes":2048,"flows":12,"error_rate":0.25,"latency_p99":0.004}`; code != 0 || !strings.HasPrefix(out, want+"\n") || errs != "" {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
	if a.asked.GetFilter().GetTypes()[0] != "flow" {
		t.Errorf("asked %v", a.asked)
	}
}

func TestQueryEdges(t *testing.T) {
	a := &counting{answer: &vigiev1.AggregateResponse{By: []string{"source"}, Measures: []string{"flows"},
		Rows: []*vigiev1.AggregateRow{{Keys: []string{"web"}, Values: []float64{0}, Before: []float64{7}, Change: "vanished"}}}}
	socket := serveHandler(t, a)
	code, out, errs := vigie(t, "query", "vanished-edges", "--socket", socket, "--since", "yesterday")
	if code != 0 || out != "SOURCE  FLOWS\nweb         7\n" || errs != "" {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
	yesterday := time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)
	if got := a.asked; !got.GetFilter().GetSince().AsTime().Equal(yesterday) || !got.GetCompareUntil().AsTime().Equal(yesterday) ||
		!got.GetCompareSince().AsTime().Equal(yesterday.AddDate(0, 0, -7)) || got.GetChanges()[0] != "vanished" {
		t.Errorf("asked %v", got)
	}
	if code, out, _ := vigie(t, "query", "vanished-edges", "--socket", socket, "-o", "yaml"); code != 0 || out != "---\nsource: web\nflows: 0\nchange: vanished\nbefore_flows: 7\n" {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestQueryErrorsShowsWhatFailed(t *testing.T) {
	a := &counting{answer: &vigiev1.AggregateResponse{By: []string{"workload"}, Measures: []string{"errors"},
		Rows: []*vigiev1.AggregateRow{{Keys: []string{"web"}, Values: []float64{3}}, {Keys: []string{"db"}, Values: []float64{0}}}, CompleteSince: timestamppb.New(time.Unix(0, 0))}}
	code, out, errs := vigie(t, "query", "errors", "--socket", serveHandler(t, a), "--by", "workload")
	if code != 0 || out != "WORKLOAD  ERRORS\nweb            3\n" || errs != "" {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
}

func TestQueryMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"top --by nonsense":                    "--by \"nonsense\": use workload",
		"top --measure nonsense":               "--measure \"nonsense\": use events",
		"top --order flows --measure bytes":    "--order \"flows\": it must be one of",
		"new-edges --compared-with tomorrow":   "--compared-with",
		"new-edges --compared-with 2026-03-02": "is not before --since",
		"errors --since 1h --until 2h":         "exchange them",
		"nonsense":                             "unknown command",
		"top":                                  "no agent answers",
	} {
		code, _, errs := vigie(t, append([]string{"query"}, strings.Fields(args)...)...)
		if code != ExitCannot || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q lacks %q", args, code, errs, want)
		}
	}
}

// The names that the command offers are those that the agent knows, and the one that a relay adds.
func TestQueryNames(t *testing.T) {
	if got, want := strings.Join(keyNames(), " "), strings.Join(append(store.Keys(), "node"), " "); got != want {
		t.Errorf("by: got %s, want %s", got, want)
	}
	if got, want := strings.Join(figureNames(), " "), strings.Join(store.Figures(), " "); got != want {
		t.Errorf("measures: got %s, want %s", got, want)
	}
}
