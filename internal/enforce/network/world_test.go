// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/kernel/probe"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/sensor/socket"
	"github.com/vigie-io/vigie/internal/testkit"
)

// TestMain is also the actor: the process under policies that does what it is told (actor_test.go).
func TestMain(m *testing.M) {
	if os.Getenv(actorEnv) != "" {
		os.Exit(act(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

const actorEnv = "VIGIE_NETWORK_TEST_ACTOR"

// TestNetwork is all tests that need the programs, which take their time to load: once.
func TestNetwork(t *testing.T) {
	testkit.RequireBPF(t)
	e := newEngine(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"KernelAgreesWithTable", testKernelAgreesWithTable},
		{"Connect", testConnect},
		{"Reconnect", testReconnect},
		{"Audit", testAudit},
		{"Kill", testKill},
		{"SeveralPolicies", testSeveralPolicies},
		{"Sockets", testSockets},
		{"Ping", testPing},
		{"Flood", testFlood},
		{"CutInbound", testCutInbound},
		{"CutQueued", testCutQueued},
		{"PolicyGoes", testPolicyGoes},
		{"RawSocketFromBefore", testRawSocketFromBefore},
		{"PassedOn", testPassedOn},
		{"AcceptedAndPassedOn", testAcceptedAndPassedOn},
		{"ReplaceUnderLoad", testReplaceUnderLoad},
		{"Cut", testCut},
		{"ListenerFromBefore", testListenerFromBefore},
		{"Bind", testBind},
		{"KillListen", testKillListen},
		{"Datagrams", testDatagrams},
		{"ListenOnChosenPort", testListenOnChosenPort},
		{"Accept", testAccept},
		{"SCTP", testSCTP},
		{"AnswerThenConnect", testAnswerThenConnect},
		{"Names", testNames},
		{"ExpiredName", testExpiredName},
		{"UnaskedAnswer", testUnaskedAnswer},
		{"BrokenAnswers", testBrokenAnswers},
		{"Learn", testLearn},
		{"NamesOutliveTheirTable", testNamesOutliveTheirTable},
		{"LoadManyPrefixes", testLoadManyPrefixes},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, e.world(t)) })
	}
}

// engine is a host with an enforcer that has this back-end only, and binaries that policies select.
type engine struct {
	t        testing.TB
	dir      string
	backend  *Backend
	enforcer *enforce.Enforcer
	losses   *pipeline.Losses
	host     *kernel.Host

	mu     sync.Mutex
	events []*model.Event
}

// world is an engine without policies, and a network namespace.
type world struct {
	*engine
	t    testing.TB
	ns   *testkit.NetNS
	pids *sync.Map // of its actors
}

func newEngine(t testing.TB) *engine {
	t.Helper()
	w := &engine{t: t, dir: t.TempDir(), losses: new(pipeline.Losses)}
	for _, name := range []string{"actor", "other"} {
		copyTo(t, w.dir+"/"+name)
	}
	log := slog.New(slog.DiscardHandler)
	var err error
	if w.host, err = kernel.Open(kernel.Options{Log: log, Losses: w.losses}); err != nil {
		t.Fatal(err)
	}
	if err := socket.New(socket.Options{}).Start(context.Background(), w.host); err != nil {
		t.Fatal(err)
	}
	w.backend = New(Options{Log: log, Prober: everything{}})
	if _, err := w.backend.Carries(model.OpConnect); err != nil {
		t.Skipf("needs cgroup v2: %v", err)
	}
	w.enforcer = enforce.New(enforce.Options{Log: log, Losses: w.losses, Host: w.host, Backends: []enforce.Backend{w.backend}, Cgroups: noCgroups{}})
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := w.host.Read(ctx, w.record, func() {}); err != nil {
			t.Errorf("read the rings: %v", err)
		}
	})
	t.Cleanup(func() {
		if err := w.enforcer.Close(); err != nil {
			t.Errorf("close the enforcer: %v", err)
		}
		cancel()
		reading.Wait()
		if err := w.host.Close(); err != nil {
			t.Errorf("close the host: %v", err)
		}
	})
	return w
}

