// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/filter"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/wire"
)

// service implements vigiev1connect.VigieHandler.
type service struct {
	vigiev1connect.UnimplementedVigieHandler // of what is not there yet
	*Server
}

const (
	defaultPage = 100
	maxPage     = 1000 // events in a page
	maxMessage  = 256  // events in a message of a stream
	maxLast     = 50_000
	pastPage    = 8192 // events that a stream reads of the past at once
)

// compile prepares a filter of a request.
func (s *service) compile(m *pb.Filter) (*filter.Filter, string, error) {
	boot, _ := s.identity()
	f, err := filter.Compile(filter.FromProto(m), filter.Options{Processes: s.backend, Boot: boot})
	if err != nil {
		return nil, "", connect.NewError(connect.CodeInvalidArgument, err)
	}
	return f, boot, nil
}

// QueryEvents implements the API.
func (s *service) QueryEvents(ctx context.Context, r *connect.Request[pb.QueryEventsRequest]) (*connect.Response[pb.QueryEventsResponse], error) {
	f, boot, err := s.compile(r.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	q := EventQuery{Filter: f, NewestFirst: r.Msg.GetNewestFirst(), Limit: pageSize(r.Msg.GetPageSize(), defaultPage, maxPage)}
	if token := r.Msg.GetPageToken(); token != "" {
		if q.Cursor, err = parseCursor(token, q.NewestFirst); err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
	}
	AnswerWithin(ctx, queryTimeout)
	page, err := s.backend.Events(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	m := &pb.QueryEventsResponse{CompleteSince: timestamppb.New(page.CompleteSince)}
	for _, e := range page.Events {
		m.Events = append(m.Events, wire.ToProto(e, boot))
	}
	if page.Next != (EventCursor{}) {
		m.NextPageToken = formatCursor(page.Next, q.NewestFirst)
	}
	return connect.NewResponse(m), nil
}

func pageSize(asked uint32, usual, most int) int {
	if asked == 0 {
		return usual
	}
	return int(min(asked, uint32(most)))
}

// formatCursor makes a page token. It names the direction, so that one that is used for another query is refused and does
// not skip events. It outlives the agent, as history does.
func formatCursor(c EventCursor, newestFirst bool) string {
	direction := "o"
	if newestFirst {
		direction = "n"
	}
	return fmt.Sprintf("%s%x-%x", direction, c.Run, c.Seq)
}

func parseCursor(token string, newestFirst bool) (EventCursor, error) {
	direction := formatCursor(EventCursor{}, newestFirst)[:1]
	run, seq, ok := strings.Cut(strings.TrimPrefix(token, direction), "-")
	r, err1 := strconv.ParseInt(run, 16, 64)
	n, err2 := strconv.ParseUint(seq, 16, 64)
	if !ok || !strings.HasPrefix(token, direction) || err1 != nil || err2 != nil || n == 0 {
		return EventCursor{}, errors.New("page_token is not of this query: begin again without it")
	}
	return EventCursor{r, n}, nil
}

// StreamEvents implements the API.
func (s *service) StreamEvents(ctx context.Context, r *connect.Request[pb.StreamEventsRequest], out *connect.ServerStream[pb.StreamEventsResponse]) error {
	f, boot, err := s.compile(r.Msg.GetFilter())
	if err != nil {
		return err
	}
	if r.Msg.GetLast() > maxLast {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("last is %d, at most %d are allowed", r.Msg.GetLast(), maxLast))
	}
	st := &stream{server: s.Server, out: out, boot: boot, filter: f, peer: peerFrom(ctx).String()}
	if err := s.streams.add(st); err != nil {
		return err
	}
	defer s.streams.remove(st)
	st.pace, st.binary = PaceOf(ctx), !strings.Contains(r.Header().Get("Content-Type"), "json")
	if !r.Msg.GetNoFollow() {
		// Before the recent events are read, so that none is missed in between.
		st.sub.Store(s.backend.Subscribe(pipeline.SubscribeOptions{Name: "client", Queue: s.config.ClientQueue, Keep: f.KeepCheap}))
		defer st.sub.Load().Close()
		// The headers tell the client that nothing is missed from here on.
		if err := out.Send(nil); err != nil {
			return fmt.Errorf("begin the stream: %w", err)
		}
	}
	since := filter.FromProto(r.Msg.GetFilter()).Since
	switch last := int(r.Msg.GetLast()); {
	case last > 0:
		err = st.sendLast(ctx, last)
	case !since.IsZero() || r.Msg.GetNoFollow():
		err = st.sendRecent(ctx)
	}
	if err != nil || r.Msg.GetNoFollow() {
		return err
	}
	if until := r.Msg.GetFilter().GetUntil(); until != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until.AsTime())
		defer cancel()
	}
	return st.follow(ctx)
}

// stream is one StreamEvents call.
type stream struct {
	server  *Server
	out     *connect.ServerStream[pb.StreamEventsResponse]
	pace    Pace
	binary  bool // the client wants protobuf's binary form, not JSON
	boot    string
	filter  *filter.Filter
	peer    string
	sub     atomic.Pointer[pipeline.Subscription] // nil when it does not follow
	lastSeq uint64                                // of the events of the past that were sent
}

