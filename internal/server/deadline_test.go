// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

// deadlines notes those that it is given.
type deadlines struct {
	http.ResponseWriter
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// A change may take longer than an answer may: its deadline begins when the change is done.
func TestWorkHasNoDeadline(t *testing.T) {
	begun := time.Now()
	d := &deadlines{read: begun, write: begun}
	answer := unhurried(context.WithValue(t.Context(), deadlineKey{}, http.NewResponseController(d)))
	if !d.read.IsZero() || !d.write.IsZero() {
		t.Errorf("while it works: %v, %v", d.read, d.write)
	}
	answer()
	if !d.write.After(begun) {
		t.Errorf("for the answer: %v", d.write)
	}
	unhurried(t.Context())() // no request of a server
}

// A stream that has nothing to say for longer than its timeout must not end by it.
func TestNothingIsDueBetweenTwoMessages(t *testing.T) {
	d := &deadlines{read: time.Now(), write: time.Now()}
	pace := PaceOf(context.WithValue(t.Context(), deadlineKey{}, http.NewResponseController(d)))
	if !d.read.IsZero() || !d.write.IsZero() {
		t.Errorf("before the first message: %v, %v", d.read, d.write)
	}
	during := time.Time{}
	if err := pace.Send(time.Minute, func() error { during = d.write; return nil }); err != nil {
		t.Fatal(err)
	}
	if during.IsZero() || !d.write.IsZero() {
		t.Errorf("due during the message %v, after it %v", during, d.write)
	}
	gone := errors.New("gone")
	if err := pace.Send(time.Minute, func() error { return gone }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if err := PaceOf(t.Context()).Send(time.Minute, func() error { return gone }); !errors.Is(err, gone) { // no request of a server
		t.Errorf("got %v", err)
	}
}
