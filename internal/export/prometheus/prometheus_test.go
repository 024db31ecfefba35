// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// clock is a time that a test sets.
type clock struct{ now time.Time }

func newTest(groups ...string) (*Metrics, *clock) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	return New(groups, func() time.Time { return c.now }), c
}

// expect compares some families with what a page should say of them, help and type lines left out.
func expect(t *testing.T, m *Metrics, want string, families ...string) {
	t.Helper()
	registry := client.NewRegistry()
	registry.MustRegister(m)
	got, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range got {
		if !slices.Contains(families, f.GetName()) {
			continue
		}
		for _, x := range f.GetMetric() {
			var labels []string
			for _, l := range x.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			value := x.GetCounter().GetValue()
			if x.Histogram != nil {
				value = float64(x.GetHistogram().GetSampleCount())
			}
			lines = append(lines, fmt.Sprintf("%s{%s} %v", f.GetName(), strings.Join(labels, ","), value))
		}
	}
	slices.Sort(lines)
	wanted := strings.Split(strings.TrimSpace(strings.ReplaceAll(want, "\t", "")), "\n")
	slices.Sort(wanted)
	if !slices.Equal(lines, wanted) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(wanted, "\n"))
	}
}

func flowOf(change func(*model.Flow)) *model.Event {
	f := &model.Flow{Report: 1, State: model.FlowClosed, Protocol: "tcp", Family: "ipv4", Verdict: model.FlowAllowed, Close: model.CloseFin,
		Source:      model.Endpoint{Address: netip.MustParseAddrPort("10.0.0.5:41000"), Workload: &model.Workload{Kind: model.WorkloadPod, Namespace: "shop", Name: "web"}},
		Destination: model.Endpoint{Address: netip.MustParseAddrPort("203.0.113.9:443")},
		Interval:    model.FlowCounters{BytesSent: 100, BytesReceived: 900, Retransmits: 2}, SRTT: time.Millisecond, Latency: time.Millisecond}
	change(f)
	return &model.Event{Type: model.TypeFlow, Flow: f, Count: 1}
}

// A long flow counts once as a conversation, its bytes as they come.
func TestReportsOfOneFlow(t *testing.T) {
	m, c := newTest(GroupFlow)
	for report := uint32(1); report <= 3; report++ {
		m.count(c.now, flowOf(func(f *model.Flow) {
			if f.Report = report; report < 3 {
				f.State, f.Close = model.FlowOpen, ""
			}
		}))
	}
	expect(t, m, `hubble_flows_processed_total{protocol="TCP",subtype="",type="Trace",verdict="FORWARDED"} 1
		hubble_tcp_flags_total{family="IPv4",flag="SYN"} 1
		hubble_tcp_flags_total{family="IPv4",flag="SYN-ACK"} 1
		hubble_tcp_flags_total{family="IPv4",flag="FIN"} 1
		hubble_port_distribution_total{port="443",protocol="TCP"} 1
		vigie_flows_total{destination="world",protocol="tcp",source="shop/web",verdict="allowed"} 1
		vigie_flow_bytes_total{destination="world",direction="sent",source="shop/web"} 300
		vigie_flow_bytes_total{destination="world",direction="received",source="shop/web"} 2700
		vigie_flow_retransmits_total{destination="world",source="shop/web"} 6
		vigie_tcp_connect_seconds{destination="world",source="shop/web"} 1
		vigie_tcp_round_trip_seconds{destination="world",source="shop/web"} 3`,
		flowsProcessed, drops, tcpFlags, portDistribution, flows, flowBytes, flowRetransmits, flowFailures, connectLatency, roundTrip)
}

func TestFlowsThatDidNotComeAbout(t *testing.T) {
	m, c := newTest(GroupFlow)
	none := func(f *model.Flow) { f.Interval, f.SRTT, f.Latency = model.FlowCounters{}, 0, 0 }
	denied := flowOf(func(f *model.Flow) { none(f); f.Verdict, f.Close = model.FlowDenied, model.CloseDenied })
	denied.Count = 4 // folded
	m.count(c.now, denied)
	m.count(c.now, flowOf(func(f *model.Flow) { none(f); f.Verdict, f.Close = model.FlowFailed, model.CloseRefused }))
	m.count(c.now, flowOf(func(f *model.Flow) { none(f); f.Verdict = model.FlowAudited }))
	m.count(c.now, flowOf(func(f *model.Flow) { none(f); f.Report, f.Verdict, f.Close = 5, model.FlowDenied, model.CloseCut }))
	expect(t, m, `hubble_drop_total{protocol="TCP",reason="POLICY_DENIED"} 5
		hubble_flows_processed_total{protocol="TCP",subtype="",type="Drop",verdict="DROPPED"} 4
		hubble_flows_processed_total{protocol="TCP",subtype="",type="Trace",verdict="FORWARDED"} 1
		hubble_flows_processed_total{protocol="TCP",subtype="",type="PolicyVerdict",verdict="AUDIT"} 1
		hubble_tcp_flags_total{family="IPv4",flag="SYN"} 2
		hubble_tcp_flags_total{family="IPv4",flag="SYN-ACK"} 1
		hubble_tcp_flags_total{family="IPv4",flag="FIN"} 1
		hubble_tcp_flags_total{family="IPv4",flag="RST"} 1
		vigie_flow_failures_total{destination="world",reason="refused",source="shop/web"} 1`, flowsProcessed, drops, tcpFlags, flowFailures)
}

