// SPDX-License-Identifier: Apache-2.0

// Package hubble is Hubble's gRPC services, observer.Observer and peer.Peer, as Cilium 1.20 publishes them, so that the
// hubble command, hubble-relay and Hubble UI work with this agent. In: flows, requests and DNS questions, from the history
// and from a subscription. Out: the same as Hubble's flows, filtered as the client asks. docs/hubble.md says field by field
// what is filled.
package hubble

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/api/v1/peer"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/server/compat"
)

// Options are what the service needs.
type Options struct {
	Backend server.Backend
	Log     *slog.Logger

	// MaxStreams is how many streams may be open at once; server.DefaultMaxStreams when 0.
	MaxStreams int
	// Queue is how many events may wait for one client; pipeline.DefaultQueue when 0.
	Queue int
	// StreamTimeout is how long a stream waits for a client that reads nothing; server.DefaultStreamTimeout when 0.
	StreamTimeout time.Duration
}

// Observer is the name of the service that has the flows.
const Observer = "observer.Observer"

// subscriberName is the streams' name in `vigie status` and among the loss counters.
const subscriberName = "hubble client"

// Service answers Hubble's clients. Make it with New.
type Service struct {
	options Options
	convert *converter
	streams *compat.Streams
}

// New returns the service. Serve its Handler and call Wait when that is served no more.
func New(o Options) *Service {
	return &Service{options: o, convert: newConverter(o.Backend), streams: compat.NewStreams(subscriberName, o.MaxStreams, o.StreamTimeout)}
}

// Handler is all calls of the services.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	options := compat.HandlerOptions(s.options.Log)
	compat.HandleStream(mux, observer.Observer_GetFlows_FullMethodName, s.getFlows, options)
	compat.HandleStream(mux, observer.Observer_GetAgentEvents_FullMethodName, s.getAgentEvents, options)
	compat.HandleStream(mux, observer.Observer_GetDebugEvents_FullMethodName, s.getDebugEvents, options)
	compat.Handle(mux, observer.Observer_GetNodes_FullMethodName, s.getNodes, options)
	compat.Handle(mux, observer.Observer_GetNamespaces_FullMethodName, s.getNamespaces, options)
	compat.Handle(mux, observer.Observer_ServerStatus_FullMethodName, s.serverStatus, options)

	compat.HandleStream(mux, peer.Peer_Notify_FullMethodName, s.notify, options)

	compat.Handle(mux, health.Health_Check_FullMethodName, s.healthCheck, options)
	compat.Handle(mux, health.Health_List_FullMethodName, s.healthList, options)
	compat.HandleStream(mux, health.Health_Watch_FullMethodName, s.healthWatch, options)
	compat.HandleReflection(mux, options, observer.Observer_ServiceDesc.ServiceName, peer.Peer_ServiceDesc.ServiceName, health.Health_ServiceDesc.ServiceName)
	return mux
}

// Wait refuses new streams and returns when there are none. It is for when the handler is served no more: then all
// of them end.
func (s *Service) Wait() { s.streams.Wait() }

// See takes in every event, as it happens: from those of sockets it learns who is at the other end of a request.
func (s *Service) See(e *model.Event) { s.convert.holders.see(e) }

// Subscribers lists the open streams that follow flows, ordered by peer.
func (s *Service) Subscribers() []server.Subscriber { return s.streams.Subscribers() }
