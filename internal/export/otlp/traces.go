// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	pb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/vigie-io/vigie/internal/model"
)

// traces sends requests as spans: one for what the client saw, one for what the server saw, where each is local.
//
// A span belongs to the trace that the request's traceparent names, and its parent is the span that it names. Without a
// traceparent a span is a trace of its own: that two requests of one process have to do with each other is a guess,
// and is not claimed. A trace that its caller does not sample is left alone, and so is what carries telemetry.
type traces struct {
	client  *client
	options Options
}

// span is a span and the resource that it is of.
type span struct {
	workload *model.Workload
	bytes    []byte
}

// Encode implements export.Sink.
func (t *traces) Encode(e *model.Event) (s span, size int, ok bool) {
	r := e.Request
	if r == nil || r.TraceID != "" && !r.Sampled || carriesTelemetry(r) {
		return span{}, 0, false
	}
	start, end := spanTimes(e)
	m := &pb.Span{Name: spanName(r), Kind: pb.Span_SPAN_KIND_SERVER, SpanId: newID(8), StartTimeUnixNano: uint64(start.UnixNano()),
		EndTimeUnixNano: uint64(end.UnixNano()), Status: new(pb.Status)}
	if r.Role == "client" {
		m.Kind = pb.Span_SPAN_KIND_CLIENT
	}
	if m.TraceId = parseID(r.TraceID, 16); m.TraceId == nil {
		m.TraceId = newID(16)
	} else if m.ParentSpanId = parseID(r.ParentSpanID, 8); m.ParentSpanId != nil {
		m.Flags = 0x301 // sampled; it is known whether the parent is remote, and it is
	}
	a := make(attributes, 0, 24)
	a.request(r)
	if p := e.Process; p != nil {
		a.number("process.pid", int64(p.Key.PID))
		a.text("process.executable.path", p.Binary)
		a.text("vigie.process.exec_id", p.ExecID)
		s.workload = p.Workload
	}
	m.Attributes = a
	if isError(r) {
		m.Status.Code = pb.Status_STATUS_CODE_ERROR
		m.Status.Message = r.StatusText
		if r.NoAnswer {
			m.Status.Message = "the connection ended before the answer"
		}
	}
	s.bytes = marshal(m)
	return s, len(s.bytes), len(s.bytes) > 0
}

// Send implements export.Sink.
func (t *traces) Send(ctx context.Context, spans []span) (int, error) {
	at := make(map[*model.Workload]int)
	var groups []group
	for _, s := range spans {
		i, ok := at[s.workload]
		if !ok {
			i = len(groups)
			at[s.workload] = i
			groups = append(groups, group{head: scopeHead(workloadResource(t.options, s.workload), t.options.Version)})
		}
		groups[i].records = append(groups[i].records, s.bytes)
	}
	var answer collector.ExportTraceServiceResponse
	err := t.client.send(ctx, appendRequest(nil, groups...), len(spans), &answer)
	return dealtWith(len(spans), err, answer.GetPartialSuccess().GetRejectedSpans(), answer.GetPartialSuccess().GetErrorMessage())
}

// Close implements export.Sink.
func (t *traces) Close() error { return t.client.close() }

// carriesTelemetry reports whether a request is an export itself, of anybody: a span of it would be exported, and so on for ever.
func carriesTelemetry(r *model.Request) bool {
	if r.Protocol == "grpc" {
		return strings.HasPrefix(r.Path, "/opentelemetry.proto.collector.")
	}
	return r.Method == http.MethodPost && (r.Path == "/v1/traces" || r.Path == "/v1/logs" || r.Path == "/v1/metrics")
}

// spanTimes are from the first byte of the request to the last of the answer: the event is made at the end.
func spanTimes(e *model.Event) (start, end time.Time) {
	return e.Time.Add(-max(e.Request.Duration, e.Request.Latency, 0)), e.Time
}

// spanName is what semantic conventions name a span of this kind: few names, because templates stand for paths.
func spanName(r *model.Request) string {
	switch r.Protocol {
	case "grpc":
		return firstOf(strings.TrimPrefix(r.Path, "/"), "grpc")
	case "http":
		return strings.TrimSpace(firstOf(r.Method, "HTTP") + " " + r.Path)
	}
	return firstOf(strings.TrimSpace(r.Method+" "+r.Resource), r.Protocol)
}

// isError: a server's span of HTTP is no error below 500, because the caller was wrong.
func isError(r *model.Request) bool {
	if r.NoAnswer {
		return true
	}
	return r.Failed && (r.Protocol != "http" || r.Role == "client" || r.Status >= 500 || r.Status == 0)
}

// parseID is an id of n bytes; nil when there is none, or it is not one (all zeroes are none).
func parseID(text string, n int) []byte {
	id, err := hex.DecodeString(text)
	if err != nil || len(id) != n || strings.Trim(text, "0") == "" {
		return nil
	}
	return id
}

// newID is a random id of n bytes, not all zero.
func newID(n int) []byte {
	id := make([]byte, 0, 16)
	for len(id) < n {
		id = binary.BigEndian.AppendUint64(id, rand.Uint64()|1)
	}
	return id
}
