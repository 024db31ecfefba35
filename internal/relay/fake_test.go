// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

const deadline = 30 * time.Second

// fakeAgent is an agent that says what a test has it say, over real connections.
type fakeAgent struct {
	vigiev1connect.UnimplementedVigieHandler // all that an older agent does not know

	name    string
	ahead   time.Duration // of its clock
	old     bool          // it says no time
	unknown string        // a call that it does not know
	address string

	mu      sync.Mutex
	started time.Time
	events  []*pb.Event
	forgot  int // events that it does not remember
	more    chan struct{}
	stalled chan struct{} // closed when it goes on; nil while it runs
	served  *http.Server
	cut     context.CancelFunc
}

func newFakeAgent(t testing.TB, name string) *fakeAgent {
	t.Helper()
	f := &fakeAgent{name: name, started: time.Now().Add(-time.Hour), more: make(chan struct{})}
	f.serve(t, "127.0.0.1:0")
	t.Cleanup(f.stop)
	return f
}

// serve opens its port, again after stop.
func (f *fakeAgent) serve(t testing.TB, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	path, handler := vigiev1connect.NewVigieHandler(f)
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		unknown := f.unknown != "" && strings.HasSuffix(r.URL.Path, "/"+f.unknown)
		f.mu.Unlock()
		if unknown {
			_ = connect.NewErrorWriter().Write(w, r, connect.NewError(connect.CodeUnimplemented, errors.New("not known")))
			return
		}
		w.Header().Set("Date", time.Now().Add(f.ahead).UTC().Format(http.TimeFormat))
		handler.ServeHTTP(w, r)
	})
	ctx, cut := context.WithCancel(context.Background())
	s := &http.Server{Handler: mux, Protocols: protocols, BaseContext: func(net.Listener) context.Context { return ctx }, ReadHeaderTimeout: deadline}
	f.mu.Lock()
	f.address, f.served, f.cut = l.Addr().String(), s, cut
	f.mu.Unlock()
	go func() { _ = s.Serve(l) }()
}

// stop closes its port and all connections.
func (f *fakeAgent) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut()
	_ = f.served.Close()
}

// stall has it take questions and answer none until the returned function is called.
func (f *fakeAgent) stall() (goOn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := make(chan struct{})
	f.stalled = c
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.stalled == c {
			f.stalled = nil
			close(c)
		}
	}
}

func (f *fakeAgent) pause(ctx context.Context) {
	f.mu.Lock()
	c := f.stalled
	f.mu.Unlock()
	if c != nil {
		select {
		case <-c:
		case <-ctx.Done():
		}
	}
}

// happen has it see an event now, by its clock.
func (f *fakeAgent) happen(path string) { f.happenAt(path, time.Now()) }

func (f *fakeAgent) happenAt(path string, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, &pb.Event{Type: "file", Time: timestamppb.New(at.Add(f.ahead)), Seq: uint64(len(f.events) + 1), Count: 1,
		File: &pb.File{Path: path}, Process: &pb.Process{ExecId: "0000000" + f.name + "-1-1-1", Pid: 1}})
	close(f.more)
	f.more = make(chan struct{})
}

// Health implements the API.
func (f *fakeAgent) Health(ctx context.Context, _ *connect.Request[pb.HealthRequest]) (*connect.Response[pb.HealthResponse], error) {
	f.pause(ctx)
	m := &pb.HealthResponse{Ready: true}
	if !f.old {
		f.mu.Lock()
		m.Time, m.StartTime = timestamppb.New(time.Now().Add(f.ahead)), timestamppb.New(f.started.Add(f.ahead))
		f.mu.Unlock()
	}
	return connect.NewResponse(m), nil
}

