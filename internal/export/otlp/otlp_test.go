// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

func TestLogs(t *testing.T) {
	r := startReceiver(t)
	for _, endpoint := range []string{r.http, r.grpc} {
		before := r.records()
		x := start(t, endpoint, Options{Headers: http.Header{"X-Scope-Orgid": {"me"}}}, Logs)
		x.hub.Publish(execs(2500))
		x.end()
		if got := r.records() - before; got != 2500 {
			t.Errorf("%s: %d records arrived", endpoint, got)
		}
		if s := x.list[0].Stats(); s.Sent != 2500 || s.Lost != 0 || len(x.lost()) != 0 {
			t.Errorf("%s: %+v, lost %v", endpoint, s, x.lost())
		}
	}
	of := r.logs[0].ResourceLogs[0]
	if got := show(of.Resource.Attributes); got["service.name"] != "vigie" || got["host.name"] != "web-1" || got["service.version"] != "1.0" {
		t.Errorf("resource %v", got)
	}
	record := of.ScopeLogs[0].LogRecords[0]
	got := show(record.Attributes)
	for key, want := range map[string]string{"process.pid": "4242", "process.executable.path": "/usr/bin/curl", "process.executable.name": "curl",
		"process.command_args": "curl -sS https://example.org/index.html", "process.user.id": "1000", "process.parent_pid": "812", "process.interactive": "true",
		"vigie.workload.name": "session-3 (alice)", "vigie.seq": "1"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	var body struct {
		Type string
		Seq  uint64
	}
	if err := json.Unmarshal([]byte(record.Body.GetStringValue()), &body); err != nil || body.Type != "exec" || body.Seq != 1 {
		t.Errorf("body %+v, %v", body, err)
	}
	if record.EventName != "vigie.exec" || record.TimeUnixNano != uint64(modeltest.Exec().Time.UnixNano()) || record.SeverityText != "INFO" {
		t.Errorf("record %v", record)
	}
	if r.headers[0].Get("X-Scope-Orgid") != "me" {
		t.Errorf("headers %v", r.headers[0])
	}
}

// request is a served request, as far as all tests agree.
func request() *model.Event {
	e := modeltest.Exec()
	e.Type, e.Exec = model.TypeRequest, nil
	e.Request = &model.Request{Protocol: "http", Version: "HTTP/1.1", Role: "server", Method: "GET", Path: "/orders/{id}", Host: "shop.example:8080", Status: 200,
		Latency: 20 * time.Millisecond, Duration: 30 * time.Millisecond, Local: netip.MustParseAddrPort("10.0.0.5:8080"), Remote: netip.MustParseAddrPort("10.0.0.9:41000")}
	return e
}

// encode is the span of a request; nil when it is none.
func encode(t *testing.T, change func(*model.Event)) *tracepb.Span {
	t.Helper()
	e := request()
	change(e)
	s, _, ok := (&traces{}).Encode(e)
	if !ok {
		return nil
	}
	m := new(tracepb.Span)
	if err := unmarshal(s.bytes, m); err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
)

func TestSpanBelongsToTheTraceOfItsRequest(t *testing.T) {
	s := encode(t, func(e *model.Event) {
		e.Request.TraceID, e.Request.ParentSpanID, e.Request.Sampled = traceID, spanID, true
	})
	if hex.EncodeToString(s.TraceId) != traceID || hex.EncodeToString(s.ParentSpanId) != spanID || len(s.SpanId) != 8 || bytes.Equal(s.SpanId, s.ParentSpanId) {
		t.Errorf("span %v", s)
	}
	at := uint64(request().Time.UnixNano())
	if s.EndTimeUnixNano != at || s.EndTimeUnixNano-s.StartTimeUnixNano != uint64(30*time.Millisecond) {
		t.Errorf("from %d to %d, want to %d", s.StartTimeUnixNano, s.EndTimeUnixNano, at)
	}
}

// What is not certain is not claimed.
func TestSpanWithoutATraceIsOneOfItsOwn(t *testing.T) {
	one, other := encode(t, func(*model.Event) {}), encode(t, func(*model.Event) {})
	if len(one.TraceId) != 16 || bytes.Equal(one.TraceId, other.TraceId) || one.ParentSpanId != nil || one.Flags != 0 {
		t.Errorf("spans %v and %v", one, other)
	}
	for name, change := range map[string]func(*model.Request){
		"a parent without a trace": func(r *model.Request) { r.ParentSpanID = spanID },
		"no trace's id":            func(r *model.Request) { r.TraceID, r.ParentSpanID, r.Sampled = "xyz", spanID, true },
		"a trace's id of zeroes": func(r *model.Request) {
			r.TraceID, r.ParentSpanID, r.Sampled = strings.Repeat("0", 32), spanID, true
		},
		"a short id": func(r *model.Request) { r.TraceID, r.ParentSpanID, r.Sampled = traceID[:30], spanID, true },
	} {
		s := encode(t, func(e *model.Event) { change(e.Request) })
		if len(s.TraceId) != 16 || s.ParentSpanId != nil {
			t.Errorf("%s: %v", name, s)
		}
	}
	for _, path := range []string{"/v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"} {
		s := encode(t, func(e *model.Event) {
			if e.Request.Method, e.Request.Path = "POST", path; path != "/v1/traces" {
				e.Request.Protocol = "grpc"
			}
		})
		if s != nil {
			t.Errorf("an export has a span: %v", s)
		}
	}
	if s := encode(t, func(e *model.Event) { e.Request.TraceID, e.Request.ParentSpanID = traceID, spanID }); s != nil {
		t.Errorf("a trace that is not sampled has a span: %v", s)
	}
}

func TestSpanAttributesAndStatus(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*model.Request)
		name   string
		kind   tracepb.Span_SpanKind
		failed bool
		want   map[string]string
	}{
		"served": {func(*model.Request) {}, "GET /orders/{id}", tracepb.Span_SPAN_KIND_SERVER, false, map[string]string{"http.request.method": "GET",
			"http.route": "/orders/{id}", "http.response.status_code": "200", "server.address": "shop.example", "server.port": "8080",
			"client.address": "10.0.0.9", "network.protocol.version": "1.1"}},
		"asked": {func(r *model.Request) {
			r.Role, r.Status, r.Failed, r.RemoteName = "client", 404, true, "shop.example"
			r.Local, r.Remote = r.Remote, r.Local
		}, "GET /orders/{id}", tracepb.Span_SPAN_KIND_CLIENT, true, map[string]string{"server.address": "shop.example", "server.port": "8080", "error.type": "404",
			"url.template": "/orders/{id}"}},
		"the caller was wrong": {func(r *model.Request) { r.Status, r.Failed = 404, true }, "GET /orders/{id}", tracepb.Span_SPAN_KIND_SERVER, false,
			map[string]string{"error.type": "404"}},
		"the server was wrong": {func(r *model.Request) { r.Status, r.Failed = 503, true }, "GET /orders/{id}", tracepb.Span_SPAN_KIND_SERVER, true, nil},
		"no answer":            {func(r *model.Request) { r.Status, r.NoAnswer = 0, true }, "GET /orders/{id}", tracepb.Span_SPAN_KIND_SERVER, true, map[string]string{"error.type": "no_answer"}},
		"grpc": {func(r *model.Request) {
			r.Protocol, r.Path, r.Status, r.StatusText, r.Failed = "grpc", "/shop.Orders/Get", 14, "UNAVAILABLE", true
		}, "shop.Orders/Get", tracepb.Span_SPAN_KIND_SERVER, true, map[string]string{"rpc.system": "grpc", "rpc.service": "shop.Orders", "rpc.method": "Get",
			"rpc.grpc.status_code": "14", "error.type": "UNAVAILABLE"}},
		"postgresql": {func(r *model.Request) {
			*r = model.Request{Protocol: "postgresql", Role: "client", Method: "SELECT", Resource: "orders"}
		},
			"SELECT orders", tracepb.Span_SPAN_KIND_CLIENT, false, map[string]string{"db.system.name": "postgresql", "db.operation.name": "SELECT", "db.collection.name": "orders"}},
		"kafka": {func(r *model.Request) {
			*r = model.Request{Protocol: "kafka", Role: "client", Method: "Produce", Resource: "orders"}
		},
			"Produce orders", tracepb.Span_SPAN_KIND_CLIENT, false, map[string]string{"messaging.system": "kafka", "messaging.destination.name": "orders"}},
	} {
		s := encode(t, func(e *model.Event) { c.change(e.Request) })
		if s.Name != c.name || s.Kind != c.kind || (s.Status.Code == tracepb.Status_STATUS_CODE_ERROR) != c.failed {
			t.Errorf("%s: %s, kind %s, status %s", name, s.Name, s.Kind, s.Status)
		}
		got := show(s.Attributes)
		for key, want := range c.want {
			if got[key] != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got[key], want)
			}
		}
	}
}

