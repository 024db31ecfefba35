// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"os"
	"strings"
	"testing"
	"time"

	fl "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vigie-io/vigie/internal/model"
)

// passes lists what of the scene a request takes: "get?" is a question, "get!" its answer, "ping" a conversation.
func passes(t *testing.T, q *observer.GetFlowsRequest) string {
	t.Helper()
	w, err := compileRequest(q)
	if err != nil {
		t.Fatalf("%v: %v", q, err)
	}
	c := newConverter(newBackend())
	order, events := scene()
	var out []string
	for _, name := range order {
		for i, f := range c.flows(events[name]) {
			if w.extendFirst {
				c.extend(f, events[name])
			}
			if !w.keeps(f) {
				continue
			}
			if f.GetType() == fl.FlowType_L7 {
				out = append(out, name+[]string{"?", "!"}[i])
			} else {
				out = append(out, name)
			}
		}
	}
	return strings.Join(out, " ")
}

func one(f *fl.FlowFilter) *observer.GetFlowsRequest {
	return &observer.GetFlowsRequest{Whitelist: []*fl.FlowFilter{f}}
}

// filterCase is a filter and what of the scene passes it; nothing else does.
type filterCase struct {
	filter *fl.FlowFilter
	want   string
}

func filterCases() []filterCase {
	cel := func(source ...string) *fl.FlowFilter {
		return &fl.FlowFilter{Experimental: &fl.FlowFilter_Experimental{CelExpression: source}}
	}
	nginx, alice := identity(labels(workload("get"))), identity(labels(workload("world")))
	return []filterCase{
		{&fl.FlowFilter{Uuid: []string{"none", uuidOf("ping")}}, "ping"},
		{&fl.FlowFilter{SourceIp: []string{"10.0.0.5", "2001:db8::/32"}}, "pods udp6 ping6 post? grpc? sql? unanswered?"},
		{&fl.FlowFilter{SourceIp: []string{"93.184.216.34"}}, ""},
		{&fl.FlowFilter{DestinationIp: []string{"93.184.0.0/16", "2001:0db8:0::2"}}, "world ping6"},
		{&fl.FlowFilter{SourceIpXlated: []string{"0.0.0.0/0", "::/0"}}, ""},
		{&fl.FlowFilter{SourcePod: []string{"shop/"}}, "pods post? grpc? sql? unanswered?"},
		{&fl.FlowFilter{SourcePod: []string{"shop/api-7", "shop/nginx"}}, "pods post? grpc? sql? unanswered?"},
		{&fl.FlowFilter{SourcePod: []string{"/api"}}, "pods post? grpc? sql? unanswered?"},
		{&fl.FlowFilter{SourcePod: []string{"api"}}, ""}, // in namespace default, or in none
		{&fl.FlowFilter{SourcePod: []string{"nginx.service"}}, "local get!"},
		{&fl.FlowFilter{SourcePod: []string{"default/nginx.service"}}, ""},
		{&fl.FlowFilter{DestinationPod: []string{"web"}}, "pods"},
		{&fl.FlowFilter{DestinationPod: []string{"nginx"}}, "open later reset audited get?"},
		{&fl.FlowFilter{DestinationPod: []string{"/"}}, "open later reset local pods audited dns! nxdomain! get? post! grpc! sql!"},
		{&fl.FlowFilter{SourceFqdn: []string{"*"}}, "post!"},
		{&fl.FlowFilter{DestinationFqdn: []string{"*.Example.org."}}, "world"},
		{&fl.FlowFilter{DestinationFqdn: []string{"example.org", "web.default.svc"}}, "post?"},
		{&fl.FlowFilter{SourceLabel: []string{"app=api"}}, "pods post? grpc? sql? unanswered?"},
		{&fl.FlowFilter{SourceLabel: []string{"container:app=api"}}, ""},
		{&fl.FlowFilter{SourceLabel: []string{"k8s:app in (web, api), !tier"}}, "pods post? grpc? sql? unanswered?"},
		{&fl.FlowFilter{SourceLabel: []string{"vigie:slice = system.slice"}}, "local get!"},
		{&fl.FlowFilter{SourceLabel: []string{"reserved:host", "reserved:world,vigie:none"}}, "dns! nxdomain!"},
		{&fl.FlowFilter{DestinationLabel: []string{"tier"}}, "local"},
		{&fl.FlowFilter{DestinationLabel: []string{"reserved:host"}}, "refused dns? nxdomain?"},
		{&fl.FlowFilter{SourceService: []string{"/"}}, ""},
		{&fl.FlowFilter{DestinationService: []string{"shop/db"}}, "local"},
		{&fl.FlowFilter{DestinationService: []string{"db"}}, ""},
		{&fl.FlowFilter{SourceWorkload: []*fl.Workload{{Name: "nginx.service"}}}, "local get!"},
		{&fl.FlowFilter{SourceWorkload: []*fl.Workload{{Name: "nginx.service", Kind: "Pod"}}}, ""},
		{&fl.FlowFilter{DestinationWorkload: []*fl.Workload{{Kind: "Pod"}, {Kind: "container"}}}, "local pods post! grpc! sql!"},
		{&fl.FlowFilter{SourceClusterName: []string{"default"}}, ""},
		{&fl.FlowFilter{DestinationClusterName: []string{"default"}}, ""},
		{&fl.FlowFilter{TrafficDirection: []fl.TrafficDirection{fl.TrafficDirection_INGRESS}}, "open later reset audited get? get!"},
		{&fl.FlowFilter{Verdict: []fl.Verdict{fl.Verdict_DROPPED, fl.Verdict_AUDIT, fl.Verdict_ERROR}}, "denied audited refused"},
		{&fl.FlowFilter{Verdict: []fl.Verdict{fl.Verdict_REDIRECTED, fl.Verdict_TRACED}}, ""},
		{&fl.FlowFilter{DropReasonDesc: []fl.DropReason{fl.DropReason_POLICY_DENIED}}, "denied"},
		{&fl.FlowFilter{DropReasonDesc: []fl.DropReason{fl.DropReason_DROP_REASON_UNKNOWN}}, ""},
		{&fl.FlowFilter{Interface: []*fl.NetworkInterface{{}, {Name: "eth0"}}}, ""},
		{&fl.FlowFilter{EventType: []*fl.EventTypeFilter{{Type: eventDrop}, {Type: eventPolicyVerdict}}}, "denied audited"},
		{&fl.FlowFilter{EventType: []*fl.EventTypeFilter{{Type: eventTrace, MatchSubType: true, SubType: traceToNetwork}}}, "world pods udp6 ping ping6"},
		{&fl.FlowFilter{EventType: []*fl.EventTypeFilter{{MatchSubType: true, SubType: 133}}}, "denied"},
		{&fl.FlowFilter{HttpStatusCode: []string{"200", "5+"}}, "get! post!"},
		{&fl.FlowFilter{HttpStatusCode: []string{"50+", "404"}}, "post!"},
		{&fl.FlowFilter{Protocol: []string{"UDP"}}, "udp6 dns? dns! nxdomain? nxdomain! silent?"},
		{&fl.FlowFilter{Protocol: []string{"icmp"}}, "ping ping6"},
		{&fl.FlowFilter{Protocol: []string{"icmpv4", "dns"}}, "ping dns? dns! nxdomain? nxdomain! silent?"},
		{&fl.FlowFilter{Protocol: []string{"icmpv6"}}, "ping6"},
		{&fl.FlowFilter{Protocol: []string{"http"}}, "get? get! post? post! grpc? grpc! unanswered?"},
		{&fl.FlowFilter{Protocol: []string{"sctp", "vrrp", "igmp"}}, ""},
		{&fl.FlowFilter{SourcePort: []string{"40000", "443"}}, "open later reset get? get!"},
		{&fl.FlowFilter{DestinationPort: []string{"53", "22"}}, "denied dns? nxdomain? silent?"},
		{&fl.FlowFilter{DestinationPort: []string{"0"}}, "dns! nxdomain!"}, // from where it was asked is not known
		{&fl.FlowFilter{Reply: []bool{true}}, "dns! nxdomain! get! post! grpc! sql!"},
		{&fl.FlowFilter{Reply: []bool{false}, Protocol: []string{"dns"}}, "dns? nxdomain? silent?"},
		{&fl.FlowFilter{DnsQuery: []string{`^www\..*\.org\.$`, "slow"}}, "dns? dns! silent?"},
		{&fl.FlowFilter{SourceIdentity: []uint32{nginx, 77}}, "local get!"},
		{&fl.FlowFilter{SourceIdentity: []uint32{alice}}, "world denied refused udp6 ping ping6 dns? nxdomain? silent?"},
		{&fl.FlowFilter{DestinationIdentity: []uint32{identityWorld}}, "world denied udp6 ping ping6 silent? get! post? grpc? sql? unanswered?"},
		{&fl.FlowFilter{HttpMethod: []string{"get", "delete"}}, "get? get! unanswered?"},
		{&fl.FlowFilter{HttpPath: []string{"^/orders/"}}, "get? get! unanswered?"},
		{&fl.FlowFilter{HttpPath: []string{"shop.example"}}, ""},
		{&fl.FlowFilter{HttpUrl: []string{`^https://shop\.example/`}}, "get? get!"},
		{&fl.FlowFilter{HttpHeader: []*fl.HTTPHeader{{}, {Key: "Host", Value: "shop.example"}}}, ""},
		{&fl.FlowFilter{TcpFlags: []*fl.TCPFlags{{RST: true}, {SYN: true, FIN: true}}}, "reset world local pods audited refused"},
		{&fl.FlowFilter{TcpFlags: []*fl.TCPFlags{{PSH: true}, {URG: true}, {ECE: true}, {CWR: true}, {NS: true}}}, ""},
		{&fl.FlowFilter{NodeName: []string{"NODE*"}, Protocol: []string{"icmp"}}, "ping ping6"},
		{&fl.FlowFilter{NodeName: []string{"default/"}, Protocol: []string{"icmp"}}, "ping ping6"},
		{&fl.FlowFilter{NodeName: []string{"other/*", "node2"}}, ""},
		{&fl.FlowFilter{NodeLabels: []string{"kubernetes.io/hostname"}}, ""},
		{&fl.FlowFilter{IpVersion: []fl.IPVersion{fl.IPVersion_IPv6}}, "udp6 ping6"},
		{&fl.FlowFilter{TraceId: []string{"0af7651916cd43dd8448eb211c80319c"}}, "get? get!"},
		{&fl.FlowFilter{IpTraceId: []uint64{1}}, ""},
		{&fl.FlowFilter{Encrypted: []bool{true}}, ""},
		{&fl.FlowFilter{Encrypted: []bool{false}, Protocol: []string{"icmp"}}, "ping ping6"},
		{cel(`_flow.l7.http.code == 503u`, `_flow.verdict == Verdict.ERROR`), "refused post!"},
		{cel(`_flow.extensions.process.pid == 600.0 && _flow.Type == FlowType.L3_L4`), "pods"},
		{cel(`_flow.source.workloads[3].name == ""`), ""}, // an error is no match
		// All the fields of one filter must hold.
		{&fl.FlowFilter{SourcePod: []string{"shop/"}, HttpMethod: []string{"POST"}, HttpPath: []string{"^/pay$"}}, "post?"},
	}
}

