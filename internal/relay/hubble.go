// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/cilium/cilium/api/v1/observer"
	hubblerelay "github.com/cilium/cilium/api/v1/relay"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// HubbleServices are the gRPC services of Hubble that the relay answers, as Hubble's own relay does.
func HubbleServices() []string {
	return []string{observer.Observer_ServiceDesc.ServiceName, health.Health_ServiceDesc.ServiceName}
}

// callHubble is how Hubble's services are called among what an agent may not know: those before the relay have them on
// another port.
const callHubble = "hubble"

// Hubble is Hubble's API of all nodes. Each agent's flows are those that it answers itself; the relay orders them.
func (r *Relay) Hubble() http.Handler {
	h := &hubble{relay: r}
	mux := http.NewServeMux()
	stream(mux, observer.Observer_GetFlows_FullMethodName, h.getFlows)
	unary(mux, observer.Observer_GetNodes_FullMethodName, h.getNodes)
	unary(mux, observer.Observer_GetNamespaces_FullMethodName, h.getNamespaces)
	unary(mux, observer.Observer_ServerStatus_FullMethodName, h.serverStatus)
	stream(mux, observer.Observer_GetAgentEvents_FullMethodName, func(context.Context, *connect.Request[observer.GetAgentEventsRequest], *connect.ServerStream[observer.GetAgentEventsResponse]) error {
		return connect.NewError(connect.CodeUnimplemented, errors.New("events of agents are not relayed: ask the agent of the node"))
	})
	stream(mux, observer.Observer_GetDebugEvents_FullMethodName, func(context.Context, *connect.Request[observer.GetDebugEventsRequest], *connect.ServerStream[observer.GetDebugEventsResponse]) error {
		return connect.NewError(connect.CodeUnimplemented, errors.New("there are no debug events: they are messages of Cilium's datapath, which is not here"))
	})
	unary(mux, health.Health_Check_FullMethodName, func(_ context.Context, q *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
		if !slices.Contains(append(HubbleServices(), "", "hubble.server.Observer"), q.GetService()) {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no service %q", q.GetService()))
		}
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
	})
	return mux
}

func unary[Q, R any](mux *http.ServeMux, procedure string, f func(context.Context, *Q) (*R, error)) {
	mux.Handle(procedure, connect.NewUnaryHandler(procedure, func(ctx context.Context, q *connect.Request[Q]) (*connect.Response[R], error) {
		m, err := f(ctx, q.Msg)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(m), nil
	}, connect.WithReadMaxBytes(maxRequest)))
}

func stream[Q, R any](mux *http.ServeMux, procedure string, f func(context.Context, *connect.Request[Q], *connect.ServerStream[R]) error) {
	mux.Handle(procedure, connect.NewServerStreamHandler(procedure, f, connect.WithReadMaxBytes(maxRequest)))
}

const maxRequest = 4 << 20 // bytes

// hubble answers Hubble's clients.
type hubble struct{ relay *Relay }

// askHubble calls a procedure of Hubble's on nodes.
func askHubble[Q, R any](ctx context.Context, r *Relay, nodes []*node, procedure string, q *Q) ([]answer[R], []*pb.NodeError, error) {
	return askEach(ctx, nodes, func(ctx context.Context, n *node) (*R, error) {
		return patiently(ctx, n, callHubble, r.o.AskTimeout, func(ctx context.Context) (*connect.Response[R], error) {
			return connect.NewClient[Q, R](n.http, n.base+procedure, n.options...).CallUnary(ctx, connect.NewRequest(q))
		})
	})
}

