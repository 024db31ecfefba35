// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// feed is one stream of one node, open.
type feed[T any] struct {
	// next is what comes next, at least one; io.EOF at the end.
	next  func() ([]T, error)
	close func()
}

// plan says what a fan-in merges, and how.
type plan[T any] struct {
	relay  *Relay
	wanted func(name string) bool // which nodes
	// open begins a node's stream; again after it was cut off.
	open func(context.Context, *node) (feed[T], error)
	// at is when a thing happened, by its node's clock.
	at func(T) time.Time
	// past: the streams end by themselves. A node that does not answer now is left out, and none is asked twice.
	past bool
	// unordered: what comes is handed over at once.
	unordered bool
	// tick, when not 0, is how often send is called with nothing.
	tick time.Duration
	// call is the name of the call, for agents that do not know it.
	call string
}

// fanIn merges one stream of every node for one client. Each node has a goroutine, which reads as long as there is room for
// what it reads: a client that is slow slows its own streams alone, and what agents then lose for it they tell in them.
type fanIn[T any] struct {
	plan[T]
	ready chan struct{} // there may be something to take
	news  chan struct{} // there may be something to tell of a node
	wg    sync.WaitGroup

	mu      sync.Mutex
	merger  *merger[T]
	arms    map[*node]*arm[T]
	owners  map[*lane[T]]*arm[T]
	failure error // ends the whole: the request makes no sense
}

// arm is a node's part of a fan-in.
type arm[T any] struct {
	node  *node
	lane  *lane[T]
	space chan struct{} // something was taken from a full lane
	open  bool          // its stream is
	ended bool
	told  string        // the state that the client knows
	begun chan struct{} // closed when its stream was opened for the first time, or could not be
	once  sync.Once
	err   error // why it ended
}

// entry is one thing of the merged stream.
type entry[T any] struct {
	node  *node
	value T
}

// pastWindow is how long a part of the past waits for a node that has not begun: one that answers other calls.
const pastWindow = 15 * time.Second

func newFanIn[T any](p plan[T]) *fanIn[T] {
	window := p.relay.o.Window
	switch {
	case p.past:
		window = pastWindow
	case p.unordered:
		window = 0
	}
	return &fanIn[T]{plan: p, ready: make(chan struct{}, 1), news: make(chan struct{}, 1), merger: newMerger[T](window, p.relay.o.Queue, p.past), arms: make(map[*node]*arm[T]),
		owners: make(map[*lane[T]]*arm[T])}
}

// extend begins the streams of nodes that are new, and tells the merger which are worth waiting for. It returns what there is
// to tell the client.
func (f *fanIn[T]) extend(ctx context.Context) []*pb.NodeStatus {
	nodes := f.relay.all()
	f.mu.Lock()
	defer f.mu.Unlock()
	var news []*pb.NodeStatus
	listed := make(map[*node]bool, len(nodes))
	for _, n := range nodes {
		listed[n] = true
		name := n.called()
		if !f.wanted(name) {
			continue
		}
		a := f.arms[n]
		if a == nil {
			a = &arm[T]{node: n, lane: f.merger.add(name), space: make(chan struct{}, 1), begun: make(chan struct{})}
			f.arms[n], f.owners[a.lane] = a, a
			f.wg.Go(func() { f.follow(ctx, a) })
		}
		f.reckon(a)
		m := n.report()
		if m.GetState() == stateConnected && !a.open && a.err != nil && connect.CodeOf(a.err) == connect.CodeResourceExhausted {
			m.Message = text(a.err) // it answers, and has no room for this stream
		}
		if a.learn(m.GetState(), m.GetMessage()) {
			news = append(news, m)
		}
	}
	for n, a := range f.arms {
		if !listed[n] && a.learn(stateGone, "") {
			m := n.report()
			m.State = stateGone
			news = append(news, m)
		}
	}
	return news
}

// learn notes what the client is told of a node, and reports whether it is news. That a node is just connected is none at
// the beginning.
func (a *arm[T]) learn(state, message string) bool {
	first := a.told == ""
	now := state
	if state == stateConnected {
		now += message // why a node is away may change with each attempt
	}
	if a.told == now {
		return false
	}
	a.told = now
	return !first || state != stateConnected || message != ""
}

// reckon is called with mu held.
func (f *fanIn[T]) reckon(a *arm[T]) {
	f.merger.want(a.lane, !a.ended && (a.open || f.past) && a.node.current() == stateConnected)
}

