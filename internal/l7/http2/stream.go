// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/model"
)

// fields are what is read of a header block.
type fields struct {
	method, path, authority, status, contentType, traceParent, grpcStatus string
}

// maxField is how much of a field is kept while a block is read.
const maxField = 1024

func (f *fields) set(name, value string) {
	if len(value) > maxField {
		value = value[:maxField]
	}
	switch name {
	case ":method":
		f.method = value
	case ":path":
		f.path = value
	case ":authority":
		f.authority = value
	case ":status":
		f.status = value
	case "content-type":
		f.contentType = value
	case "traceparent":
		f.traceParent = value
	case "grpc-status":
		f.grpcStatus = value
	}
}

// stream is one request with its answer.
type stream struct {
	l7.Ask
	answered bool // the answer has begun
	http     int  // its HTTP status
	grpc     bool
	code     int // the gRPC status; -1 before it is known
}

// told takes a whole header block.
func (p *parser) told(by l7.Side, f frame, h *fields, t uint64) {
	s := p.streams[f.stream]
	switch {
	case by == l7.Client && s == nil && h.method != "":
		if len(p.streams) == l7.MaxPending {
			p.counts.Crowded++
			return
		}
		p.streams[f.stream] = ask(h, t)
	case by == l7.Server && s != nil:
		s.answer(h, t)
	}
	p.ended(by, f, t)
}

// ask makes a request of its fields.
func ask(h *fields, t uint64) *stream {
	r := &model.Request{Protocol: "http", Version: "HTTP/2", Method: method(h.method), Host: l7.Host([]byte(h.authority))}
	s := &stream{Ask: l7.Ask{Request: r, At: t}, code: -1}
	if s.grpc = strings.HasPrefix(h.contentType, "application/grpc"); s.grpc {
		r.Protocol = "grpc"
	}
	switch {
	case s.grpc && isMethod(h.path):
		r.Path = strings.Clone(h.path)
	case h.path != "":
		r.Path = l7.PathTemplate([]byte(h.path))
	}
	l7.TraceParent(r, []byte(h.traceParent))
	return s
}

// method is a request's method, if it looks like one.
func method(m string) string {
	for _, c := range m {
		if (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return "?"
		}
	}
	return strings.Clone(m[:min(len(m), 32)])
}

// isMethod reports whether a path is what gRPC has: /package.Service/Method.
func isMethod(p string) bool {
	for _, c := range p {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("/._-", c) {
			return false
		}
	}
	return strings.HasPrefix(p, "/") && strings.Count(p, "/") == 2 && len(p) <= 256
}

// answer takes an answer's fields: its status, or the trailers behind it.
func (s *stream) answer(h *fields, t uint64) {
	if n, err := strconv.Atoi(h.status); err == nil && n >= 200 && n < 1000 && !s.answered {
		s.answered, s.http = true, n
		s.Answered(t)
	}
	if n, err := strconv.Atoi(h.grpcStatus); err == nil && n >= 0 && n < 1<<20 {
		s.code = n
	}
}

// data counts what goes over a stream.
func (p *parser) data(by l7.Side, f frame, t uint64) {
	s := p.streams[f.stream]
	if s == nil {
		return
	}
	if by == l7.Client {
		s.RequestBytes += uint64(f.length)
	} else {
		s.ResponseBytes += uint64(f.length)
	}
	p.ended(by, f, t)
}

// ended ends a stream with the server's last frame.
func (p *parser) ended(by l7.Side, f frame, t uint64) {
	if s := p.streams[f.stream]; s != nil && by == l7.Server && f.flags&flagEndStream != 0 {
		p.end(f.stream, t, true)
	}
}

// reset ends a stream before its end.
func (p *parser) reset(f frame, t uint64) { p.end(f.stream, t, false) }

// end gives out a request. whole: the answer was seen to its end.
func (p *parser) end(id uint32, t uint64, whole bool) {
	s := p.streams[id]
	if s == nil {
		return
	}
	delete(p.streams, id)
	s.Ended(t)
	switch {
	case s.grpc:
		s.grpcResult(whole)
	case s.answered:
		s.Status, s.StatusText = int32(s.http), http.StatusText(s.http)
		s.Failed = s.http >= 400
	default:
		s.NoAnswer = true
	}
	p.emit(s.Request, t)
}

// grpcResult sets what became of a call.
func (s *stream) grpcResult(whole bool) {
	code := s.code
	switch {
	case code >= 0:
	case whole && s.http != 0 && s.http != http.StatusOK: // a proxy's answer
		code = grpcOf(s.http)
	default:
		s.NoAnswer = true
		return
	}
	s.Status, s.Failed = int32(code), code != 0
	s.StatusText = "CODE(" + strconv.Itoa(code) + ")"
	if code < len(grpcCodes) {
		s.StatusText = grpcCodes[code]
	}
}

// grpcCodes are the names of gRPC's statuses (grpc/doc/statuscodes.md).
var grpcCodes = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED"}

// grpcOf is the status that clients make of an HTTP one (grpc/doc/http-grpc-status-mapping.md).
func grpcOf(status int) int {
	switch status {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}

// ids are the open streams, the oldest first.
func (p *parser) ids() []uint32 { return slices.Sorted(maps.Keys(p.streams)) }
