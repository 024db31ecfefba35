// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/vigie-io/vigie/internal/filter"
	"github.com/vigie-io/vigie/internal/flow"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor/socket"
	"github.com/vigie-io/vigie/internal/server"
)

// Agent answers about conversations.
var _ server.Flows = (*Agent)(nil)

// newFlows puts the flow table into the river: it sees every event, and its reports follow them.
func (a *Agent) newFlows() {
	if a.config.Flows == Off {
		return
	}
	o := flow.Options{MaxFlows: a.config.MaxFlows, Interval: a.config.FlowInterval, Losses: a.losses, Wall: a.clock.wall, Current: a.table.Get,
		Translated: a.translated}
	if a.config.Replay != "" {
		a.played = &playedFlows{}
		o.Wall = a.played.wall
		a.flows = flow.New(o)
		a.played.table = a.flows
		return
	}
	a.flows = flow.New(o)
	a.river.observers = append(a.river.observers, a.flows.See)
	a.river.sources = append(a.river.sources, func(emit func(*model.Event)) {
		now := a.clock.boottime()
		counted := a.readCounters(now)
		a.flows.Flush(now, counted, a.river.final, emit)
	})
}

// answersFlows is who answers about conversations; nil when they are not followed.
func (a *Agent) answersFlows() server.Flows {
	if a.flows == nil {
		return nil
	}
	return a
}

// Now implements server.Flows.
func (a *Agent) Now() time.Time {
	if a.played != nil {
		if newest := a.played.newest.Load(); newest != 0 {
			return time.Unix(0, newest+1)
		}
	}
	return time.Now()
}

// countersInterval is how often counters are read at most: of what is open, when reports are due, and of what has no connection.
const countersInterval = time.Second

// readCounters brings the flow table's counters up to date before it makes reports that need them, and says whether they are.
func (a *Agent) readCounters(now uint64) bool {
	s := a.sockets()
	if s == nil {
		return true
	}
	if !a.river.final && now < a.countersRead+uint64(countersInterval) {
		return false
	}
	// Those that would become due before the next reading, too. At the beginning all: what went over them before is not ours.
	interval := a.config.FlowInterval - countersInterval
	all := a.river.final || a.countersRead == 0
	if all {
		interval = 0
	}
	a.countersRead = now
	if all || a.flows.Wants(now) {
		if err := s.Counters(a.host, flow.DefaultFirstReport-countersInterval, interval, a.flows.Count); err != nil {
			a.log.Warn("flows are reported without their counters", "error", err)
		}
	}
	var silent []*socket.Talk
	err := s.Talks(func(k *socket.Talk) {
		if a.flows.Talk(now, a.talk(k)) {
			silent = append(silent, k)
		}
	})
	for _, k := range silent {
		err = errors.Join(err, s.Forget(k))
	}
	if err != nil {
		a.log.Warn("not all conversations without connection are followed", "error", err)
	}
	return true
}

// sockets is the socket sensor when it runs.
func (a *Agent) sockets() *socket.Sensor {
	for _, st := range a.sensors {
		if s, ok := st.Sensor.(*socket.Sensor); ok && st.state == "on" {
			return s
		}
	}
	return nil
}

// talk is a conversation as the flow table takes it.
func (a *Agent) talk(k *socket.Talk) *flow.Talk {
	t := &flow.Talk{Protocol: k.Protocol, Local: k.Local, Remote: k.Remote, Inbound: k.Inbound, Cookie: k.Cookie, NetNS: k.NetNS,
		First: k.First, Last: k.Last, Counters: k.Counters, ICMPType: k.ICMPType, ICMPCode: k.ICMPCode, Closed: k.Closed}
	if k.Owner.IsZero() {
		t.Workload = kernelWorkload()
		return t
	}
	t.Owner = a.table.Get(k.Owner)
	if !k.Inbound {
		t.Name, _ = a.names.Lookup(k.Owner, k.NetNS, k.Remote.Addr(), k.First)
	}
	return t
}

// kernelWorkload stands for what the kernel says by itself: answers to echo requests.
func kernelWorkload() *model.Workload {
	return &model.Workload{Kind: model.WorkloadKernel, Name: "kernel", ID: "kernel"}
}

// translated asks the socket sensor what stands behind the address of a conversation.
func (a *Agent) translated(cookie uint64, protocol string, local, remote netip.AddrPort) (flow.Translation, bool) {
	s := a.sockets()
	if s == nil {
		return flow.Translation{}, false
	}
	t, ok := s.Translated(cookie, protocol, local, remote)
	return flow.Translation(t), ok
}