func workload(event string) *model.Workload {
	_, events := scene()
	return events[event].Process.Workload
}

func uuidOf(event string) string {
	_, events := scene()
	return newConverter(newBackend()).flows(events[event])[0].GetUuid()
}

func TestFilters(t *testing.T) {
	for _, c := range filterCases() {
		if got := passes(t, one(c.filter)); got != c.want {
			t.Errorf("%v:\n got %s\nwant %s", c.filter, got, c.want)
		}
	}
}

// A field that a new version of the API brings is tested and documented, or this fails.
func TestEveryFieldOfAFilterIsTestedAndDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../../docs/hubble.md")
	if err != nil {
		t.Fatal(err)
	}
	tested := make(map[string]bool)
	for _, c := range filterCases() {
		c.filter.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			tested[string(f.Name())] = true
			return true
		})
	}
	fields := (&fl.FlowFilter{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		if !tested[name] {
			t.Errorf("no test of the field %s", name)
		}
		if !strings.Contains(string(doc), name) {
			t.Errorf("docs/hubble.md says nothing of the field %s", name)
		}
	}
	flow := (&fl.Flow{}).ProtoReflect().Descriptor().Fields()
	for i := range flow.Len() {
		if name := string(flow.Get(i).Name()); !strings.Contains(string(doc), name) {
			t.Errorf("docs/hubble.md says nothing of a flow's %s", name)
		}
	}
}

