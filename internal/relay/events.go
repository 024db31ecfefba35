// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// maxLast is an agent's own bound.
const maxLast = 50_000

// seen is an event as it came from a node.
type seen struct {
	event *pb.Event
	run   time.Time // when its agent started: numbers are of one run
	old   bool      // of an earlier run, out of history
}

// StreamEvents implements the API: what every node streams, in one order. A node that comes back is asked for what the client
// has missed of it.
func (a *api) StreamEvents(ctx context.Context, q *connect.Request[pb.StreamEventsRequest], out *connect.ServerStream[pb.StreamEventsResponse]) error {
	m := q.Msg
	match, err := matcher(m.GetFilter().GetNodes())
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("filter nodes: %w", err))
	}
	if m.GetLast() > maxLast {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("last is %d, at most %d are allowed", m.GetLast(), maxLast))
	}
	v, err := a.relay.view(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &eventStream{api: a, asked: m, match: match, past: make(map[*node]mark),
		send: func(r *pb.StreamEventsResponse) error { return v.send(func() error { return out.Send(r) }) }}
	defer v.close()
	defer s.wait()
	defer cancel()
	return s.run(ctx)
}

// eventStream is one StreamEvents call.
type eventStream struct {
	*api
	asked *pb.StreamEventsRequest
	match func(string) bool
	send  func(*pb.StreamEventsResponse) error
	live  *fanIn[seen]
	old   *fanIn[seen]
	past  map[*node]mark // how far the past went, which the live streams may say again
}

// mark is a place in what a node says.
type mark struct {
	begin time.Time // nothing before was asked for, by the node's clock
	run   time.Time
	seq   uint64
	at    time.Time // the youngest event, by the node's clock
	// How far the run before came, when this one was heard for the first time.
	beforeSeq uint64
	before    time.Time
}

// begins notes that from now on a run is heard. What it took over from the one before has its own numbers, and times before its start.
func (m *mark) begins(run time.Time) {
	if !m.run.IsZero() && !m.run.Equal(run) {
		m.beforeSeq, m.before, m.seq = m.seq, m.at, 0
	}
	m.run = run
}

// pass reports whether e comes behind the mark, and moves the mark there.
func (m *mark) pass(e seen) bool {
	seq, at := e.event.GetSeq(), e.event.GetTime().AsTime()
	if seq == 0 {
		return true // this client's own
	}
	again := seq <= m.seq || e.old && seq <= m.beforeSeq && !at.After(m.before)
	if !e.old {
		m.begins(e.run)
		m.seq = max(m.seq, seq)
	}
	if at.After(m.at) {
		m.at = at
	}
	return !again
}