// OpenFlows implements server.Flows.
func (a *Agent) OpenFlows(ctx context.Context, keep func(*model.Event) bool, limit int) ([]*model.Event, int, error) {
	if s := a.sockets(); s != nil {
		if err := s.Counters(a.host, 0, 0, a.flows.Count); err != nil {
			a.log.Warn("open flows are listed with the counters of their last report", "error", err)
		}
	}
	return a.flows.List(ctx, a.clock.boottime(), func(ev *model.Event) bool {
		a.nameFlow(ev)
		return keep(ev)
	}, limit)
}

// mapPage is how many events of history are looked at in one go.
const mapPage = 4096

// Map implements server.Flows.
func (a *Agent) Map(ctx context.Context, q server.MapQuery) (model.Map, error) {
	draw := func(since, until time.Time) (*flow.Graph, time.Time, error) {
		g := flow.NewGraph(flow.GraphOptions{Expand: q.Expand})
		complete, err := a.addHistory(ctx, g, q.Filter.During(since, until), nil)
		return g, complete, err
	}
	now, complete, err := draw(q.Since, q.Until)
	if err != nil {
		return model.Map{}, err
	}
	var m model.Map
	if q.Compare == nil {
		m = now.Map(q.MaxNodes)
	} else {
		before, _, err := draw(q.Compare.Since, q.Compare.Until)
		if err != nil {
			return model.Map{}, err
		}
		m = now.Compare(before, q.MaxNodes)
	}
	m.CompleteSince = complete
	return m, nil
}

// addHistory adds to a map what history knows; seen, where it is not nil, becomes the greatest number among the events of this
// run of the agent.
func (a *Agent) addHistory(ctx context.Context, g *flow.Graph, f *filter.Filter, seen *uint64) (complete time.Time, err error) {
	q := server.EventQuery{Filter: f, Limit: mapPage}
	for {
		page, err := a.Events(ctx, q)
		if err != nil {
			return complete, err
		}
		for _, ev := range page.Events {
			g.Add(ev)
		}
		if seen != nil {
			*seen = max(*seen, page.LastSeq)
		}
		complete = page.CompleteSince
		if q.Cursor = page.Next; q.Cursor == (server.EventCursor{}) {
			return complete, nil
		}
	}
}

// FollowMap implements server.Flows.
func (a *Agent) FollowMap(ctx context.Context, q server.MapQuery) (server.MapFollower, error) {
	f := &mapFollower{graph: flow.NewGraph(flow.GraphOptions{Expand: q.Expand, Window: q.Window}), nodes: q.MaxNodes,
		ticker: time.NewTicker(mapInterval)}
	// Before history is read, so that nothing is missed in between.
	f.events = a.Subscribe(pipeline.SubscribeOptions{Name: "map", Keep: func(ev *model.Event) bool {
		return (ev.Flow != nil || ev.Request != nil) && q.Filter.Keep(ev)
	}})
	if _, err := a.addHistory(ctx, f.graph, q.Filter.During(time.Now().Add(-q.Window), time.Time{}), &f.seen); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mapInterval is how often a map that is followed can change.
const mapInterval = time.Second

// mapFollower is one client's map.
type mapFollower struct {
	graph  *flow.Graph
	nodes  int
	events *pipeline.Subscription
	seen   uint64 // events up to this number came from history
	ticker *time.Ticker
	drawn  model.Map
	begun  bool
}

// Next implements server.MapFollower.
func (f *mapFollower) Next(ctx context.Context) (model.MapDelta, error) {
	for {
		if f.begun {
			if err := f.gather(ctx); err != nil {
				return model.MapDelta{}, err
			}
		}
		f.graph.Advance(time.Now())
		m := f.graph.Map(f.nodes)
		d := flow.Delta(&f.drawn, &m)
		f.drawn = m
		d.Whole = !f.begun
		f.begun = true
		if d.Whole || len(d.Nodes)+len(d.Edges)+len(d.RemovedNodes)+len(d.RemovedEdges) > 0 {
			return d, nil
		}
	}
}

// gather adds what happens until the next tick.
func (f *mapFollower) gather(ctx context.Context) error {
	tick, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-f.ticker.C:
			cancel()
		case <-tick.Done():
		}
	}()
	defer func() { cancel(); <-done }()
	for {
		batch, err := f.events.Next(tick)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case tick.Err() != nil && err != nil:
			return nil
		case err != nil:
			return err
		}
		for _, ev := range batch {
			if ev.Seq > f.seen {
				f.graph.Add(ev)
			}
		}
		if tick.Err() != nil {
			return nil
		}
	}
}

// Close implements server.MapFollower.
func (f *mapFollower) Close() {
	f.ticker.Stop()
	f.events.Close()
}
