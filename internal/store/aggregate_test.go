// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/store/segment"
)

// talk publishes flows: web speaks to db, and from second 100 on to mail too; every fourth is denied.
func (h *host) talk(from, to int64) {
	var batch []*model.Event
	for at := from; at < to; at++ {
		h.seq++
		w := &model.Workload{Kind: model.WorkloadUnit, Name: "web"}
		p := &model.Process{Key: model.ProcessKey{PID: 7, Start: 1, Exec: 1}, Binary: "/bin/web", Workload: w}
		p.ExecID = p.Key.ExecID("0123abcd")
		f := &model.Flow{ID: h.seq, Report: 1, Protocol: "tcp", Direction: model.FlowOutbound, Verdict: model.FlowAllowed,
			Source: model.Endpoint{Process: p, Workload: w, Address: netip.MustParseAddrPort("10.0.0.1:4000")}, Latency: time.Duration(at+1) * time.Millisecond,
			Destination: model.Endpoint{Address: netip.MustParseAddrPort("10.0.0.2:5432"), Name: "db.example"}, Interval: model.FlowCounters{BytesSent: 10, BytesReceived: 1}}
		if at >= 100 && at%2 == 0 {
			f.Destination = model.Endpoint{Address: netip.MustParseAddrPort("10.0.0.3:25")}
		}
		if at%4 == 3 {
			f.Verdict = model.FlowDenied
		}
		batch = append(batch, &model.Event{Type: model.TypeFlow, Seq: h.seq, Time: time.Unix(at, 0).UTC(), Count: 1, Key: p.Key, Process: p, Flow: f})
	}
	h.memory.Append(batch)
	h.hub.Publish(batch)
}

func rowsOf(table Table) (list []string) {
	for _, r := range table.Rows {
		list = append(list, strings.TrimSpace(fmt.Sprint(strings.Join(r.Keys, " "), r.Values, " ", r.Change)))
	}
	return list
}

func flows(since, until int64) Query {
	types := map[model.Type]bool{model.TypeFlow: true}
	return Query{Types: types, Keep: func(e *model.Event) bool { return types[e.Type] }, Since: time.Unix(since, 0), Until: time.Unix(until, 0)}
}

// Figures are the same column by column and event by event, of what is written and of what waits, with and without history.
func TestFigures(t *testing.T) {
	h := newHost(t, t.TempDir(), clockAt(0), nil)
	h.talk(0, 60)
	h.publish(0, 30) // others do not count
	h.flushNow(t)
	h.talk(60, 100)
	memoryOnly := NewStore(NewMemory(Config{MaxEvents: 1000}, time.Unix(0, 0)), nil, time.Unix(0, 0))
	only := &host{memory: memoryOnly.memory, hub: h.hub}
	only.hub = newHost(t, t.TempDir(), clockAt(0), nil).hub
	only.talk(0, 100)
	a := Aggregation{Query: flows(0, 1000), By: []string{"source", "destination", "port", "verdict"}, Figures: []string{"flows", "bytes", "errors", "error_rate"}, Limit: 10}
	want := "[web db.example 5432 allowed[75 825 0 0] web db.example 5432 denied[25 275 25 1]]"
	for name, s := range map[string]*Store{"history": h.store, "memory": memoryOnly} {
		for _, exact := range []bool{false, true} {
			a.Exact = exact
			table, err := s.Aggregate(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(rowsOf(table)); got != want || table.Events != 100 {
				t.Errorf("%s, exact %v: %d events\n got %s\nwant %s", name, exact, table.Events, got, want)
			}
		}
	}
	latency, err := h.store.Aggregate(t.Context(), Aggregation{Query: flows(0, 100), Exact: true, By: []string{"hour"},
		Figures: []string{"latency_p50", "latency_p99"}, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	got := latency.Rows[0]
	if got.Keys[0] != "1970-01-01T00:00:00Z" || math.Abs(got.Values[0]/0.050-1) > 0.02 || math.Abs(got.Values[1]/0.099-1) > 0.02 {
		t.Errorf("%+v", got)
	}
	h.stop(t)
}

func TestNewAndVanishedEdges(t *testing.T) {
	h := newHost(t, t.TempDir(), clockAt(0), nil)
	h.talk(0, 200)
	h.flushNow(t)
	before, none := flows(0, 100), flows(500, 600)
	edges := Aggregation{Query: flows(100, 200), Exact: true, Before: &before, By: []string{"destination", "port"}, Figures: []string{"flows"}, Limit: 10}
	for _, c := range []struct {
		change func(*Aggregation)
		want   string
	}{
		{func(*Aggregation) {}, "[10.0.0.3 25[50] new db.example 5432[50]]"},
		{func(a *Aggregation) { a.Changes = []string{ChangeNew} }, "[10.0.0.3 25[50] new]"},
		{func(a *Aggregation) { a.Query, a.Changes = none, []string{ChangeVanished} }, "[db.example 5432[0] vanished]"},
		{func(a *Aggregation) { a.Limit = 1 }, "[10.0.0.3 25[50] new]"},
	} {
		a := edges
		c.change(&a)
		table, err := h.store.Aggregate(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(rowsOf(table)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if a.Limit == 1 && table.LeftOut != 1 {
			t.Errorf("%d are left out", table.LeftOut)
		}
	}
	h.stop(t)
}

func TestAggregationsThatMakeNoSense(t *testing.T) {
	h := newHost(t, t.TempDir(), clockAt(0), nil)
	for want, a := range map[string]Aggregation{
		"by":           {By: []string{"nonsense"}, Figures: []string{"flows"}},
		"measures":     {Figures: []string{"nonsense"}},
		"say what":     {},
		"order_by":     {Figures: []string{"flows"}, OrderBy: "bytes"},
		"changes":      {Figures: []string{"flows"}, Changes: []string{"old"}},
		"compare with": {Figures: []string{"flows"}, Changes: []string{ChangeNew}},
	} {
		_, err := h.store.Aggregate(t.Context(), a)
		var bad *InvalidError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	h.stop(t)
}

// Every key and figure is made of columns that the families have.
func TestKeysAndFiguresHaveColumns(t *testing.T) {
	families := segment.Families()
	for _, key := range Keys() {
		found := false
		for _, f := range families {
			found = found || len(newPlan(f, []string{key}, nil).columns) > 1 // count is one
		}
		if !found {
			t.Errorf("no family says what %s is", key)
		}
	}
	for _, figure := range Figures() {
		if figure == "events" || figure == "requests" {
			continue // are rows
		}
		found := false
		for _, f := range families {
			found = found || len(newPlan(f, nil, []string{figure}).columns) > 1
		}
		if !found {
			t.Errorf("no family says what %s is", figure)
		}
	}
}
