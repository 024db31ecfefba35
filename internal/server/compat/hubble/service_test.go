// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	fl "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/api/v1/peer"
	"github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
)

// flows opens a stream; one that follows is open when it returns.
func (r *running) flows(t *testing.T, q *observer.GetFlowsRequest) grpc.ServerStreamingClient[observer.GetFlowsResponse] {
	t.Helper()
	stream, err := r.observer.GetFlows(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if q.GetFollow() {
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
	}
	return stream
}

// told is a response in a word: the summary of a flow, or what was lost.
func told(m *observer.GetFlowsResponse) string {
	if l := m.GetLostEvents(); l != nil {
		return fmt.Sprintf("lost %d %s", l.GetNumEventsLost(), l.GetSource())
	}
	summary, _, _ := strings.Cut(m.GetFlow().GetSummary(), ";") //nolint:staticcheck // what clients print
	return summary
}

// rest reads a stream to its end.
func rest(t *testing.T, stream grpc.ServerStreamingClient[observer.GetFlowsResponse]) []string {
	t.Helper()
	var out []string
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.GetNodeName() != "node1" || m.GetTime() == nil {
			t.Errorf("no node or no time: %v", m)
		}
		out = append(out, told(m))
	}
}

// Which part of the history is sent, in which order.
func TestHistory(t *testing.T) {
	r := start(t, sceneBackend(), nil)
	at := func(n int) *timestamppb.Timestamp {
		return timestamppb.New(began().Add(time.Duration(n) * time.Second))
	}
	icmp := []*fl.FlowFilter{{Protocol: []string{"icmp"}}}
	dns := []*fl.FlowFilter{{Protocol: []string{"dns"}}}
	loss := "lost 3 PERF_EVENT_RING_BUFFER"
	v4, v6 := "ICMPv4 EchoRequest", "ICMPv6 EchoRequest"
	for name, c := range map[string]struct {
		q    *observer.GetFlowsRequest
		want []string
	}{
		"all":                 {&observer.GetFlowsRequest{Whitelist: icmp}, []string{v4, v6, loss}},
		"all, as the CLI":     {&observer.GetFlowsRequest{Whitelist: icmp, Number: math.MaxUint64}, []string{v4, v6, loss}},
		"last":                {&observer.GetFlowsRequest{Whitelist: icmp, Number: 1}, []string{v6, loss}},
		"first":               {&observer.GetFlowsRequest{Whitelist: icmp, Number: 1, First: true}, []string{v4}},
		"last, of an answer":  {&observer.GetFlowsRequest{Whitelist: dns, Number: 2, Blacklist: []*fl.FlowFilter{{DnsQuery: []string{"slow"}}}}, []string{"DNS Query no.example.org. AAAA", "DNS Answer RCode: NXDOMAIN TTL: 0 2ms (no.example.org. AAAA)", loss}},
		"last, the answer":    {&observer.GetFlowsRequest{Whitelist: dns, Number: 1, Blacklist: []*fl.FlowFilter{{DnsQuery: []string{"slow"}}}}, []string{"DNS Answer RCode: NXDOMAIN TTL: 0 2ms (no.example.org. AAAA)", loss}},
		"first, the question": {&observer.GetFlowsRequest{Whitelist: dns, Number: 1, First: true}, []string{"DNS Query www.example.org. A"}},
		"since":               {&observer.GetFlowsRequest{Whitelist: icmp, Since: at(11)}, []string{v6, loss}},
		"until":               {&observer.GetFlowsRequest{Whitelist: icmp, Until: at(10)}, []string{v4}},
		"between":             {&observer.GetFlowsRequest{Since: at(10), Until: at(11)}, []string{v4, v6}},
		"since, number":       {&observer.GetFlowsRequest{Since: at(10), Number: 1}, []string{v4}},
		"last until":          {&observer.GetFlowsRequest{Number: 1, Until: at(11)}, []string{v6}},
		"nothing":             {&observer.GetFlowsRequest{Since: at(100)}, nil},
	} {
		if got := rest(t, r.flows(t, c.q)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := rest(t, r.flows(t, &observer.GetFlowsRequest{Number: 3})); len(got) != 4 || !strings.HasPrefix(got[2], "HTTP/1.1 DELETE") {
		t.Errorf("the last three: %q", got)
	}
}

// Whoever begins with the past and follows gets everything once.
func TestFollow(t *testing.T) {
	b := sceneBackend()
	r := start(t, b, nil)
	_, again := scene()
	icmp := []*fl.FlowFilter{{Protocol: []string{"icmp"}}}
	last := r.flows(t, &observer.GetFlowsRequest{Whitelist: icmp, Follow: true, Number: 1})
	since := r.flows(t, &observer.GetFlowsRequest{Whitelist: icmp, Follow: true, Since: timestamppb.New(began())})
	now := r.flows(t, &observer.GetFlowsRequest{Whitelist: icmp, Follow: true})
	b.publish(again["ping"], again["world"], again["exec"])
	subscribers := r.Subscribers()
	if len(subscribers) != 3 || subscribers[0].Name != subscriberName || !strings.HasPrefix(subscribers[0].Peer, "127.0.0.1:") {
		t.Errorf("subscribers %v", subscribers)
	}
	b.hub.Close() // the agent stops
	loss, v4, v6 := "lost 3 PERF_EVENT_RING_BUFFER", "ICMPv4 EchoRequest", "ICMPv6 EchoRequest"
	for name, c := range map[string]struct {
		stream grpc.ServerStreamingClient[observer.GetFlowsResponse]
		want   []string
	}{"last": {last, []string{v6, loss, v4}}, "since": {since, []string{v4, v6, loss, v4}}, "now": {now, []string{v4}}} {
		if got := rest(t, c.stream); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A stream with a bound in time ends there by itself.
func TestFollowUntil(t *testing.T) {
	r := start(t, sceneBackend(), nil)
	got := rest(t, r.flows(t, &observer.GetFlowsRequest{Follow: true, Until: timestamppb.New(began())}))
	if len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

// A client that reads nothing loses for itself and is told how much; one that reads loses nothing.
func TestSlowClientIsToldWhatItLost(t *testing.T) {
	b := newBackend()
	r := start(t, b, func(o *Options) { o.Queue = 4 })
	_, events := scene()
	big := *events["world"]
	process := *big.Process
	process.Args = []string{"x", strings.Repeat("a", 64<<10)}
	big.Process = &process
	slow := r.flows(t, &observer.GetFlowsRequest{Follow: true})
	quick := r.flows(t, &observer.GetFlowsRequest{Follow: true, FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"time"}}})
	const sent = 200 // of 64 KiB: more than HTTP/2's windows take
	for n := range sent {
		e := big
		b.publish(&e)
		if m, err := quick.Recv(); err != nil || m.GetFlow() == nil {
			t.Fatalf("the client that reads, flow %d: %v, %v", n, m, err)
		}
	}
	b.hub.Close()
	received, lost := 0, uint64(0)
	for {
		m, err := slow.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if l := m.GetLostEvents(); l != nil && l.GetSource() == fl.LostEventSource_HUBBLE_RING_BUFFER {
			lost += l.GetNumEventsLost()
		} else {
			received++
		}
	}
	if counted := b.losses.Counter("subscriber", subscriberName).Load(); received+int(lost) != sent || lost == 0 || counted != lost {
		t.Errorf("of %d flows %d came, %d were told as lost and %d are counted", sent, received, lost, counted)
	}
}

func TestWhichLossesAreTold(t *testing.T) {
	for stage, want := range map[string]fl.LostEventSource{
		"kernel": fl.LostEventSource_PERF_EVENT_RING_BUFFER, "subscriber": fl.LostEventSource_HUBBLE_RING_BUFFER, "decode": fl.LostEventSource_OBSERVER_EVENTS_QUEUE,
	} {
		if got := lost(&model.Loss{Stage: stage, Count: 7}); got.GetSource() != want || got.GetNumEventsLost() != 7 || !concernsClient(&model.Loss{Stage: stage}) {
			t.Errorf("%s: %v", stage, got)
		}
	}
	for _, stage := range []string{"export", "l7"} {
		if concernsClient(&model.Loss{Stage: stage}) {
			t.Errorf("what %s lost was no flow", stage)
		}
	}
}

func TestHostileRequests(t *testing.T) {
	r := start(t, newBackend(), func(o *Options) { o.MaxStreams = 1 })
	for want, q := range map[string]*observer.GetFlowsRequest{
		"whitelist[0].http_path[0]": {Whitelist: []*fl.FlowFilter{{HttpPath: []string{"("}}}},
		"blacklist[0].source_ip[0]": {Blacklist: []*fl.FlowFilter{{SourceIp: []string{"1.2.3.4/99"}}}},
		"cel_expression[0]":         {Whitelist: []*fl.FlowFilter{{Experimental: &fl.FlowFilter_Experimental{CelExpression: []string{"1 + 1"}}}}},
		"field_mask.paths[0]":       {FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"a.b"}}},
	} {
		_, err := r.flows(t, q).Recv()
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", q, err)
		}
	}
	r.flows(t, &observer.GetFlowsRequest{Follow: true})
	if _, err := r.flows(t, &observer.GetFlowsRequest{}).Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one stream too many: %v", err)
	}
}

