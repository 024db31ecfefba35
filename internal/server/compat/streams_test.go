// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
)

// writer is a response whose deadlines are looked at.
type writer struct {
	http.ResponseWriter
	due time.Time
}

func (w *writer) SetWriteDeadline(t time.Time) error {
	w.due = t
	return nil
}

// A stream that has nothing to say for longer than its timeout must not end by it.
func TestNothingIsDueBetweenTwoMessages(t *testing.T) {
	w := &writer{ResponseWriter: httptest.NewRecorder()}
	st := &Stream{streams: NewStreams("test", 0, time.Minute), deadlines: http.NewResponseController(w)}
	during := time.Time{}
	if err := st.Send(func() error { during = w.due; return nil }); err != nil {
		t.Fatal(err)
	}
	if during.IsZero() || !w.due.IsZero() {
		t.Errorf("due during the message %v, after it %v", during, w.due)
	}
	gone := errors.New("gone")
	if err := st.Send(func() error { return gone }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestStreamsAreCounted(t *testing.T) {
	s := NewStreams("test", 1, 0)
	first, err := s.Open(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(context.Background(), nil); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("one too many: %v", err)
	}
	if list := s.Subscribers(); len(list) != 0 {
		t.Errorf("a stream without events is listed: %v", list)
	}
	first.Close()
	s.Wait()
	if _, err := s.Open(context.Background(), nil); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("at the end: %v", err)
	}
}
