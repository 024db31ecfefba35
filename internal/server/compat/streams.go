// SPDX-License-Identifier: Apache-2.0

// Package compat is what the services for foreign clients share: their open streams, their calls, and the CEL of their
// filters. In: requests of any protocol that Connect speaks. Out: the same, bounded.
package compat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
)

// Streams are the open streams of a service. Safe for concurrent use.
type Streams struct {
	name    string // of the streams in `vigie status` and among the loss counters
	limit   int
	timeout time.Duration

	mu      sync.Mutex
	open    map[*Stream]struct{}
	closed  bool
	running sync.WaitGroup
}

// NewStreams returns an empty set. limit is how many streams may be open at once, timeout how long a stream waits for a
// client that reads nothing: server.DefaultMaxStreams and server.DefaultStreamTimeout when 0.
func NewStreams(name string, limit int, timeout time.Duration) *Streams {
	if limit <= 0 {
		limit = server.DefaultMaxStreams
	}
	if timeout <= 0 {
		timeout = server.DefaultStreamTimeout
	}
	return &Streams{name: name, limit: limit, timeout: timeout, open: make(map[*Stream]struct{})}
}

// Stream is one open stream.
type Stream struct {
	streams *Streams
	sub     *pipeline.Subscription
	peer    string
	pace    server.Pace
}

// Open begins the stream of the request that ctx belongs to, whose events come from sub: nil when it has none. The caller
// closes it. An error is the answer to the client.
func (s *Streams) Open(ctx context.Context, sub *pipeline.Subscription) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= s.limit {
		return nil, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("%d streams are open, no more are allowed: end one, see the subscribers in `vigie status`", len(s.open)))
	}
	if s.closed {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the agent stops"))
	}
	st := &Stream{streams: s, sub: sub, peer: server.CallerOf(ctx).String(), pace: server.PaceOf(ctx)}
	s.open[st] = struct{}{}
	s.running.Add(1)
	return st, nil
}

// Close ends the stream for the set; its subscription is the caller's.
func (st *Stream) Close() {
	st.streams.mu.Lock()
	delete(st.streams.open, st)
	st.streams.mu.Unlock()
	st.streams.running.Done()
}

// Send calls send, which sends to the client, and gives that the timeout.
func (st *Stream) Send(send func() error) error { return st.pace.Send(st.streams.timeout, send) }

// Wait refuses new streams and returns when there are none. It is for when the service is served no more: then all of
// them end.
func (s *Streams) Wait() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
}

// Subscribers lists the open streams that follow events, ordered by peer.
func (s *Streams) Subscribers() []server.Subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []server.Subscriber
	for st := range s.open {
		if st.sub != nil {
			list = append(list, server.Subscriber{Name: s.name, Peer: st.peer, Queued: uint64(st.sub.Queued()), Lost: st.sub.Lost()})
		}
	}
	slices.SortFunc(list, func(a, b server.Subscriber) int { return strings.Compare(a.Peer, b.Peer) })
	return list
}

// Next is what the stream's subscription delivers, at least one event; done when the agent stops or the subscription was
// closed, which the end of ctx does by the caller's arrangement. An error is the answer to a client that is gone.
func (st *Stream) Next(ctx context.Context) (batch []*model.Event, done bool, err error) {
	batch, err = st.sub.Next(context.WithoutCancel(ctx)) // so that what is queued at the end is still read
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, true, connect.NewError(connect.CodeCanceled, errors.New("the client is gone"))
	case errors.Is(err, pipeline.ErrClosed):
		return nil, true, nil
	}
	return batch, err != nil, err
}