// Spans arrive under the workload that they are of, over both protocols.
func TestSpansByWorkload(t *testing.T) {
	r := startReceiver(t)
	for _, endpoint := range []string{r.http, r.grpc} {
		r.traces = nil
		x := start(t, endpoint, Options{}, Traces)
		var batch []*model.Event
		for i := range 4 {
			e := request()
			p := *e.Process
			p.Workload = []*model.Workload{{Kind: model.WorkloadUnit, Name: "nginx.service"}, {Kind: model.WorkloadPod, Name: "web-1", Namespace: "shop"}}[i%2]
			if i >= 2 {
				p.Workload = batch[i-2].Process.Workload
			}
			e.Process = &p
			batch = append(batch, e)
		}
		x.hub.Publish(append(batch, execs(3)...))
		x.end()
		names := make(map[string]int)
		for _, m := range r.traces {
			for _, of := range m.ResourceSpans {
				a := show(of.Resource.Attributes)
				names[a["service.namespace"]+"/"+a["service.name"]] += len(of.ScopeSpans[0].Spans)
			}
		}
		if len(names) != 2 || names["/nginx"] != 2 || names["shop/web-1"] != 2 {
			t.Errorf("%s: %v", endpoint, names)
		}
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "things_total", Help: "Things."}, []string{"kind"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "level", Help: "Level."})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seconds", Help: "Time.", Buckets: []float64{1, 2}})
	registry.MustRegister(counter, gauge, histogram)
	counter.WithLabelValues("big").Add(7)
	gauge.Set(-3)
	for _, v := range []float64{0.5, 1.5, 1.6, 9} {
		histogram.Observe(v)
	}
	r := startReceiver(t)
	for _, endpoint := range []string{r.http, r.grpc} {
		r.metrics = nil
		x := start(t, endpoint, Options{Gatherer: registry, Interval: time.Hour}, Metrics)
		x.hub.Publish(execs(3)) // is nothing to it
		x.end()
		if len(r.metrics) != 1 {
			t.Fatalf("%s: %d exports", endpoint, len(r.metrics))
		}
		byName := make(map[string]*pb.Metric)
		for _, m := range r.metrics[0].ResourceMetrics[0].ScopeMetrics[0].Metrics {
			byName[m.Name] = m
		}
		sum := byName["things_total"].GetSum()
		if !sum.GetIsMonotonic() || sum.GetDataPoints()[0].GetAsDouble() != 7 || show(sum.GetDataPoints()[0].Attributes)["kind"] != "big" ||
			sum.GetDataPoints()[0].StartTimeUnixNano != 1_700_000_000e9 {
			t.Errorf("counter %v", sum)
		}
		if v := byName["level"].GetGauge().GetDataPoints()[0].GetAsDouble(); v != -3 {
			t.Errorf("gauge %v", v)
		}
		h := byName["seconds"].GetHistogram().GetDataPoints()[0]
		if h.Count != 4 || h.GetSum() != 12.6 || len(h.ExplicitBounds) != 2 || len(h.BucketCounts) != 3 || h.BucketCounts[0] != 1 || h.BucketCounts[1] != 2 || h.BucketCounts[2] != 1 {
			t.Errorf("histogram %v", h)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for in, want := range map[string]string{"http://h": "http://h:4318", "https://h/otlp/": "https://h:4318/otlp", "grpc://h": "grpc://h:4317",
		"grpcs://[::1]:1": "grpcs://[::1]:1", "h:4317": "begins with", "grpc://h/x": "no path", "http://u:p@h": "password", "http:///v1": "no host",
		"http://h?x=1": "nothing behind", "://": "no URL"} {
		u, err := ParseEndpoint(in)
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", in, err, want)
			}
		} else if u.String() != want {
			t.Errorf("%s: %s, want %s", in, u, want)
		}
	}
}