// GetStatus implements the API.
func (f *fakeAgent) GetStatus(ctx context.Context, _ *connect.Request[pb.GetStatusRequest]) (*connect.Response[pb.GetStatusResponse], error) {
	f.pause(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	complete := f.started
	if f.forgot > 0 {
		complete = f.events[f.forgot-1].GetTime().AsTime().Add(1)
	}
	return connect.NewResponse(&pb.GetStatusResponse{Status: &pb.Status{Version: "v1", Host: f.name, BootId: "0000000" + f.name + "-whole",
		StartTime: timestamppb.New(f.started.Add(f.ahead)), Events: map[string]uint64{"file": uint64(len(f.events))}, Store: &pb.StoreStatus{CompleteSince: timestamppb.New(complete)}}}), nil
}

// from are the events behind the first n that a filter takes.
func (f *fakeAgent) from(n int, q *pb.Filter) (out []*pb.Event, more chan struct{}, to int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events[min(max(n, f.forgot), len(f.events)):] {
		if q.GetSince() == nil || !e.GetTime().AsTime().Before(q.GetSince().AsTime()) {
			out = append(out, proto.CloneOf(e))
		}
	}
	return out, f.more, len(f.events)
}

// StreamEvents implements the API.
func (f *fakeAgent) StreamEvents(ctx context.Context, q *connect.Request[pb.StreamEventsRequest], out *connect.ServerStream[pb.StreamEventsResponse]) error {
	f.pause(ctx)
	m := q.Msg
	if m.GetFilter().GetWhere() == "bad" {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("filter where: bad"))
	}
	list, more, n := f.from(0, m.GetFilter())
	if !m.GetNoFollow() {
		if err := out.Send(nil); err != nil {
			return err
		}
	}
	switch last := int(m.GetLast()); {
	case last > 0:
		list = list[max(0, len(list)-last):]
	case m.GetFilter().GetSince() == nil && !m.GetNoFollow():
		list = nil
	}
	for {
		for chunk := range slices.Chunk(list, 256) {
			if err := out.Send(&pb.StreamEventsResponse{Events: chunk}); err != nil {
				return err
			}
		}
		if m.GetNoFollow() {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.pause(ctx)
		list, more, n = f.from(n, nil)
	}
}

// QueryEvents implements the API. A token is the number of the last event.
func (f *fakeAgent) QueryEvents(_ context.Context, q *connect.Request[pb.QueryEventsRequest]) (*connect.Response[pb.QueryEventsResponse], error) {
	list, _, _ := f.from(0, q.Msg.GetFilter())
	if q.Msg.GetNewestFirst() {
		slices.Reverse(list)
	}
	from := 0
	if token := q.Msg.GetPageToken(); token != "" {
		from = 1 + slices.IndexFunc(list, func(e *pb.Event) bool { return fmt.Sprint(e.GetSeq()) == token })
	}
	to := min(from+int(q.Msg.GetPageSize()), len(list))
	m := &pb.QueryEventsResponse{Events: list[from:to]}
	if to < len(list) {
		m.NextPageToken = fmt.Sprint(list[to-1].GetSeq())
	}
	return connect.NewResponse(m), nil
}

// ListProcesses implements the API: three processes, a page token is the exec_id of the last one.
func (f *fakeAgent) ListProcesses(_ context.Context, q *connect.Request[pb.ListProcessesRequest]) (*connect.Response[pb.ListProcessesResponse], error) {
	m := new(pb.ListProcessesResponse)
	for pid := range uint32(3) {
		id := fmt.Sprintf("%s-%d", f.name, pid+1)
		if id <= q.Msg.GetPageToken() {
			continue
		}
		if len(m.GetProcesses()) == int(q.Msg.GetPageSize()) {
			m.NextPageToken = m.GetProcesses()[len(m.GetProcesses())-1].GetExecId()
			break
		}
		m.Processes = append(m.Processes, &pb.Process{ExecId: id, Pid: pid + 1})
	}
	return connect.NewResponse(m), nil
}

// anybody is a peer.
type anybody struct{ trusted bool }

func (anybody) String() string { return "somebody" }

func (a anybody) MayChange() error {
	if a.trusted {
		return nil
	}
	return connect.NewError(connect.CodePermissionDenied, errors.New("no"))
}

// changing is a list of agents that a test changes.
type changing struct {
	set   chan []Agent
	first []Agent
}

func (c *changing) Follow(ctx context.Context, set func([]Agent)) error {
	set(c.first)
	for {
		select {
		case list := <-c.set:
			set(list)
		case <-ctx.Done():
			return nil
		}
	}
}

// running is a relay with a client of it.
type running struct {
	*Relay
	client vigiev1connect.VigieClient
	agents *changing
}

// startRelay runs a relay for agents, with short pauses, and waits until it has heard of them.
func startRelay(t testing.TB, change func(*Options), agents ...*fakeAgent) *running {
	t.Helper()
	r := &running{agents: &changing{set: make(chan []Agent)}}
	for _, f := range agents {
		r.agents.first = append(r.agents.first, Agent{Address: f.address})
	}
	dial, err := Dialer(DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Source: r.agents, Dial: dial, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now, Version: "v2", Host: "relay",
		Peer: func(context.Context) Peer { return anybody{true} }, Pace: func(context.Context) Pace { return noPace{} }, Within: func(context.Context, time.Duration) {},
		Interval: 50 * time.Millisecond, Patience: 300 * time.Millisecond, Backoff: 20 * time.Millisecond, MaxBackoff: 50 * time.Millisecond,
		Window: 200 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	r.Relay = New(o)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	mux := http.NewServeMux()
	mux.Handle(vigiev1connect.NewVigieHandler(r.API()))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: deadline}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the relay ended with %v", err)
		}
		_ = s.Close()
	})
	r.client = vigiev1connect.NewVigieClient(http.DefaultClient, "http://"+l.Addr().String())
	await(t, "the agents to be connected", func() bool {
		return len(r.Nodes()) == len(agents) && !slices.ContainsFunc(r.Nodes(), func(n *pb.NodeStatus) bool { return n.GetState() == stateConnecting })
	})
	return r
}

