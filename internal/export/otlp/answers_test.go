// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	collectorlogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

func unmarshal(b []byte, m proto.Message) error { return proto.Unmarshal(b, m) }

// partial says that a receiver took all but two.
func partial() *collectorlogs.ExportLogsServiceResponse {
	return &collectorlogs.ExportLogsServiceResponse{PartialSuccess: &collectorlogs.ExportLogsPartialSuccess{RejectedLogRecords: 2, ErrorMessage: "too old"}}
}

// Each answer that is none of success: what is lost, and under which name. Ten events are sent at once.
func TestAnswersOverHTTP(t *testing.T) {
	b, err := proto.Marshal(partial())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		status int
		kind   string
		body   string
		reason string
		lost   uint64
	}{
		"takes a part":         {200, "application/x-protobuf", string(b), "rejected by the receiver", 2},
		"takes a part in JSON": {200, "application/json", `{"partialSuccess":{"rejectedLogRecords":"3"}}`, "rejected by the receiver", 3},
		"takes all in JSON":    {200, "application/json", `{}`, "", 0},
		"says nothing":         {200, "", "", "", 0},
		"rejects more than it was sent": {200, "application/json", `{"partialSuccess":{"rejectedLogRecords":"300"}}`,
			"rejected by the receiver", 10},
		"is a web page":     {200, "text/html", "<html>please log in", "the answer is no OTLP", 10},
		"answers rubbish":   {200, "application/x-protobuf", "\xff\xff\xff", "the answer is no OTLP", 10},
		"wants no such":     {404, "text/plain", "not found", "http 404", 10},
		"wants a password":  {401, "text/plain", "", "http 401", 10},
		"sends elsewhere":   {302, "text/plain", "", "http 302", 10},
		"fails for good":    {500, "text/plain", "", "http 500", 10},
		"answers endlessly": {200, "application/x-protobuf", strings.Repeat("\xff", 4<<20), "the answer is no OTLP", 10},
	} {
		var asked atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Location", "/elsewhere")
			w.Header().Set("Content-Type", c.kind)
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		x := start(t, server.URL, Options{}, Logs)
		x.hub.Publish(execs(10))
		x.end()
		server.Close()
		s := x.list[0].Stats()
		if s.Lost != c.lost || s.Sent != 10-c.lost || x.lost()[c.reason] != c.lost || asked.Load() != 1 || s.Retried != 0 {
			t.Errorf("%s: %+v, lost %v, asked %d times", name, s, x.lost(), asked.Load())
		}
	}
}

func TestBusyReceiverIsAskedAgain(t *testing.T) {
	r := startReceiver(t)
	for _, code := range []int{429, 502, 503, 504} {
		var asked atomic.Int32
		before := r.records()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if asked.Add(1) <= 2 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(code)
				return
			}
			r.ServeHTTP(w, req)
		}))
		x := start(t, server.URL, Options{}, Logs)
		x.hub.Publish(execs(10))
		x.end()
		server.Close()
		if got := r.records() - before; got != 10 {
			t.Errorf("after %d: %d records arrived", code, got)
		}
		if s := x.list[0].Stats(); s.Sent != 10 || s.Retried != 20 || s.Lost != 0 {
			t.Errorf("after %d: %+v", code, s)
		}
	}
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-5": 0, "99999999": time.Hour, "soon": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Thu, 01 Jan 2026 00:00:00 GMT": 0} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestAnswersOverGRPC(t *testing.T) {
	asksForPatience, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answer proto.Message
		err    error
		reason string
		lost   uint64
		again  bool
	}{
		"takes a part":      {answer: partial(), reason: "rejected by the receiver", lost: 2},
		"refuses":           {err: status.Error(codes.InvalidArgument, "no"), reason: "grpc invalid_argument", lost: 10},
		"knows none such":   {err: status.Error(codes.Unimplemented, "no"), reason: "grpc unimplemented", lost: 10},
		"has no more room":  {err: status.Error(codes.ResourceExhausted, "no"), reason: "grpc resource_exhausted", lost: 10},
		"is away":           {err: status.Error(codes.Unavailable, "no"), again: true},
		"asks for patience": {err: asksForPatience.Err(), again: true},
	} {
		var mu sync.Mutex
		asked := 0
		endpoint := startGRPC(t, new(receiver), func(proto.Message) (proto.Message, error) {
			mu.Lock()
			defer mu.Unlock()
			if asked++; c.again && asked > 2 {
				return new(collectorlogs.ExportLogsServiceResponse), nil
			}
			return c.answer, c.err
		})
		x := start(t, endpoint, Options{}, Logs)
		x.hub.Publish(execs(10))
		x.end()
		if s := x.list[0].Stats(); s.Lost != c.lost || x.lost()[c.reason] != c.lost || (s.Retried > 0) != c.again {
			t.Errorf("%s: %+v, lost %v", name, s, x.lost())
		}
	}
}

// Destinations that take the connection and nothing more, or drop it: one attempt costs its time, nobody waits, and the cause is
// named. When a real receiver stands there afterwards it gets what waited.
func TestReceiversThatHangOrCloseAndComeBack(t *testing.T) {
	for _, scheme := range []string{"http", "grpc"} {
		for mood, treat := range map[string]func(net.Conn){
			"hangs":  func(net.Conn) {},
			"closes": func(c net.Conn) { _ = c.Close() },
		} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := l.Addr().String()
			var mu sync.Mutex
			var conns []net.Conn
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					mu.Lock()
					conns = append(conns, c)
					mu.Unlock()
					treat(c)
				}
			}()
			x := start(t, scheme+"://"+address, Options{Timeout: 50 * time.Millisecond}, Logs)
			x.hub.Publish(execs(10))
			eventually(t, scheme+" "+mood+": trouble", func() bool { return x.list[0].Stats().Trouble != "" })
			_ = l.Close()
			<-done
			mu.Lock()
			for _, c := range conns {
				_ = c.Close()
			}
			mu.Unlock()
			again, err := net.Listen("tcp", address)
			if err != nil {
				t.Skipf("the port was taken by another process: %v", err)
			}
			r := new(receiver)
			server := &http.Server{Handler: r}
			if scheme == "http" {
				go func() { _ = server.Serve(again) }()
			} else {
				serveGRPC(t, r, again, nil)
			}
			eventually(t, scheme+" "+mood+": delivery", func() bool { return r.records() >= 10 })
			x.end()
			_ = server.Close()
			if s := x.list[0].Stats(); s.Sent != 10 || s.Lost != 0 || s.Retried == 0 || s.Trouble != "" {
				t.Errorf("%s %s: %+v, lost %v", scheme, mood, s, x.lost())
			}
		}
	}
}
