// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// end is an end of a flow: a process of a workload, or a place outside.
func at(address, workload string, pid uint32) model.Endpoint {
	e := model.Endpoint{Address: netip.MustParseAddrPort(address)}
	if workload != "" {
		e.Workload = &model.Workload{Kind: model.WorkloadUnit, Name: workload + ".service", ID: workload, Slice: "system.slice"}
	}
	if pid > 0 {
		e.Process = &model.Process{Key: model.ProcessKey{PID: pid, Start: 1, Exec: 1}, ExecID: fmt.Sprintf("b-%x-1-1", pid), Binary: "/usr/bin/" + workload,
			Workload: e.Workload}
	}
	return e
}

func flowAt(t time.Time, id uint64, from, to model.Endpoint, sent, received uint64) *model.Event {
	return &model.Event{Type: model.TypeFlow, Time: t, Count: 1, Process: from.Process, Flow: &model.Flow{ID: id, Report: 1, State: model.FlowClosed,
		Protocol: "tcp", Verdict: model.FlowAllowed, Source: from, Destination: to, SRTT: time.Millisecond,
		Interval: model.FlowCounters{BytesSent: sent, BytesReceived: received, Retransmits: 1}}}
}

func web() model.Endpoint     { return at("10.0.0.1:4000", "web", 10) }
func db() model.Endpoint      { return at("10.0.0.2:5432", "db", 20) }
func outside() model.Endpoint { return at("192.0.2.1:443", "", 0) }

func TestMapOfWorkloads(t *testing.T) {
	g := NewGraph(GraphOptions{})
	g.Add(flowAt(noon, 1, web(), db(), 10, 20))
	again := flowAt(noon.Add(time.Second), 2, at("10.0.0.1:4001", "web", 11), db(), 1, 2)
	again.Flow.SRTT = 3 * time.Millisecond
	g.Add(again)
	named := outside()
	named.Name = "api.example.org"
	g.Add(flowAt(noon, 3, web(), named, 5, 5))
	named.Address = netip.MustParseAddrPort("192.0.2.2:443")
	g.Add(flowAt(noon, 4, web(), named, 5, 5))
	failed := flowAt(noon, 5, web(), outside(), 0, 0)
	failed.Flow.Verdict, failed.Count = model.FlowFailed, 3
	g.Add(failed)
	denied := flowAt(noon, 6, web(), outside(), 0, 0)
	denied.Flow.Verdict = model.FlowDenied
	g.Add(denied)
	g.Add(&model.Event{Type: model.TypeFile, File: &model.File{}})

	m := g.Map(100)
	if len(m.Nodes) != 4 || len(m.Edges) != 3 || m.NodesLeftOut != 0 {
		t.Fatalf("map is %+v", m)
	}
	e := m.Edges[len(m.Edges)-1]
	for _, x := range m.Edges {
		if x.Destination == "workload:db" {
			e = x
		}
	}
	want := model.MapEdge{ID: "workload:web→workload:db:tcp/5432", Source: "workload:web", Destination: "workload:db", Protocol: "tcp", Port: 5432,
		Flows: 2, BytesSent: 11, BytesReceived: 22, Retransmits: 2, RTT: 2 * time.Millisecond, FirstSeen: noon, LastSeen: noon.Add(time.Second)}
	if e != want {
		t.Errorf("edge is %+v, want %+v", e, want)
	}
	for _, n := range m.Nodes {
		switch {
		case n.ID == "external:api.example.org" && (len(n.Addresses) != 2 || n.Group != "external" || n.Kind != model.MapExternal),
			n.ID == "workload:web" && (n.Processes != 2 || n.Group != "system.slice" || n.Name != "web.service" || n.Kind != model.MapWorkload):
			t.Errorf("node is %+v", n)
		}
	}
	for _, x := range m.Edges {
		if x.Destination == "external:192.0.2.1" && (x.Failed != 3 || x.Denied != 1 || x.Flows != 4) {
			t.Errorf("attempts are %+v", x)
		}
	}
}

