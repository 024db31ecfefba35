// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	tg "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server/compat"
)

// subscriberName is the streams' name in `vigie status` and among the loss counters.
const subscriberName = "tetragon client"

// getEvents implements GetEvents: events from now on, until the client goes or the agent stops. A client that reads
// too slowly loses events for itself, and is told how many.
func (s *Service) getEvents(ctx context.Context, r *connect.Request[tg.GetEventsRequest], out *connect.ServerStream[tg.GetEventsResponse]) error {
	wish, err := compileRequest(r.Msg, s.options.Backend)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	queue := s.options.Queue
	if wish.queue > 0 {
		queue = wish.queue
	}
	sub := s.options.Backend.Subscribe(pipeline.SubscribeOptions{Name: subscriberName, Queue: queue, Keep: wish.wants})
	defer sub.Close()
	open, err := s.streams.Open(ctx, sub)
	if err != nil {
		return err
	}
	defer open.Close()
	st := &stream{Stream: open, out: out, wish: wish, convert: s.convert, sub: sub}
	return st.follow(ctx)
}

// stream is one GetEvents call.
type stream struct {
	*compat.Stream
	out     *connect.ServerStream[tg.GetEventsResponse]
	wish    *wish
	convert *converter
	sub     *pipeline.Subscription
}

func (st *stream) follow(ctx context.Context) error {
	stop := context.AfterFunc(ctx, st.sub.Close)
	defer stop()
	// The headers tell the client that every event from here on is in the stream.
	if err := st.send(nil); err != nil {
		return err
	}
	for {
		batch, done, err := st.Next(ctx)
		if done {
			return err
		}
		for _, e := range batch {
			m := st.answer(e)
			if m == nil {
				continue
			}
			if err := st.send(m); err != nil {
				return err
			}
		}
	}
}

// answer is e as this client wants it, or nil when it does not.
func (st *stream) answer(e *model.Event) *tg.GetEventsResponse {
	if e.Type == model.TypeLoss {
		return st.wish.loss(e, st.convert.node())
	}
	m := st.convert.event(e, st.wish.ancestors)
	if m == nil || !st.wish.keeps(e, m) {
		return nil
	}
	st.wish.mask(m)
	return m
}

// send waits for a client that reads slowly as long as the timeout allows.
func (st *stream) send(m *tg.GetEventsResponse) error {
	if err := st.Send(func() error { return st.out.Send(m) }); err != nil {
		return fmt.Errorf("send events: %w", err)
	}
	return nil
}
