// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	fl "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

func flowsOf(event string) []*fl.Flow {
	_, events := scene()
	return newConverter(newBackend()).flows(events[event])
}

// What of each flow is filled, but for what all have.
func TestFlows(t *testing.T) {
	nginx := `{ID:4041887867 identity:IDENTITY labels:"vigie:kind=unit" labels:"vigie:name=nginx.service" labels:"vigie:slice=system.slice" pod_name:"nginx.service" workloads:{name:"nginx.service" kind:"unit"}}`
	for event, want := range map[string]string{
		"open": `verdict:FORWARDED IP:{source:"203.0.113.9" destination:"192.0.2.1" ipVersion:IPv4}
			l4:{TCP:{source_port:40000 destination_port:443 flags:{SYN:true ACK:true}}} source:{identity:2 labels:"reserved:world"} destination:` + nginx + `
			Type:L3_L4 event_type:{type:4} traffic_direction:INGRESS trace_observation_point:TO_ENDPOINT trace_reason:NEW
			socket_cookie:4711 Summary:"TCP Flags: SYN, ACK; nginx[800]"`,
		"reset": `verdict:FORWARDED IP:{source:"203.0.113.9" destination:"192.0.2.1" ipVersion:IPv4}
			l4:{TCP:{source_port:40000 destination_port:443 flags:{ACK:true RST:true}}} source:{identity:2 labels:"reserved:world"} destination:` + nginx + `
			Type:L3_L4 event_type:{type:4} traffic_direction:INGRESS trace_observation_point:TO_ENDPOINT trace_reason:ESTABLISHED
			socket_cookie:4711 Summary:"TCP Flags: ACK, RST; nginx[800]; 120 B sent, 5.1 kB received"`,
		"audited": `verdict:AUDIT IP:{source:"203.0.113.9" destination:"192.0.2.1" ipVersion:IPv4}
			l4:{TCP:{source_port:40001 destination_port:80 flags:{SYN:true ACK:true FIN:true}}} source:{identity:2 labels:"reserved:world"} destination:` + nginx + `
			Type:L3_L4 event_type:{type:5} traffic_direction:INGRESS ingress_denied_by:{name:"web" kind:"WorkloadPolicy"}
			socket_cookie:4711 Summary:"TCP Flags: SYN, ACK, FIN; nginx[800]; 120 B sent, 5.1 kB received; policy web, ingress.allow"`,
		"get": `verdict:FORWARDED IP:{source:"203.0.113.9" destination:"192.0.2.1" ipVersion:IPv4} l4:{TCP:{source_port:40000 destination_port:443}}
			source:{identity:2 labels:"reserved:world"} destination:` + nginx + ` Type:L7 event_type:{type:129} traffic_direction:INGRESS socket_cookie:4711
			l7:{type:REQUEST http:{method:"GET" url:"https://shop.example/orders/{id}" protocol:"HTTP/1.1"}}
			trace_context:{parent:{trace_id:"0af7651916cd43dd8448eb211c80319c"}} Summary:"HTTP/1.1 GET https://shop.example/orders/{id}"`,
	} {
		want = strings.ReplaceAll(want, "IDENTITY", "6543813")
		expected := new(fl.Flow)
		if err := prototext.Unmarshal([]byte(want), expected); err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		got := flowsOf(event)[0]
		if got.GetNodeName() != "node1" || got.GetEmitter().GetName() != "vigie" || got.GetEmitter().GetVersion() != "1.2.3" || got.GetTime() == nil ||
			got.GetIsReply() == nil || got.GetIsReply().GetValue() || got.GetCgroupId() != 807 {
			t.Errorf("%s: what all flows have: %v", event, got)
		}
		got.NodeName, got.Emitter, got.Time, got.IsReply, got.Uuid, got.CgroupId = "", nil, nil, nil, "", 0
		if !proto.Equal(got, expected) {
			t.Errorf("%s:\n got %v\nwant %v", event, prototext.Format(got), prototext.Format(expected))
		}
	}
}

