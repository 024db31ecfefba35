// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// atlas makes one map of those of several nodes. A workload is its node's own, what is outside is the same for all of them.
// A pod is known by its uid wherever it is seen from: an edge between pods that both of their nodes have seen is one edge.
type atlas struct {
	nodes   map[string]*pb.MapNode
	edges   map[string]*drawnEdge
	leftOut uint32
}

// drawnEdge is an edge with what each node has said of it.
type drawnEdge struct {
	id                  string
	source, destination string
	by                  map[string]*pb.MapEdge
}

// podPrefix is the beginning of the id of a pod on the merged map; its uid follows.
const podPrefix = "pod:"

// add takes in the map of a node.
func (a *atlas) add(node string, nodes []*pb.MapNode, edges []*pb.MapEdge, leftOut uint32) {
	if a.nodes == nil {
		a.nodes, a.edges = make(map[string]*pb.MapNode), make(map[string]*drawnEdge)
	}
	a.leftOut += leftOut
	ids := make(map[string]string, len(nodes))
	for _, n := range nodes {
		ids[n.GetId()] = globalID(node, n)
	}
	for _, n := range nodes {
		a.place(node, ids[n.GetId()], ids[n.GetParent()], n)
	}
	for _, e := range edges {
		source, destination := ids[e.GetSource()], ids[e.GetDestination()]
		if source == "" || destination == "" {
			continue // an end is on no map: it was left out
		}
		id := fmt.Sprintf("%s→%s:%s/%d", source, destination, e.GetProtocol(), e.GetPort())
		d := a.edges[id]
		if d == nil {
			d = &drawnEdge{id: id, source: source, destination: destination, by: make(map[string]*pb.MapEdge)}
			a.edges[id] = d
		}
		if before := d.by[node]; before != nil {
			addEdge(before, e) // two containers of one pod
		} else {
			d.by[node] = proto.CloneOf(e)
		}
	}
}

// globalID is the id of a node of one node's map among those of all.
func globalID(node string, n *pb.MapNode) string {
	switch {
	case n.GetKind() == "external":
		return n.GetId()
	case n.GetKind() == "workload" && n.GetWorkload().GetPodUid() != "":
		return podPrefix + n.GetWorkload().GetPodUid()
	}
	return node + "/" + n.GetId()
}

func (a *atlas) place(node, id, parent string, n *pb.MapNode) {
	n = proto.CloneOf(n)
	n.Id, n.Parent = id, parent
	if n.GetKind() != "external" && (n.GetProcesses() > 0 || n.GetProcess() != nil) {
		n.Node = node
	}
	had := a.nodes[id]
	switch {
	case had == nil:
		a.nodes[id] = n
	case n.GetKind() == "external":
		for _, address := range n.GetAddresses() {
			if !slices.Contains(had.GetAddresses(), address) && len(had.GetAddresses()) < 16 {
				had.Addresses = append(had.GetAddresses(), address)
			}
		}
	case had.GetNode() == node: // another container of the pod
		had.Processes += n.GetProcesses()
	case n.GetNode() != "": // where it is more is known of it than from where it was spoken to
		a.nodes[id] = n
	}
}

// addEdge adds what the same node has seen between the same ends.
func addEdge(to, e *pb.MapEdge) {
	if to.GetFlows()+e.GetFlows() > 0 {
		to.RttNs = int64((float64(to.GetRttNs())*float64(to.GetFlows()) + float64(e.GetRttNs())*float64(e.GetFlows())) / float64(to.GetFlows()+e.GetFlows()))
	}
	if e.GetRequests() > to.GetRequests() {
		to.Application, to.LatencyP50Ns = e.GetApplication(), e.GetLatencyP50Ns()
	}
	to.LatencyP99Ns = max(to.GetLatencyP99Ns(), e.GetLatencyP99Ns())
	to.Flows += e.GetFlows()
	to.Open += e.GetOpen()
	to.Denied += e.GetDenied()
	to.Audited += e.GetAudited()
	to.Failed += e.GetFailed()
	to.BytesSent += e.GetBytesSent()
	to.BytesReceived += e.GetBytesReceived()
	to.Retransmits += e.GetRetransmits()
	to.Requests += e.GetRequests()
	to.RequestErrors += e.GetRequestErrors()
	widen(to, e)
}

