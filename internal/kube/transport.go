// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// traffic counts what is asked of the API server, and notes when it was last heard of.
type traffic struct {
	now func() time.Time

	mu       sync.Mutex
	requests map[requestKind]uint64
	lastErr  error // of the last request; nil when it was answered

	watches atomic.Int64  // open
	bytes   atomic.Uint64 // received
	heard   atomic.Int64  // when something came last, in ns since 1970: an answer, an event, a bookmark; 0: never
}

// requestKind is what requests are counted by.
type requestKind struct{ Method, Code string } // Code: HTTP status, or "none" without an answer

func newTraffic(now func() time.Time) *traffic {
	return &traffic{now: now, requests: make(map[requestKind]uint64)}
}

// through is the transport that counts.
func (t *traffic) through(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		answer, err := next.RoundTrip(r)
		method := r.Method
		watch := r.URL.Query().Has("watch")
		if watch {
			method = "WATCH"
		}
		if err != nil {
			if r.Context().Err() == nil {
				t.note(requestKind{method, "none"}, err)
			}
			return answer, err
		}
		t.note(requestKind{method, strconv.Itoa(answer.StatusCode)}, nil)
		body := &countedBody{ReadCloser: answer.Body, traffic: t, watch: watch && answer.StatusCode == http.StatusOK}
		if body.watch {
			t.watches.Add(1)
		}
		answer.Body = body
		return answer, nil
	})
}

func (t *traffic) note(k requestKind, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests[k]++
	t.lastErr = err
	if err == nil {
		t.heard.Store(t.now().UnixNano())
	}
}

// failure is why the last request had no answer; nil when it had one.
func (t *traffic) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastErr
}

func (t *traffic) counts() map[requestKind]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[requestKind]uint64, len(t.requests))
	for k, n := range t.requests {
		out[k] = n
	}
	return out
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// countedBody is an answer that is being read. That of a watch stays open.
type countedBody struct {
	io.ReadCloser
	traffic *traffic
	watch   bool
	once    sync.Once
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.traffic.bytes.Add(uint64(n))
		b.traffic.heard.Store(b.traffic.now().UnixNano())
	}
	return n, err
}

// Close implements io.Closer.
func (b *countedBody) Close() error {
	b.once.Do(func() {
		if b.watch {
			b.traffic.watches.Add(-1)
		}
	})
	return b.ReadCloser.Close()
}
