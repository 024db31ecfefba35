// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/testkit"
)

// TestMain is also the other processes of a test: the agent, which a test stops and kills, and the opener, which is under
// a policy. A process that waits for fanotify must not be the one that answers.
func TestMain(m *testing.M) {
	roles := map[string]func() error{"watchdog": Watch, "agent": agentRole, "opener": openerRole}
	if len(os.Args) == 2 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// order is what a test tells the agent.
type order struct {
	Mounts  []string
	Policy  string // to load in place of what is loaded
	Subject int    // pid of a process that is to be under it
	Jam     bool   // the workers stop working
	Unjam   bool
	Losses  bool // tell them
}

// answer is what it says.
type said struct {
	Error    string
	Losses   map[string]uint64
	Reports  []string
	Watchdog int
	Events   uint64 // that the agent was asked about
}

// agentRole does what orders say, one a line.
func agentRole() error {
	a := &testAgent{losses: new(pipeline.Losses)}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) && a.backend != nil {
				a.unjam()
				return a.backend.Close()
			}
			return err
		}
		var s said
		if err := a.do(o, &s); err != nil {
			s.Error = err.Error()
		}
		if err := out.Encode(s); err != nil {
			return err
		}
	}
}

type testAgent struct {
	losses   *pipeline.Losses
	subjects *ebpf.Map
	backend  *Backend
	tables   []enforce.Loaded
	number   uint16
	pids     []uint32
	jammed   []*slot

	mu      sync.Mutex
	reports []string
	hits    atomic.Uint64
}

func (a *testAgent) do(o order, s *said) error {
	switch {
	case len(o.Mounts) > 0:
		return a.start(o.Mounts)
	case o.Policy != "":
		return a.load(o.Policy)
	case o.Subject != 0:
		a.pids = append(a.pids, uint32(o.Subject))
		return a.enter()
	case o.Jam:
		a.jam()
	case o.Unjam:
		a.unjam()
	case o.Losses:
		s.Losses = make(map[string]uint64)
		for _, l := range a.losses.Snapshot() {
			s.Losses[l.Reason] = l.Count
		}
		a.mu.Lock()
		s.Reports = a.reports
		a.mu.Unlock()
		s.Events = a.backend.running.reader.taken.Load()
		s.Watchdog = int(a.backend.running.keeper.pid.Load())
	}
	return nil
}

func (a *testAgent) start(mounts []string) (err error) {
	a.subjects, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(subject.Entry{})), MaxEntries: 1024})
	if err != nil {
		return err
	}
	a.backend = New(Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Losses: a.losses, Watchdog: []string{"/proc/self/exe", "watchdog"},
		Timeout: 200 * time.Millisecond, Mounts: mounts})
	return a.backend.Attach(context.Background(), enforce.Kernel{Subjects: a.subjects, Report: a.report,
		Hit: func(uint16, int) { a.hits.Add(1) }}, []model.Operation{model.OpExec, model.OpRead, model.OpWrite})
}

func (a *testAgent) report(r enforce.Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.reports) < 1000 {
		a.reports = append(a.reports, fmt.Sprintf("%s %s %s %s", r.Action, r.Op, r.Path, r.Hook))
	}
}

// load does as the enforcer does: the back-end knows both tables while entries change from one to the other.
func (a *testAgent) load(text string) error {
	policies, err := policy.Parse("test", []byte(text))
	if err != nil {
		return err
	}
	table, err := policy.Compile(policies[0], policy.Env{})
	if err != nil {
		return err
	}
	a.number++
	next := enforce.Loaded{Number: a.number, Table: table}
	if err := a.backend.Load(context.Background(), append(a.tables[:len(a.tables):len(a.tables)], next)); err != nil {
		return err
	}
	a.tables = []enforce.Loaded{next}
	if err := a.enter(); err != nil {
		return err
	}
	return a.backend.Load(context.Background(), a.tables)
}

func (a *testAgent) enter() error {
	for _, pid := range a.pids {
		e := subject.Entry{Count: 1}
		e.Slots[0].Table = a.number
		if err := a.subjects.Put(pid, &e); err != nil {
			return err
		}
	}
	return nil
}

// jam gives every worker an event that waits for a watchdog which never answers.
func (a *testAgent) jam() {
	r := a.backend.running.reader
	for i := range workers {
		s := &r.page.slots[slotCount-1-i]
		s.event.Fd = -1
		s.state.Store(slotRescuing)
		a.jammed = append(a.jammed, s)
		r.work <- job{slot: s, rescued: true}
	}
}

func (a *testAgent) unjam() {
	for _, s := range a.jammed {
		s.state.Store(slotRescued)
	}
	a.jammed = nil
}

