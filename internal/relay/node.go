// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// The states of a node, as vigie.v1.NodeStatus names them.
const (
	stateConnecting  = "connecting"
	stateConnected   = "connected"
	stateUnavailable = "unavailable"
	stateGone        = "gone"
)

// node is one agent: whether it answers, what it is called, how its clock stands. One goroutine watches it; all else asks.
type node struct {
	relay  *Relay
	agent  Agent
	client vigiev1connect.VigieClient
	// For calls that are not of our API:
	http    *http.Client
	base    string
	options []connect.ClientOption

	mu        sync.Mutex
	life      context.Context // as long as it is in the list
	name      string
	state     string
	why       error // of unavailable
	since     time.Time
	lastSeen  time.Time
	clock     clock
	status    *pb.Status // when it was connected
	problems  []string
	missing   []string
	changed   chan struct{} // closed and made anew when state changes
	session   context.Context
	endOf     context.CancelFunc // of session
	events    uint64
	lost      uint64
	late      uint64
	queued    int64
	announced string // what watchers know of it
}

func newNode(r *Relay, a Agent, c *http.Client, base string, options ...connect.ClientOption) *node {
	n := &node{relay: r, agent: a, http: c, base: base, options: options, client: vigiev1connect.NewVigieClient(c, base, options...), name: a.Name, state: stateConnecting,
		since: r.o.Now(), changed: make(chan struct{})}
	if n.name == "" {
		n.name = a.Address
	}
	return n
}

// watch asks the agent how it is, again and again, until ctx ends.
func (n *node) watch(ctx context.Context) {
	defer n.leave(stateGone, nil)
	n.count(func(n *node) { n.life = ctx })
	failures := 0
	for {
		err := n.probe()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			n.leave(stateUnavailable, err)
		default:
			failures = 0
		}
		timer := time.NewTimer(n.relay.pause(failures))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// pause is until the next question: regular while the node answers, longer each time while it does not, and never the same
// for all nodes.
func (r *Relay) pause(failures int) time.Duration {
	d := r.o.Interval
	if failures > 0 {
		d = min(r.o.Backoff<<min(failures-1, 10), r.o.MaxBackoff)
	}
	return d*3/4 + time.Duration(rand.Int64N(int64(d)/2+1))
}

// probe asks once: whether the agent is there, what time it has there and, of one that has just come or begun anew, who it is.
func (n *node) probe() error {
	n.mu.Lock()
	life, known := n.life, n.status.GetStartTime().AsTime()
	n.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(life, n.relay.o.Patience, fmt.Errorf("it took the question and did not answer within %v: see whether the node is overloaded or its agent stopped",
		n.relay.o.Patience))
	defer cancel()
	asked := n.relay.o.Now()
	health, err := n.client.Health(ctx, connect.NewRequest(&pb.HealthRequest{}))
	answered := n.relay.o.Now()
	if err != nil {
		return because(ctx, err)
	}
	there, coarse := health.Msg.GetTime().AsTime(), time.Duration(0)
	if health.Msg.GetTime() == nil { // an older agent: HTTP says the second
		if there, err = http.ParseTime(health.Header().Get("Date")); err == nil {
			there, coarse = there.Add(time.Second/2), time.Second/2
		}
	}
	var status *pb.Status
	anew := health.Msg.GetStartTime() != nil && !health.Msg.GetStartTime().AsTime().Equal(known)
	if anew || n.current() != stateConnected {
		got, err := n.client.GetStatus(ctx, connect.NewRequest(&pb.GetStatusRequest{}))
		if err != nil {
			return because(ctx, err)
		}
		status = got.Msg.GetStatus()
	}
	n.arrive(life, status, n.relay.nameFor(n, status), health.Msg.GetProblems(), func(c *clock) {
		if err == nil {
			c.measure(asked, answered, there, coarse)
		}
	})
	return nil
}

// because is the cause of the end of ctx where that is why a call failed.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil && context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	return err
}

// arrive notes that the node answered. status is nil unless it has just come. What is asked of it from now on ends with life.
func (n *node) arrive(life context.Context, status *pb.Status, name string, problems []string, measure func(*clock)) {
	n.mu.Lock()
	defer n.announce()
	n.lastSeen = n.relay.o.Now()
	n.problems = problems
	if status != nil && n.status.GetStartTime().AsTime() != status.GetStartTime().AsTime() {
		n.clock, n.missing = clock{}, nil // another agent, maybe on another host
	}
	measure(&n.clock)
	if status == nil {
		return
	}
	n.status = status
	if name != "" {
		n.name = name
	}
	if n.endOf != nil {
		n.endOf() // what was asked of the agent before
	}
	n.session, n.endOf = context.WithCancel(life)
	if n.state == stateConnected {
		close(n.changed)
		n.changed = make(chan struct{})
	}
	n.turn(stateConnected, nil)
}

// nameFor is what an agent says that its node is called; with its address where another node has that name.
func (r *Relay) nameFor(n *node, s *pb.Status) string {
	name := s.GetNode()
	if name == "" {
		name = s.GetHost()
	}
	for _, other := range r.all() {
		if name != "" && other != n && other.called() == name {
			return name + " (" + n.agent.Address + ")"
		}
	}
	return name
}