func newWorld(t testing.TB) *world {
	testkit.RequireBPF(t)
	return newEngine(t).world(t)
}

// world begins a test.
func (e *engine) world(t testing.TB) *world {
	t.Helper()
	w := &world{engine: e, t: t, ns: testkit.NewNetNS(t), pids: new(sync.Map)}
	w.forget()
	w.backend.mu.Lock()
	clear(w.backend.asked)
	w.backend.mu.Unlock()
	t.Cleanup(func() {
		w.apply()
		if w.backend.destroy != nil {
			w.backend.end = w.backend.endByProgram // what cutBy took away
		}
	})
	return w
}

// in is a part of a test that goes on.
func (w *world) in(t testing.TB) *world {
	c := *w
	c.t = t
	return &c
}

// everything works: what does not shows when it is attached. Real answers take a second (TestCarries).
type everything struct{}

func (everything) Probe(context.Context, ...probe.Feature) ([]probe.Result, error) { return nil, nil }

type noCgroups struct{}

func (noCgroups) Each(func(uint32, uint64, *model.Workload)) {}

func copyTo(t testing.TB, to string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (e *engine) record(r kernel.Record) {
	h := r.Header()
	if h == nil || kernel.RecordType(h.Type) != kernel.RecordVerdict {
		return
	}
	ev := &model.Event{Key: h.Key(), BootTime: h.Time, Count: h.Count}
	if _, err := e.enforcer.Decode(r, ev); err != nil {
		e.t.Errorf("decode a verdict: %v", err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, ev)
}

// verdicts are those that match.
func (w *world) verdicts(match func(*model.Verdict) bool) (out []*model.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ev := range w.events {
		if _, own := w.pids.Load(ev.Key.PID); own && match(ev.Verdict) {
			out = append(out, ev)
		}
	}
	return out
}

// verdict waits for a verdict about an operation with a remote end ("" for any).
func (w *world) verdict(action model.VerdictAction, op model.Operation, remote string) *model.Event {
	w.t.Helper()
	match := func(v *model.Verdict) bool {
		return v.Action == action && v.Operation == op && (remote == "" || v.Remote.String() == remote)
	}
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got := w.verdicts(match); len(got) > 0 {
			return got[0]
		}
	}
	for _, ev := range w.verdicts(func(*model.Verdict) bool { return true }) {
		w.t.Logf("verdict %+v", *ev.Verdict)
	}
	w.t.Fatalf("no verdict %s %s %s", action, op, remote)
	return nil
}

func (e *engine) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = nil
}

