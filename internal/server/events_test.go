// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"io"

	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

type reader = connect.ServerStreamForClient[pb.StreamEventsResponse]

// open begins a stream and waits until the server follows it.
func (r *running) open(t *testing.T, request *pb.StreamEventsRequest) *reader {
	t.Helper()
	before := len(r.streams.subscribers())
	type result struct {
		stream *reader
		err    error
	}
	opened := make(chan result, 1)
	go func() {
		s, err := r.client().StreamEvents(t.Context(), connect.NewRequest(request))
		opened <- result{s, err}
	}()
	eventually(t, "the subscription", func() bool { return len(r.streams.subscribers()) > before })
	r.agent.hub.Publish([]*model.Event{{Type: model.TypeLoss, Loss: &model.Loss{Reason: "hello"}}}) // brings the headers
	got := <-opened
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got.stream
}

// take reads n events and losses: seqs of the events, and how many were lost in between.
func take(t *testing.T, s *reader, n int) (seqs []uint64, lost uint64) {
	t.Helper()
	for uint64(len(seqs))+lost < uint64(n) && s.Receive() {
		for _, e := range s.Msg().GetEvents() {
			switch {
			case e.GetLoss().GetReason() == "hello":
			case e.GetType() == "loss":
				lost += e.GetLoss().GetCount()
			default:
				seqs = append(seqs, e.GetSeq())
			}
		}
	}
	if s.Err() != nil {
		t.Fatalf("stream: %v", s.Err())
	}
	return seqs, lost
}

func TestStreamSendsEverythingInOrder(t *testing.T) {
	r := start(t, nil)
	s := r.open(t, &pb.StreamEventsRequest{})
	for range 100 {
		r.agent.publish(50)
	}
	seqs, lost := take(t, s, 5000)
	if len(seqs) != 5000 || lost != 0 {
		t.Fatalf("%d events, %d lost", len(seqs), lost)
	}
	for i, n := range seqs {
		if n != uint64(i+1) {
			t.Fatalf("event %d at place %d", n, i)
		}
	}
}

// Recent events and those that happen meanwhile meet without a gap or a repetition.
func TestStreamBeginsWithRecentEvents(t *testing.T) {
	r := start(t, nil)
	r.agent.publish(3000)
	published := make(chan struct{})
	go func() {
		defer close(published)
		for range 2000 {
			r.agent.publish(1)
		}
	}()
	for name, request := range map[string]*pb.StreamEventsRequest{
		"last":  {Last: 2500},
		"since": {Filter: &pb.Filter{Since: timestamppb.New(time.Unix(1, 0))}},
	} {
		s, err := r.client().StreamEvents(t.Context(), connect.NewRequest(request))
		if err != nil {
			t.Fatal(err)
		}
		var seqs []uint64
		for len(seqs) == 0 || seqs[len(seqs)-1] < 5000 {
			more, lost := take(t, s, 1)
			if seqs = append(seqs, more...); lost != 0 || len(more) == 0 {
				t.Fatalf("%s: %d lost, %d events at the end", name, lost, len(seqs))
			}
		}
		if name == "since" && seqs[0] != 1 {
			t.Errorf("begins at %d", seqs[0])
		}
		for i := 1; i < len(seqs); i++ {
			if seqs[i] != seqs[i-1]+1 {
				t.Fatalf("%s: %d comes after %d", name, seqs[i], seqs[i-1])
			}
		}
		_ = s.Close()
	}
	<-published
	eventually(t, "the end of the streams", func() bool { return len(r.streams.subscribers()) == 0 })
}

func TestStreamWithoutFollowing(t *testing.T) {
	r := start(t, nil)
	r.agent.publish(300)
	for name, c := range map[string]struct {
		request *pb.StreamEventsRequest
		want    int
	}{
		"all":    {&pb.StreamEventsRequest{NoFollow: true}, 300},
		"last":   {&pb.StreamEventsRequest{NoFollow: true, Last: 10}, 10},
		"where":  {&pb.StreamEventsRequest{NoFollow: true, Filter: &pb.Filter{Where: "seq <= 20u"}}, 20},
		"nobody": {&pb.StreamEventsRequest{NoFollow: true, Filter: &pb.Filter{Uids: []uint32{0}}}, 0},
	} {
		s, err := r.client().StreamEvents(t.Context(), connect.NewRequest(c.request))
		if err != nil {
			t.Fatal(err)
		}
		if seqs, _ := take(t, s, 1<<30); len(seqs) != c.want {
			t.Errorf("%s: %d events, want %d", name, len(seqs), c.want)
		}
	}
}

