// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

func TestStreamOfAllNodesInOneOrder(t *testing.T) {
	a, b, c := newFakeAgent(t, "a"), newFakeAgent(t, "b"), newFakeAgent(t, "c")
	now := time.Now()
	var want []string
	for i := range 30 {
		f := []*fakeAgent{a, b, c}[i%3]
		path := fmt.Sprintf("/%d", i)
		f.happenAt(path, now.Add(time.Duration(i-100)*time.Millisecond))
		want = append(want, f.name+" "+path)
	}
	r := startRelay(t, nil, a, b, c)
	whole := r.read(t, &pb.StreamEventsRequest{NoFollow: true})
	<-whole.done
	if got := whole.got(); whole.ended != nil || !slices.Equal(got, want) {
		t.Errorf("the past is %v, ended %v", got, whole.ended)
	}
	last := r.read(t, &pb.StreamEventsRequest{Last: 5})
	await(t, "the last five", func() bool { return slices.Equal(last.got(), want[25:]) })
	for i := range 10 {
		f := []*fakeAgent{b, a}[i%2]
		path := fmt.Sprintf("/live%d", i)
		f.happen(path)
		want = append(want, f.name+" "+path)
	}
	await(t, "what happens then", func() bool { return len(last.got()) >= 15 })
	if got := last.got(); !slices.Equal(got, want[25:]) {
		t.Errorf("got %v\nwant %v", got, want[25:])
	}
	one := r.read(t, &pb.StreamEventsRequest{NoFollow: true, Filter: &pb.Filter{Nodes: []string{"b*"}}})
	<-one.done
	if got := one.got(); len(got) != 15 || slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(s, "b ") }) {
		t.Errorf("of node b: %v", got)
	}
	bad := r.read(t, &pb.StreamEventsRequest{Filter: &pb.Filter{Where: "bad"}})
	<-bad.done
	if connect.CodeOf(bad.ended) != connect.CodeInvalidArgument {
		t.Errorf("a filter that makes no sense: %v", bad.ended)
	}
}

// Clocks that are off do not change the order, and are told.
func TestClocksThatAreOff(t *testing.T) {
	a, b := newFakeAgent(t, "a"), newFakeAgent(t, "b")
	b.ahead = 7 * time.Minute
	now := time.Now()
	var want []string
	for i := range 20 {
		f := []*fakeAgent{a, b}[i%2]
		f.happenAt(fmt.Sprintf("/%d", i), now.Add(time.Duration(i-20)*time.Second))
		want = append(want, fmt.Sprintf("%s /%d", f.name, i))
	}
	r := startRelay(t, nil, a, b)
	rd := r.read(t, &pb.StreamEventsRequest{NoFollow: true})
	<-rd.done
	if got := rd.got(); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for _, n := range r.Nodes() {
		off := time.Duration(n.GetClockOffsetNs())
		if want := map[string]time.Duration{"a": 0, "b": b.ahead}[n.GetName()]; (off - want).Abs() > time.Second {
			t.Errorf("the clock of %s is told to be off by %v", n.GetName(), off)
		}
		if (n.GetMessage() != "") != (n.GetName() == "b") {
			t.Errorf("of %s is said: %q", n.GetName(), n.GetMessage())
		}
	}
	// A time that is asked for is one by the relay's clock.
	since := r.read(t, &pb.StreamEventsRequest{NoFollow: true, Filter: &pb.Filter{Since: stamp(now.Add(-9500 * time.Millisecond))}})
	<-since.done
	if got := since.got(); !slices.Equal(got, want[11:]) {
		t.Errorf("since then: %v\nwant %v", got, want[11:])
	}
}

