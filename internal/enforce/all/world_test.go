// SPDX-License-Identifier: Apache-2.0

package all

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/enforce/fanotify"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/kernel/probe"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/sensor"
	"github.com/vigie-io/vigie/internal/sensor/socket"
	"github.com/vigie-io/vigie/internal/testkit"
)

// TestMain is also the actor: the process under policies that does what its arguments say (deeds_test.go).
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == watchdogArg {
		if err := fanotify.Watch(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == spawnerArg {
		if err := serveSpawner(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(actorEnv) != "" {
		os.Exit(act(os.Args[1:]))
	}
	os.Exit(m.Run())
}

const (
	actorEnv    = "VIGIE_ENFORCE_TEST_ACTOR"
	watchdogArg = "watchdog"
)

// world is a host with an enforcer, and a directory with an actor that policies select.
type world struct {
	t        *testing.T
	dir      string // a tmpfs of its own
	actor    string
	enforcer *enforce.Enforcer
	spawner  *rpc.Client
	host     *kernel.Host
	cgroups  cgroups

	mu       sync.Mutex
	events   []*model.Event
	decoders [kernel.RecordTypes]sensor.Decode // of sensors that back-ends learn from
}

// newWorld starts an enforcer that may use only some back-ends; the test is skipped where one of them works not at all.
func newWorld(t *testing.T, backends ...string) *world {
	t.Helper()
	testkit.RequireBPF(t)
	dir := ownMount(t)
	copyFile(t, "/proc/self/exe", dir+"/bin/actor")
	return newWorldIn(t, dir, backends...)
}

// newWorldIn is newWorld in a directory that is there, with its actor.
func newWorldIn(t *testing.T, dir string, backends ...string) *world {
	t.Helper()
	w := &world{t: t, dir: dir, actor: dir + "/bin/actor", spawner: startSpawner(t)}
	losses := new(pipeline.Losses)
	log := slog.New(slog.DiscardHandler)
	host, err := kernel.Open(kernel.Options{Log: log, Losses: losses})
	if err != nil {
		t.Fatal(err)
	}
	w.host = host
	sockets := socket.New(socket.Options{}) // whose sockets they are
	if err := sockets.Start(context.Background(), host); err != nil {
		t.Fatal(err)
	}
	prober := probe.New(probe.Options{})
	list := slices.DeleteFunc(Backends(Options{Log: log, Losses: losses, Prober: prober,
		Watchdog: []string{"/proc/self/exe", watchdogArg}, FanotifyMounts: []string{dir}}), func(b enforce.Backend) bool { return !slices.Contains(backends, b.Name()) })
	if len(list) == 0 {
		t.Skipf("there is no back-end %v", backends)
	}
	for _, b := range list {
		if why := idle(b); why != nil {
			t.Skipf("back-end %s carries nothing on this kernel: %v", b.Name(), why)
		}
	}
	w.enforcer = enforce.New(enforce.Options{Log: log, Losses: losses, Host: host, Backends: list, Cgroups: &w.cgroups,
		PinDir: pinDir(os.Getpid())})
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		err := host.Read(ctx, w.record, func() { w.enforcer.Drain(w.add) })
		if err != nil {
			t.Errorf("read the rings: %v", err)
		}
	})
	t.Cleanup(func() {
		for _, l := range losses.Snapshot() {
			if l.Count > 0 {
				t.Logf("lost: %s: %s: %d", l.Stage, l.Reason, l.Count)
			}
		}
		if err := w.enforcer.Close(); err != nil {
			t.Errorf("close the enforcer: %v", err)
		}
		cancel()
		reading.Wait()
		if err := host.Close(); err != nil {
			t.Errorf("close the host: %v", err)
		}
		if err := prober.Close(); err != nil {
			t.Errorf("close the prober: %v", err)
		}
	})
	return w
}

// idle is why a back-end carries nothing here; nil when it carries something.
func idle(b enforce.Backend) (why error) {
	for _, op := range model.Operations() {
		_, err := b.Carries(op)
		if err == nil {
			return nil
		}
		if !errors.Is(err, enforce.ErrOtherOperations) {
			why = err
		}
	}
	return why
}

// cgroups are those of cgroup v2 that the enforcer is told of, by their number.
type cgroups struct {
	mu   sync.Mutex
	list map[uint64]*model.Workload
}

func (c *cgroups) Each(fn func(uint32, uint64, *model.Workload)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, w := range c.list {
		fn(0, id, w)
	}
}

func (c *cgroups) set(id uint64, w *model.Workload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list == nil {
		c.list = make(map[uint64]*model.Workload)
	}
	c.list[id] = w
}

func (w *world) record(r kernel.Record) {
	h := r.Header()
	if h == nil {
		return
	}
	w.mu.Lock()
	decode := w.decoders[h.Type]
	w.mu.Unlock()
	if decode != nil {
		w.seen(r, h, decode)
	}
	if kernel.RecordType(h.Type) != kernel.RecordVerdict {
		return
	}
	ev := &model.Event{Key: h.Key(), BootTime: h.Time, Count: h.Count}
	if _, err := w.enforcer.Decode(r, ev); err != nil {
		w.t.Errorf("decode a verdict: %v", err)
		return
	}
	w.add(ev)
}

func (w *world) add(ev *model.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, ev)
}

