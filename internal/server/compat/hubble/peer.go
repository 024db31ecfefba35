// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/api/v1/peer"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
)

// notify implements Notify: the only peer is this agent, at the address by which the client has reached it.
func (s *Service) notify(ctx context.Context, _ *connect.Request[peer.NotifyRequest], out *connect.ServerStream[peer.ChangeNotification]) error {
	address, encrypted := reached(ctx)
	m := &peer.ChangeNotification{Name: s.convert.agent().node, Address: address, Type: peer.ChangeNotificationType_PEER_ADDED}
	if encrypted {
		m.Tls = &peer.TLS{ServerName: m.GetName()}
	}
	return s.hold(ctx, true, func() error { return out.Send(m) })
}

// reached is the address at which a client has reached the agent, as gRPC's clients write it.
func reached(ctx context.Context) (address string, encrypted bool) {
	addr, encrypted := server.CallerOf(ctx).Reached()
	switch {
	case addr == nil:
		return "", encrypted
	case addr.Network() == "unix":
		return "unix://" + addr.String(), encrypted
	}
	return addr.String(), encrypted
}

// hold calls each of say, which send something to the client, and with stay keeps the stream open until the client goes or
// the agent stops.
func (s *Service) hold(ctx context.Context, stay bool, say ...func() error) error {
	nothing := func(*model.Event) bool { return false } // what is followed is only whether the agent runs
	sub := s.options.Backend.Subscribe(pipeline.SubscribeOptions{Name: subscriberName, Keep: nothing})
	defer sub.Close()
	open, err := s.streams.Open(ctx, sub)
	if err != nil {
		return err
	}
	defer open.Close()
	for _, send := range say {
		if err := open.Send(send); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	if !stay {
		return nil
	}
	stop := context.AfterFunc(ctx, sub.Close)
	defer stop()
	for {
		if _, done, err := open.Next(ctx); done {
			return err
		}
	}
}

// services are those whose health can be asked for; the empty name is all of them. The second is the name by which Hubble's
// own clients ask.
func services() []string {
	return []string{"", "hubble.server.Observer", observer.Observer_ServiceDesc.ServiceName, peer.Peer_ServiceDesc.ServiceName}
}

// healthCheck implements Check of grpc.health.v1: who can be asked serves. What does not work is in ServerStatus's place,
// `vigie status`: an agent that lost one sensor still has flows.
func (s *Service) healthCheck(_ context.Context, q *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	for _, name := range services() {
		if name == q.GetService() {
			return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no service %q: there are %s", q.GetService(), strings.Join(services()[1:], ", ")))
}

func (s *Service) healthList(context.Context, *health.HealthListRequest) (*health.HealthListResponse, error) {
	m := &health.HealthListResponse{Statuses: make(map[string]*health.HealthCheckResponse)}
	for _, name := range services() {
		m.Statuses[name] = &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}
	}
	return m, nil
}

// healthWatch implements Watch: a service that is not there is told as that, and could not come.
func (s *Service) healthWatch(ctx context.Context, r *connect.Request[health.HealthCheckRequest], out *connect.ServerStream[health.HealthCheckResponse]) error {
	m, err := s.healthCheck(ctx, r.Msg)
	if connectErr := new(connect.Error); errors.As(err, &connectErr) {
		m = &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVICE_UNKNOWN}
	}
	return s.hold(ctx, true, func() error { return out.Send(m) })
}
