// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	tg "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
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
	st := &stream{out: out, wish: wish, convert: s.convert, timeout: s.options.StreamTimeout,
		peer: server.CallerOf(ctx).String(), deadlines: server.Deadlines(ctx),
		sub: s.options.Backend.Subscribe(pipeline.SubscribeOptions{Name: subscriberName, Queue: queue, Keep: wish.wants})}
	defer st.sub.Close()
	if err := s.begin(st); err != nil {
		return err
	}
	defer s.end(st)
	if st.deadlines != nil {
		_ = st.deadlines.SetReadDeadline(time.Time{}) // the request is read
	}
	return st.follow(ctx)
}

// stream is one GetEvents call.
type stream struct {
	out       *connect.ServerStream[tg.GetEventsResponse]
	wish      *wish
	convert   *converter
	sub       *pipeline.Subscription
	peer      string
	deadlines *http.ResponseController
	timeout   time.Duration
}

func (st *stream) follow(ctx context.Context) error {
	stop := context.AfterFunc(ctx, st.sub.Close)
	defer stop()
	// The headers tell the client that every event from here on is in the stream.
	if err := st.send(nil); err != nil {
		return err
	}
	for {
		batch, err := st.sub.Next(context.WithoutCancel(ctx))
		switch {
		case ctx.Err() != nil:
			return connect.NewError(connect.CodeCanceled, errors.New("the client is gone"))
		case errors.Is(err, pipeline.ErrClosed):
			return nil
		case err != nil:
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
	if st.deadlines != nil {
		if err := st.deadlines.SetWriteDeadline(time.Now().Add(st.timeout)); err != nil {
			return fmt.Errorf("set the deadline of the stream: %w", err)
		}
	}
	if err := st.out.Send(m); err != nil {
		return fmt.Errorf("send events: %w", err)
	}
	return nil
}