// A node that is killed, and one that hangs, hold nobody up; they are told, and what they saw meanwhile comes when they are back.
func TestNodesThatGoAndComeBack(t *testing.T) {
	a, b, c := newFakeAgent(t, "a"), newFakeAgent(t, "b"), newFakeAgent(t, "c")
	r := startRelay(t, nil, a, b, c)
	rd := r.read(t, &pb.StreamEventsRequest{})
	for _, f := range []*fakeAgent{a, b, c} {
		await(t, "the stream of "+f.name, func() bool {
			f.happen("/first")
			return slices.Contains(rd.got(), f.name+" /first")
		})
	}
	b.stop()
	goOn := c.stall()
	await(t, "the nodes to be seen away", func() bool { return r.state("b") == stateUnavailable && r.state("c") == stateUnavailable })
	await(t, "the client to be told", func() bool {
		return slices.Contains(rd.told(), "b unavailable") && slices.Contains(rd.told(), "c unavailable")
	})
	b.happen("/cut off")
	c.happen("/stalled")
	a.happen("/others")
	await(t, "the node that is there", func() bool { return slices.Contains(rd.got(), "a /others") })
	list, err := r.client.ListProcesses(t.Context(), connect.NewRequest(&pb.ListProcessesRequest{}))
	if err != nil || len(list.Msg.GetProcesses()) != 3 || len(list.Msg.GetNodeErrors()) != 2 {
		t.Errorf("processes while two nodes are away: %v, %v", list, err)
	}
	if slices.Contains(rd.got(), "b /cut off") || slices.Contains(rd.got(), "c /stalled") {
		t.Error("nodes that are away say something")
	}
	b.serve(t, b.address)
	goOn()
	await(t, "what they saw meanwhile", func() bool {
		return slices.Contains(rd.got(), "b /cut off") && slices.Contains(rd.got(), "c /stalled")
	})
	counts := make(map[string]int)
	for _, l := range rd.got() {
		counts[l]++
	}
	if counts["b /cut off"] != 1 || counts["c /stalled"] != 1 || len(rd.lost) > 0 {
		t.Errorf("told more than once, or lost: %v, %v", counts, rd.lost)
	}
}

// What an agent does not remember of the time when its node was away is told as lost; so is that an agent began anew.
func TestWhatNobodyRemembersIsToldAsLost(t *testing.T) {
	for _, c := range []struct {
		what string
		then func(*fakeAgent)
		says string
	}{
		{"forgotten", func(f *fakeAgent) {
			f.happen("/forgotten")
			f.mu.Lock()
			f.forgot = len(f.events)
			f.mu.Unlock()
		}, "does not remember"},
		{"began anew", func(f *fakeAgent) {
			f.mu.Lock()
			f.started, f.events = time.Now(), nil
			f.mu.Unlock()
		}, "began anew"},
	} {
		a := newFakeAgent(t, "a")
		r := startRelay(t, nil, a)
		rd := r.read(t, &pb.StreamEventsRequest{})
		await(t, "the stream", func() bool {
			a.happen("/first")
			return len(rd.got()) > 0
		})
		a.stop()
		await(t, "the node to be seen away", func() bool { return r.state("a") == stateUnavailable })
		c.then(a)
		a.serve(t, a.address)
		a.happen("/then")
		await(t, c.what+": the node to be back", func() bool { return slices.Contains(rd.got(), "a /then") })
		rd.mu.Lock()
		if len(rd.lost) != 1 || !strings.Contains(rd.lost[0], c.says) {
			t.Errorf("%s: lost is %q", c.what, rd.lost)
		}
		rd.mu.Unlock()
		if n := r.Nodes()[0]; n.GetLost() == 0 {
			t.Errorf("%s: nothing is counted as lost", c.what)
		}
	}
}

// An agent that does not know a call is told as older, and is no failure.
func TestOlderAgents(t *testing.T) {
	a, old := newFakeAgent(t, "a"), newFakeAgent(t, "b")
	old.old = true
	old.ahead = time.Hour
	r := startRelay(t, nil, a, old)
	_, err := r.client.GetMap(t.Context(), connect.NewRequest(&pb.GetMapRequest{}))
	if connect.CodeOf(err) != connect.CodeUnimplemented || !strings.Contains(err.Error(), "older") {
		t.Errorf("a call that no agent knows: %v", err)
	}
	for _, n := range r.Nodes() {
		if n.GetState() != stateConnected || !slices.Equal(n.GetMissing(), []string{"GetMap"}) || !strings.Contains(n.GetMessage(), "is older than this relay") {
			t.Errorf("the older agent is told as %v", n)
		}
		if n.GetName() == "b" && (time.Duration(n.GetClockOffsetNs())-time.Hour).Abs() > 2*time.Second {
			t.Errorf("its clock, by its HTTP header, is off by %v", time.Duration(n.GetClockOffsetNs()))
		}
	}
	health, err := r.client.Health(t.Context(), connect.NewRequest(&pb.HealthRequest{}))
	if err != nil || !health.Msg.GetReady() {
		t.Errorf("health: %v, %v", health, err)
	}
}

