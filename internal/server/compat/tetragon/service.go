// SPDX-License-Identifier: Apache-2.0

// Package tetragon is Tetragon's gRPC service, tetragon.FineGuidanceSensors, as its API module of version 1.7
// publishes it, so that Tetragon's own clients work with this agent. In: events of a subscription, and what the
// backend knows of processes and sensors. Out: the same as Tetragon's messages, filtered as the client asks.
// docs/tetragon.md says field by field what differs.
package tetragon

import (
	"log/slog"
	"net/http"
	"time"

	tg "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/server/compat"
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

// maxQueue is how many events a client may ask to have queued.
const maxQueue = 1 << 18

// Service answers Tetragon's clients. Make it with New.
type Service struct {
	options Options
	convert *converter
	streams *compat.Streams
}

// New returns the service. Serve its Handler and call Wait when that is served no more.
func New(o Options) *Service {
	return &Service{options: o, convert: newConverter(o.Backend), streams: compat.NewStreams(subscriberName, o.MaxStreams, o.StreamTimeout)}
}

// Handler is all calls of the service.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	options := compat.HandlerOptions(s.options.Log)
	compat.HandleStream(mux, tg.FineGuidanceSensors_GetEvents_FullMethodName, s.getEvents, options)

	compat.Handle(mux, tg.FineGuidanceSensors_GetHealth_FullMethodName, s.getHealth, options)
	compat.Handle(mux, tg.FineGuidanceSensors_GetVersion_FullMethodName, s.getVersion, options)
	compat.Handle(mux, tg.FineGuidanceSensors_GetInfo_FullMethodName, s.getInfo, options)
	compat.Handle(mux, tg.FineGuidanceSensors_GetDebug_FullMethodName, s.getDebug, options)
	compat.Handle(mux, tg.FineGuidanceSensors_ListSensors_FullMethodName, s.listSensors, options)
	compat.Handle(mux, tg.FineGuidanceSensors_ListTracingPolicies_FullMethodName, s.listTracingPolicies, options)

	compat.Handle(mux, tg.FineGuidanceSensors_SetDebug_FullMethodName, compat.Change(s.setDebug), options)
	compat.Handle(mux, tg.FineGuidanceSensors_RuntimeHook_FullMethodName, compat.Change(s.runtimeHook), options)
	compat.Handle(mux, tg.FineGuidanceSensors_AddTracingPolicy_FullMethodName, compat.Change(s.addTracingPolicy), options)
	compat.Handle(mux, tg.FineGuidanceSensors_DeleteTracingPolicy_FullMethodName, compat.Change(s.deleteTracingPolicy), options)
	compat.Handle(mux, tg.FineGuidanceSensors_ConfigureTracingPolicy_FullMethodName, compat.Change(s.configureTracingPolicy), options)
	compat.Handle(mux, tg.FineGuidanceSensors_EnableTracingPolicy_FullMethodName, compat.Change(s.enableTracingPolicy), options)
	compat.Handle(mux, tg.FineGuidanceSensors_DisableTracingPolicy_FullMethodName, compat.Change(s.disableTracingPolicy), options)
	compat.Handle(mux, tg.FineGuidanceSensors_EnableSensor_FullMethodName, compat.Change(s.enableSensor), options)
	compat.Handle(mux, tg.FineGuidanceSensors_DisableSensor_FullMethodName, compat.Change(s.disableSensor), options)
	compat.Handle(mux, tg.FineGuidanceSensors_RemoveSensor_FullMethodName, compat.Change(s.removeSensor), options)
	return mux
}

// Wait refuses new streams and returns when there are none. It is for when the handler is served no more: then all
// of them end.
func (s *Service) Wait() { s.streams.Wait() }

// Subscribers lists the open streams, ordered by peer.
func (s *Service) Subscribers() []server.Subscriber { return s.streams.Subscribers() }
