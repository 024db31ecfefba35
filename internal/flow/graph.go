// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Bounds of a Graph. Beyond them what is new becomes part of one node, so that nothing is missing from the sums.
const (
	maxNodes     = 50_000
	maxAddresses = 16
	maxTalks     = 100_000 // connections over which requests were seen, and open flows, that are told apart
)

// GraphOptions say how to draw a map.
type GraphOptions struct {
	// Expand are ids of workloads (a node's, the workload's own, or its pod's uid) that are shown by process; "*" is all.
	Expand []string
	// Window is how far the map looks back (Advance); 0: everything that was added counts.
	Window time.Duration
}

// Graph makes the map of who talks to whom. In: flow and request events. Out: model.Map. Not safe for concurrent use.
type Graph struct {
	all    bool
	expand map[string]bool
	window time.Duration
	nodes  map[string]*node
	edges  map[edgeKey]*edge
	open   map[uint64]*edge // by flow id
	talks  map[key]*talk    // connections that carry requests
	slots  []*slot          // of a window, oldest first
}

type node struct {
	model.MapNode
	processes map[model.ProcessKey]struct{}
	edges     int
	said      uint64 // bytes and flows, for what is left out
}

type edgeKey struct {
	source, destination *node
	protocol            string
	port                uint16
}

type edge struct {
	edgeKey
	tally
	id          string
	application string
	open        uint64
	first, last time.Time
}

// NewGraph returns an empty map.
func NewGraph(o GraphOptions) *Graph {
	g := &Graph{expand: make(map[string]bool), window: o.Window, nodes: make(map[string]*node), edges: make(map[edgeKey]*edge),
		open: make(map[uint64]*edge), talks: make(map[key]*talk)}
	for _, id := range o.Expand {
		g.all = g.all || id == "*"
		g.expand[strings.TrimPrefix(id, "workload:")] = true
	}
	return g
}

// Add takes in an event. All but flows and requests pass.
func (g *Graph) Add(ev *model.Event) {
	switch {
	case ev.Flow != nil:
		g.flow(ev)
	case ev.Request != nil:
		g.request(ev)
	}
}

func (g *Graph) flow(ev *model.Event) {
	f := ev.Flow
	e := g.edge(g.node(&f.Source), g.node(&f.Destination), f.Protocol, f.Destination.Address.Port(), ev.Time)
	var t tally
	t.flow(ev)
	g.count(e, ev.Time, &t)
	switch {
	case g.window == 0: // nothing of the past is open
	case f.State == model.FlowClosed:
		if was := g.open[f.ID]; was != nil {
			was.open--
			delete(g.open, f.ID)
		}
	case len(g.open) < maxTalks && g.open[f.ID] == nil:
		g.open[f.ID] = e
		e.open++
	}
	g.carry(f, e)
}