func TestDNS(t *testing.T) {
	m, c := newTest(GroupDNS, GroupFlow)
	m.count(c.now, &model.Event{Type: model.TypeDNS, DNS: &model.DNS{Name: "a.example", QType: "A", RCode: "NOERROR", Latency: time.Millisecond,
		Answers: []model.DNSAnswer{{Type: "CNAME", Data: "b.example"}, {Type: "A", Data: "192.0.2.1"}, {Type: "A", Data: "192.0.2.2"}}}})
	m.count(c.now, &model.Event{Type: model.TypeDNS, DNS: &model.DNS{Name: "none.example", QType: "AAAA", RCode: "NXDOMAIN", Latency: time.Millisecond}})
	m.count(c.now, &model.Event{Type: model.TypeDNS, DNS: &model.DNS{Name: "a.example", QType: "A", Timeout: true}})
	expect(t, m, `hubble_dns_queries_total{ips_returned="0",qtypes="A",rcode=""} 2
		hubble_dns_queries_total{ips_returned="0",qtypes="AAAA",rcode=""} 1
		hubble_dns_responses_total{ips_returned="2",qtypes="A",rcode="No Error"} 1
		hubble_dns_responses_total{ips_returned="0",qtypes="AAAA",rcode="Non-Existent Domain"} 1
		hubble_dns_response_types_total{qtypes="A",type="CNAME"} 1
		hubble_dns_response_types_total{qtypes="A",type="A"} 2
		hubble_flows_processed_total{protocol="DNS",subtype="DNS",type="L7",verdict="FORWARDED"} 5
		vigie_dns_query_duration_seconds{rcode="No Error"} 1
		vigie_dns_query_duration_seconds{rcode="Non-Existent Domain"} 1
		vigie_dns_timeouts_total{workload="unknown"} 1`, dnsQueries, dnsResponses, dnsResponseTypes, flowsProcessed, dnsDuration, dnsTimeouts)
}

func TestRequests(t *testing.T) {
	m, c := newTest(GroupRequest)
	p := &model.Process{Workload: &model.Workload{Kind: model.WorkloadUnit, Name: "nginx.service"}}
	for _, r := range []model.Request{
		{Protocol: "http", Version: "HTTP/1.1", Role: "server", Method: "GET", Status: 200, Latency: time.Millisecond},
		{Protocol: "http", Version: "HTTP/1.1", Role: "server", Method: "GET", Status: 500, Failed: true, Latency: time.Millisecond},
		{Protocol: "http", Version: "HTTP/1.1", Role: "server", Method: "GET", NoAnswer: true},
		{Protocol: "grpc", Version: "HTTP/2", Role: "client", Path: "/a.B/C", Status: 14, Failed: true, Latency: time.Millisecond},
		{Protocol: "kafka", Role: "client", Method: "Produce", Resource: "orders", Latency: time.Millisecond},
		{Protocol: "kafka", Role: "client", Method: "Produce", Resource: "orders", Failed: true, StatusText: "NOT_LEADER_OR_FOLLOWER", Latency: time.Millisecond},
	} {
		m.count(c.now, &model.Event{Type: model.TypeRequest, Process: p, Request: &r})
	}
	expect(t, m, `hubble_http_requests_total{method="GET",protocol="HTTP/1.1",reporter="server",status="200"} 1
		hubble_http_requests_total{method="GET",protocol="HTTP/1.1",reporter="server",status="500"} 1
		hubble_http_requests_total{method="POST",protocol="HTTP/2",reporter="client",status="200"} 1
		hubble_http_request_duration_seconds{method="GET",reporter="server"} 2
		hubble_http_request_duration_seconds{method="POST",reporter="client"} 1
		hubble_kafka_requests_total{api_key="Produce",error_code="0",reporter="client",topic="orders"} 1
		hubble_kafka_requests_total{api_key="Produce",error_code="NOT_LEADER_OR_FOLLOWER",reporter="client",topic="orders"} 1
		hubble_kafka_request_duration_seconds{api_key="Produce",reporter="client",topic="orders"} 2
		vigie_requests_total{protocol="http",reporter="server",result="ok",workload="nginx.service"} 1
		vigie_requests_total{protocol="http",reporter="server",result="failed",workload="nginx.service"} 1
		vigie_requests_total{protocol="http",reporter="server",result="no_answer",workload="nginx.service"} 1
		vigie_requests_total{protocol="grpc",reporter="client",result="failed",workload="nginx.service"} 1
		vigie_requests_total{protocol="kafka",reporter="client",result="ok",workload="nginx.service"} 1
		vigie_requests_total{protocol="kafka",reporter="client",result="failed",workload="nginx.service"} 1
		vigie_request_duration_seconds{protocol="http",reporter="server",workload="nginx.service"} 2
		vigie_request_duration_seconds{protocol="grpc",reporter="client",workload="nginx.service"} 1
		vigie_request_duration_seconds{protocol="kafka",reporter="client",workload="nginx.service"} 2`,
		httpRequests, httpDuration, kafkaRequests, kafkaDuration, requests, requestDuration)
}

