// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	collectorlogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/protobuf/proto"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// receiver takes all signals, over HTTP and over gRPC as grpc-go speaks it.
type receiver struct {
	http, grpc string // endpoints

	mu      sync.Mutex
	logs    []*collectorlogs.ExportLogsServiceRequest
	traces  []*collectortrace.ExportTraceServiceRequest
	metrics []*collectormetrics.ExportMetricsServiceRequest
	headers []http.Header
}

// request is a new message for a signal's requests, answer one for its answers.
func messages(signal string) (request, answer proto.Message) {
	switch signal {
	case "logs":
		return new(collectorlogs.ExportLogsServiceRequest), new(collectorlogs.ExportLogsServiceResponse)
	case "traces":
		return new(collectortrace.ExportTraceServiceRequest), new(collectortrace.ExportTraceServiceResponse)
	}
	return new(collectormetrics.ExportMetricsServiceRequest), new(collectormetrics.ExportMetricsServiceResponse)
}

func (r *receiver) take(m proto.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := m.(type) {
	case *collectorlogs.ExportLogsServiceRequest:
		r.logs = append(r.logs, m)
	case *collectortrace.ExportTraceServiceRequest:
		r.traces = append(r.traces, m)
	case *collectormetrics.ExportMetricsServiceRequest:
		r.metrics = append(r.metrics, m)
	}
}

// records are all log records so far.
func (r *receiver) records() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, m := range r.logs {
		for _, res := range m.ResourceLogs {
			for _, scope := range res.ScopeLogs {
				n += len(scope.LogRecords)
			}
		}
	}
	return n
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	request, answer := messages(strings.TrimPrefix(req.URL.Path, "/v1/"))
	unpacked, err := gzip.NewReader(req.Body)
	if err == nil && req.Header.Get("Content-Type") == "application/x-protobuf" {
		var body []byte
		if body, err = io.ReadAll(unpacked); err == nil {
			err = proto.Unmarshal(body, request)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.headers = append(r.headers, req.Header)
	r.mu.Unlock()
	r.take(request)
	b, _ := proto.Marshal(answer)
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(b)
}

// grpcService describes one of the services by hand: the slim messages come without.
func (r *receiver) grpcService(name, signal string, handle func(proto.Message) (proto.Message, error)) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: "opentelemetry.proto.collector." + name, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			request, answer := messages(signal)
			if err := decode(request); err != nil {
				return nil, err
			}
			if handle != nil {
				return handle(request)
			}
			r.take(request)
			return answer, nil
		}}}}
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := new(receiver)
	web := httptest.NewServer(r)
	t.Cleanup(web.Close)
	r.http = web.URL
	r.grpc = startGRPC(t, r, nil)
	return r
}

// startGRPC serves the three services; handle, where it is not nil, in place of r.
func startGRPC(t *testing.T, r *receiver, handle func(proto.Message) (proto.Message, error)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveGRPC(t, r, l, handle)
	return "grpc://" + l.Addr().String()
}

func serveGRPC(t *testing.T, r *receiver, l net.Listener, handle func(proto.Message) (proto.Message, error)) {
	server := grpc.NewServer()
	for name, signal := range map[string]string{"logs.v1.LogsService": "logs", "trace.v1.TraceService": "traces", "metrics.v1.MetricsService": "metrics"} {
		server.RegisterService(r.grpcService(name, signal, handle), r)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
}

// exporters runs the exporters of some signals behind a hub.
type exporters struct {
	list   []export.Exporter
	hub    *pipeline.Hub
	losses *pipeline.Losses
	end    func()
}

func start(t *testing.T, endpoint string, o Options, signals ...Signal) *exporters {
	t.Helper()
	x := &exporters{losses: new(pipeline.Losses)}
	x.hub = pipeline.NewHub(x.losses)
	o.Endpoint, o.Signals, o.Host, o.Version, o.Boot, o.Started = endpoint, signals, "web-1", "1.0", modeltest.Boot, time.Unix(1_700_000_000, 0)
	o.Log, o.Losses, o.Backoff = slog.New(slog.DiscardHandler), x.losses, func(int) time.Duration { return time.Millisecond }
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	var err error
	if x.list, err = New(o); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, e := range x.list {
		sub := x.hub.Subscribe(e.Subscribe())
		wg.Go(func() {
			if err := e.Run(sub); err != nil {
				t.Error(err)
			}
		})
	}
	x.end = sync.OnceFunc(func() { x.hub.Close(); wg.Wait() })
	t.Cleanup(x.end)
	return x
}

// lost are the losses of exporters by reason.
func (x *exporters) lost() map[string]uint64 {
	m := make(map[string]uint64)
	for _, l := range x.losses.Snapshot() {
		if strings.HasPrefix(l.Stage, "export") && l.Count > 0 {
			m[l.Reason] = l.Count
		}
	}
	return m
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s did not happen", what)
}

// execs are n events.
func execs(n int) []*model.Event {
	list := make([]*model.Event, n)
	for i := range list {
		list[i] = modeltest.Exec()
		list[i].Seq = uint64(i + 1)
	}
	return list
}

// show is attributes as text, for comparisons.
func show(a attributes) map[string]string {
	m := make(map[string]string)
	for _, kv := range a {
		text := fmt.Sprint(kv.GetValue().GetStringValue())
		switch {
		case kv.GetValue().GetArrayValue() != nil:
			var items []string
			for _, v := range kv.GetValue().GetArrayValue().GetValues() {
				items = append(items, v.GetStringValue())
			}
			text = strings.Join(items, " ")
		case text == "" && kv.GetValue().GetBoolValue():
			text = "true"
		case text == "":
			text = fmt.Sprint(kv.GetValue().GetIntValue())
		}
		m[kv.GetKey()] = text
	}
	return m
}
