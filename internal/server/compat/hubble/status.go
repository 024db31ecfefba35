// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	fl "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
)

// serverStatus implements ServerStatus: of the history in memory, which is what has a capacity. A flow is counted once a
// report, a request or a question once with its answer.
func (s *Service) serverStatus(ctx context.Context, _ *observer.ServerStatusRequest) (*observer.ServerStatusResponse, error) {
	now := time.Now()
	st := s.options.Backend.Status()
	held, recent := uint64(0), uint64(0)
	minute := min(now.Sub(st.Started), time.Minute)
	err := s.each(ctx, server.EventQuery{Filter: past(), Recent: true}, func(e *model.Event) {
		held++
		if now.Sub(e.Time) < minute {
			recent++
		}
	})
	if err != nil {
		return nil, err
	}
	m := &observer.ServerStatusResponse{NumFlows: held, MaxFlows: st.Store.MaxEvents, SeenFlows: seen(&st),
		UptimeNs: uint64(now.Sub(st.Started)), Version: "vigie " + st.Version}
	if minute > 0 {
		m.FlowsRate = float64(recent) / minute.Seconds()
	}
	return m, nil
}

// seen is how many events were flows since the agent began.
func seen(st *server.Status) (n uint64) {
	for t, count := range st.Events {
		if concerns(t) {
			n += count
		}
	}
	return n
}

// each calls do with every event of the history that is a flow and that q asks for.
func (s *Service) each(ctx context.Context, q server.EventQuery, do func(*model.Event)) error {
	for q.Limit = page; ; {
		got, err := s.options.Backend.Events(ctx, q)
		if err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
		for _, e := range got.Events {
			if concerns(e.Type) {
				do(e)
			}
		}
		if q.Cursor = got.Next; q.Cursor == (server.EventCursor{}) {
			return nil
		}
	}
}

// getNodes implements GetNodes: this host. Of a cluster, hubble-relay knows the others.
func (s *Service) getNodes(ctx context.Context, _ *observer.GetNodesRequest) (*observer.GetNodesResponse, error) {
	status, err := s.serverStatus(ctx, nil)
	if err != nil {
		return nil, err
	}
	address, encrypted := reached(ctx)
	return &observer.GetNodesResponse{Nodes: []*observer.Node{{Name: s.convert.agent().node, Version: status.GetVersion(), Address: address,
		State: relay.NodeState_NODE_CONNECTED, Tls: &observer.TLS{Enabled: encrypted}, UptimeNs: status.GetUptimeNs(),
		NumFlows: status.GetNumFlows(), MaxFlows: status.GetMaxFlows(), SeenFlows: status.GetSeenFlows()}}}, nil
}

// getNamespaces implements GetNamespaces: those with flows in the last hour, as far as the history goes.
func (s *Service) getNamespaces(ctx context.Context, _ *observer.GetNamespacesRequest) (*observer.GetNamespacesResponse, error) {
	found := make(map[string]bool)
	hour := past().During(time.Now().Add(-time.Hour), time.Time{})
	err := s.each(ctx, server.EventQuery{Filter: hour}, func(e *model.Event) {
		if w := workloadOf(e); w != nil {
			found[w.Namespace] = true
		}
		if e.Flow == nil {
			return
		}
		for _, end := range []*model.Endpoint{&e.Flow.Source, &e.Flow.Destination} {
			if end.Workload != nil {
				found[end.Workload.Namespace] = true
			}
		}
	})
	if err != nil {
		return nil, err
	}
	delete(found, "")
	m := &observer.GetNamespacesResponse{}
	for name := range found {
		m.Namespaces = append(m.Namespaces, &observer.Namespace{Namespace: valid(name)})
	}
	slices.SortFunc(m.GetNamespaces(), func(a, b *observer.Namespace) int { return cmp.Compare(a.GetNamespace(), b.GetNamespace()) })
	return m, nil
}

// getAgentEvents implements GetAgentEvents: that the agent started, and the policies that are in force since. With follow
// the stream stays open until the agent stops.
func (s *Service) getAgentEvents(ctx context.Context, r *connect.Request[observer.GetAgentEventsRequest], out *connect.ServerStream[observer.GetAgentEventsResponse]) error {
	asked, err := compileSpan(r.Msg)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	say := []func() error{func() error { return out.Send(nil) }} // the headers: from here on every event is in the stream
	for _, m := range asked.cut(s.agentEvents()) {
		say = append(say, func() error { return out.Send(m) })
	}
	return s.hold(ctx, asked.follow, say...)
}

// agentEvents are all of them, the oldest first.
func (s *Service) agentEvents() []*observer.GetAgentEventsResponse {
	st := s.options.Backend.Status()
	event := func(at time.Time, e *fl.AgentEvent) *observer.GetAgentEventsResponse {
		return &observer.GetAgentEventsResponse{AgentEvent: e, NodeName: st.Host, Time: timestamppb.New(at)}
	}
	list := []*observer.GetAgentEventsResponse{event(st.Started, &fl.AgentEvent{Type: fl.AgentEventType_AGENT_STARTED,
		Notification: &fl.AgentEvent_AgentStart{AgentStart: &fl.TimeNotification{Time: timestamppb.New(st.Started)}}})}
	policies := s.options.Backend.Policies()
	slices.SortStableFunc(policies, func(a, b server.Policy) int { return a.Applied.Compare(b.Applied) })
	for i, p := range policies {
		list = append(list, event(p.Applied, &fl.AgentEvent{Type: fl.AgentEventType_POLICY_UPDATED,
			Notification: &fl.AgentEvent_PolicyUpdate{PolicyUpdate: &fl.PolicyUpdateNotification{
				Labels: []string{valid("vigie:" + p.Kind + "=" + p.Name)}, Revision: uint64(i + 1), RuleCount: int64(len(p.Rules))}}}))
	}
	return list
}

// cut is the part of list that is asked for.
func (s *span) cut(list []*observer.GetAgentEventsResponse) []*observer.GetAgentEventsResponse {
	if past, _ := s.past(); !past {
		return nil
	}
	list = slices.DeleteFunc(list, func(m *observer.GetAgentEventsResponse) bool {
		at := m.GetTime().AsTime()
		return at.Before(s.since) || !s.until.IsZero() && !at.Before(s.until)
	})
	if n := int(min(s.number, uint64(len(list)))); n > 0 {
		if s.first || !s.since.IsZero() {
			return list[:n]
		}
		return list[len(list)-n:]
	}
	return list
}

func (s *Service) getDebugEvents(context.Context, *connect.Request[observer.GetDebugEventsRequest], *connect.ServerStream[observer.GetDebugEventsResponse]) error {
	return connect.NewError(connect.CodeUnimplemented,
		errors.New("there are no debug events: they are messages of Cilium's datapath, which is not here; see `vigie events`"))
}