// openerRole opens what it is told, each line in a thread of its own.
func openerRole() error {
	lines := bufio.NewScanner(os.Stdin)
	var mu sync.Mutex
	fmt.Println("ready") // nothing was opened under a policy yet
	for lines.Scan() {
		id, name, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.Atoi(id); err == nil && n < 0 {
			fmt.Println("took", timeOpens(-n, name))
			continue
		}
		go func() {
			fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			how := "ok"
			if errno := unix.Errno(0); errors.As(err, &errno) {
				how = unix.ErrnoName(errno)
			} else {
				unix.Close(fd)
			}
			mu.Lock()
			defer mu.Unlock()
			fmt.Println(id, how)
		}()
	}
	return lines.Err()
}

// timeOpens opens a file n times, one after the other, and says how long one took, in ns.
func timeOpens(n int, name string) int64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := time.Now()
	for range n {
		if fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
		}
	}
	return time.Since(begin).Nanoseconds() / int64(n)
}

// scene is an agent and an opener, and a file system of their own.
type scene struct {
	t      testing.TB
	dir    string
	agent  *exec.Cmd
	orders *json.Encoder
	said   *json.Decoder
	opener *exec.Cmd
	asks   io.Writer
	opened chan string
	next   int
}

const keyPolicy = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: test}
spec:
  selector: {}
  mode: enforce
  onTimeout: %s
  files: {deny: [{path: %q, access: [read]}]}
`

func newScene(t testing.TB, onTimeout string) *scene {
	t.Helper()
	testkit.RequireBPF(t)
	s := &scene{t: t, dir: ownMount(t), opened: make(chan string, 4096)}
	for _, name := range []string{"key", "file"} {
		if err := os.WriteFile(s.dir+"/"+name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.startOpener()
	s.startAgent()
	s.order(order{Mounts: []string{s.dir}})
	s.order(order{Policy: fmt.Sprintf(keyPolicy, onTimeout, s.dir+"/key")})
	s.order(order{Subject: s.opener.Process.Pid})
	return s
}

func (s *scene) startAgent() {
	s.agent = exec.Command("/proc/self/exe", "agent")
	s.agent.Stderr = os.Stderr
	in, err := s.agent.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.agent.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.agent.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.orders, s.said = json.NewEncoder(in), json.NewDecoder(out)
	s.t.Cleanup(func() {
		_ = s.agent.Process.Signal(unix.SIGCONT)
		in.Close()
		late := time.AfterFunc(testkit.Deadline, func() { _ = s.agent.Process.Kill() })
		_ = s.agent.Wait()
		late.Stop()
	})
}

func (s *scene) startOpener() {
	s.opener = exec.Command("/proc/self/exe", "opener")
	s.opener.Stderr = os.Stderr
	in, err := s.opener.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.opener.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.opener.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.asks = in
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.opened <- lines.Text()
		}
	})
	s.t.Cleanup(func() {
		in.Close()
		_ = s.opener.Process.Kill()
		reading.Wait()
		_ = s.opener.Wait()
	})
	if got := s.answer(); got != "ready" {
		s.t.Fatalf("the opener said %q", got)
	}
}

// order has the agent do something.
func (s *scene) order(o order) said {
	s.t.Helper()
	var got said
	if err := s.orders.Encode(o); err != nil {
		s.t.Fatal(err)
	}
	if err := s.said.Decode(&got); err != nil {
		s.t.Fatalf("the agent said nothing: %v", err)
	}
	if got.Error != "" {
		s.t.Fatalf("%+v: %s", o, got.Error)
	}
	return got
}

// ask has the opener open a file; the answer comes when it comes.
func (s *scene) ask(name string) {
	s.t.Helper()
	s.next++
	if _, err := fmt.Fprintf(s.asks, "%d %s/%s\n", s.next, s.dir, name); err != nil {
		s.t.Fatal(err)
	}
}

// answer waits for what an open came to.
func (s *scene) answer() string {
	s.t.Helper()
	select {
	case text := <-s.opened:
		_, how, ok := strings.Cut(text, " ")
		if !ok {
			return text
		}
		return how
	case <-time.After(testkit.Deadline):
		s.t.Fatalf("an open was not answered within %v", testkit.Deadline)
		return ""
	}
}

func (s *scene) expect(want, name string) {
	s.t.Helper()
	s.ask(name)
	if got := s.answer(); got != want {
		s.t.Errorf("open %s: %s, want %s", name, got, want)
	}
}

// await polls until the agent's losses or reports are as they should be.
func (s *scene) await(what string, ok func(said) bool) said {
	s.t.Helper()
	for end := time.Now().Add(testkit.Deadline); ; time.Sleep(5 * time.Millisecond) {
		got := s.order(order{Losses: true})
		if ok(got) {
			return got
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s: not within %v; %+v", what, testkit.Deadline, got)
		}
	}
}

// ownMount is a directory on a tmpfs that goes away with the test.
func ownMount(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("vigie-test", dir, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}