func (r *running) state(name string) string {
	for _, n := range r.Nodes() {
		if n.GetName() == name {
			return n.GetState()
		}
	}
	return ""
}

func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// reader collects what a stream of events brings.
type reader struct {
	mu    sync.Mutex
	lines []string // NODE PATH
	nodes []string // NODE STATE
	lost  []string // NODE REASON
	ended error
	done  chan struct{}
	stop  context.CancelFunc
}

func (r *running) read(t *testing.T, q *pb.StreamEventsRequest) *reader {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	rd := &reader{done: make(chan struct{}), stop: stop}
	go func() {
		defer close(rd.done)
		stream, err := r.client.StreamEvents(ctx, connect.NewRequest(q))
		if err != nil {
			rd.ended = err
			return
		}
		defer func() { _ = stream.Close() }()
		for stream.Receive() {
			rd.mu.Lock()
			for _, e := range stream.Msg().GetEvents() {
				if e.GetLoss() != nil {
					rd.lost = append(rd.lost, e.GetNode()+" "+e.GetLoss().GetReason())
					continue
				}
				rd.lines = append(rd.lines, e.GetNode()+" "+e.GetFile().GetPath())
			}
			for _, n := range stream.Msg().GetNodes() {
				rd.nodes = append(rd.nodes, n.GetName()+" "+n.GetState())
			}
			rd.mu.Unlock()
		}
		rd.ended = stream.Err()
	}()
	t.Cleanup(func() {
		stop()
		<-rd.done
	})
	return rd
}

func (rd *reader) got() []string {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return slices.Clone(rd.lines)
}

func (rd *reader) told() []string {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return slices.Clone(rd.nodes)
}

// noPace sends without deadlines.
type noPace struct{}

// Send implements Pace.
func (noPace) Send(_ time.Duration, send func() error) error { return send() }