// The filters of a list are alternatives, and the blacklist takes away from the whitelist.
func TestLists(t *testing.T) {
	icmp := &fl.FlowFilter{Protocol: []string{"icmp"}}
	v6 := &fl.FlowFilter{IpVersion: []fl.IPVersion{fl.IPVersion_IPv6}}
	dropped := &fl.FlowFilter{Verdict: []fl.Verdict{fl.Verdict_DROPPED}}
	for want, q := range map[string]*observer.GetFlowsRequest{
		"denied ping":            {Whitelist: []*fl.FlowFilter{icmp, dropped}, Blacklist: []*fl.FlowFilter{v6}},
		"ping":                   {Whitelist: []*fl.FlowFilter{icmp, dropped}, Blacklist: []*fl.FlowFilter{v6, dropped}},
		"denied udp6 ping ping6": {Whitelist: []*fl.FlowFilter{icmp, dropped, v6}},
		"":                       {Whitelist: []*fl.FlowFilter{icmp}, Blacklist: []*fl.FlowFilter{{}}},
		"get? get! post? post! grpc? grpc! unanswered?": {Whitelist: []*fl.FlowFilter{{Protocol: []string{"http"}}}, Blacklist: []*fl.FlowFilter{icmp}},
	} {
		if got := passes(t, q); got != want {
			t.Errorf("%v: got %q, want %q", q, got, want)
		}
	}
	all := passes(t, &observer.GetFlowsRequest{})
	if got := passes(t, one(&fl.FlowFilter{})); got != all || !strings.Contains(all, "world") {
		t.Errorf("an empty filter takes %q of %q", got, all)
	}
	if got := passes(t, &observer.GetFlowsRequest{Blacklist: []*fl.FlowFilter{icmp}}); got != strings.Replace(all, " ping ping6", "", 1) {
		t.Errorf("without a whitelist: %q of %q", got, all)
	}
}

