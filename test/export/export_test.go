// SPDX-License-Identifier: Apache-2.0

package export

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

const (
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	parentID = "b7ad6b7169203331"
)

// recording is a capture in which all that is exported happens. Times are near now: Prometheus and Jaeger want that.
func recording(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.vigie")
	w, err := capture.Create(path, capture.Header{BootID: modeltest.Boot + "-0000", Host: "web-1", Start: time.Now()}, false)
	if err != nil {
		t.Fatal(err)
	}
	web, db := &model.Workload{Kind: model.WorkloadUnit, Name: "web.service", ID: "web.service"}, &model.Workload{Kind: model.WorkloadUnit, Name: "db.service", ID: "db.service"}
	here, there := netip.MustParseAddrPort("10.0.0.5:41000"), netip.MustParseAddrPort("10.0.0.6:5432")
	var events []*model.Event
	add := func(w *model.Workload, change func(*model.Event)) {
		e := modeltest.Exec()
		p := *e.Process
		p.Workload = w
		e.Exec, e.Process, e.Seq, e.Time, e.BootTime = nil, &p, uint64(len(events)+1), time.Now(), e.BootTime+uint64(len(events))
		change(e)
		events = append(events, e)
	}
	for i := range 5 {
		add(web, func(e *model.Event) {
			e.Type, e.Flow = model.TypeFlow, &model.Flow{ID: uint64(i + 1), Report: 1, State: model.FlowClosed, Protocol: "tcp", Family: "ipv4", Direction: model.FlowLocal,
				Source: model.Endpoint{Address: here, Workload: web}, Destination: model.Endpoint{Address: there, Workload: db}, Verdict: model.FlowAllowed,
				Close: model.CloseFin, Interval: model.FlowCounters{BytesSent: 100, BytesReceived: 200, Retransmits: 1}, SRTT: time.Millisecond, Latency: time.Millisecond}
			switch i {
			case 3:
				e.Flow.Verdict, e.Flow.Close = model.FlowDenied, model.CloseDenied
			case 4:
				e.Flow.Verdict, e.Flow.Close = model.FlowFailed, model.CloseRefused
			}
		})
	}
	add(web, func(e *model.Event) {
		e.Type, e.DNS = model.TypeDNS, &model.DNS{Name: "db.example", QType: "A", RCode: "NOERROR", Latency: time.Millisecond,
			Answers: []model.DNSAnswer{{Type: "A", Data: "10.0.0.6"}}}
	})
	add(web, func(e *model.Event) {
		e.Type, e.DNS = model.TypeDNS, &model.DNS{Name: "no.example", QType: "A", Timeout: true}
	})
	for _, role := range []string{"client", "server"} {
		w := map[string]*model.Workload{"client": web, "server": db}[role]
		add(w, func(e *model.Event) {
			e.Type, e.Request = model.TypeRequest, &model.Request{Protocol: "http", Version: "HTTP/1.1", Role: role, Method: "GET", Path: "/orders/{id}", Host: "db.example",
				Status: 503, Failed: true, Latency: 20 * time.Millisecond, Duration: 30 * time.Millisecond, TraceID: traceID, ParentSpanID: parentID, Sampled: true,
				Local: here, Remote: there}
		})
		add(w, func(e *model.Event) { // of no trace
			e.Type, e.Request = model.TypeRequest, &model.Request{Protocol: "kafka", Role: role, Method: "Produce", Resource: "orders", Latency: time.Millisecond}
		})
	}
	add(web, func(e *model.Event) {
		e.Type, e.Verdict = model.TypeVerdict, &model.Verdict{Action: model.VerdictDenied, Policy: "web", Operation: model.OpRead, Path: "/etc/shadow"}
	})
	add(web, func(e *model.Event) {
		e.Type, e.Alert = model.TypeAlert, &model.Alert{Rule: "reverse-shell", Title: "Reverse shell", Severity: model.SeverityHigh, Message: "x"}
	})
	if err := w.Write(events); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// agent plays the recording. Returns where it serves /metrics.
func agent(t *testing.T, args ...string) (address string, end func()) {
	t.Helper()
	path, dir := vigie(t), t.TempDir()
	address = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	end = start(t, path, append([]string{"run", "--quiet", "--replay", recording(t), "--speed", "0", "--http", address, "--socket", filepath.Join(dir, "s"),
		"--state-dir", dir, "--lock-file", filepath.Join(dir, "lock"), "--tetragon-api", "off"}, args...)...)
	return address, end
}

// query asks Prometheus and returns the values by their labels.
func query(address, promql string) (map[string]string, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := get("http://"+address+"/api/v1/query?query="+url.QueryEscape(promql), &answer); err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for _, r := range answer.Data.Result {
		var labels []string
		for k, v := range r.Metric {
			if !slices.Contains([]string{"__name__", "job", "instance"}, k) {
				labels = append(labels, k+"="+v)
			}
		}
		slices.Sort(labels)
		values[strings.Join(labels, " ")] = fmt.Sprint(r.Value[1])
	}
	return values, nil
}

// expected are queries, and what Prometheus must answer when it has the metrics of the recording.
func expected() map[string]map[string]string {
	return map[string]map[string]string{
		`sum by (verdict) (hubble_flows_processed_total{type!="L7"})`: {"verdict=FORWARDED": "4", "verdict=DROPPED": "1"},
		`hubble_drop_total`:                               {"protocol=TCP reason=POLICY_DENIED": "1"},
		`sum(hubble_dns_queries_total)`:                   {"": "2"},
		`hubble_dns_responses_total`:                      {"ips_returned=1 qtypes=A rcode=No Error": "1"},
		`sum by (reporter) (hubble_http_requests_total)`:  {"reporter=client": "1", "reporter=server": "1"},
		`vigie_flows_total{verdict="allowed"}`:            {"destination=db.service protocol=tcp source=web.service verdict=allowed": "3"},
		`sum by (direction) (vigie_flow_bytes_total)`:     {"direction=sent": "500", "direction=received": "1000"},
		`vigie_policy_verdicts_total`:                     {"action=denied operation=read policy=web": "1"},
		`vigie_alerts_total`:                              {"rule=reverse-shell severity=high": "1"},
		`sum(hubble_http_request_duration_seconds_count)`: {"": "2"},
		`histogram_quantile(0.5, sum by (le) (hubble_http_request_duration_seconds_bucket)) < 0.026`: {"": "0.0175"},
	}
}

func check(address string) error {
	for q, want := range expected() {
		got, err := query(address, q)
		if err != nil {
			return err
		}
		if len(got) != len(want) {
			return fmt.Errorf("%s: %v, want %v", q, got, want)
		}
		for k, v := range want {
			if got[k] != v {
				return fmt.Errorf("%s: %v, want %v", q, got, want)
			}
		}
	}
	return nil
}

func TestPrometheusScrapes(t *testing.T) {
	receiver(t, prometheus)
	target, _ := agent(t)
	server := startPrometheus(t, target)
	eventually(t, "the metrics", func() error { return check(server) })
	up, err := query(server, `up{job="vigie"}`)
	if err != nil || up[""] != "1" {
		t.Errorf("up: %v, %v", up, err)
	}
	dashboards(t, server)
}

// dashboards asks Prometheus every query of every dashboard: it takes all, and those that show what is in the recording answer.
func dashboards(t *testing.T, server string) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	asked := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(b, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range board.Panels {
			for _, target := range p.Targets {
				asked++
				expr := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1m", "$instance", ".*", "$workload", ".*").Replace(target.Expr)
				if _, err := query(server, expr); err != nil {
					t.Errorf("%s, %q: %v", filepath.Base(file), p.Title, err)
				}
			}
		}
	}
	t.Logf("%d queries of %d dashboards", asked, len(files))
}