func TestStreamEndsAtUntil(t *testing.T) {
	r := start(t, nil)
	s, err := r.client().StreamEvents(t.Context(), connect.NewRequest(&pb.StreamEventsRequest{
		Filter: &pb.Filter{Until: timestamppb.New(time.Now().Add(200 * time.Millisecond))}}))
	if err != nil {
		t.Fatal(err)
	}
	for s.Receive() {
	}
	if s.Err() != nil {
		t.Errorf("got %v", s.Err())
	}
}

// A client that reads nothing loses events for itself alone, and is told when it reads again.
func TestStuckClient(t *testing.T) {
	r := start(t, func(c *Config) { c.ClientQueue = 2000 })
	stuck, quick := r.open(t, &pb.StreamEventsRequest{}), r.open(t, &pb.StreamEventsRequest{})
	const published, batch = 20_000, 500
	for n := batch; n <= published; n += batch {
		r.agent.publish(batch)
		if seqs, lost := take(t, quick, batch); len(seqs) != batch || lost != 0 {
			t.Fatalf("the quick client got %d events and lost %d", len(seqs), lost)
		}
	}
	answer, err := r.client().GetStatus(t.Context(), connect.NewRequest(&pb.GetStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	var shown uint64
	for _, s := range answer.Msg.GetStatus().GetSubscribers() {
		if s.GetExporter() {
			continue
		}
		shown += s.GetLost()
		if !strings.HasPrefix(s.GetPeer(), "uid ") {
			t.Errorf("peer is %q", s.GetPeer())
		}
	}
	seqs, lost := take(t, stuck, published)
	if lost == 0 || uint64(len(seqs))+lost != published || shown != lost {
		t.Errorf("the stuck client got %d events and was told of %d lost, of %d; status shows %d", len(seqs), lost, published, shown)
	}
	if counted := r.agent.losses.Counter("subscriber", "client").Load(); counted != lost {
		t.Errorf("%d counted as lost, the client was told of %d", counted, lost)
	}
	r.agent.publish(1)
	if seqs, lost := take(t, stuck, 1); len(seqs) != 1 || lost != 0 {
		t.Errorf("after it read again: %d events, %d lost", len(seqs), lost)
	}
}

// keepPublishing until the returned function is called.
func (a *agent) keepPublishing() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
				a.publish(100)
			}
		}
	}()
	return func() { close(quit); <-done }
}

func TestClientThatNeverReadsAgainIsEnded(t *testing.T) {
	r := start(t, func(c *Config) { c.StreamTimeout, c.ClientQueue = 100*time.Millisecond, 1000 })
	r.open(t, &pb.StreamEventsRequest{})
	defer r.agent.keepPublishing()()
	eventually(t, "the end of the stream", func() bool { return len(r.streams.subscribers()) == 0 })
}

