// SPDX-License-Identifier: Apache-2.0

// Package tetragon is Tetragon's gRPC service, tetragon.FineGuidanceSensors, as its API module of version 1.7
// publishes it, so that Tetragon's own clients work with this agent. In: events of a subscription, and what the
// backend knows of processes and sensors. Out: the same as Tetragon's messages, filtered as the client asks.
// docs/tetragon.md says field by field what differs.
package tetragon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	tg "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/vigie-io/vigie/internal/server"
)

// Options are what the service needs.
type Options struct {
	Backend server.Backend
	Log     *slog.Logger
	// Level is the agent's log level, which clients may read and set; nil when it can't be changed.
	Level *slog.LevelVar
	// Policies carries out the TracingPolicies; nil when this agent has none.
	Policies Policies

	// MaxStreams is how many streams may be open at once; server.DefaultMaxStreams when 0.
	MaxStreams int
	// Queue is how many events may wait for one client; pipeline.DefaultQueue when 0.
	Queue int
	// StreamTimeout is how long a stream waits for a client that reads nothing; server.DefaultStreamTimeout when 0.
	StreamTimeout time.Duration
}

const (
	maxRequest = 4 << 20 // bytes: gRPC's own default, a TracingPolicy with long lists fits
	maxQueue   = 1 << 18 // events that a client may ask to have queued
)

// Service answers Tetragon's clients. Make it with New.
type Service struct {
	options Options
	convert *converter

	mu      sync.Mutex
	streams map[*stream]struct{}
	closed  bool
	running sync.WaitGroup
}

// New returns the service. Serve its Handler and call Wait when that is served no more.
func New(o Options) *Service {
	if o.MaxStreams <= 0 {
		o.MaxStreams = server.DefaultMaxStreams
	}
	if o.StreamTimeout <= 0 {
		o.StreamTimeout = server.DefaultStreamTimeout
	}
	return &Service{options: o, convert: newConverter(o.Backend), streams: make(map[*stream]struct{})}
}

// Handler is all calls of the service.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	options := []connect.HandlerOption{connect.WithReadMaxBytes(maxRequest), connect.WithRecover(
		func(_ context.Context, spec connect.Spec, _ http.Header, cause any) error {
			s.options.Log.Error("a call failed: please report this", "procedure", spec.Procedure, "panic", cause)
			return connect.NewError(connect.CodeInternal, errors.New("the agent failed to answer, see its log"))
		})}
	mux.Handle(tg.FineGuidanceSensors_GetEvents_FullMethodName,
		connect.NewServerStreamHandler(tg.FineGuidanceSensors_GetEvents_FullMethodName, s.getEvents, options...))

	handle(mux, tg.FineGuidanceSensors_GetHealth_FullMethodName, s.getHealth, options)
	handle(mux, tg.FineGuidanceSensors_GetVersion_FullMethodName, s.getVersion, options)
	handle(mux, tg.FineGuidanceSensors_GetInfo_FullMethodName, s.getInfo, options)
	handle(mux, tg.FineGuidanceSensors_GetDebug_FullMethodName, s.getDebug, options)
	handle(mux, tg.FineGuidanceSensors_ListSensors_FullMethodName, s.listSensors, options)
	handle(mux, tg.FineGuidanceSensors_ListTracingPolicies_FullMethodName, s.listTracingPolicies, options)

	handle(mux, tg.FineGuidanceSensors_SetDebug_FullMethodName, change(s.setDebug), options)
	handle(mux, tg.FineGuidanceSensors_RuntimeHook_FullMethodName, change(s.runtimeHook), options)
	handle(mux, tg.FineGuidanceSensors_AddTracingPolicy_FullMethodName, change(s.addTracingPolicy), options)
	handle(mux, tg.FineGuidanceSensors_DeleteTracingPolicy_FullMethodName, change(s.deleteTracingPolicy), options)
	handle(mux, tg.FineGuidanceSensors_ConfigureTracingPolicy_FullMethodName, change(s.configureTracingPolicy), options)
	handle(mux, tg.FineGuidanceSensors_EnableTracingPolicy_FullMethodName, change(s.enableTracingPolicy), options)
	handle(mux, tg.FineGuidanceSensors_DisableTracingPolicy_FullMethodName, change(s.disableTracingPolicy), options)
	handle(mux, tg.FineGuidanceSensors_EnableSensor_FullMethodName, change(s.enableSensor), options)
	handle(mux, tg.FineGuidanceSensors_DisableSensor_FullMethodName, change(s.disableSensor), options)
	handle(mux, tg.FineGuidanceSensors_RemoveSensor_FullMethodName, change(s.removeSensor), options)
	return mux
}

// call is one unary call of the service.
type call[Q, R any] func(context.Context, *Q) (*R, error)

func handle[Q, R any](mux *http.ServeMux, procedure string, f call[Q, R], options []connect.HandlerOption) {
	mux.Handle(procedure, connect.NewUnaryHandler(procedure, func(ctx context.Context, r *connect.Request[Q]) (*connect.Response[R], error) {
		answer, err := f(ctx, r.Msg)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(answer), nil
	}, options...))
}

// change is a call that only those may make who may change what the agent does.
func change[Q, R any](f call[Q, R]) call[Q, R] {
	return func(ctx context.Context, q *Q) (*R, error) {
		if err := server.CallerOf(ctx).MayChange(); err != nil {
			return nil, err
		}
		return f(ctx, q)
	}
}

// Wait refuses new streams and returns when there are none. It is for when the handler is served no more: then all
// of them end.
func (s *Service) Wait() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
}

// Subscribers lists the open streams, ordered by peer.
func (s *Service) Subscribers() []server.Subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []server.Subscriber
	for st := range s.streams {
		list = append(list, server.Subscriber{Name: subscriberName, Peer: st.peer, Queued: uint64(st.sub.Queued()), Lost: st.sub.Lost()})
	}
	slices.SortFunc(list, func(a, b server.Subscriber) int { return strings.Compare(a.Peer, b.Peer) })
	return list
}

// begin counts st as open, unless there are too many.
func (s *Service) begin(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) >= s.options.MaxStreams {
		return connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("%d streams are open, no more are allowed: end one, see the subscribers in `vigie status`", len(s.streams)))
	}
	if s.closed {
		return connect.NewError(connect.CodeUnavailable, errors.New("the agent stops"))
	}
	s.streams[st] = struct{}{}
	s.running.Add(1)
	return nil
}

func (s *Service) end(st *stream) {
	s.mu.Lock()
	delete(s.streams, st)
	s.mu.Unlock()
	s.running.Done()
}
