// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/vigie-io/vigie/internal/model"
)

// draw makes a map of the biggest nodes, with the edges between them.
func (g *Graph) draw(limit int, change map[string]model.MapChange) model.Map {
	for _, n := range g.nodes {
		n.said = 0
	}
	for _, e := range g.edges {
		said := e.sent + e.received + e.flows // a denied attempt says nothing, and is there all the same
		e.source.said += said
		e.destination.said += said
	}
	drawn := make([]*node, 0, len(g.nodes))
	for _, n := range g.nodes {
		if n.edges > 0 {
			drawn = append(drawn, n)
		}
	}
	var m model.Map
	if len(drawn) > limit {
		slices.SortFunc(drawn, func(a, b *node) int {
			return cmp.Or(cmp.Compare(b.said, a.said), cmp.Compare(a.ID, b.ID))
		})
		m.NodesLeftOut = len(drawn) - limit
		drawn = drawn[:limit]
	}
	kept := make(map[*node]bool, len(drawn))
	for _, n := range drawn {
		kept[n] = true
		if parent := g.nodes[n.Parent]; parent != nil {
			kept[parent] = true
		}
	}
	for n := range kept {
		out := n.MapNode
		out.Processes = len(n.processes)
		m.Nodes = append(m.Nodes, out)
	}
	for _, e := range g.edges {
		if kept[e.source] && kept[e.destination] {
			m.Edges = append(m.Edges, e.draw(change[e.id]))
		}
	}
	slices.SortFunc(m.Nodes, func(a, b model.MapNode) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(m.Edges, func(a, b model.MapEdge) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.ID, b.ID))
	})
	return m
}

func (e *edge) draw(change model.MapChange) model.MapEdge {
	m := model.MapEdge{ID: e.id, Source: e.source.ID, Destination: e.destination.ID, Protocol: e.protocol, Port: e.port,
		Application: e.application, Flows: e.flows, Open: e.open, Denied: e.denied, Audited: e.audited, Failed: e.failed,
		BytesSent: e.sent, BytesReceived: e.received, Retransmits: e.retransmits, FirstSeen: e.first, LastSeen: e.last, Change: change}
	if e.rtts > 0 {
		m.RTT = e.rtt / duration(e.rtts)
	}
	r := e.requests()
	m.Requests, m.RequestErrors = r.n, r.errors
	m.LatencyP50, m.LatencyP99 = r.latency.quantile(0.5), r.latency.quantile(0.99)
	return m
}

// Delta is what turns one map into another.
func Delta(before, after *model.Map) model.MapDelta {
	d := model.MapDelta{NodesLeftOut: after.NodesLeftOut}
	nodes := make(map[string]*model.MapNode, len(before.Nodes))
	for i := range before.Nodes {
		nodes[before.Nodes[i].ID] = &before.Nodes[i]
	}
	for i := range after.Nodes {
		n := &after.Nodes[i]
		if old := nodes[n.ID]; old == nil || !reflect.DeepEqual(old, n) {
			d.Nodes = append(d.Nodes, *n)
		}
		delete(nodes, n.ID)
	}
	edges := make(map[string]*model.MapEdge, len(before.Edges))
	for i := range before.Edges {
		edges[before.Edges[i].ID] = &before.Edges[i]
	}
	for i := range after.Edges {
		e := &after.Edges[i]
		if old := edges[e.ID]; old == nil || *old != *e {
			d.Edges = append(d.Edges, *e)
		}
		delete(edges, e.ID)
	}
	d.RemovedNodes, d.RemovedEdges = slices.Sorted(maps.Keys(nodes)), slices.Sorted(maps.Keys(edges))
	return d
}