func TestStatusNodesNamespaces(t *testing.T) {
	b := sceneBackend()
	r := start(t, b, nil)
	_, events := scene()
	fresh := events["pods"]
	fresh.Time = time.Now()
	b.publish(fresh)
	st, err := r.observer.ServerStatus(t.Context(), &observer.ServerStatusRequest{})
	if err != nil || st.GetNumFlows() != 21 || st.GetSeenFlows() != 21 || st.GetMaxFlows() != 10_000 || st.GetVersion() != "vigie v1.2.3" ||
		st.GetUptimeNs() == 0 || st.GetFlowsRate() != 1./60 {
		t.Errorf("status: %v, %v", st, err)
	}
	nodes, err := r.observer.GetNodes(t.Context(), &observer.GetNodesRequest{})
	if err != nil || len(nodes.GetNodes()) != 1 {
		t.Fatalf("nodes: %v, %v", nodes, err)
	}
	if n := nodes.GetNodes()[0]; n.GetName() != "node1" || n.GetAddress() != r.address() || n.GetState() != relay.NodeState_NODE_CONNECTED || n.GetNumFlows() != 21 {
		t.Errorf("node: %v", n)
	}
	namespaces, err := r.observer.GetNamespaces(t.Context(), &observer.GetNamespacesRequest{})
	if err != nil || len(namespaces.GetNamespaces()) != 2 || namespaces.GetNamespaces()[0].GetNamespace() != "default" || namespaces.GetNamespaces()[1].GetNamespace() != "shop" {
		t.Errorf("namespaces of the last hour: %v, %v", namespaces, err)
	}
}