func TestPrometheusTakesOTLP(t *testing.T) {
	receiver(t, prometheus)
	server := startPrometheus(t)
	_, end := agent(t, "--export-otlp", "http://"+server+"/api/v1/otlp", "--export-otlp-signals", "metrics", "--export-otlp-interval", "1s")
	eventually(t, "the metrics", func() error { return check(server) })
	end()
}

// span is what Jaeger says of one.
type span struct {
	TraceID       string `json:"traceID"`
	SpanID        string `json:"spanID"`
	OperationName string
	ProcessID     string `json:"processID"`
	Duration      int    // microseconds
	References    []struct {
		RefType string
		SpanID  string `json:"spanID"`
	}
	Tags []struct {
		Key   string
		Value any
	}
}

type trace struct {
	Data []struct {
		Spans     []span
		Processes map[string]struct{ ServiceName string }
	}
}

func TestJaegerTakesSpans(t *testing.T) {
	receiver(t, jaeger)
	overHTTP, overGRPC, ask := startJaeger(t)
	for i, endpoint := range []string{"http://" + overHTTP, "grpc://" + overGRPC} {
		_, end := agent(t, "--export-otlp", endpoint, "--export-otlp-signals", "traces")
		var got trace
		eventually(t, "the trace over "+endpoint, func() error {
			got = trace{}
			if err := get("http://"+ask+"/api/traces/"+traceID, &got); err != nil {
				return err
			}
			if len(got.Data) != 1 || len(got.Data[0].Spans) != 2*(i+1) {
				return fmt.Errorf("got %+v", got)
			}
			return nil
		})
		services := make(map[string]bool)
		for _, s := range got.Data[0].Spans {
			services[got.Data[0].Processes[s.ProcessID].ServiceName] = true
			tags := make(map[string]string)
			for _, tag := range s.Tags {
				tags[tag.Key] = fmt.Sprint(tag.Value)
			}
			if s.OperationName != "GET /orders/{id}" || s.Duration != 30_000 || tags["http.response.status_code"] != "503" || tags["error"] != "true" {
				t.Errorf("span %+v", s)
			}
			if len(s.References) != 1 || s.References[0].SpanID != parentID {
				t.Errorf("parents %+v, want %s", s.References, parentID)
			}
		}
		if !services["web"] || !services["db"] {
			t.Errorf("services %v", services)
		}
		// What has no traceparent is a trace of its own, with no parent.
		eventually(t, "the other request", func() error {
			var other trace
			if err := get("http://"+ask+"/api/traces?service=web&operation="+url.QueryEscape("Produce orders"), &other); err != nil {
				return err
			}
			if len(other.Data) != i+1 || len(other.Data[0].Spans) != 1 || len(other.Data[0].Spans[0].References) != 0 {
				return fmt.Errorf("got %+v", other)
			}
			return nil
		})
		end()
	}
}