// widen makes the time of an edge that of both.
func widen(to, e *pb.MapEdge) {
	if t := e.GetFirstSeen(); t != nil && (to.GetFirstSeen() == nil || t.AsTime().Before(to.GetFirstSeen().AsTime())) {
		to.FirstSeen = t
	}
	if t := e.GetLastSeen(); t != nil && (to.GetLastSeen() == nil || t.AsTime().After(to.GetLastSeen().AsTime())) {
		to.LastSeen = t
	}
	if to.GetChange() != e.GetChange() {
		to.Change = "" // for one of them it is in both times
	}
}

// drawn is the edge as it is shown. Two nodes that saw it saw the same conversations from either end: the one that saw more
// is right.
func (d *drawnEdge) drawn() *pb.MapEdge {
	var out, asked *pb.MapEdge
	for _, node := range slices.Sorted(maps.Keys(d.by)) {
		e := d.by[node]
		if out == nil || e.GetBytesSent()+e.GetBytesReceived()+e.GetFlows() > out.GetBytesSent()+out.GetBytesReceived()+out.GetFlows() {
			out = e
		}
		if asked == nil || e.GetRequests() > asked.GetRequests() {
			asked = e
		}
	}
	out = proto.CloneOf(out)
	for _, e := range d.by {
		out.Denied, out.Audited, out.Failed = max(out.GetDenied(), e.GetDenied()), max(out.GetAudited(), e.GetAudited()), max(out.GetFailed(), e.GetFailed())
		widen(out, e)
	}
	out.Application, out.Requests, out.RequestErrors = cmp.Or(asked.GetApplication(), out.GetApplication()), asked.GetRequests(), asked.GetRequestErrors()
	out.LatencyP50Ns, out.LatencyP99Ns = asked.GetLatencyP50Ns(), asked.GetLatencyP99Ns()
	out.Id, out.Source, out.Destination = d.id, d.source, d.destination
	return out
}

// draw is the whole, with at most so many nodes: those that said most.
func (a *atlas) draw(limit int) ([]*pb.MapNode, []*pb.MapEdge, uint32) {
	edges := make([]*pb.MapEdge, 0, len(a.edges))
	said := make(map[string]uint64, len(a.nodes))
	for _, d := range a.edges {
		e := d.drawn()
		edges = append(edges, e)
		n := e.GetBytesSent() + e.GetBytesReceived() + e.GetFlows()
		said[e.GetSource()] += n
		said[e.GetDestination()] += n
	}
	nodes := make([]*pb.MapNode, 0, len(a.nodes))
	for _, n := range a.nodes {
		nodes = append(nodes, n)
	}
	leftOut := a.leftOut
	if len(nodes) > limit {
		slices.SortFunc(nodes, func(x, y *pb.MapNode) int {
			return cmp.Or(cmp.Compare(said[y.GetId()], said[x.GetId()]), cmp.Compare(x.GetId(), y.GetId()))
		})
		kept := make(map[string]bool, limit)
		for _, n := range nodes[:limit] {
			kept[n.GetId()] = true
			kept[n.GetParent()] = true
		}
		nodes = slices.DeleteFunc(nodes, func(n *pb.MapNode) bool { return !kept[n.GetId()] })
		leftOut += uint32(len(a.nodes) - len(nodes))
		edges = slices.DeleteFunc(edges, func(e *pb.MapEdge) bool { return !kept[e.GetSource()] || !kept[e.GetDestination()] })
	}
	slices.SortFunc(nodes, func(x, y *pb.MapNode) int {
		return cmp.Or(cmp.Compare(x.GetGroup(), y.GetGroup()), cmp.Compare(x.GetName(), y.GetName()), cmp.Compare(x.GetId(), y.GetId()))
	})
	slices.SortFunc(edges, func(x, y *pb.MapEdge) int {
		return cmp.Or(cmp.Compare(x.GetSource(), y.GetSource()), cmp.Compare(x.GetDestination(), y.GetDestination()), cmp.Compare(x.GetId(), y.GetId()))
	})
	return nodes, edges, leftOut
}