// verdict waits for a verdict of that action (empty: of any) on that operation and path (empty: on any).
func (w *world) verdict(action model.VerdictAction, op model.Operation, path string) *model.Verdict {
	w.t.Helper()
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		for _, ev := range w.events {
			if v := ev.Verdict; (v.Action == action || action == "") && v.Operation == op && (path == "" || v.Path == path) {
				w.mu.Unlock()
				return v
			}
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Errorf("no verdict %s %s %s; there are %v", action, op, path, w.verdicts())
	return &model.Verdict{}
}

func (w *world) verdicts() (out []string) {
	for _, ev := range w.events {
		v := ev.Verdict
		out = append(out, fmt.Sprintf("%s %s %s (%s %s, %s)", v.Action, v.Operation, v.Path, v.Policy, v.Rule, v.Hook))
	}
	return out
}

func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = nil
}

// apply puts policies in force that select the actor. The text is the spec below the selector, with {dir} for the
// directory.
func (w *world) apply(specs ...string) {
	w.t.Helper()
	if err := w.tryApply(specs...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryApply(specs ...string) error {
	w.t.Helper()
	var tables []*policy.Table
	for i, spec := range specs {
		tables = append(tables, w.compile(fmt.Sprintf("p%d", i), spec))
	}
	return w.enforcer.Apply(context.Background(), tables)
}

func (w *world) compile(name, spec string) *policy.Table {
	w.t.Helper()
	spec = strings.ReplaceAll(strings.Trim(spec, "\n"), "\t", "  ")
	text := "apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: " + name + "}\nspec:\n"
	if !strings.Contains(spec, "selector:") {
		text += "  selector: {binary: {dir}/bin/actor}\n"
	}
	text += spec + "\n"
	text = strings.ReplaceAll(text, "{dir}", w.dir)
	policies, err := policy.Parse(name, []byte(text))
	if err != nil {
		w.t.Fatalf("%v\n%s", err, text)
	}
	table, err := policy.Compile(policies[0], policy.Env{})
	if err != nil {
		w.t.Fatal(err)
	}
	return table
}

// do runs the actor and says how a deed went: "ok", an errno by name, or "killed".
func (w *world) do(args ...string) string {
	w.t.Helper()
	return w.doAs(w.actor, args...)
}

// doAs is do with another binary.
func (w *world) doAs(binary string, args ...string) string {
	w.t.Helper()
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{dir}", w.dir)
	}
	var how string
	var err error
	spawn := Spawn{Binary: binary, Args: args, Dir: w.dir}
	if w.spawner != nil {
		err = w.spawner.Call("Spawner.Run", spawn, &how)
	} else {
		err = Spawner{}.Run(spawn, &how)
	}
	if err != nil {
		w.t.Fatalf("start the actor: %v", err)
	}
	return how
}

// expect does a deed and compares how it went.
func (w *world) expect(want string, args ...string) {
	w.t.Helper()
	if got := w.do(args...); got != want {
		w.t.Errorf("%s: %s, want %s", strings.Join(args, " "), got, want)
	}
}

// ownMount is a directory on a tmpfs that goes away with the test.
func ownMount(t *testing.T) string {
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
	for _, sub := range []string{"bin", "data", "secret"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, b, 0o755)
}

func writeFile(t *testing.T, name string, b []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, b, mode); err != nil {
		t.Fatal(err)
	}
}
