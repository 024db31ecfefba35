// SPDX-License-Identifier: Apache-2.0

// Package relay answers for the agents of many nodes as if they were one. In: a list of agents that may change, and their
// API. Out: the same API, with the streams of all nodes merged in the order of time and everything else fanned out and put
// together; what each node could not say is said for it. A node that does not answer holds nobody up.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// Agent is where an agent answers.
type Agent struct {
	Address string // HOST:PORT
	Name    string // of its node; empty: it says so itself
}

// Source says which agents there are.
type Source interface {
	// Follow calls set with all agents, at once and whenever that changes, until ctx ends. Errors: what makes it impossible.
	Follow(ctx context.Context, set func([]Agent)) error
}

// Pace sends a message of a stream, which may take as long as within.
type Pace interface {
	Send(within time.Duration, send func() error) error
}

// Options are what a relay needs. Durations have defaults.
type Options struct {
	Source Source
	// Dial makes the client of an agent: what sends requests to it, their base URL, and what is added to them.
	Dial func(Agent) (*http.Client, string, []connect.ClientOption)
	// Peer is who makes the request that a context belongs to, Pace gives the messages of its stream their time, and Within the answer
	// to it as long as it may take.
	Peer   func(context.Context) Peer
	Pace   func(context.Context) Pace
	Within func(context.Context, time.Duration)

	Log     *slog.Logger
	Now     func() time.Time
	Version string
	Host    string // the relay's own name

	// Window is how long an event waits for older ones of other nodes.
	Window time.Duration
	// Queue is how many events of a node may wait for one client.
	Queue int
	// Interval is how often a node is asked how it is, Patience how long it may take to answer.
	Interval, Patience time.Duration
	// Backoff is the first pause after a node did not answer; it doubles up to MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// AskTimeout is how long a node may take to answer from memory, StudyTimeout from its history.
	AskTimeout, StudyTimeout time.Duration
}

// The defaults of Options.
const (
	DefaultWindow       = 500 * time.Millisecond // agents send every 100 ms
	DefaultQueue        = 4096
	DefaultInterval     = 5 * time.Second
	DefaultPatience     = 3 * time.Second
	DefaultBackoff      = time.Second
	DefaultMaxBackoff   = 30 * time.Second
	DefaultAskTimeout   = 8 * time.Second // less than clients wait for the relay
	DefaultStudyTimeout = 100 * time.Second
)

// Relay answers for many agents. Make it with New, and run it.
type Relay struct {
	o       Options
	started time.Time

	mu       sync.Mutex
	nodes    map[Agent]*node
	told     bool  // the source has said something
	trouble  error // of the source
	watchers map[chan struct{}]struct{}
	streams  map[*viewer]struct{}
	running  sync.WaitGroup // of streams
	stopping chan struct{}
	relayed  map[string]uint64 // events passed on, by type
}

// New returns a relay that knows no node yet.
func New(o Options) *Relay {
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{{&o.Window, DefaultWindow}, {&o.Interval, DefaultInterval}, {&o.Patience, DefaultPatience}, {&o.Backoff, DefaultBackoff},
		{&o.MaxBackoff, DefaultMaxBackoff}, {&o.AskTimeout, DefaultAskTimeout}, {&o.StudyTimeout, DefaultStudyTimeout}} {
		if *d.value <= 0 {
			*d.value = d.usual
		}
	}
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	return &Relay{o: o, started: o.Now(), nodes: make(map[Agent]*node), watchers: make(map[chan struct{}]struct{}),
		streams: make(map[*viewer]struct{}), stopping: make(chan struct{}), relayed: make(map[string]uint64)}
}

// Run follows the list of agents and watches each of them until ctx ends; then all streams end.
func (r *Relay) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	stops := make(map[Agent]context.CancelFunc)
	err := r.o.Source.Follow(ctx, func(agents []Agent) {
		wanted := make(map[Agent]bool, len(agents))
		for _, a := range agents {
			wanted[a] = true
			if stops[a] != nil {
				continue
			}
			client, base, options := r.o.Dial(a)
			n := newNode(r, a, client, base, options...)
			r.mu.Lock()
			r.nodes[a] = n
			r.mu.Unlock()
			life, stop := context.WithCancel(ctx)
			stops[a] = stop
			watching.Go(func() {
				n.watch(life)
				client.CloseIdleConnections()
			})
		}
		for a, stop := range stops {
			if !wanted[a] {
				stop()
				delete(stops, a)
				r.mu.Lock()
				delete(r.nodes, a)
				r.mu.Unlock()
			}
		}
		r.mu.Lock()
		r.told = true
		r.mu.Unlock()
		r.signal()
	})
	for _, stop := range stops {
		stop()
	}
	r.mu.Lock()
	close(r.stopping)
	r.trouble = err
	r.mu.Unlock()
	r.running.Wait()
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("the list of agents ended")
	}
	return fmt.Errorf("find the agents: %w", err)
}

// signal wakes who watches the nodes.
func (r *Relay) signal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// observe returns a channel that is written to when a node has changed. The caller calls stop.
func (r *Relay) observe() (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[c] = struct{}{}
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, c)
	}
}

// all are the nodes in the list, ordered by name.
func (r *Relay) all() []*node {
	r.mu.Lock()
	list := make([]*node, 0, len(r.nodes))
	for _, n := range r.nodes {
		list = append(list, n)
	}
	r.mu.Unlock()
	names := make(map[*node]string, len(list))
	for _, n := range list {
		names[n] = n.called()
	}
	slices.SortFunc(list, func(a, b *node) int {
		if c := strings.Compare(names[a], names[b]); c != 0 {
			return c
		}
		return strings.Compare(a.agent.Address, b.agent.Address)
	})
	return list
}

// chosen are the nodes whose name one of globs matches; all without any.
func (r *Relay) chosen(globs []string) ([]*node, error) {
	match, err := matcher(globs)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("filter nodes: %w", err))
	}
	return slices.DeleteFunc(r.all(), func(n *node) bool { return !match(n.called()) }), nil
}

// Nodes are the nodes in the list as they are, ordered by name.
func (r *Relay) Nodes() []*pb.NodeStatus {
	var list []*pb.NodeStatus
	for _, n := range r.all() {
		list = append(list, n.report())
	}
	return list
}

// Problems are what keeps the relay itself from answering, each with what to do; not what is wrong with nodes.
func (r *Relay) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.trouble != nil:
		return []string{"the agents can't be found: " + r.trouble.Error()}
	case !r.told:
		return []string{"the agents are being looked for: try again in a second"}
	}
	return nil
}