func TestMapByProcess(t *testing.T) {
	g := NewGraph(GraphOptions{Expand: []string{"workload:web"}})
	g.Add(flowAt(noon, 1, web(), db(), 10, 20))
	g.Add(flowAt(noon, 2, at("10.0.0.1:4001", "web", 11), db(), 10, 20))
	m := g.Map(100)
	kinds := make(map[model.MapNodeKind]int)
	for _, n := range m.Nodes {
		kinds[n.Kind]++
		if n.Kind == model.MapProcess && (n.Parent != "workload:web" || n.Process == nil) {
			t.Errorf("node is %+v", n)
		}
	}
	if kinds[model.MapProcess] != 2 || kinds[model.MapWorkload] != 2 || len(m.Edges) != 2 || m.Edges[0].Source != "process:b-a-1-1" {
		t.Errorf("map is %+v", m)
	}
}

func TestMapKeepsTheBiggest(t *testing.T) {
	g := NewGraph(GraphOptions{})
	for i := range 10_000 {
		a := at("10.0.0.1:1", fmt.Sprint("w", i), uint32(i+1))
		g.Add(flowAt(noon, uint64(i), a, at("10.0.0.2:5432", fmt.Sprint("w", (i+1)%10_000), 2), uint64(i), 0))
	}
	m := g.Map(100)
	if len(m.Nodes) != 100 || m.NodesLeftOut != 9_900 {
		t.Fatalf("%d nodes, %d left out", len(m.Nodes), m.NodesLeftOut)
	}
	for _, n := range m.Nodes {
		if n.ID == "workload:w5" {
			t.Error("one that said little is there")
		}
	}
	for _, e := range m.Edges {
		if e.Source == "" || e.Destination == "" {
			t.Errorf("edge is %+v", e)
		}
	}
	if all := g.Map(10_000); len(all.Nodes) != 10_000 || len(all.Edges) != 10_000 {
		t.Errorf("%d nodes and %d edges of all", len(all.Nodes), len(all.Edges))
	}
}

func TestCompareMarksWhatIsNewAndWhatVanished(t *testing.T) {
	before, now := NewGraph(GraphOptions{}), NewGraph(GraphOptions{})
	before.Add(flowAt(noon, 1, web(), db(), 1, 1))
	before.Add(flowAt(noon, 2, web(), outside(), 1, 1))
	now.Add(flowAt(noon, 1, web(), db(), 1, 1))
	now.Add(flowAt(noon, 2, db(), outside(), 1, 1))
	got := make(map[string]model.MapChange)
	m := now.Compare(before, 100)
	for _, e := range m.Edges {
		got[e.Source+" "+e.Destination] = e.Change
	}
	want := map[string]model.MapChange{"workload:web workload:db": model.MapSame, "workload:db external:192.0.2.1": model.MapNew,
		"workload:web external:192.0.2.1": model.MapVanished}
	if len(got) != 3 || len(m.Nodes) != 3 {
		t.Fatalf("map is %+v", m)
	}
	for id, change := range want {
		if got[id] != change {
			t.Errorf("%s is %q, want %q", id, got[id], change)
		}
	}
}

func TestAWindowMovesOn(t *testing.T) {
	g := NewGraph(GraphOptions{Window: 5 * time.Minute})
	g.Add(flowAt(noon, 1, web(), db(), 10, 20))
	open := flowAt(noon, 2, web(), outside(), 1, 1)
	open.Flow.State = model.FlowOpen
	g.Add(open)
	g.Advance(noon.Add(time.Minute))
	first := g.Map(100)
	g.Add(flowAt(noon.Add(4*time.Minute), 3, web(), db(), 1, 2))
	g.Advance(noon.Add(6 * time.Minute))
	second := g.Map(100)
	for _, e := range second.Edges {
		switch {
		case e.Destination == "workload:db" && (e.BytesSent != 1 || e.Flows != 1 || e.RTT != time.Millisecond),
			e.Destination == "external:192.0.2.1" && (e.Open != 1 || e.BytesSent != 0):
			t.Errorf("edge is %+v", e)
		}
	}
	d := Delta(&first, &second)
	if len(d.Edges) != 2 || len(d.Nodes) != 0 || len(d.RemovedEdges) != 0 {
		t.Errorf("delta is %+v", d)
	}
	ended := flowAt(noon.Add(7*time.Minute), 2, web(), outside(), 0, 0)
	ended.Flow.Report = 2
	g.Add(ended)
	g.Advance(noon.Add(20 * time.Minute))
	third := g.Map(100)
	d = Delta(&second, &third)
	if len(third.Edges) != 0 || len(d.RemovedEdges) != 2 || len(d.RemovedNodes) != 3 {
		t.Errorf("map is %+v, delta %+v", third, d)
	}
}

