// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	fl "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/server/compat"
)

// page is how many events are read from the history at once.
const page = 1000

// getFlows implements GetFlows: flows of the history, and with follow those from then on, until the client goes or the
// agent stops. A client that reads too slowly loses flows for itself, and is told how many.
func (s *Service) getFlows(ctx context.Context, r *connect.Request[observer.GetFlowsRequest], out *connect.ServerStream[observer.GetFlowsResponse]) error {
	wish, err := compileRequest(r.Msg)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	var sub *pipeline.Subscription
	if wish.follow { // before the history is read, so that nothing is missed in between
		sub = s.options.Backend.Subscribe(pipeline.SubscribeOptions{Name: subscriberName, Queue: s.options.Queue, Keep: wish.wants})
		defer sub.Close()
	}
	open, err := s.streams.Open(ctx, sub)
	if err != nil {
		return err
	}
	defer open.Close()
	st := &stream{Stream: open, out: out, wish: wish, convert: s.convert, backend: s.options.Backend}
	past, back := wish.past()
	switch {
	case past && back:
		err = st.last(ctx)
	case past:
		err = st.history(ctx)
	}
	if err != nil || sub == nil {
		return err
	}
	if !wish.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, wish.until)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, sub.Close)
	defer stop()
	return st.following(ctx)
}

// stream is one GetFlows call.
type stream struct {
	*compat.Stream
	out     *connect.ServerStream[observer.GetFlowsResponse]
	wish    *wish
	convert *converter
	backend server.Backend
	sent    uint64 // flows
	seen    uint64 // the number of the last event of the history
}

// done reports whether as many flows were sent as were asked for.
func (st *stream) done() bool {
	return !st.wish.follow && st.wish.number > 0 && st.sent >= st.wish.number
}

// history sends what the history has of the time that is asked for, oldest first.
func (st *stream) history(ctx context.Context) error {
	q := server.EventQuery{Filter: past().During(st.wish.since, st.wish.until), Limit: page}
	for {
		got, err := st.backend.Events(ctx, q)
		if err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
		for _, e := range got.Events {
			if !st.wish.wants(e) {
				continue
			}
			if err := st.event(e); err != nil || st.done() {
				return err
			}
		}
		st.seen = max(st.seen, got.LastSeq)
		if q.Cursor = got.Next; q.Cursor == (server.EventCursor{}) {
			return nil
		}
	}
}

// last sends the newest flows of the history that match, as many as are asked for, oldest first.
func (st *stream) last(ctx context.Context) error {
	var found []*model.Event
	q := server.EventQuery{Filter: past().During(time.Time{}, st.wish.until), NewestFirst: true, Recent: st.wish.until.IsZero(), Limit: page}
	more := uint64(0) // flows of found beyond those asked for
	for n := uint64(0); n < st.wish.number; {
		got, err := st.backend.Events(ctx, q)
		if err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
		for _, e := range got.Events {
			matches := uint64(len(st.flows(e)))
			if matches == 0 && e.Type != model.TypeLoss || !st.wish.wants(e) {
				continue
			}
			found = append(found, e)
			if n += matches; n >= st.wish.number {
				more = n - st.wish.number
				break
			}
		}
		st.seen = max(st.seen, got.LastSeq)
		if q.Cursor = got.Next; q.Cursor == (server.EventCursor{}) {
			break
		}
	}
	slices.Reverse(found)
	for _, e := range found {
		list := st.flows(e)
		skip := min(more, uint64(len(list))) // of a question and its answer, the answer is newer
		more -= skip
		if err := st.send(e, list[skip:]); err != nil {
			return err
		}
	}
	return nil
}

// following sends flows as they happen until the client goes, the time that is asked for ends, or the agent stops.
func (st *stream) following(ctx context.Context) error {
	// The headers tell the client that every flow from here on is in the stream.
	if err := st.respond(nil); err != nil {
		return err
	}
	seen := st.seen
	for {
		batch, done, err := st.Next(ctx)
		if done {
			return err
		}
		for _, e := range batch {
			if e.Seq != 0 && e.Seq <= seen || !st.wish.until.IsZero() && !e.Time.Before(st.wish.until) {
				continue // it came with the history, or is not asked for any more
			}
			if err := st.event(e); err != nil {
				return err
			}
		}
	}
}

func (st *stream) event(e *model.Event) error { return st.send(e, st.flows(e)) }

// flows are those of e that match.
func (st *stream) flows(e *model.Event) []*fl.Flow {
	return slices.DeleteFunc(st.convert.flows(e), func(f *fl.Flow) bool {
		if st.wish.extendFirst {
			st.convert.extend(f, e)
		}
		return !st.wish.keeps(f)
	})
}

// send sends the flows of e, or the loss that it is.
func (st *stream) send(e *model.Event, flows []*fl.Flow) error {
	if e.Type == model.TypeLoss {
		return st.respond(&observer.GetFlowsResponse{NodeName: st.convert.agent().node, Time: timestamppb.New(e.Time),
			ResponseTypes: &observer.GetFlowsResponse_LostEvents{LostEvents: lost(e.Loss)}})
	}
	for _, f := range flows {
		if st.done() {
			return nil
		}
		if st.wish.extend && f.GetExtensions() == nil {
			st.convert.extend(f, e)
		}
		m := &observer.GetFlowsResponse{NodeName: f.GetNodeName(), Time: f.GetTime(), ResponseTypes: &observer.GetFlowsResponse_Flow{Flow: f}}
		if st.wish.mask != nil {
			st.wish.mask.Keep(f.ProtoReflect())
		}
		if err := st.respond(m); err != nil {
			return err
		}
		st.sent++
	}
	return nil
}

// respond waits for a client that reads slowly as long as the timeout allows. Nil sends the headers alone.
func (st *stream) respond(m *observer.GetFlowsResponse) error {
	if err := st.Send(func() error { return st.out.Send(m) }); err != nil {
		return fmt.Errorf("send flows: %w", err)
	}
	return nil
}

// concernsClient reports whether what was lost might have been a flow for a client. What exporters lose was not; nor is it
// a lost flow when the requests of a connection could not be followed: the connection is there.
func concernsClient(l *model.Loss) bool {
	return !strings.HasPrefix(l.Stage, "export") && l.Stage != "l7"
}

// lost is a loss in Hubble's form: in the kernel, in the agent, or because this client reads too slowly.
func lost(l *model.Loss) *fl.LostEvent {
	m := &fl.LostEvent{NumEventsLost: l.Count, Source: fl.LostEventSource_OBSERVER_EVENTS_QUEUE}
	switch l.Stage {
	case "kernel":
		m.Source = fl.LostEventSource_PERF_EVENT_RING_BUFFER
	case "subscriber":
		m.Source = fl.LostEventSource_HUBBLE_RING_BUFFER
	}
	return m
}