// serverStatus implements ServerStatus: the sums of all nodes.
func (h *hubble) serverStatus(ctx context.Context, q *observer.ServerStatusRequest) (*observer.ServerStatusResponse, error) {
	nodes := h.relay.all()
	answers, _, err := askHubble[observer.ServerStatusRequest, observer.ServerStatusResponse](ctx, h.relay, nodes, observer.Observer_ServerStatus_FullMethodName, q)
	if ctx.Err() != nil {
		return nil, err
	}
	m := &observer.ServerStatusResponse{Version: "vigie relay " + h.relay.o.Version, UptimeNs: uint64(h.relay.o.Now().Sub(h.relay.started)),
		NumConnectedNodes: wrapperspb.UInt32(uint32(len(answers))), NumUnavailableNodes: wrapperspb.UInt32(uint32(len(nodes) - len(answers)))}
	connected := make(map[*node]bool)
	for _, x := range answers {
		connected[x.node] = true
		m.NumFlows += x.R.GetNumFlows()
		m.MaxFlows += x.R.GetMaxFlows()
		m.SeenFlows += x.R.GetSeenFlows()
		m.FlowsRate += x.R.GetFlowsRate()
	}
	for _, n := range nodes {
		if !connected[n] && len(m.GetUnavailableNodes()) < maxNamed {
			m.UnavailableNodes = append(m.UnavailableNodes, n.called())
		}
	}
	return m, nil
}

// maxNamed is how many nodes that are away are named in a status.
const maxNamed = 10

// getNodes implements GetNodes.
func (h *hubble) getNodes(ctx context.Context, _ *observer.GetNodesRequest) (*observer.GetNodesResponse, error) {
	nodes := h.relay.all()
	answers, _, err := askHubble[observer.ServerStatusRequest, observer.ServerStatusResponse](ctx, h.relay, nodes, observer.Observer_ServerStatus_FullMethodName,
		new(observer.ServerStatusRequest))
	if ctx.Err() != nil {
		return nil, err
	}
	told := make(map[*node]*observer.ServerStatusResponse)
	for _, x := range answers {
		told[x.node] = x.R
	}
	m := new(observer.GetNodesResponse)
	for _, n := range nodes {
		report := n.report()
		st := told[n]
		m.Nodes = append(m.Nodes, &observer.Node{Name: report.GetName(), Version: report.GetVersion(), Address: report.GetAddress(), State: nodeState(report),
			Tls: &observer.TLS{Enabled: strings.HasPrefix(n.base, "https:")}, UptimeNs: st.GetUptimeNs(), NumFlows: st.GetNumFlows(), MaxFlows: st.GetMaxFlows(), SeenFlows: st.GetSeenFlows()})
	}
	return m, nil
}

// getNamespaces implements GetNamespaces: those of all nodes.
func (h *hubble) getNamespaces(ctx context.Context, q *observer.GetNamespacesRequest) (*observer.GetNamespacesResponse, error) {
	answers, _, err := askHubble[observer.GetNamespacesRequest, observer.GetNamespacesResponse](ctx, h.relay, h.relay.all(), observer.Observer_GetNamespaces_FullMethodName, q)
	if err != nil {
		return nil, err
	}
	found := make(map[[2]string]*observer.Namespace)
	for _, x := range answers {
		for _, n := range x.R.GetNamespaces() {
			found[[2]string{n.GetCluster(), n.GetNamespace()}] = n
		}
	}
	m := &observer.GetNamespacesResponse{Namespaces: values(found)}
	slices.SortFunc(m.GetNamespaces(), func(a, b *observer.Namespace) int {
		return cmp.Or(cmp.Compare(a.GetCluster(), b.GetCluster()), cmp.Compare(a.GetNamespace(), b.GetNamespace()))
	})
	return m, nil
}

// nodeState is the state of a node in Hubble's words. One whose agent has no flows to give is in error.
func nodeState(n *pb.NodeStatus) hubblerelay.NodeState {
	switch {
	case n.GetState() == stateGone:
		return hubblerelay.NodeState_NODE_GONE
	case n.GetState() != stateConnected:
		return hubblerelay.NodeState_NODE_UNAVAILABLE
	case slices.Contains(n.GetMissing(), callHubble):
		return hubblerelay.NodeState_NODE_ERROR
	}
	return hubblerelay.NodeState_NODE_CONNECTED
}