func request(t time.Time, role string, local, remote string, latency time.Duration, failed bool) *model.Event {
	p := web().Process
	if role == "server" {
		p = db().Process
	}
	return &model.Event{Type: model.TypeRequest, Time: t, Count: 1, Process: p, Request: &model.Request{Protocol: "postgresql", Role: role, Latency: latency, Failed: failed,
		Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote)}}
}

func TestRequestsAreOnTheEdgeOfTheirFlow(t *testing.T) {
	g := NewGraph(GraphOptions{})
	for i := range 100 {
		at := noon.Add(time.Duration(i) * time.Millisecond)
		// Both ends are here, and see the same request.
		g.Add(request(at, "client", "10.0.0.1:4000", "10.0.0.2:5432", 10*time.Millisecond, i%10 == 0))
		g.Add(request(at, "server", "10.0.0.2:5432", "10.0.0.1:4000", 9*time.Millisecond, i%10 == 0))
	}
	g.Add(flowAt(noon.Add(time.Second), 1, web(), db(), 10, 20))
	g.Add(request(noon, "client", "10.0.0.1:4009", "192.0.2.7:5432", time.Second, false)) // its flow is not told
	m := g.Map(100)
	if len(m.Edges) != 2 {
		t.Fatalf("map is %+v", m)
	}
	for _, e := range m.Edges {
		switch e.Destination {
		case "workload:db":
			if e.Requests != 100 || e.RequestErrors != 10 || e.Application != "postgresql" || e.LatencyP50 < 8*time.Millisecond || e.LatencyP99 > 12*time.Millisecond {
				t.Errorf("edge is %+v", e)
			}
		case "external:192.0.2.7":
			if e.Requests != 1 || e.Flows != 0 || e.LatencyP50 < 800*time.Millisecond || e.LatencyP50 > 1200*time.Millisecond {
				t.Errorf("edge is %+v", e)
			}
		default:
			t.Errorf("edge is %+v", e)
		}
	}
}

// A pod is one place on the map: by any of its containers, and as another node knows it.
func TestAPodIsOneNode(t *testing.T) {
	pod := func(e model.Endpoint, id, container string) model.Endpoint {
		e.Workload = &model.Workload{Kind: model.WorkloadPod, Namespace: "shop", Name: "db-0", ID: id, Container: container, PodUID: "u1"}
		return e
	}
	g := NewGraph(GraphOptions{})
	g.Add(flowAt(noon, 1, web(), pod(db(), "abc", "db"), 1, 1))
	g.Add(flowAt(noon, 2, web(), pod(at("10.0.0.2:9090", "db", 21), "def", "metrics"), 1, 1))
	g.Add(flowAt(noon, 3, web(), pod(at("10.0.0.2:5432", "", 0), "pod:u1", ""), 1, 1))
	if m := g.Map(100); len(m.Nodes) != 2 || len(m.Edges) != 2 {
		t.Errorf("map is %+v", m)
	}
	for _, expand := range []string{"workload:pod:u1", "abc"} {
		g := NewGraph(GraphOptions{Expand: []string{expand}})
		g.Add(flowAt(noon, 1, web(), pod(db(), "abc", "db"), 1, 1))
		if m := g.Map(100); len(m.Nodes) != 3 {
			t.Errorf("by process, %s: %+v", expand, m.Nodes)
		}
	}
}