// sendLast sends the last n matching events, oldest first. Without a time it looks no further than memory: what matches
// nothing would be looked for in all of history.
func (st *stream) sendLast(ctx context.Context, n int) error {
	var found []*model.Event
	since, _ := st.filter.Span()
	q := EventQuery{Filter: st.filter, NewestFirst: true, Recent: since.IsZero()}
	for len(found) < n {
		q.Limit = min(maxPage, n-len(found))
		page, err := st.server.backend.Events(ctx, q)
		if err != nil {
			return fmt.Errorf("read recent events: %w", err)
		}
		found = append(found, page.Events...)
		st.lastSeq = max(st.lastSeq, page.LastSeq)
		if q.Cursor = page.Next; q.Cursor == (EventCursor{}) {
			break
		}
	}
	slices.Reverse(found)
	return st.send(found)
}

// sendRecent sends all matching events since the filter's time, else those in memory, oldest first.
func (st *stream) sendRecent(ctx context.Context) error {
	since, _ := st.filter.Span()
	q := EventQuery{Filter: st.filter, Recent: since.IsZero(), Limit: pastPage}
	for {
		page, err := st.server.backend.Events(ctx, q)
		if err != nil {
			return fmt.Errorf("read recent events: %w", err)
		}
		st.lastSeq = max(st.lastSeq, page.LastSeq)
		if err := st.send(page.Events); err != nil {
			return err
		}
		if q.Cursor = page.Next; q.Cursor == (EventCursor{}) {
			return nil
		}
	}
}

// follow sends events as they happen until the client goes, the filter's end has come or the agent
// stops; then what is queued is still sent.
func (st *stream) follow(ctx context.Context) error {
	sub := st.sub.Load()
	stop := context.AfterFunc(ctx, sub.Close)
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-st.server.stopping:
			sub.Close()
		case <-ended:
		}
	}()
	sent := st.lastSeq
	for {
		batch, err := sub.Next(context.WithoutCancel(ctx))
		switch {
		case errors.Is(err, pipeline.ErrClosed) && (ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded)):
			return nil
		case err != nil || errors.Is(ctx.Err(), context.Canceled):
			return connect.NewError(connect.CodeCanceled, errors.New("the client is gone"))
		}
		kept := st.kept(batch, sent)
		if err := st.send(kept); err != nil {
			return err
		}
	}
}

// kept are the events of a batch behind those that were sent for which the filter's expression holds. It runs here, where
// only this client pays for it.
func (st *stream) kept(batch []*model.Event, sent uint64) []*model.Event {
	defer st.server.takeTurn()()
	kept := make([]*model.Event, 0, len(batch))
	for _, e := range batch {
		if (e.Seq == 0 || e.Seq > sent) && st.filter.KeepWhere(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// message makes the message of some events. In binary it is encoded here, in the stream's turn: what is sent afterwards has its
// bytes already, as fields that the encoder takes for unknown.
func (st *stream) message(events []*model.Event) (*pb.StreamEventsResponse, error) {
	defer st.server.takeTurn()()
	m := &pb.StreamEventsResponse{Events: make([]*pb.Event, len(events))}
	for i, e := range events {
		m.Events[i] = wire.ToProto(e, st.boot)
	}
	if !st.binary {
		return m, nil
	}
	encoded, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode events: %w", err)
	}
	m = new(pb.StreamEventsResponse)
	m.ProtoReflect().SetUnknown(encoded)
	return m, nil
}

// takeTurn waits until one of few streams may work, and returns what ends its turn. A hundred clients that all have much to
// encode would else be a hundred threads of work beside the one that reads the kernel's rings, which then overflow for all.
// Who waits too long for a turn loses events of its own queue.
func (s *Server) takeTurn() (end func()) {
	s.turns <- struct{}{}
	return func() { <-s.turns }
}

// send sends events, waiting for a client that reads slowly as long as the stream timeout allows.
func (st *stream) send(events []*model.Event) error {
	for chunk := range slices.Chunk(events, maxMessage) {
		m, err := st.message(chunk)
		if err != nil {
			return err
		}
		timeout := st.server.config.StreamTimeout
		select {
		case <-st.server.stopping:
			timeout = st.server.config.DrainTimeout
		default:
		}
		if err := st.pace.Send(timeout, func() error { return st.out.Send(m) }); err != nil {
			return fmt.Errorf("send events: %w", err)
		}
	}
	return nil
}

// streams are the open streams.
type streams struct {
	limit   int
	mu      sync.Mutex
	open    map[*stream]struct{}
	closed  bool
	running sync.WaitGroup
}

func (l *streams) add(st *stream) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.limit {
		return connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("%d streams are open, no more are allowed: end one, see the subscribers in `vigie status`", len(l.open)))
	}
	if l.closed {
		return connect.NewError(connect.CodeUnavailable, errors.New("the agent stops"))
	}
	l.open[st] = struct{}{}
	l.running.Add(1)
	return nil
}

func (l *streams) remove(st *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, st)
	l.running.Done()
}

// wait refuses new streams and returns when there are none.
func (l *streams) wait() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.running.Wait()
}

// subscribers lists the streams that follow, ordered by peer.
func (l *streams) subscribers() []Subscriber {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Subscriber
	for st := range l.open {
		if sub := st.sub.Load(); sub != nil {
			list = append(list, Subscriber{Name: "client", Peer: st.peer, Queued: uint64(sub.Queued()), Lost: sub.Lost()})
		}
	}
	slices.SortFunc(list, func(a, b Subscriber) int { return strings.Compare(a.Peer, b.Peer) })
	return list
}