// follow reads the node's stream, and again when it was cut off, until ctx ends.
func (f *fanIn[T]) follow(ctx context.Context, a *arm[T]) {
	defer f.settle(a, func() { a.ended = true })
	for {
		if !f.past {
			if err := a.node.await(ctx); err != nil {
				return
			}
		}
		err := f.read(ctx, a)
		f.settle(a, func() { a.open, a.err = false, err })
		switch code := connect.CodeOf(err); {
		case ctx.Err() != nil:
			return
		case code == connect.CodeUnimplemented:
			a.node.lacks(f.call)
			if f.past || a.node.replaced(ctx) != nil {
				return
			}
			continue // it was upgraded, maybe
		case code == connect.CodeInvalidArgument:
			f.settle(a, func() { f.failure = err })
			return
		case f.past:
			return
		}
		timer := time.NewTimer(f.relay.pause(1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// settle changes what is known of an arm, and wakes who waits for it.
func (f *fanIn[T]) settle(a *arm[T], change func()) {
	f.mu.Lock()
	change()
	f.reckon(a)
	refused := a.err != nil
	f.mu.Unlock()
	a.once.Do(func() { close(a.begun) })
	wake(f.ready)
	if refused {
		wake(f.news)
	}
}

// read reads one stream to its end.
func (f *fanIn[T]) read(ctx context.Context, a *arm[T]) error {
	if f.past {
		during, done, err := a.node.during(ctx)
		if err != nil {
			return err
		}
		defer done()
		ctx = during
	}
	in, err := f.open(ctx, a.node)
	if err != nil {
		return because(ctx, err)
	}
	defer in.close()
	f.settle(a, func() { a.open = true })
	for {
		values, err := in.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return because(ctx, err)
		}
		if err := f.push(ctx, a, values); err != nil {
			return err
		}
	}
}

// push puts values into the node's lane, once there is room.
func (f *fanIn[T]) push(ctx context.Context, a *arm[T], values []T) error {
	off := a.node.correction()
	f.mu.Lock()
	for f.merger.isFull(a.lane) {
		f.mu.Unlock()
		select {
		case <-a.space:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.mu.Lock()
	}
	now := f.relay.o.Now()
	for _, v := range values {
		f.merger.push(a.lane, v, f.at(v).Add(-off), now)
	}
	f.mu.Unlock()
	a.node.count(func(n *node) { n.queued += int64(len(values)) })
	wake(f.ready)
	return nil
}

// begin starts the streams and waits, a moment at most, until those that answer are open: from then on they miss nothing.
func (f *fanIn[T]) begin(ctx context.Context) {
	f.extend(ctx)
	f.mu.Lock()
	var begun []chan struct{}
	for _, a := range f.arms {
		a.told = "" // it was not sent
		if a.node.current() == stateConnected {
			begun = append(begun, a.begun)
		}
	}
	f.mu.Unlock()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	for _, b := range begun {
		select {
		case <-b:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// run hands over what comes, in order, until ctx ends, the relay stops or, of the past, everything was handed over. send may
// take its time; an error of it ends the run.
func (f *fanIn[T]) run(ctx context.Context, send func([]entry[T], []*pb.NodeStatus) error) error {
	changed, unwatch := f.relay.observe()
	defer unwatch()
	extend := func() error {
		if news := f.extend(ctx); len(news) > 0 {
			return send(nil, news)
		}
		return nil
	}
	if err := extend(); err != nil {
		return err
	}
	var tick <-chan time.Time
	if f.tick > 0 {
		ticker := time.NewTicker(f.tick)
		defer ticker.Stop()
		tick = ticker.C
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		batch, wait, done, err := f.batch()
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			if err := send(batch, nil); err != nil {
				return err
			}
			wake(f.ready) // there may be more
		}
		if done {
			return nil
		}
		timer.Reset(cmp.Or(wait, time.Hour))
		select {
		case <-f.ready:
		case <-timer.C:
		case <-tick:
			if err := send(nil, nil); err != nil {
				return err
			}
		case <-changed:
			wake(f.news)
		case <-f.news:
			if err := extend(); err != nil {
				return err
			}
		case <-f.relay.stopping:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end waits for what runs of it, whose context has ended, and forgets what nobody takes any more.
func (f *fanIn[T]) end() {
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.arms {
		left := int64(len(a.lane.items))
		a.node.count(func(n *node) { n.queued -= left })
	}
}

// maxBatch is how many things are handed over at once.
const maxBatch = 256

// batch is what can be handed over now. done: nothing will come any more.
func (f *fanIn[T]) batch() (out []entry[T], wait time.Duration, done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure != nil {
		return nil, 0, false, f.failure
	}
	now := f.relay.o.Now()
	for len(out) < maxBatch {
		l, value, pause, ok := f.merger.take(now)
		if !ok {
			wait = pause
			break
		}
		a := f.owners[l]
		out = append(out, entry[T]{a.node, value})
		wake(a.space)
		late := l.late
		l.late = 0
		a.node.count(func(n *node) { n.queued--; n.late += late })
	}
	done = f.past && len(out) == 0 && len(f.merger.heads) == 0
	for _, a := range f.arms {
		done = done && a.ended
	}
	return out, wait, done, nil
}

// receiver is a stream of a client.
type receiver[T any] interface {
	Receive() bool
	Msg() *T
	Err() error
	Close() error
}

// feedOf makes a feed of a stream, each message one thing. cancel ends the stream's context.
func feedOf[T any](stream receiver[T], cancel context.CancelFunc) feed[*T] {
	return feed[*T]{next: func() ([]*T, error) {
		if stream.Receive() {
			return []*T{stream.Msg()}, nil
		}
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}, close: func() { cancel(); _ = stream.Close() }}
}

// count changes the figures of a node.
func (n *node) count(change func(*node)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