func TestBadRequests(t *testing.T) {
	white := one
	black := func(f *fl.FlowFilter) *observer.GetFlowsRequest {
		return &observer.GetFlowsRequest{Blacklist: []*fl.FlowFilter{{}, f}}
	}
	cel := func(source string) *observer.GetFlowsRequest {
		return white(&fl.FlowFilter{Experimental: &fl.FlowFilter_Experimental{CelExpression: []string{"true", source}}})
	}
	mask := func(paths ...string) *observer.GetFlowsRequest {
		return &observer.GetFlowsRequest{FieldMask: &fieldmaskpb.FieldMask{Paths: paths}}
	}
	for want, q := range map[string]*observer.GetFlowsRequest{
		`whitelist[0].source_ip[0]: "10.0.0.0/33" is no range`:                white(&fl.FlowFilter{SourceIp: []string{"10.0.0.0/33"}}),
		`blacklist[1].destination_ip[1]: "host" is no address`:                black(&fl.FlowFilter{DestinationIp: []string{"::1", "host"}}),
		`source_ip_xlated[0]: "" is no address`:                               white(&fl.FlowFilter{SourceIpXlated: []string{""}}),
		`source_pod[0]: is empty`:                                             white(&fl.FlowFilter{SourcePod: []string{""}}),
		`destination_service[0]: is empty`:                                    white(&fl.FlowFilter{DestinationService: []string{""}}),
		`destination_fqdn[0]: "a b": ' ' is no character of a domain name`:    white(&fl.FlowFilter{DestinationFqdn: []string{"a b"}}),
		`source_fqdn[0]: "" is no domain name`:                                white(&fl.FlowFilter{SourceFqdn: []string{""}}),
		`node_name[0]: is empty`:                                              white(&fl.FlowFilter{NodeName: []string{""}}),
		`node_name[0]: "b/c": '/'`:                                            white(&fl.FlowFilter{NodeName: []string{"a/b/c"}}),
		`source_label[0]`:                                                     white(&fl.FlowFilter{SourceLabel: []string{"k8s:a in"}}),
		`destination_label[1]`:                                                white(&fl.FlowFilter{DestinationLabel: []string{"a", "=("}}),
		`node_labels[0]`:                                                      white(&fl.FlowFilter{NodeLabels: []string{"a b c"}}),
		`source_cluster_name[0]: is empty`:                                    white(&fl.FlowFilter{SourceClusterName: []string{""}}),
		`http_status_code[0]: "4xx" is no HTTP status`:                        white(&fl.FlowFilter{HttpStatusCode: []string{"4xx"}}),
		`http_status_code[0]: "+" is no HTTP status`:                          white(&fl.FlowFilter{HttpStatusCode: []string{"+"}}),
		`http_status_code[0]: "40" is no HTTP status`:                         white(&fl.FlowFilter{HttpStatusCode: []string{"40"}}),
		`http_status_code[0]: "404+" is no HTTP status`:                       white(&fl.FlowFilter{HttpStatusCode: []string{"404+"}}),
		`http_status_code[0]: "900" is no HTTP status`:                        white(&fl.FlowFilter{HttpStatusCode: []string{"900"}}),
		`http_path[0]: error parsing regexp`:                                  white(&fl.FlowFilter{HttpPath: []string{"("}}),
		`http_url[0]: error parsing regexp`:                                   white(&fl.FlowFilter{HttpUrl: []string{`\`}}),
		`dns_query[0]: error parsing regexp: invalid repeat count`:            white(&fl.FlowFilter{DnsQuery: []string{"a{5000}"}}),
		`protocol[0]: "kafka" is not known`:                                   white(&fl.FlowFilter{Protocol: []string{"kafka"}}),
		`source_port[0]: "http" is no port`:                                   white(&fl.FlowFilter{SourcePort: []string{"http"}}),
		`destination_port[0]: "65536" is no port`:                             white(&fl.FlowFilter{DestinationPort: []string{"65536"}}),
		`event_type: none of the types is L7`:                                 white(&fl.FlowFilter{HttpMethod: []string{"GET"}, EventType: []*fl.EventTypeFilter{{Type: eventDrop}}}),
		`uuid has 300 values, at most 256`:                                    white(&fl.FlowFilter{Uuid: make([]string, 300)}),
		`http_path has 300 values, at most 256`:                               white(&fl.FlowFilter{HttpPath: make([]string, 300)}),
		`whitelist has 300 filters, at most 256`:                              {Whitelist: make([]*fl.FlowFilter, 300)},
		`whitelist[0].experimental.cel_expression[1]: <input>:1:6: undefined`: cel("_flow.nonsense"),
		`cel_expression[1]: is a string, not true or false`:                   cel("_flow.uuid"),
		`cel_expression[1]: is 5000 bytes long`:                               cel(strings.Repeat(" ", 5000)),
		`cel_expression[1]: <input>:1:1: Syntax error`:                        cel("&&"),
		`field_mask.paths[1]: a flow has no field "source.nonsense"`:          mask("time", "source.nonsense"),
		`field_mask.paths[0]: a flow has no field ""`:                         mask(""),
		`first and follow exclude each other`:                                 {First: true, Follow: true},
		`since: proto:`:                                                       {Since: &timestamppb.Timestamp{Nanos: -1}},
		`until is before since`:                                               {Since: timestamppb.New(began()), Until: timestamppb.New(began().Add(-time.Second))},
	} {
		if _, err := compileRequest(q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestFieldMasks(t *testing.T) {
	_, events := scene()
	apply := func(paths ...string) *fl.Flow {
		t.Helper()
		w, err := compileRequest(&observer.GetFlowsRequest{FieldMask: &fieldmaskpb.FieldMask{Paths: paths}})
		if err != nil {
			t.Fatal(err)
		}
		c := newConverter(newBackend())
		f := c.flows(events["pods"])[0]
		if w.extend {
			c.extend(f, events["pods"])
		}
		w.mask.Keep(f.ProtoReflect())
		return f
	}
	whole := newConverter(newBackend()).flows(events["pods"])[0]
	want := &fl.Flow{Source: &fl.Endpoint{Namespace: "shop", Workloads: whole.GetSource().GetWorkloads()}, Verdict: fl.Verdict_FORWARDED,
		L4: &fl.Layer4{Protocol: &fl.Layer4_TCP{TCP: &fl.TCP{DestinationPort: 8080}}}}
	if got := apply("source.namespace", "source.workloads", "l4.TCP.destination_port", "verdict"); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := apply("nodeName", "IP"); got.GetNodeName() != "node1" || !proto.Equal(got.GetIP(), whole.GetIP()) || got.GetTime() != nil {
		t.Errorf("names as in JSON, whole messages: %v", got)
	}
	for _, path := range []string{"extensions", "extensions.value"} {
		if got := apply(path); got.GetExtensions() == nil || got.GetTime() != nil {
			t.Errorf("%s: %v", path, got)
		}
	}
	if got := apply("time"); got.GetExtensions() != nil {
		t.Error("the process is there although nobody wants it")
	}
}

func TestSelectorsKeepTheirValues(t *testing.T) {
	set := labelSet{"k8s:app=web", "reserved:host", "k8s:a/b.c=d.e", "bare"}
	for selector, want := range map[string]bool{
		"app=web": true, "k8s:app=web": true, "any:app=web": true, "container:app": false, "app!=web": false, "!app": false, "!k8s:none": true,
		"app in (web,db),reserved:host": true, " app notin (db, api) , reserved:host ": true, "a/b.c=d.e": true, "k8s:a/b.c == d.e": true,
		"bare": true, "": true,
	} {
		s, err := parseSelector(selector)
		if err != nil {
			t.Errorf("%q: %v", selector, err)
			continue
		}
		if got := s.Matches(set); got != want {
			t.Errorf("%q: %v", selector, got)
		}
	}
}

// Whatever comes, a request is compiled or refused.
func FuzzRequest(f *testing.F) {
	for _, c := range filterCases() {
		b, err := proto.Marshal(one(c.filter))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	c := newConverter(newBackend())
	_, events := scene()
	f.Fuzz(func(_ *testing.T, b []byte) {
		q := new(observer.GetFlowsRequest)
		if proto.Unmarshal(b, q) != nil {
			return
		}
		w, err := compileRequest(q)
		if err != nil {
			return
		}
		for _, e := range events {
			for _, flow := range c.flows(e) {
				if w.keeps(flow); w.mask != nil {
					w.mask.Keep(flow.ProtoReflect())
				}
			}
		}
	})
}

func TestLastOfMany(t *testing.T) {
	s := span{number: maxLast + 1}
	if past, back := s.past(); !past || back {
		t.Error("who asks for very many does not get all")
	}
}
