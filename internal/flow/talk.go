// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// talk joins requests to the edge of the connection that carried them. The flow is mostly told after its first requests.
type talk struct {
	edge        *edge
	application string
	waiting     tally // until the flow is told
	first       *model.Event
	last        time.Time
}

// request counts a request on its edge, or keeps it until its flow tells which one that is.
func (g *Graph) request(ev *model.Event) {
	r := ev.Request
	at := source
	k := key{placeOf(r.Local), placeOf(r.Remote), tcp}
	if r.Role == "server" {
		k, at = k.reversed(), destination
	}
	var t tally
	n := &t.asked[at]
	n.n = uint64(max(ev.Count, 1))
	if r.Failed || r.NoAnswer {
		n.errors = n.n
	}
	if r.Latency > 0 {
		n.latency = new(histogram)
		n.latency.count(r.Latency)
	}
	c := g.talks[k]
	if c == nil {
		if len(g.talks) >= maxTalks {
			g.count(g.guess(ev, at), ev.Time, &t)
			return
		}
		c = &talk{first: ev}
		g.talks[k] = c
	}
	c.last, c.application = ev.Time, r.Protocol
	if c.edge == nil {
		c.waiting.add(&t, 1)
		return
	}
	c.edge.last, c.edge.application = ev.Time, r.Protocol
	g.count(c.edge, ev.Time, &t)
}

// guess is the edge of a request whose flow is not known: its other end is a place outside.
func (g *Graph) guess(ev *model.Event, at side) *edge {
	r := ev.Request
	own := model.Endpoint{Address: r.Local, Process: ev.Process}
	if ev.Process != nil {
		own.Workload = ev.Process.Workload
	}
	other := model.Endpoint{Address: r.Remote, Name: r.RemoteName}
	e := g.edge
	if at == source {
		return e(g.node(&own), g.node(&other), "tcp", r.Remote.Port(), ev.Time)
	}
	return e(g.node(&other), g.node(&own), "tcp", r.Local.Port(), ev.Time)
}

// carry gives an edge the requests that went over a flow of it.
func (g *Graph) carry(f *model.Flow, e *edge) {
	if f.Protocol != "tcp" || len(g.talks) == 0 {
		return
	}
	k := key{placeOf(f.Source.Address), placeOf(f.Destination.Address), tcp}
	c := g.talks[k]
	if c == nil {
		return
	}
	g.settle(c, e)
	if f.State == model.FlowClosed {
		delete(g.talks, k)
	}
}

func (g *Graph) settle(c *talk, e *edge) {
	c.edge, c.first, e.application = e, nil, c.application
	g.count(e, c.last, &c.waiting)
	c.waiting = tally{}
}

// settleAll gives edges to requests that have waited for their flow since a moment and before.
func (g *Graph) settleAll(since time.Time) {
	for k, c := range g.talks {
		if c.edge == nil && c.first.Time.Before(since) {
			at := source
			if c.first.Request.Role == "server" {
				at = destination
			}
			g.settle(c, g.guess(c.first, at))
			delete(g.talks, k)
		}
	}
}
