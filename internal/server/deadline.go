// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// deadlinesOf sets the deadlines of the request that ctx belongs to, which are short (admit); nil outside of one.
func deadlinesOf(ctx context.Context) *http.ResponseController {
	d, _ := ctx.Value(deadlineKey{}).(*http.ResponseController)
	return d
}

// Pace gives each message of a stream its own time, and none to the silence between them. The zero Pace sets no deadlines.
type Pace struct{ deadlines *http.ResponseController }

// PaceOf is that of the stream whose request ctx belongs to, which is read.
func PaceOf(ctx context.Context) Pace {
	d := deadlinesOf(ctx)
	if d != nil {
		_, _ = d.SetReadDeadline(time.Time{}), d.SetWriteDeadline(time.Time{})
	}
	return Pace{d}
}

// Send calls send, which sends one message and may take as long as within. Afterwards nothing is due: an HTTP/2 stream on
// which a deadline passes is reset even when there is nothing to send.
func (p Pace) Send(within time.Duration, send func() error) error {
	if p.deadlines == nil {
		return send()
	}
	if err := p.deadlines.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return fmt.Errorf("set the deadline of the stream: %w", err)
	}
	if err := send(); err != nil {
		return err
	}
	if err := p.deadlines.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("clear the deadline of the stream: %w", err)
	}
	return nil
}

// AnswerWithin gives the unary call that ctx belongs to longer than requestTimeout.
func AnswerWithin(ctx context.Context, d time.Duration) {
	if c := deadlinesOf(ctx); c != nil {
		_ = c.SetWriteDeadline(time.Now().Add(d)) // where there are no deadlines none has to be moved
	}
}

// unhurried gives a call the time that its work takes (a policy may load programs, a study goes through the whole history), and
// what it returns gives the answer its own. A deadline that passed meanwhile would end the request, but not what it began.
func unhurried(ctx context.Context) (answer func()) {
	d := deadlinesOf(ctx)
	if d == nil {
		return func() {}
	}
	_, _ = d.SetReadDeadline(time.Time{}), d.SetWriteDeadline(time.Time{}) // the request is read
	return func() { _ = d.SetWriteDeadline(time.Now().Add(requestTimeout)) }
}