// Names from outside cost no more series than a family may have; what there is no room for is counted, and the sum stays.
func TestCardinalityIsBounded(t *testing.T) {
	m, c := newTest(GroupAlert)
	const n = 3000
	for i := range n {
		m.count(c.now, &model.Event{Type: model.TypeAlert, Alert: &model.Alert{Rule: fmt.Sprint("rule-", i), Severity: model.SeverityLow}})
	}
	v := m.vectors[alerts]
	if len(v.series) != v.Max+1 || v.overflow != n-uint64(v.Max) || v.series[labels{Other, Other}].value != n-float64(v.Max) {
		t.Errorf("%d series, overflow %d, other %+v", len(v.series), v.overflow, v.series[labels{Other, Other}])
	}
	sum := 0.0
	for _, s := range v.series {
		sum += s.value
	}
	if sum != n {
		t.Errorf("%v in all, want %d", sum, n)
	}
	expect(t, m, fmt.Sprintf("vigie_metric_overflow_total{family=\"vigie_alerts_total\"} %d", n-v.Max), "vigie_metric_overflow_total")
}

// A full family makes room of what nobody adds to any more.
func TestStaleSeriesMakeRoom(t *testing.T) {
	m, c := newTest(GroupAlert)
	add := func(rule string) {
		m.count(c.now, &model.Event{Type: model.TypeAlert, Alert: &model.Alert{Rule: rule, Severity: model.SeverityLow}})
	}
	v := m.vectors[alerts]
	for i := range v.Max {
		add(fmt.Sprint("old-", i))
	}
	c.now = c.now.Add(staleAfter / 2)
	add("old-0")
	add("new")
	if v.overflow != 1 {
		t.Fatalf("overflow %d", v.overflow)
	}
	c.now = c.now.Add(staleAfter / 2)
	add("new")
	if v.overflow != 1 || len(v.series) != 3 || v.series[labels{"new", "low"}] == nil || v.series[labels{"old-0", "low"}].value != 2 {
		t.Errorf("overflow %d, %d series", v.overflow, len(v.series))
	}
}

// The names and labels are as Prometheus wants them, and nothing that is counted has no family.
func TestFamilies(t *testing.T) {
	m, _ := newTest(Groups()...)
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	for _, f := range Families() {
		if !slices.Contains(Groups(), f.Group) || len(f.Labels) == 0 || len(f.Labels) > maxLabels || f.Max < 1 {
			t.Errorf("%+v", f)
		}
	}
	if len(m.vectors) != len(Families()) {
		t.Errorf("%d of %d families: a name is there twice", len(m.vectors), len(Families()))
	}
}

// Behind a hub, with a group that is off.
func TestRun(t *testing.T) {
	losses := new(pipeline.Losses)
	hub := pipeline.NewHub(losses)
	m, _ := newTest(GroupWorkload)
	sub := hub.Subscribe(m.Subscribe())
	done := make(chan error, 1)
	go func() { done <- m.Run(sub) }()
	for range 3 {
		hub.Publish([]*model.Event{modeltest.Exec(), flowOf(func(*model.Flow) {})})
	}
	hub.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	expect(t, m, `vigie_workload_events_total{type="exec",workload="session-3 (alice)"} 3`, workloadEvents, flows)
	off, _ := newTest(GroupAlert)
	if off.Subscribe().Keep(modeltest.Exec()) {
		t.Error("takes events that it does not count")
	}
}

func BenchmarkFlow(b *testing.B) {
	m, c := newTest(Groups()...)
	e := flowOf(func(*model.Flow) {})
	b.ReportAllocs()
	for b.Loop() {
		m.count(c.now, e)
	}
}