// node is the node of one end of a flow.
func (g *Graph) node(e *model.Endpoint) *node {
	if e.Workload == nil && e.Process == nil {
		return g.external(e)
	}
	w := e.Workload
	if w == nil {
		w = &model.Workload{Kind: model.WorkloadUnknown, Name: "unknown", ID: "unknown"}
	}
	id := w.ID
	if w.PodUID != "" {
		id = "pod:" + w.PodUID // all its containers, and what is known of it from afar
	}
	parent := g.get("workload:"+id, func(n *model.MapNode) {
		n.Kind, n.Name, n.Group, n.Workload = model.MapWorkload, w.Name, cmp.Or(w.Namespace, w.Slice, string(w.Kind)), w
	})
	if parent.Kind == model.MapWorkload {
		parent.Workload, parent.Name = w, w.Name // its name may have become known meanwhile
	}
	if e.Process == nil {
		return parent
	}
	if len(parent.processes) < maxTalks {
		if parent.processes == nil {
			parent.processes = make(map[model.ProcessKey]struct{})
		}
		parent.processes[e.Process.Key] = struct{}{}
	}
	if !g.all && !g.expand[id] && !g.expand[w.ID] {
		return parent
	}
	return g.get("process:"+e.Process.ExecID, func(n *model.MapNode) {
		n.Kind, n.Name, n.Group, n.Workload, n.Process, n.Parent = model.MapProcess,
			fmt.Sprintf("%s (%d)", base(e.Process.Binary), e.Process.Key.PID), parent.Group, w, e.Process, parent.ID
	})
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func (g *Graph) external(e *model.Endpoint) *node {
	addr := e.Address.Addr().Unmap().WithZone("").String()
	name := cmp.Or(e.Name, addr)
	n := g.get("external:"+name, func(n *model.MapNode) {
		n.Kind, n.Name, n.Group = model.MapExternal, name, "external"
	})
	if len(n.Addresses) < maxAddresses && !slices.Contains(n.Addresses, addr) {
		n.Addresses = append(slices.Clip(n.Addresses), addr)
	}
	return n
}

// get returns the node with an id, making it; when there are too many, the node of all others.
func (g *Graph) get(id string, fill func(*model.MapNode)) *node {
	if n := g.nodes[id]; n != nil {
		return n
	}
	if len(g.nodes) >= maxNodes {
		id = "external:others"
		fill = func(n *model.MapNode) { n.Kind, n.Name, n.Group = model.MapExternal, "others", "external" }
		if n := g.nodes[id]; n != nil {
			return n
		}
	}
	n := &node{MapNode: model.MapNode{ID: id}}
	fill(&n.MapNode)
	g.nodes[id] = n
	return n
}

func (g *Graph) edge(source, destination *node, protocol string, port uint16, at time.Time) *edge {
	k := edgeKey{source, destination, protocol, port}
	e := g.edges[k]
	if e == nil {
		e = &edge{edgeKey: k, id: fmt.Sprintf("%s→%s:%s/%d", source.ID, destination.ID, protocol, port), first: at}
		g.edges[k] = e
		source.edges++
		destination.edges++
	}
	if at.After(e.last) {
		e.last = at
	}
	if at.Before(e.first) {
		e.first = at
	}
	return e
}

// Map draws what was added: at most so many nodes, those that said most.
func (g *Graph) Map(nodes int) model.Map {
	g.settlePast()
	return g.draw(nodes, nil)
}

// settlePast is for a map of the past, where no more flows come.
func (g *Graph) settlePast() {
	if g.window == 0 {
		g.settleAll(time.Unix(1<<40, 0))
	}
}

// Compare draws g and what differs from before: edges that are new, and those that vanished.
func (g *Graph) Compare(before *Graph, nodes int) model.Map {
	g.settlePast()
	before.settlePast()
	known := make(map[string]bool, len(before.edges))
	for _, e := range before.edges {
		known[e.id] = true
	}
	change := make(map[string]model.MapChange)
	here := make(map[string]bool, len(g.edges))
	for _, e := range g.edges {
		here[e.id] = true
		if !known[e.id] {
			change[e.id] = model.MapNew
		}
	}
	for _, e := range before.edges {
		if !here[e.id] {
			change[e.id] = model.MapVanished
			g.adopt(e)
		}
	}
	return g.draw(nodes, change)
}

// adopt takes over an edge of another graph.
func (g *Graph) adopt(e *edge) {
	twin := func(n *node) *node {
		t := g.get(n.ID, func(m *model.MapNode) { *m = n.MapNode })
		if n.Parent != "" && g.nodes[n.Parent] == nil {
			g.get(n.Parent, func(m *model.MapNode) {
				m.Kind, m.Name, m.Group, m.Workload = model.MapWorkload, n.Workload.Name, n.Group, n.Workload
			})
		}
		return t
	}
	c := *e
	c.source, c.destination, c.open = twin(e.source), twin(e.destination), 0
	g.edges[c.edgeKey] = &c
	c.source.edges++
	c.destination.edges++
}