func TestVerdicts(t *testing.T) {
	denied := flowsOf("denied")[0]
	if denied.GetVerdict() != fl.Verdict_DROPPED || denied.GetDropReasonDesc() != fl.DropReason_POLICY_DENIED || denied.GetEventType().GetSubType() != 133 ||
		denied.GetEgressDeniedBy()[0].GetName() != "laptops" || denied.GetTraceObservationPoint() != fl.TraceObservationPoint_UNKNOWN_POINT ||
		!proto.Equal(denied.GetL4().GetTCP().GetFlags(), &fl.TCPFlags{SYN: true}) {
		t.Errorf("denied: %v", denied)
	}
	_, events := scene()
	for name, change := range map[string]func(*model.Flow){
		"cut later":          func(f *model.Flow) { f.Verdict, f.Close, f.Report = model.FlowDenied, model.CloseCut, 4 },
		"denied by ingress":  func(f *model.Flow) { f.Rule = "ingress.deny[1]" },
		"allowed by a rule":  func(f *model.Flow) { f.Verdict, f.Rule = model.FlowAllowed, "egress.allow[0]" },
		"allowed by ingress": func(f *model.Flow) { f.Verdict, f.Rule = model.FlowAllowed, "ingress.allow[0]" },
	} {
		e := *events["denied"]
		f := *e.Flow
		change(&f)
		e.Flow = &f
		got := newConverter(newBackend()).flows(&e)[0]
		lists := map[string][]*fl.Policy{"denied by ingress": got.GetIngressDeniedBy(), "cut later": got.GetEgressDeniedBy(),
			"allowed by a rule": got.GetEgressAllowedBy(), "allowed by ingress": got.GetIngressAllowedBy()}
		for list, policies := range lists {
			if (len(policies) == 1) != (list == name) {
				t.Errorf("%s: %s has %v", name, list, policies)
			}
		}
		if flags := got.GetL4().GetTCP().GetFlags(); name == "cut later" && (flags.GetSYN() || !flags.GetACK()) {
			t.Errorf("flags of a flow that was cut: %v", flags)
		}
	}
}