func (s *eventStream) run(ctx context.Context) error {
	follow := !s.asked.GetNoFollow()
	if until := s.asked.GetFilter().GetUntil(); follow && until != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until.AsTime().Add(2*s.relay.o.Window))
		defer cancel()
	}
	if follow {
		s.live = newFanIn(plan[seen]{relay: s.relay, wanted: s.match, at: timeOf, call: "StreamEvents", open: s.follow()})
		s.live.begin(ctx)
		// The headers tell the client that nothing of the nodes that answer is missed from here on.
		if err := s.send(nil); err != nil {
			return fmt.Errorf("begin the stream: %w", err)
		}
	}
	if s.asked.GetLast() > 0 || s.asked.GetFilter().GetSince() != nil || !follow {
		if err := s.sendPast(ctx); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	err := s.live.run(ctx, func(batch []entry[seen], news []*pb.NodeStatus) error {
		batch = slices.DeleteFunc(batch, func(e entry[seen]) bool {
			m := s.past[e.node]
			return e.value.event.GetSeq() != 0 && e.value.run.Equal(m.run) && e.value.event.GetSeq() <= m.seq
		})
		return s.deliver(batch, news)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // until
	}
	return err
}

// sendPast sends what has happened, as much of it as is asked for.
func (s *eventStream) sendPast(ctx context.Context) error {
	var kept []entry[seen]
	last := int(s.asked.GetLast())
	s.old = newFanIn(plan[seen]{relay: s.relay, wanted: s.match, at: timeOf, call: "StreamEvents", past: true, open: s.before})
	err := s.old.run(ctx, func(batch []entry[seen], news []*pb.NodeStatus) error {
		for _, e := range batch {
			m := s.past[e.node]
			m.pass(e.value)
			s.past[e.node] = m
		}
		if !s.asked.GetNoFollow() {
			news = nil // the live stream tells
		}
		if last == 0 {
			return s.deliver(batch, news)
		}
		if kept = append(kept, batch...); len(kept) > 2*last+maxBatch {
			kept = append(kept[:0], kept[len(kept)-last:]...)
		}
		return s.deliver(nil, news)
	})
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(kept[max(0, len(kept)-last):], maxBatch) {
		if err := s.deliver(batch, nil); err != nil {
			return err
		}
	}
	return nil
}

// before opens a node's stream of what has happened.
func (s *eventStream) before(ctx context.Context, n *node) (feed[seen], error) {
	m := &pb.StreamEventsRequest{Filter: s.relay.translate(n, s.asked.GetFilter()), Last: s.asked.GetLast(), NoFollow: true}
	return s.openStream(ctx, n, m, nil)
}

// follow opens a node's stream of what happens; the second time from where the first one ended.
func (s *eventStream) follow() func(context.Context, *node) (feed[seen], error) {
	var mu sync.Mutex
	marks := make(map[*node]*mark)
	return func(ctx context.Context, n *node) (feed[seen], error) {
		m := &pb.StreamEventsRequest{Filter: s.relay.translate(n, s.asked.GetFilter())}
		if m.Filter != nil {
			m.Filter.Since = nil // what happens from now on
		}
		mu.Lock()
		at := marks[n]
		if at == nil {
			now := s.relay.o.Now().Add(n.correction())
			at = &mark{begin: now, at: now}
			marks[n] = at
		}
		mu.Unlock()
		if !at.run.IsZero() {
			if m.Filter == nil {
				m.Filter = &pb.Filter{}
			}
			since := at.at.Add(-overlap)
			if since.Before(at.begin) {
				since = at.begin
			}
			m.Filter.Since = timestamppb.New(since)
		}
		return s.openStream(ctx, n, m, at)
	}
}

// overlap is how far before the last event that came a stream begins that goes on: events do not come quite in the order of
// their times.
const overlap = 2 * time.Second

// openStream opens a stream. at, when given, is how far the one before came: what was said already is left out.
func (s *eventStream) openStream(ctx context.Context, n *node, m *pb.StreamEventsRequest, at *mark) (feed[seen], error) {
	if err := n.probe(); err != nil { // the agent may have begun anew since it was asked last
		return feed[seen]{}, err
	}
	memory := n.memory()
	ctx, cancel := context.WithCancel(ctx)
	stream, err := n.client.StreamEvents(ctx, connect.NewRequest(m))
	if err != nil {
		cancel()
		return feed[seen]{}, err
	}
	var first []seen
	if at != nil {
		_ = stream.ResponseHeader() // nothing is missed from here on
		if gap := memory.missing(at, s.relay.o.Now()); gap != nil {
			first = []seen{{event: gap, run: memory.started}}
		}
		at.begins(memory.started)
	}
	next := func() ([]seen, error) {
		out := first
		first = nil
		for len(out) == 0 {
			if !stream.Receive() {
				if err := stream.Err(); err != nil {
					return nil, err
				}
				return nil, io.EOF
			}
			for _, e := range stream.Msg().GetEvents() {
				x := seen{e, memory.started, !memory.replay && e.GetTime().AsTime().Before(memory.started)}
				if at == nil || at.pass(x) {
					out = append(out, x)
				}
			}
		}
		return out, nil
	}
	return feed[seen]{next: next, close: func() { cancel(); _ = stream.Close() }}, nil
}

// memory is how far back an agent remembers.
type memory struct {
	started  time.Time
	complete time.Time
	replay   bool
}

func (n *node) memory() memory {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := memory{started: n.status.GetStartTime().AsTime(), complete: n.status.GetStore().GetCompleteSince().AsTime(), replay: n.status.GetReplay()}
	if h := n.status.GetHistory(); h != nil && h.GetOldest().AsTime().Before(m.complete) {
		m.complete = h.GetOldest().AsTime()
	}
	return m
}

// missing is a loss event when the agent does not remember all since the mark; nil otherwise.
func (m *memory) missing(at *mark, now time.Time) *pb.Event {
	var why string
	switch {
	case at.run.IsZero() || m.replay:
		return nil
	case !m.started.Equal(at.run):
		why = fmt.Sprintf("the node's agent began anew at %s: what was between %s and then may be missing", m.started.Format(time.TimeOnly), at.at.Format(time.TimeOnly))
	case m.complete.After(at.at):
		why = fmt.Sprintf("the node was away, and its agent does not remember what was from %s to %s", at.at.Format(time.TimeOnly), m.complete.Format(time.TimeOnly))
	default:
		return nil
	}
	return &pb.Event{Type: "loss", Time: timestamppb.New(now), Count: 1, Loss: &pb.Loss{Stage: stage, Reason: why}}
}

// deliver sends a part of the merged stream.
func (s *eventStream) deliver(batch []entry[seen], news []*pb.NodeStatus) error {
	if len(batch) == 0 && len(news) == 0 {
		return nil
	}
	m := &pb.StreamEventsResponse{Nodes: news, Events: make([]*pb.Event, len(batch))}
	for i, e := range batch {
		m.Events[i] = e.value.event
		e.value.event.Node = e.node.called()
	}
	if err := s.send(m); err != nil {
		return fmt.Errorf("send events: %w", err)
	}
	s.relay.passed(batch)
	return nil
}

// wait returns when nothing of the stream runs any more; its context has ended.
func (s *eventStream) wait() {
	for _, f := range []*fanIn[seen]{s.live, s.old} {
		if f != nil {
			f.end()
		}
	}
}

func timeOf(e seen) time.Time { return e.event.GetTime().AsTime() }

// translate is a filter as a node is asked it: without what is the relay's, and with its times by the node's clock.
func (r *Relay) translate(n *node, f *pb.Filter) *pb.Filter {
	if f == nil {
		return nil
	}
	f = proto.CloneOf(f)
	f.Nodes = nil
	f.Since, f.Until = r.there(n, f.Since), r.there(n, f.Until)
	return f
}

// there is a moment by the node's clock.
func (r *Relay) there(n *node, t *timestamppb.Timestamp) *timestamppb.Timestamp {
	off := n.correction()
	if t == nil || off == 0 || t.AsTime().Unix() <= 0 { // the beginning of time is that for everybody
		return t
	}
	return timestamppb.New(t.AsTime().Add(off))
}