// leave notes that the node does not answer.
func (n *node) leave(state string, why error) {
	n.mu.Lock()
	defer n.announce()
	if n.endOf != nil {
		n.endOf()
		n.endOf = nil
	}
	n.turn(state, why)
}

// turn is called with mu held.
func (n *node) turn(state string, why error) {
	n.why = why
	if n.state == state {
		return
	}
	n.state, n.since = state, n.relay.o.Now()
	close(n.changed)
	n.changed = make(chan struct{})
	switch state {
	case stateConnected:
		n.relay.o.Log.Info("a node is connected", "node", n.name, "address", n.agent.Address, "version", n.status.GetVersion())
	case stateUnavailable:
		n.relay.o.Log.Warn("a node does not answer: what it sees is missing", "node", n.name, "address", n.agent.Address, "reason", why)
	case stateGone:
		n.relay.o.Log.Info("a node is not in the list any more", "node", n.name, "address", n.agent.Address)
	}
}

// announce unlocks mu, and tells watchers when there is something new to them: not each time that the clock is measured.
func (n *node) announce() {
	why := ""
	if n.why != nil {
		why = n.why.Error()
	}
	known := fmt.Sprintf("%s\x00%s\x00%s\x00%q\x00%v", n.name, n.state, why, n.missing, n.clock.correction() != 0)
	news := known != n.announced
	n.announced = known
	n.mu.Unlock()
	if news {
		n.relay.signal()
	}
}

func (n *node) current() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// called is the node's name. It may change once, when the agent has told it.
func (n *node) called() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.name
}

// await returns when the node is connected. Errors: ctx's, and errGone when it is no longer in the list.
func (n *node) await(ctx context.Context) error {
	for {
		n.mu.Lock()
		state, changed := n.state, n.changed
		n.mu.Unlock()
		switch state {
		case stateConnected:
			return nil
		case stateGone:
			return errGone
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replaced returns when another agent answers there than the one that does now. Errors: as of await.
func (n *node) replaced(ctx context.Context) error {
	n.mu.Lock()
	before := n.status
	n.mu.Unlock()
	for {
		n.mu.Lock()
		state, changed, now := n.state, n.changed, n.status
		n.mu.Unlock()
		switch {
		case state == stateGone:
			return errGone
		case state == stateConnected && now.GetStartTime().AsTime() != before.GetStartTime().AsTime():
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errGone = errors.New("the node is no longer in the list")

// during is a context for a call to the node: it ends when the node does not answer any more. An error says why the node
// can't be asked.
func (n *node) during(ctx context.Context) (context.Context, context.CancelFunc, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state != stateConnected {
		why := n.why
		if why == nil {
			why = errors.New("its agent has not answered yet")
		}
		return nil, nil, connect.NewError(connect.CodeUnavailable, why)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(n.session, func() {
		cancel(errors.New("the node went away while it was asked"))
	})
	return ctx, func() { stop(); cancel(nil) }, nil
}

// lacks notes that the agent does not know a call or message.
func (n *node) lacks(what string) {
	n.mu.Lock()
	defer n.announce()
	if slices.Contains(n.missing, what) {
		return
	}
	n.missing = append(n.missing, what)
	n.relay.o.Log.Warn("a node's agent is older than the relay and does not know what it is asked for: upgrade it", "node", n.name, "call", what)
}

// report is how the node is doing.
func (n *node) report() *pb.NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	ahead, uncertainty, trip := n.clock.offset()
	m := &pb.NodeStatus{Name: n.name, Address: n.agent.Address, State: n.state, Since: timestamppb.New(n.since), Version: n.status.GetVersion(),
		Missing: slices.Sorted(slices.Values(n.missing)), ClockOffsetNs: int64(ahead), ClockUncertaintyNs: int64(uncertainty), RttNs: int64(trip),
		Events: n.events, Lost: n.lost, Queued: uint64(max(n.queued, 0)), Late: n.late, Problems: n.problems}
	m.Boot = n.status.GetBootId()[:min(len(n.status.GetBootId()), 8)]
	if !n.lastSeen.IsZero() {
		m.LastSeen = timestamppb.New(n.lastSeen)
	}
	m.Message = n.message()
	return m
}

// message is what a person should know of the node. It is called with mu held.
func (n *node) message() string {
	switch {
	case n.why != nil:
		return text(n.why)
	case n.state != stateConnected:
		return ""
	}
	var notes []string
	if len(n.missing) > 0 {
		notes = append(notes, fmt.Sprintf("its agent (%s) is older than this relay (%s) and does not know %s: upgrade it", n.status.GetVersion(),
			n.relay.o.Version, list(n.missing)))
	}
	if off := n.clock.correction(); off > 0 {
		notes = append(notes, fmt.Sprintf("its clock is %v ahead: events are put in order as if it were right", off.Round(time.Millisecond)))
	} else if off < 0 {
		notes = append(notes, fmt.Sprintf("its clock is %v behind: events are put in order as if it were right", -off.Round(time.Millisecond)))
	}
	return list(notes)
}

// correction is by how much the times that the node says are to be made less.
func (n *node) correction() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clock.correction()
}