func TestAListThatChanges(t *testing.T) {
	a, b := newFakeAgent(t, "a"), newFakeAgent(t, "b")
	r := startRelay(t, nil, a)
	rd := r.read(t, &pb.StreamEventsRequest{})
	await(t, "the stream", func() bool {
		a.happen("/old")
		return len(rd.got()) > 0
	})
	r.agents.set <- []Agent{{Address: b.address}, {Address: "127.0.0.1:1", Name: "dead"}}
	await(t, "the new node", func() bool {
		return r.state("b") == stateConnected && r.state("dead") == stateUnavailable && r.state("a") == ""
	})
	await(t, "its events", func() bool {
		b.happen("/new")
		return slices.Contains(rd.got(), "b /new")
	})
	await(t, "the client to be told of them", func() bool {
		return slices.Contains(rd.told(), "a gone") && slices.Contains(rd.told(), "dead unavailable")
	})
	status, err := r.client.GetStatus(t.Context(), connect.NewRequest(&pb.GetStatusRequest{}))
	if err != nil || len(status.Msg.GetStatus().GetNodes()) != 2 || status.Msg.GetStatus().GetEvents()["file"] == 0 {
		t.Errorf("status: %v, %v", status, err)
	}
	one, err := r.client.GetStatus(t.Context(), connect.NewRequest(&pb.GetStatusRequest{Node: "b"}))
	if err != nil || one.Msg.GetStatus().GetHost() != "b" {
		t.Errorf("status of one node: %v, %v", one, err)
	}
	if _, err := r.client.GetStatus(t.Context(), connect.NewRequest(&pb.GetStatusRequest{Node: "a"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("status of a node that is gone: %v", err)
	}
}

// A client that reads nothing holds up nobody else, and what waits for it in the relay is bounded.
func TestAClientThatReadsNothing(t *testing.T) {
	a := newFakeAgent(t, "a")
	const events = 4000
	r := startRelay(t, func(o *Options) { o.Queue = 256 }, a)
	ctx, cancel := context.WithCancel(t.Context())
	idle, err := r.client.StreamEvents(ctx, connect.NewRequest(&pb.StreamEventsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel() // else Close reads on
		_ = idle.Close()
	}()
	rd := r.read(t, &pb.StreamEventsRequest{})
	await(t, "the stream", func() bool {
		a.happen("/first")
		return len(rd.got()) > 0
	})
	long := strings.Repeat("x", 4000) // more than the connections hold
	for i := range events {
		a.happen(fmt.Sprintf("/%d/%s", i, long))
	}
	await(t, "all events for the one who reads", func() bool {
		rd.mu.Lock()
		defer rd.mu.Unlock()
		return strings.HasPrefix(rd.lines[len(rd.lines)-1], fmt.Sprintf("a /%d/", events-1))
	})
	if n := r.Nodes()[0]; n.GetQueued() > 2*(256+256) {
		t.Errorf("%d events wait in the relay", n.GetQueued())
	}
}

// An agent that is upgraded begins to answer what it did not know, in streams that are open already; and its numbers begin anew.
func TestAnAgentThatIsUpgraded(t *testing.T) {
	a := newFakeAgent(t, "a")
	a.unknown = "StreamEvents"
	r := startRelay(t, nil, a)
	rd := r.read(t, &pb.StreamEventsRequest{})
	await(t, "the agent to be told as older", func() bool { return slices.Equal(r.Nodes()[0].GetMissing(), []string{"StreamEvents"}) })
	upgrade := func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.unknown, a.started, a.events = "", time.Now(), nil
		a.cut() // its process ends, and the next one is there at once
		_ = a.served.Close()
	}
	upgrade()
	a.serve(t, a.address)
	await(t, "its events", func() bool {
		a.happen("/new")
		return slices.Contains(rd.got(), "a /new")
	})
	if n := r.Nodes()[0]; len(n.GetMissing()) > 0 || n.GetMessage() != "" {
		t.Errorf("after the upgrade it is told as %v", n)
	}
	upgrade()
	a.serve(t, a.address)
	await(t, "events of the next one, whose numbers are lower", func() bool {
		a.happen("/newest")
		return slices.Contains(rd.got(), "a /newest")
	})
}

// Two agents that say the same name are told apart.
func TestTwoNodesOfOneName(t *testing.T) {
	r := startRelay(t, nil, newFakeAgent(t, "a"), newFakeAgent(t, "a"))
	if x, y := r.Nodes()[0].GetName(), r.Nodes()[1].GetName(); x == y || x != "a" || !strings.HasPrefix(y, "a (127.0.0.1:") {
		t.Errorf("they are called %s and %s", x, y)
	}
}