// apply puts policies in force that select the actors. The text is the spec below mode.
func (w *world) apply(specs ...string) {
	w.t.Helper()
	if err := w.enforcer.Apply(context.Background(), w.compile(specs...)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) compile(specs ...string) (tables []*policy.Table) {
	w.t.Helper()
	for i, spec := range specs {
		spec = strings.ReplaceAll(strings.Trim(spec, "\n"), "\t", "  ")
		if !strings.Contains(spec, "mode:") {
			spec = "  mode: enforce\n" + spec
		}
		text := fmt.Sprintf("apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: p%d}\nspec:\n  selector: {binary: \"%s/*\"}\n%s\n", i, w.dir, spec)
		policies, err := policy.Parse("test", []byte(strings.ReplaceAll(text, "{dir}", w.dir)))
		if err != nil {
			w.t.Fatalf("%v\n%s", err, text)
		}
		table, err := policy.Compile(policies[0], policy.Env{})
		if err != nil {
			w.t.Fatal(err)
		}
		tables = append(tables, table)
	}
	return tables
}

// actor is a process under policies.
type actor struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// actor starts one in the world's network namespace.
func (w *world) actor() *actor { return w.start("actor", w.ns) }

func (w *world) start(binary string, ns *testkit.NetNS, files ...*os.File) *actor {
	w.t.Helper()
	a := &actor{t: w.t, cmd: exec.Command(w.dir + "/" + binary)}
	// Without the runtime's own signals, which end a call that waits on a socket with a timeout.
	a.cmd.Env = append(os.Environ(), actorEnv+"=1", "GODEBUG=asyncpreemptoff=1")
	a.cmd.Stderr = os.Stderr
	a.cmd.ExtraFiles = files
	var err error
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	a.out = bufio.NewReader(out)
	ns.Do(w.t, a.cmd.Start)
	w.pids.Store(uint32(a.cmd.Process.Pid), true)
	w.t.Cleanup(func() {
		a.in.Close()
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	})
	return a
}

// do has the actor do something and says how it went: "ok" with what it says of it, an errno by name, or "killed".
func (a *actor) do(format string, args ...any) string {
	a.t.Helper()
	if _, err := fmt.Fprintf(a.in, format+"\n", args...); err != nil && !errors.Is(err, unix.EPIPE) {
		a.t.Fatal(err)
	}
	line, err := a.out.ReadString('\n')
	if err == nil {
		return strings.TrimSpace(line)
	}
	_ = a.cmd.Wait()
	if ws, ok := a.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == unix.SIGKILL {
		return "killed"
	}
	a.t.Fatalf("the actor ended: %v", a.cmd.ProcessState)
	return ""
}

// expect does something and compares how it went.
func (a *actor) expect(want, format string, args ...any) {
	a.t.Helper()
	if got := a.do(format, args...); got != want {
		a.t.Errorf("%s: %s, want %s", fmt.Sprintf(format, args...), got, want)
	}
}

func (a *actor) pid() uint32 { return uint32(a.cmd.Process.Pid) }

// connections are those that a server has, so that they end with it.
type connections struct {
	mu    sync.Mutex
	ended bool
	fds   map[int]bool
}

func (o *connections) add(fd int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fds == nil {
		o.fds = make(map[int]bool)
	}
	if o.fds[fd] = true; o.ended {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	}
}

func (o *connections) remove(fd int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.fds, fd)
}

func (o *connections) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	for fd := range o.fds {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	}
}

// server listens for TCP or waits for datagrams, and is under no policy. It accepts and echoes.
func (w *world) server(network, addr string) netip.AddrPort {
	w.t.Helper()
	fd, local := w.bound(network, addr)
	var serving sync.WaitGroup
	var open connections
	w.t.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		open.end()
		serving.Wait()
		unix.Close(fd)
	})
	serving.Go(func() {
		if strings.HasPrefix(network, "udp") {
			echoDatagrams(fd)
			return
		}
		var conns sync.WaitGroup
		defer conns.Wait()
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			open.add(c)
			conns.Go(func() {
				defer unix.Close(c)
				defer open.remove(c)
				buf := make([]byte, 4096)
				for {
					n, err := unix.Read(c, buf)
					if n <= 0 || err != nil {
						return
					}
					if _, err := unix.Write(c, buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return local
}

func echoDatagrams(fd int) {
	buf := make([]byte, 4096)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil || (n == 0 && from == nil) {
			return
		}
		_ = unix.Sendto(fd, buf[:n], 0, from)
	}
}

// bound is a socket of the test's own in the world's namespace, listening when it is TCP.
func (w *world) bound(network, addr string) (fd int, local netip.AddrPort) {
	w.t.Helper()
	w.ns.Do(w.t, func() (err error) {
		if fd, err = open(network); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := unix.Bind(fd, sockaddr(network, addr)); err != nil {
			return fmt.Errorf("bind %s: %w", addr, err)
		}
		if strings.HasPrefix(network, "tcp") {
			if err := unix.Listen(fd, 64); err != nil {
				return err
			}
		}
		sa, err := unix.Getsockname(fd)
		local = addrPort(sa)
		return err
	})
	return fd, local
}
