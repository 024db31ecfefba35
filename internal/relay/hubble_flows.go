// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/cilium/cilium/api/v1/observer"
	hubblerelay "github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// getFlows implements GetFlows: what every node has of it, in one order; then, when it follows, what comes. Nodes that come and
// go are told as Hubble's relay does.
func (h *hubble) getFlows(ctx context.Context, q *connect.Request[observer.GetFlowsRequest], out *connect.ServerStream[observer.GetFlowsResponse]) error {
	v, err := h.relay.view(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &flowStream{hubble: h, asked: q.Msg, said: make(map[string]bool),
		respond: func(m *observer.GetFlowsResponse) error { return v.send(func() error { return out.Send(m) }) }}
	defer v.close()
	defer s.wait()
	defer cancel()
	return s.run(ctx)
}

// flowStream is one GetFlows call.
type flowStream struct {
	*hubble
	asked   *observer.GetFlowsRequest
	respond func(*observer.GetFlowsResponse) error
	live    *fanIn[*observer.GetFlowsResponse]
	old     *fanIn[*observer.GetFlowsResponse]
	said    map[string]bool // uuids of the past, which the live streams may say again
	sent    uint64          // flows
}

// errEnough ends a stream that has sent as much as was asked for.
var errEnough = errors.New("enough")

func (s *flowStream) run(ctx context.Context) error {
	q := s.asked
	if q.GetFollow() {
		if until := q.GetUntil(); until != nil {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, until.AsTime().Add(2*s.relay.o.Window))
			defer cancel()
		}
		s.live = s.fanIn(func(n *node) *observer.GetFlowsRequest {
			m := s.request(n)
			m.Number, m.Since = 0, nil
			return m
		}, false)
		s.live.begin(ctx)
		if err := s.respond(nil); err != nil { // the headers: from here on every flow is in the stream
			return fmt.Errorf("begin the stream: %w", err)
		}
	}
	if !q.GetFollow() || q.GetNumber() > 0 || q.GetSince() != nil {
		if err := s.past(ctx); err != nil || !q.GetFollow() {
			return ignore(err, errEnough)
		}
	}
	return ignore(s.live.run(ctx, func(batch []entry[*observer.GetFlowsResponse], news []*pb.NodeStatus) error {
		return s.deliver(slices.DeleteFunc(batch, func(e entry[*observer.GetFlowsResponse]) bool { return s.said[e.value.GetFlow().GetUuid()] }), news)
	}), context.DeadlineExceeded)
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// request is what a node is asked.
func (s *flowStream) request(n *node) *observer.GetFlowsRequest {
	q := s.asked
	return &observer.GetFlowsRequest{Number: q.GetNumber(), First: q.GetFirst(), Follow: q.GetFollow(), Blacklist: q.GetBlacklist(), Whitelist: q.GetWhitelist(),
		Since: s.relay.there(n, q.GetSince()), Until: s.relay.there(n, q.GetUntil()), FieldMask: q.GetFieldMask(), Experimental: q.GetExperimental(),
		Extensions: q.GetExtensions()}
}

func (s *flowStream) fanIn(request func(*node) *observer.GetFlowsRequest, past bool) *fanIn[*observer.GetFlowsResponse] {
	return newFanIn(plan[*observer.GetFlowsResponse]{relay: s.relay, wanted: func(string) bool { return true }, past: past, call: callHubble,
		at: func(m *observer.GetFlowsResponse) time.Time { return m.GetTime().AsTime() },
		open: func(ctx context.Context, n *node) (feed[*observer.GetFlowsResponse], error) {
			ctx, cancel := context.WithCancel(ctx)
			client := connect.NewClient[observer.GetFlowsRequest, observer.GetFlowsResponse](n.http, n.base+observer.Observer_GetFlows_FullMethodName, n.options...)
			stream, err := client.CallServerStream(ctx, connect.NewRequest(request(n)))
			if err != nil {
				cancel()
				return feed[*observer.GetFlowsResponse]{}, err
			}
			_ = stream.ResponseHeader()
			return feedOf(stream, cancel), nil
		}})
}

// past sends what there is: of each node's newest the newest, of each one's oldest the oldest.
func (s *flowStream) past(ctx context.Context) error {
	s.old = s.fanIn(func(n *node) *observer.GetFlowsRequest {
		m := s.request(n)
		m.Follow = false
		return m
	}, true)
	number := int(min(s.asked.GetNumber(), 1_000_000))
	back := number > 0 && !s.asked.GetFirst() && s.asked.GetSince() == nil
	var kept []entry[*observer.GetFlowsResponse]
	err := s.old.run(ctx, func(batch []entry[*observer.GetFlowsResponse], news []*pb.NodeStatus) error {
		if s.asked.GetFollow() {
			news = nil // the live streams tell
			for _, e := range batch {
				s.said[e.value.GetFlow().GetUuid()] = true
			}
			delete(s.said, "")
		}
		if !back {
			return s.deliver(batch, news)
		}
		if kept = append(kept, batch...); len(kept) > 2*number+maxBatch {
			kept = append(kept[:0], kept[len(kept)-number:]...)
		}
		return s.deliver(nil, news)
	})
	if err != nil {
		return err
	}
	return s.deliver(newest(kept, number), nil)
}

// newest are the last n flows, and what stands between them and after.
func newest(list []entry[*observer.GetFlowsResponse], n int) []entry[*observer.GetFlowsResponse] {
	from := len(list)
	for flows := 0; from > 0; from-- {
		if list[from-1].value.GetFlow() == nil {
			continue
		}
		if flows++; flows > n {
			break
		}
	}
	return list[from:]
}

// deliver sends a part of the merged stream, and what there is to say of nodes.
func (s *flowStream) deliver(batch []entry[*observer.GetFlowsResponse], news []*pb.NodeStatus) error {
	for _, n := range news {
		if err := s.respond(nodeEvent(n, s.relay)); err != nil {
			return fmt.Errorf("send the state of a node: %w", err)
		}
	}
	for _, e := range batch {
		flow := e.value.GetFlow()
		e.value.NodeName = e.node.called()
		if flow != nil {
			if flow.GetNodeName() != "" { // a field mask may leave it out
				flow.NodeName = e.node.called()
			}
			if number := s.asked.GetNumber(); !s.asked.GetFollow() && number > 0 && s.sent >= number {
				return errEnough
			}
			s.sent++
		}
		if err := s.respond(e.value); err != nil {
			return fmt.Errorf("send flows: %w", err)
		}
	}
	return nil
}

func (s *flowStream) wait() {
	for _, f := range []*fanIn[*observer.GetFlowsResponse]{s.live, s.old} {
		if f != nil {
			f.end()
		}
	}
}

// nodeEvent tells of the state of a node, as Hubble's relay does.
func nodeEvent(n *pb.NodeStatus, r *Relay) *observer.GetFlowsResponse {
	return &observer.GetFlowsResponse{NodeName: r.o.Host, Time: timestamppb.New(r.o.Now()), ResponseTypes: &observer.GetFlowsResponse_NodeStatus{
		NodeStatus: &hubblerelay.NodeStatusEvent{StateChange: nodeState(n), NodeNames: []string{n.GetName()}, Message: n.GetMessage()}}}
}