func TestAgentEvents(t *testing.T) {
	b := newBackend()
	b.policies = []server.Policy{
		{Name: "late", Kind: "WorkloadPolicy", Applied: began().Add(2 * time.Minute), Rules: make([]server.PolicyRule, 3)},
		{Name: "early", Kind: "WorkloadPolicy", Applied: began().Add(time.Minute)}}
	r := start(t, b, nil)
	ask := func(q *observer.GetAgentEventsRequest) (out []string) {
		t.Helper()
		stream, err := r.observer.GetAgentEvents(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			text := m.GetAgentEvent().GetType().String()
			if p := m.GetAgentEvent().GetPolicyUpdate(); p != nil {
				text = fmt.Sprintf("%v %d", p.GetLabels(), p.GetRuleCount())
			}
			out = append(out, text)
		}
	}
	early, late := "[vigie:WorkloadPolicy=early] 0", "[vigie:WorkloadPolicy=late] 3"
	for name, c := range map[string]struct {
		q    *observer.GetAgentEventsRequest
		want []string
	}{
		"all":   {&observer.GetAgentEventsRequest{}, []string{"AGENT_STARTED", early, late}},
		"last":  {&observer.GetAgentEventsRequest{Number: 1}, []string{late}},
		"first": {&observer.GetAgentEventsRequest{Number: 2, First: true}, []string{"AGENT_STARTED", early}},
		"since": {&observer.GetAgentEventsRequest{Since: timestamppb.New(began().Add(time.Minute)), Until: timestamppb.New(began().Add(time.Minute))}, []string{early}},
	} {
		if got := ask(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	follow, err := r.observer.GetAgentEvents(t.Context(), &observer.GetAgentEventsRequest{Follow: true, Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := follow.Recv(); err != nil || m.GetNodeName() != "node1" {
		t.Errorf("follow: %v, %v", m, err)
	}
	bad, err := r.observer.GetAgentEvents(t.Context(), &observer.GetAgentEventsRequest{Follow: true, First: true})
	if err == nil {
		_, err = bad.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("first and follow: %v", err)
	}
	debug, err := r.observer.GetDebugEvents(t.Context(), &observer.GetDebugEventsRequest{})
	if err == nil {
		_, err = debug.Recv()
	}
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "Cilium's datapath") {
		t.Errorf("debug events: %v", err)
	}
	b.hub.Close()
	if m, err := follow.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("at the agent's end: %v, %v", m, err)
	}
}

// A relay is sent to where it has found the agent.
func TestPeers(t *testing.T) {
	r := start(t, newBackend(), nil)
	for address, client := range r.peers {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.Notify(ctx, &peer.NotifyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil || m.GetName() != "node1" || m.GetAddress() != address || m.GetType() != peer.ChangeNotificationType_PEER_ADDED || m.GetTls() != nil {
			t.Errorf("by %s: %v, %v", address, m, err)
		}
		cancel()
		if m, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("nothing else ever comes, but %v, %v", m, err)
		}
	}
}

func TestHealth(t *testing.T) {
	r := start(t, newBackend(), nil)
	for _, name := range []string{"", "hubble.server.Observer", "observer.Observer", "peer.Peer"} {
		if m, err := r.health.Check(t.Context(), &health.HealthCheckRequest{Service: name}); err != nil || m.GetStatus() != health.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", name, m, err)
		}
	}
	if _, err := r.health.Check(t.Context(), &health.HealthCheckRequest{Service: "x"}); status.Code(err) != codes.NotFound {
		t.Errorf("a service that is not there: %v", err)
	}
	if m, err := r.health.List(t.Context(), &health.HealthListRequest{}); err != nil || len(m.GetStatuses()) != 4 {
		t.Errorf("list: %v, %v", m, err)
	}
	for name, want := range map[string]health.HealthCheckResponse_ServingStatus{"peer.Peer": health.HealthCheckResponse_SERVING, "x": health.HealthCheckResponse_SERVICE_UNKNOWN} {
		stream, err := r.health.Watch(t.Context(), &health.HealthCheckRequest{Service: name})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err != nil || m.GetStatus() != want {
			t.Errorf("watch %q: %v, %v", name, m, err)
		}
	}
}

func TestReflection(t *testing.T) {
	r := start(t, newBackend(), nil)
	stream, err := reflection.NewServerReflectionClient(dial(t, r.address())).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(q *reflection.ServerReflectionRequest) *reflection.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(q); err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	list := ask(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}).GetListServicesResponse()
	if len(list.GetService()) != 3 || list.GetService()[0].GetName() != "observer.Observer" {
		t.Errorf("services: %v", list)
	}
	symbol := &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "observer.Observer"}}
	whole := ask(symbol).GetFileDescriptorResponse().GetFileDescriptorProto()
	file := new(descriptorpb.FileDescriptorProto)
	if err := proto.Unmarshal(whole[0], file); err != nil || file.GetService()[0].GetName() != "Observer" || len(whole) < 3 {
		t.Errorf("the file of the service, and what it imports: %d files, %v", len(whole), err)
	}
	if again := ask(symbol).GetFileDescriptorResponse().GetFileDescriptorProto(); len(again) != 1 {
		t.Errorf("%d files are sent twice", len(again))
	}
	name := &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_FileByFilename{FileByFilename: file.GetName()}}
	if got := ask(name).GetFileDescriptorResponse().GetFileDescriptorProto(); len(got) != 1 {
		t.Errorf("by its name: %d files", len(got))
	}
	for _, q := range []*reflection.ServerReflectionRequest{
		{MessageRequest: &reflection.ServerReflectionRequest_FileByFilename{FileByFilename: "none"}},
		{MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "none"}},
		{MessageRequest: &reflection.ServerReflectionRequest_AllExtensionNumbersOfType{}}, {},
	} {
		if m := ask(q); m.GetErrorResponse().GetErrorCode() != int32(codes.NotFound) || m.GetErrorResponse().GetErrorMessage() == "" {
			t.Errorf("%v: %v", q, m)
		}
	}
}
