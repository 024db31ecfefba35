// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/filter"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// Flows is what the server needs to answer about conversations. All of it may be called at any time from any goroutine.
type Flows interface {
	// Now is the present of what is answered about: that of a capture is where it has been played to.
	Now() time.Time
	// OpenFlows lists what is open now and wanted, those that said most first, at most so many; and how many more there are.
	OpenFlows(ctx context.Context, keep func(*model.Event) bool, limit int) ([]*model.Event, int, error)
	// Map draws the map of a range of time.
	Map(context.Context, MapQuery) (model.Map, error)
	// FollowMap begins to follow the map of the last minutes; the caller closes it.
	FollowMap(context.Context, MapQuery) (MapFollower, error)
}

// MapQuery says which map to draw.
type MapQuery struct {
	Filter       *filter.Filter // of flows and requests, for any time
	Since, Until time.Time      // of Map
	Compare      *TimeRange     // of Map: what edges are compared with
	Window       time.Duration  // of FollowMap
	Expand       []string
	MaxNodes     int
}

// TimeRange is a time from a moment on until before another.
type TimeRange struct{ Since, Until time.Time }

// MapFollower is a map that changes.
type MapFollower interface {
	// Next waits until the map has changed and returns the difference; the first time the whole. Errors: ctx's, and
	// pipeline.ErrClosed when the agent stops.
	Next(ctx context.Context) (model.MapDelta, error)
	Close()
}

const (
	defaultFlows  = 1000
	maxFlows      = 100_000
	defaultNodes  = 1000
	maxNodes      = 10_000
	defaultWindow = 300  // seconds
	maxWindow     = 3600 // seconds
	defaultRange  = time.Hour
)

// errNoFlows is the answer of an agent without flows.
func errNoFlows() error {
	return connect.NewError(connect.CodeFailedPrecondition, errors.New("this agent was told to follow no conversations: start it with --flows on"))
}

// conversations compiles a filter for events of the given types, for which it must name none itself.
func (s *service) conversations(m *pb.Filter, types ...model.Type) (*filter.Filter, error) {
	if len(m.GetTypes()) > 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("filter types: do not apply here: leave them out"))
	}
	spec := filter.FromProto(m)
	for _, t := range types {
		spec.Types = append(spec.Types, string(t))
	}
	boot, _ := s.identity()
	f, err := filter.Compile(spec, filter.Options{Processes: s.backend, Boot: boot})
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return f, nil
}

// timeless refuses a filter that is bound to a time.
func timeless(m *pb.Filter) error {
	if m.GetSince() != nil || m.GetUntil() != nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("filter since and until: do not apply to what is open now: leave them out"))
	}
	return nil
}

// ListFlows implements the API.
func (s *service) ListFlows(ctx context.Context, r *connect.Request[pb.ListFlowsRequest]) (*connect.Response[pb.ListFlowsResponse], error) {
	if s.config.Flows == nil {
		return nil, errNoFlows()
	}
	if err := timeless(r.Msg.GetFilter()); err != nil {
		return nil, err
	}
	f, err := s.conversations(r.Msg.GetFilter(), model.TypeFlow)
	if err != nil {
		return nil, err
	}
	list, more, err := s.config.Flows.OpenFlows(ctx, f.Keep, pageSize(r.Msg.GetLimit(), defaultFlows, maxFlows))
	if err != nil {
		return nil, fmt.Errorf("list flows: %w", err)
	}
	boot, _ := s.identity()
	m := &pb.ListFlowsResponse{LeftOut: uint64(more)}
	for _, e := range list {
		m.Flows = append(m.Flows, wire.ToProto(e, boot))
	}
	return connect.NewResponse(m), nil
}

// GetMap implements the API.
func (s *service) GetMap(ctx context.Context, r *connect.Request[pb.GetMapRequest]) (*connect.Response[pb.GetMapResponse], error) {
	if s.config.Flows == nil {
		return nil, errNoFlows()
	}
	m := r.Msg
	asked := filter.FromProto(m.GetFilter())
	q := MapQuery{Since: asked.Since, Until: asked.Until, Expand: m.GetExpand(), MaxNodes: pageSize(m.GetMaxNodes(), defaultNodes, maxNodes)}
	if q.Since.IsZero() {
		end := q.Until
		if end.IsZero() {
			end = s.config.Flows.Now()
		}
		q.Since = end.Add(-defaultRange)
	}
	if m.GetCompareSince() != nil || m.GetCompareUntil() != nil {
		if m.GetCompareSince() == nil || m.GetCompareUntil() == nil || !m.GetCompareSince().AsTime().Before(m.GetCompareUntil().AsTime()) {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("compare_since and compare_until: give both, since before until"))
		}
		q.Compare = &TimeRange{m.GetCompareSince().AsTime(), m.GetCompareUntil().AsTime()}
	}
	f, err := s.drawn(m.GetFilter())
	if err != nil {
		return nil, err
	}
	q.Filter = f
	drawn, err := s.config.Flows.Map(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("draw the map: %w", err)
	}
	return connect.NewResponse(wire.MapToProto(&drawn)), nil
}

// drawn is a filter for what maps are made of, whose time is the query's matter.
func (s *service) drawn(m *pb.Filter) (*filter.Filter, error) {
	if m != nil {
		m = proto.CloneOf(m)
		m.Since, m.Until = nil, nil
	}
	return s.conversations(m, model.TypeFlow, model.TypeRequest)
}

// StreamMap implements the API.
func (s *service) StreamMap(ctx context.Context, r *connect.Request[pb.StreamMapRequest], out *connect.ServerStream[pb.StreamMapResponse]) error {
	if s.config.Flows == nil {
		return errNoFlows()
	}
	if err := timeless(r.Msg.GetFilter()); err != nil {
		return err
	}
	f, err := s.drawn(r.Msg.GetFilter())
	if err != nil {
		return err
	}
	st := &stream{server: s.Server, peer: peerFrom(ctx).String()}
	if err := s.streams.add(st); err != nil {
		return err
	}
	defer s.streams.remove(st)
	pace := PaceOf(ctx)
	window := time.Duration(pageSize(r.Msg.GetWindowSeconds(), defaultWindow, maxWindow)) * time.Second
	follower, err := s.config.Flows.FollowMap(ctx, MapQuery{Filter: f, Window: window, Expand: r.Msg.GetExpand(),
		MaxNodes: pageSize(r.Msg.GetMaxNodes(), defaultNodes, maxNodes)})
	if err != nil {
		return fmt.Errorf("follow the map: %w", err)
	}
	defer follower.Close()
	ctx, stop := s.untilStopped(ctx)
	defer stop()
	for {
		delta, err := follower.Next(ctx)
		switch {
		case err != nil && s.isStopping():
			return nil
		case err != nil:
			return connect.NewError(connect.CodeCanceled, fmt.Errorf("the map is not followed any more: %w", err))
		}
		if err := pace.Send(s.config.StreamTimeout, func() error { return out.Send(wire.MapDeltaToProto(&delta)) }); err != nil {
			return fmt.Errorf("send the map: %w", err)
		}
	}
}

// untilStopped ends a context when the server stops.
func (s *Server) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-ended
	}
}

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}