func TestServeEndsInTimeWithAStuckClient(t *testing.T) {
	r := start(t, func(c *Config) { c.DrainTimeout, c.ClientQueue = 200*time.Millisecond, 1000 })
	r.open(t, &pb.StreamEventsRequest{})
	stop := r.agent.keepPublishing()
	eventually(t, "a loss", func() bool { return r.agent.losses.Counter("subscriber", "client").Load() > 0 })
	stop()
	if err := r.stop(); err != nil {
		t.Errorf("serve: %v", err)
	}
	if n := len(r.streams.subscribers()); n != 0 {
		t.Errorf("%d streams are left", n)
	}
	if _, err := os.Stat(r.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestServeSendsWhatIsQueuedBeforeItEnds(t *testing.T) {
	r := start(t, func(c *Config) { c.DrainTimeout = time.Minute })
	s := r.open(t, &pb.StreamEventsRequest{})
	r.agent.publish(10_000)
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if seqs, lost := take(t, s, 1<<30); len(seqs) != 10_000 || lost != 0 {
		t.Errorf("%d events, %d lost", len(seqs), lost)
	}
	if err := <-stopped; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestTooManyStreams(t *testing.T) {
	r := start(t, func(c *Config) { c.MaxStreams = 2 })
	first := r.open(t, &pb.StreamEventsRequest{})
	r.open(t, &pb.StreamEventsRequest{})
	third := func() error {
		s, err := r.client().StreamEvents(t.Context(), connect.NewRequest(&pb.StreamEventsRequest{NoFollow: true}))
		if err != nil {
			return err
		}
		for s.Receive() {
		}
		return s.Err()
	}
	if err := third(); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("third stream: %v", err)
	}
	_ = first.Close()
	eventually(t, "a place", func() bool { return third() == nil })
}

func TestQueryPages(t *testing.T) {
	r := start(t, nil)
	r.agent.publish(2500)
	for _, newest := range []bool{false, true} {
		var seqs []uint64
		for token := ""; ; {
			answer, err := r.client().QueryEvents(t.Context(), connect.NewRequest(&pb.QueryEventsRequest{NewestFirst: newest,
				PageSize: 5000, PageToken: token, Filter: &pb.Filter{Binaries: []string{"curl"}}}))
			if err != nil {
				t.Fatal(err)
			}
			if !answer.Msg.GetCompleteSince().AsTime().Equal(r.agent.start) || len(answer.Msg.GetEvents()) > maxPage {
				t.Errorf("complete since %v, %d events", answer.Msg.GetCompleteSince().AsTime(), len(answer.Msg.GetEvents()))
			}
			for _, e := range answer.Msg.GetEvents() {
				seqs = append(seqs, e.GetSeq())
			}
			if token = answer.Msg.GetNextPageToken(); token == "" {
				break
			}
		}
		if newest {
			slices.Reverse(seqs)
		}
		if len(seqs) != 2500 || seqs[0] != 1 || !slices.IsSorted(seqs) {
			t.Errorf("newest %v: %d events", newest, len(seqs))
		}
	}
}

func TestBadRequestsNameTheField(t *testing.T) {
	r := start(t, nil)
	c := r.client()
	r.agent.publish(200)
	oldest, err := c.QueryEvents(t.Context(), connect.NewRequest(&pb.QueryEventsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	query := func(m *pb.QueryEventsRequest) error {
		_, err := c.QueryEvents(t.Context(), connect.NewRequest(m))
		return err
	}
	list := func(m *pb.ListProcessesRequest) error {
		_, err := c.ListProcesses(t.Context(), connect.NewRequest(m))
		return err
	}
	get := func(m *pb.GetProcessRequest) error {
		_, err := c.GetProcess(t.Context(), connect.NewRequest(m))
		return err
	}
	for name, x := range map[string]struct {
		err  error
		code connect.Code
		want string
	}{
		"type":           {query(&pb.QueryEventsRequest{Filter: &pb.Filter{Types: []string{"x"}}}), connect.CodeInvalidArgument, "filter types"},
		"where":          {query(&pb.QueryEventsRequest{Filter: &pb.Filter{Where: "x"}}), connect.CodeInvalidArgument, "filter where: column 1"},
		"token":          {query(&pb.QueryEventsRequest{PageToken: "x"}), connect.CodeInvalidArgument, "page_token"},
		"other order":    {query(&pb.QueryEventsRequest{PageToken: oldest.Msg.GetNextPageToken(), NewestFirst: true}), connect.CodeInvalidArgument, "page_token"},
		"process paths":  {list(&pb.ListProcessesRequest{Filter: &pb.Filter{Paths: []string{"x"}}}), connect.CodeInvalidArgument, "filter paths"},
		"process token":  {list(&pb.ListProcessesRequest{PageToken: "x"}), connect.CodeInvalidArgument, "page_token"},
		"neither":        {get(&pb.GetProcessRequest{}), connect.CodeInvalidArgument, "exec_id or pid"},
		"both":           {get(&pb.GetProcessRequest{ExecId: "a", Pid: 1}), connect.CodeInvalidArgument, "exec_id or pid"},
		"no such pid":    {get(&pb.GetProcessRequest{Pid: 5}), connect.CodeNotFound, "pid 5"},
		"no such image":  {get(&pb.GetProcessRequest{ExecId: "b-1-1-1"}), connect.CodeNotFound, "not known"},
		"a huge request": {query(&pb.QueryEventsRequest{Filter: &pb.Filter{Where: strings.Repeat("x", maxRequest)}}), connect.CodeResourceExhausted, ""},
	} {
		if connect.CodeOf(x.err) != x.code || !strings.Contains(x.err.Error(), x.want) {
			t.Errorf("%s: %v", name, x.err)
		}
	}
}

func TestProcesses(t *testing.T) {
	r := start(t, nil)
	want := modeltest.Exec()
	var pids []uint32
	for token := ""; ; {
		answer, err := r.client().ListProcesses(t.Context(), connect.NewRequest(&pb.ListProcessesRequest{PageSize: 1, PageToken: token}))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range answer.Msg.GetProcesses() {
			pids = append(pids, p.GetPid())
		}
		if token = answer.Msg.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(pids, []uint32{812, 4242}) {
		t.Errorf("pids %v", pids)
	}
	filtered, err := r.client().ListProcesses(t.Context(), connect.NewRequest(&pb.ListProcessesRequest{Filter: &pb.Filter{PidTrees: []uint32{812}, Binaries: []string{"curl"}}}))
	if err != nil || len(filtered.Msg.GetProcesses()) != 1 {
		t.Errorf("descendants: %v %v", filtered, err)
	}
	for _, q := range []*pb.GetProcessRequest{{Pid: 4242}, {ExecId: want.Process.ExecID}} {
		one, err := r.client().GetProcess(t.Context(), connect.NewRequest(q))
		if err != nil {
			t.Fatal(err)
		}
		if one.Msg.GetProcess().GetBinary() != "/usr/bin/curl" || len(one.Msg.GetAncestors()) != 1 || one.Msg.GetAncestors()[0].GetPid() != 812 {
			t.Errorf("got %v", one.Msg)
		}
	}
	parent, err := r.client().GetProcess(t.Context(), connect.NewRequest(&pb.GetProcessRequest{Pid: 812}))
	if err != nil || len(parent.Msg.GetChildren()) != 1 {
		t.Errorf("children: %v %v", parent, err)
	}
}

// TestAskAsAnotherUser is the child of TestUnixPeersAreChecked: it asks and prints the answer's code.
func TestAskAsAnotherUser(t *testing.T) {
	socket := os.Getenv("VIGIE_TEST_SOCKET")
	if socket == "" {
		t.Skip("is run by TestUnixPeersAreChecked")
	}
	_, err := vigiev1connect.NewVigieClient(overUnix(socket), "http://vigie").Health(t.Context(), connect.NewRequest(&pb.HealthRequest{}))
	if err == nil {
		_, _ = io.WriteString(os.Stdout, "ANSWER ok\n")
	} else {
		_, _ = io.WriteString(os.Stdout, "ANSWER "+err.Error()+"\n")
	}
}

func TestUnixPeersAreChecked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it connects as other users (CAP_SETUID)")
	}
	dir, err := os.MkdirTemp("", "vigie") // one that other users can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, group string
		cred        syscall.Credential
		want        string
	}{
		{"root", "", syscall.Credential{}, "ANSWER ok"},
		{"another user", "", syscall.Credential{Uid: 65534, Gid: 65534}, "ANSWER permission_denied: uid 65534 may not use this socket: ask as root, or start the agent with --socket-group"},
		{"another user with a group", "4711", syscall.Credential{Uid: 65534, Gid: 65534}, "add this user to group 4711"},
		{"member", "4711", syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{1, 4711}}, "ANSWER ok"},
		{"member by primary group", "4711", syscall.Credential{Uid: 65534, Gid: 4711}, "ANSWER ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			r := start(t, func(config *Config) { config.Socket, config.Group = socket, c.group })
			_ = r
			// The mode of the file would keep them out already; what is tested here is behind it.
			if err := os.Chmod(socket, 0o666); err != nil {
				t.Fatal(err)
			}
			child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestAskAsAnotherUser$", "-test.count=1")
			child.Env, child.Dir = append(os.Environ(), "VIGIE_TEST_SOCKET="+socket), "/"
			child.SysProcAttr = &syscall.SysProcAttr{Credential: &c.cred}
			out, err := child.CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("got %q, %v; want %q", out, err, c.want)
			}
		})
	}
}

// Connections beyond the bound wait; closing one lets the next in.
func TestConnectionsAreBounded(t *testing.T) {
	l, err := listenUnix(t.Context(), filepath.Join(t.TempDir(), "s"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := newBounded(l)
	b.slots = make(chan struct{}, 1)
	accepted := make(chan net.Conn, 2)
	go func() {
		for {
			c, err := b.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := new(net.Dialer).DialContext(context.Background(), "unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Error("a second connection was accepted beside the first")
	default:
	}
	_ = first.Close()
	_ = first.Close() // twice gives back one place
	<-accepted
	_ = b.Close() // ends Accept, which waits for a place
	if _, ok := <-accepted; ok {
		t.Error("accepted after close")
	}
}