func TestSummaries(t *testing.T) {
	for event, want := range map[string][]string{
		"world":      {"TCP Flags: SYN, ACK, FIN; curl[900] to www.example.org; 120 B sent, 5.1 kB received"},
		"local":      {"TCP Flags: SYN, ACK, FIN; nginx[800] to postgres[700]; 120 B sent, 5.1 kB received"},
		"denied":     {"TCP Flags: SYN; curl[900]; policy laptops, egress.deny[0]"},
		"refused":    {"TCP Flags: SYN, RST; curl[900]; ECONNREFUSED"},
		"udp6":       {"UDP; curl[900]; 120 B sent, 5.1 kB received"},
		"ping6":      {"ICMPv6 EchoRequest; curl[900]; 120 B sent, 5.1 kB received"},
		"dns":        {"DNS Query www.example.org. A", `DNS Answer "93.184.216.34" CNAMEs: "e.example.net" TTL: 60 3ms (www.example.org. A)`},
		"silent":     {"DNS Query slow.example.org. A"},
		"post":       {"HTTP/1.1 POST http://web/pay", "HTTP/1.1 503 700µs (POST http://web/pay)"},
		"grpc":       {"HTTP/2 POST http://cart:50051/shop.Cart/Add", "HTTP/2 gRPC UNAVAILABLE 2ms (POST http://cart:50051/shop.Cart/Add)"},
		"sql":        {"postgresql SELECT orders", "ok 4ms (postgresql SELECT orders)"},
		"unanswered": {"HTTP/1.1 DELETE http://10.0.0.6:8080/orders/{id}"},
		"exec":       nil,
	} {
		var got []string
		for _, f := range flowsOf(event) {
			got = append(got, f.GetSummary()) //nolint:staticcheck // what clients print
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", event, got, want)
		}
	}
	for want, n := range map[string]uint64{"0 B": 0, "999 B": 999, "1.0 kB": 1000, "1.0 MB": 999_950, "18446.7 PB": 1<<64 - 1} {
		if got := size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
	if got := icmpName(3, 1, icmpv4Types) + " " + icmpName(200, 7, icmpv4Types); got != "DestinationUnreachable(1) 200(7)" {
		t.Errorf("ICMP: %q", got)
	}
}

// An answer is the question from the other end.
func TestAnswers(t *testing.T) {
	for _, event := range []string{"get", "post", "dns", "grpc", "sql"} {
		pair := flowsOf(event)
		ask, answer := pair[0], pair[1]
		if !answer.GetIsReply().GetValue() || ask.GetUuid() == answer.GetUuid() || !ask.GetTime().AsTime().Before(answer.GetTime().AsTime()) {
			t.Errorf("%s: %v and %v", event, ask, answer)
		}
		if !proto.Equal(ask.GetSource(), answer.GetDestination()) || !proto.Equal(ask.GetDestination(), answer.GetSource()) ||
			ask.GetIP().GetSource() != answer.GetIP().GetDestination() || ask.GetIP().GetDestination() != answer.GetIP().GetSource() ||
			ask.GetL4().GetTCP().GetSourcePort() != answer.GetL4().GetTCP().GetDestinationPort() || !slices.Equal(ask.GetDestinationNames(), answer.GetSourceNames()) {
			t.Errorf("%s: the ends of the answer are not those of the question: %v and %v", event, ask, answer)
		}
		if ask.GetL7().GetType() != fl.L7FlowType_REQUEST || answer.GetL7().GetType() != fl.L7FlowType_RESPONSE || ask.GetL7().GetLatencyNs() != 0 || answer.GetL7().GetLatencyNs() == 0 {
			t.Errorf("%s: %v and %v", event, ask.GetL7(), answer.GetL7())
		}
	}
	dns := flowsOf("dns")[1].GetL7().GetDns()
	want := &fl.DNS{Query: "www.example.org.", Ips: []string{"93.184.216.34"}, Cnames: []string{"e.example.net"}, Ttl: 60, Qtypes: []string{"A"},
		Rrtypes: []string{"CNAME", "A"}, ObservationSource: "vigie"}
	if !proto.Equal(dns, want) {
		t.Errorf("DNS: %v, want %v", dns, want)
	}
	if code := flowsOf("nxdomain")[1].GetL7().GetDns().GetRcode(); code != 3 {
		t.Errorf("NXDOMAIN is %d", code)
	}
	if code, known := rcode("RCODE42"); code != 42 || !known {
		t.Errorf("RCODE42 is %d, %v", code, known)
	}
}

// The same labels are the same identity, and replicas share theirs.
func TestIdentities(t *testing.T) {
	pod := func(name, hash string) *model.Workload {
		return &model.Workload{Kind: model.WorkloadPod, Name: name, ID: name, Namespace: "shop", Labels: map[string]string{"app": "api", "pod-template-hash": hash}}
	}
	a, b := endpoint(pod("api-1", "x"), true), endpoint(pod("api-2", "y"), true)
	if a.GetIdentity() != b.GetIdentity() || a.GetID() == b.GetID() {
		t.Errorf("replicas: %v and %v", a, b)
	}
	other := pod("api-1", "x")
	other.Namespace = "elsewhere"
	if endpoint(other, true).GetIdentity() == a.GetIdentity() {
		t.Error("another namespace has the same identity")
	}
	if a.GetIdentity() < firstIdentity || a.GetIdentity() >= 1<<24 {
		t.Errorf("identity %d is Cilium's own", a.GetIdentity())
	}
	for name, e := range map[string]*fl.Endpoint{"host": endpoint(nil, true), "world": endpoint(&model.Workload{Kind: model.WorkloadUnknown}, false)} {
		if e.GetLabels()[0] != "reserved:"+name || e.GetIdentity() > 2 || e.GetPodName() != "" {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestExtensionIsTheEvent(t *testing.T) {
	_, events := scene()
	c := newConverter(newBackend())
	f := c.flows(events["world"])[0]
	c.extend(f, events["world"])
	fields := new(structpb.Struct)
	if err := f.GetExtensions().UnmarshalTo(fields); err != nil {
		t.Fatal(err)
	}
	process := fields.GetFields()["process"].GetStructValue().GetFields()
	if process["exec_id"].GetStringValue() != events["world"].Process.ExecID || process["args"].GetListValue().GetValues()[2].GetStringValue() != "https://www.example.org/" {
		t.Errorf("process: %v", process)
	}
	counters := fields.GetFields()["flow"].GetStructValue().GetFields()["total"].GetStructValue().GetFields()
	if counters["bytes_received"].GetNumberValue() != 5130 {
		t.Errorf("counters: %v", counters)
	}
	// As `hubble observe -o json` prints it, which knows nothing of vigie.
	b, err := json.Marshal(f)
	if err != nil || !strings.Contains(string(b), `"binary":"/usr/bin/curl"`) {
		t.Errorf("as JSON: %s, %v", b, err)
	}
}

func TestUUIDs(t *testing.T) {
	seen := make(map[string]bool)
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for range 2 { // the same whenever they are asked for
		b := sceneBackend()
		page, err := b.Events(t.Context(), allEvents())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range page.Events {
			for _, f := range newConverter(b).flows(e) {
				n++
				seen[f.GetUuid()] = true
				if !form.MatchString(f.GetUuid()) {
					t.Errorf("%s is no UUID of version 8", f.GetUuid())
				}
			}
		}
		if len(seen) != n {
			t.Errorf("%d flows have %d names", n, len(seen))
		}
	}
}

// Whatever an event holds, its flows can be sent.
func TestAnyEventCanBeSent(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := newConverter(newBackend())
	for range 300 {
		e := modeltest.Event(rng, rng.Float64())
		for _, typ := range []model.Type{model.TypeFlow, model.TypeRequest, model.TypeDNS} {
			e.Type = typ
			if typ == model.TypeFlow && e.Flow == nil || typ == model.TypeRequest && e.Request == nil || typ == model.TypeDNS && e.DNS == nil {
				continue
			}
			for _, f := range c.flows(e) {
				c.extend(f, e)
				got, want, text := new(structpb.Struct), new(structpb.Struct), e.AppendJSON(nil, modeltest.Boot)
				if err := errors.Join(f.GetExtensions().UnmarshalTo(got), want.UnmarshalJSON(text)); err != nil || !proto.Equal(got, want) {
					t.Fatalf("%s became %v, %v", text, got, err)
				}
				if _, err := proto.Marshal(f); err != nil {
					t.Fatalf("%v: %v", f, err)
				}
			}
		}
	}
	broken := endpoint(&model.Workload{Kind: model.WorkloadContainer, Name: "a\xff", Labels: map[string]string{"k\xfe": "\xfd"}}, false)
	if _, err := proto.Marshal(broken); err != nil {
		t.Error(err)
	}
}

func TestBrokenJSONIsNoStruct(t *testing.T) {
	for _, text := range []string{``, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":[1,`, `{"a":"b`, `{"a":x}`, `{a:1}`, `[1]`, `{"a":"\x"}`, `"a"`} {
		s := structWriter{in: []byte(text)}
		if s.fields(); s.err == nil {
			t.Errorf("%s became %x", text, s.out)
		}
	}
}

// What one flow costs for one client: converted and filtered, and with its process.
func BenchmarkFlow(b *testing.B) {
	_, events := scene()
	c := newConverter(newBackend())
	b.Run("filtered out", func(b *testing.B) {
		w, err := compileRequest(one(&fl.FlowFilter{SourcePod: []string{"shop/"}, HttpMethod: []string{"GET"}}))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			for _, f := range c.flows(events["world"]) {
				w.keeps(f)
			}
		}
	})
	b.Run("with its process", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, f := range c.flows(events["world"]) {
				c.extend(f, events["world"])
			}
		}
	})
}
