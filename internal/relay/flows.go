// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// The bounds of lists: those of an agent.
const (
	defaultFlows = 1000
	maxFlows     = 100_000
	defaultNodes = 1000
	maxNodes     = 10_000
)

func bounded(asked, usual, most uint32) int {
	if asked == 0 {
		return int(usual)
	}
	return int(min(asked, most))
}

// ListFlows implements the API.
func (a *api) ListFlows(ctx context.Context, q *connect.Request[pb.ListFlowsRequest]) (*connect.Response[pb.ListFlowsResponse], error) {
	r := a.relay
	nodes, err := r.nodesOf(q.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	answers, errs, err := ask(ctx, nodes, "ListFlows", r.o.AskTimeout, func(n *node) *pb.ListFlowsRequest {
		return &pb.ListFlowsRequest{Filter: r.translate(n, q.Msg.GetFilter()), Limit: q.Msg.GetLimit()}
	}, vigiev1connect.VigieClient.ListFlows)
	if err != nil {
		return nil, err
	}
	out := &pb.ListFlowsResponse{NodeErrors: errs}
	for _, x := range answers {
		for _, e := range x.R.GetFlows() {
			e.Node = x.node.called()
			out.Flows = append(out.Flows, e)
		}
		out.LeftOut += x.R.GetLeftOut()
	}
	said := func(e *pb.Event) uint64 { t := e.GetFlow().GetTotal(); return t.GetBytesSent() + t.GetBytesReceived() }
	slices.SortStableFunc(out.GetFlows(), func(a, b *pb.Event) int { return cmp.Compare(said(b), said(a)) })
	if limit := bounded(q.Msg.GetLimit(), defaultFlows, maxFlows); len(out.GetFlows()) > limit {
		out.LeftOut += uint64(len(out.GetFlows()) - limit)
		out.Flows = out.GetFlows()[:limit]
	}
	return connect.NewResponse(out), nil
}

// GetMap implements the API.
func (a *api) GetMap(ctx context.Context, q *connect.Request[pb.GetMapRequest]) (*connect.Response[pb.GetMapResponse], error) {
	r, m := a.relay, q.Msg
	nodes, err := r.nodesOf(m.GetFilter())
	if err != nil {
		return nil, err
	}
	r.unhurried(ctx, r.o.StudyTimeout)
	answers, errs, err := ask(ctx, nodes, "GetMap", r.o.StudyTimeout, func(n *node) *pb.GetMapRequest {
		return &pb.GetMapRequest{Filter: r.translate(n, m.GetFilter()), Expand: expandOn(n.called(), m.GetExpand()), MaxNodes: m.GetMaxNodes(),
			CompareSince: r.there(n, m.GetCompareSince()), CompareUntil: r.there(n, m.GetCompareUntil())}
	}, vigiev1connect.VigieClient.GetMap)
	if err != nil {
		return nil, err
	}
	out := &pb.GetMapResponse{NodeErrors: errs}
	var merged atlas
	for _, x := range answers {
		merged.add(x.node.called(), x.R.GetNodes(), x.R.GetEdges(), x.R.GetNodesLeftOut())
		if t := x.R.GetCompleteSince(); t != nil && (out.GetCompleteSince() == nil || t.AsTime().After(out.GetCompleteSince().AsTime())) {
			out.CompleteSince = t
		}
	}
	out.Nodes, out.Edges, out.NodesLeftOut = merged.draw(bounded(m.GetMaxNodes(), defaultNodes, maxNodes))
	return connect.NewResponse(out), nil
}

// sheet is the map of one node, as its stream has told it so far.
type sheet struct {
	nodes   map[string]*pb.MapNode
	edges   map[string]*pb.MapEdge
	leftOut uint32
}

func (s *sheet) apply(m *pb.StreamMapResponse) {
	if m.GetWhole() || s.nodes == nil {
		s.nodes, s.edges = make(map[string]*pb.MapNode), make(map[string]*pb.MapEdge)
	}
	for _, n := range m.GetNodes() {
		s.nodes[n.GetId()] = n
	}
	for _, e := range m.GetEdges() {
		s.edges[e.GetId()] = e
	}
	for _, id := range m.GetRemovedNodes() {
		delete(s.nodes, id)
	}
	for _, id := range m.GetRemovedEdges() {
		delete(s.edges, id)
	}
	s.leftOut = m.GetNodesLeftOut()
}

// mapInterval is how often a client is told what has changed: as an agent does.
const mapInterval = time.Second

// StreamMap implements the API. What a node that does not answer has told is taken off the map, and drawn again when it is back.
func (a *api) StreamMap(ctx context.Context, q *connect.Request[pb.StreamMapRequest], out *connect.ServerStream[pb.StreamMapResponse]) error {
	r, m := a.relay, q.Msg
	match, err := matcher(m.GetFilter().GetNodes())
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	v, err := r.view(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	ctx, cancel := context.WithCancel(ctx)
	f := newFanIn(plan[*pb.StreamMapResponse]{relay: r, wanted: match, unordered: true, tick: mapInterval, call: "StreamMap",
		at: func(*pb.StreamMapResponse) time.Time { return r.o.Now() },
		open: func(ctx context.Context, n *node) (feed[*pb.StreamMapResponse], error) {
			ctx, cancel := context.WithCancel(ctx)
			stream, err := n.client.StreamMap(ctx, connect.NewRequest(&pb.StreamMapRequest{Filter: r.translate(n, m.GetFilter()),
				WindowSeconds: m.GetWindowSeconds(), Expand: expandOn(n.called(), m.GetExpand()), MaxNodes: m.GetMaxNodes()}))
			if err != nil {
				cancel()
				return feed[*pb.StreamMapResponse]{}, err
			}
			return feedOf(stream, cancel), nil
		}})
	defer f.end()
	defer cancel()
	s := mapStream{relay: r, match: match, limit: bounded(m.GetMaxNodes(), defaultNodes, maxNodes), sheets: make(map[*node]*sheet), changed: true}
	return f.run(ctx, func(batch []entry[*pb.StreamMapResponse], news []*pb.NodeStatus) error {
		s.take(batch)
		if s.changed = s.changed || len(news) > 0; !s.changed || len(batch)+len(news) > 0 {
			return nil // until the next tick
		}
		s.changed = false
		return v.send(func() error { return out.Send(s.delta()) })
	})
}

// mapStream is one StreamMap call: what the nodes have told, and what the client knows.
type mapStream struct {
	relay   *Relay
	match   func(string) bool
	limit   int
	sheets  map[*node]*sheet
	sent    sheet
	changed bool
}

func (s *mapStream) take(batch []entry[*pb.StreamMapResponse]) {
	for _, e := range batch {
		if s.sheets[e.node] == nil {
			s.sheets[e.node] = new(sheet)
		}
		s.sheets[e.node].apply(e.value)
		s.changed = true
	}
}

// delta is what turns the map that the client has into the one that there is.
func (s *mapStream) delta() *pb.StreamMapResponse {
	out := &pb.StreamMapResponse{Whole: s.sent.nodes == nil}
	var merged atlas
	for _, n := range s.relay.all() {
		switch told := s.sheets[n]; {
		case !s.match(n.called()):
		case n.current() != stateConnected:
			out.NodeErrors = append(out.NodeErrors, &pb.NodeError{Node: n.called(), Code: connect.CodeUnavailable.String(), Message: n.report().GetMessage()})
		case told != nil:
			merged.add(n.called(), values(told.nodes), values(told.edges), told.leftOut)
		}
	}
	var drawn sheet
	drawn.apply(&pb.StreamMapResponse{Whole: true})
	nodes, edges, leftOut := merged.draw(s.limit)
	out.NodesLeftOut = leftOut
	for _, n := range nodes {
		if drawn.nodes[n.GetId()] = n; !proto.Equal(n, s.sent.nodes[n.GetId()]) {
			out.Nodes = append(out.Nodes, n)
		}
	}
	for _, e := range edges {
		if drawn.edges[e.GetId()] = e; !proto.Equal(e, s.sent.edges[e.GetId()]) {
			out.Edges = append(out.Edges, e)
		}
	}
	out.RemovedNodes, out.RemovedEdges = vanished(s.sent.nodes, drawn.nodes), vanished(s.sent.edges, drawn.edges)
	s.sent = drawn
	return out
}

// vanished are the keys of before that are not in after.
func vanished[V any](before, after map[string]V) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[k]; !ok {
			out = append(out, k)
		}
	}
	return out
}

// expandOn are the workloads to expand as the node knows them: of its own without its name in front, of pods the uid, and what a
// person gave as it is.
func expandOn(node string, ids []string) []string {
	var out []string
	for _, id := range ids {
		at, local, found := strings.Cut(id, "/")
		uid, isPod := strings.CutPrefix(id, podPrefix)
		switch {
		case isPod:
			out = append(out, uid)
		case found && at == node:
			out = append(out, local)
		case !found, at == "", strings.HasPrefix(at, "workload:"):
			out = append(out, id)
		}
	}
	return out
}
