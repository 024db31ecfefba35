// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

// helperEnv makes the test binary do one thing and exit: "NAME ARGUMENTS…".
const helperEnv = "VIGIE_TRACING_HELPER"

func TestMain(m *testing.M) {
	if what := os.Getenv(helperEnv); what != "" {
		os.Exit(helper(strings.Fields(what)))
	}
	os.Exit(m.Run())
}

// rig is a manager on a host whose events are collected.
type rig struct {
	want []Desired // what is in force
	*Manager
	t      testing.TB
	losses *pipeline.Losses
	attr   *syscall.SysProcAttr // of helpers that ask for none

	mu     sync.Mutex
	events []*model.Event
	errs   []error
}

func newRig(t testing.TB, workloads Workloads) *rig {
	t.Helper()
	testkit.RequireBPF(t)
	r := &rig{t: t, losses: new(pipeline.Losses)}
	host, err := kernel.Open(kernel.Options{Log: slog.New(slog.DiscardHandler), Losses: r.losses})
	if err != nil {
		t.Fatal(err)
	}
	r.Manager, err = New(Options{Host: host, Log: slog.New(slog.DiscardHandler), Losses: r.losses, Workloads: workloads})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := host.Read(ctx, r.take, func() {}); err != nil {
			r.fail(err)
		}
	})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close the manager: %v", err)
		}
		cancel()
		done.Wait()
		if err := host.Close(); err != nil {
			t.Errorf("close the host: %v", err)
		}
		for _, err := range r.errs {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) take(rec kernel.Record) {
	h := rec.Header()
	if h == nil || h.Type != uint16(kernel.RecordProbe) {
		return
	}
	ev := &model.Event{BootTime: h.Time, Key: h.Key(), TID: h.Tid, Count: h.Count}
	keep, err := r.Decode(rec, ev)
	if err != nil {
		r.fail(err)
	}
	if keep {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, ev)
	}
}

// fail remembers what went wrong outside of the test's goroutine.
func (r *rig) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// Apply takes policies into force in place of those of their names.
func (r *rig) Apply(ctx context.Context, policies ...*Policy) error {
	want := slices.Clone(r.want)
	for _, p := range policies {
		want = append(slices.DeleteFunc(want, func(d Desired) bool { return d.Policy.Key() == p.Key() }), Desired{Policy: p})
	}
	return r.replace(ctx, want)
}

// Delete takes policies out of force.
func (r *rig) Delete(keys ...Key) error {
	return r.replace(context.Background(), slices.DeleteFunc(slices.Clone(r.want), func(d Desired) bool {
		return slices.Contains(keys, d.Policy.Key())
	}))
}

// SetMode gives a policy a mode.
func (r *rig) SetMode(key Key, mode Mode) error {
	want := slices.Clone(r.want)
	for i := range want {
		if want[i].Policy.Key() == key {
			want[i].Mode = mode
		}
	}
	return r.replace(context.Background(), want)
}

func (r *rig) replace(ctx context.Context, want []Desired) error {
	err := r.Replace(ctx, want)
	if err == nil {
		r.want = want
	}
	return err
}

// apply takes a policy into force; spec is what is below "spec:", indented by two.
func (r *rig) apply(spec string) {
	r.t.Helper()
	for _, p := range r.parse(spec) {
		if err := r.Apply(context.Background(), p); err != nil {
			r.t.Fatalf("apply: %v\n%s", err, spec)
		}
	}
}

func (r *rig) parse(spec string) []*Policy {
	r.t.Helper()
	policies, err := Parse("test.yaml", []byte(policyText(spec)))
	if err != nil {
		r.t.Fatalf("parse: %v\n%s", err, spec)
	}
	return policies
}

func policyText(spec string) string {
	return "apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\nmetadata: {name: test}\nspec:\n" + spec
}

// probes are the probes of a process so far.
func (r *rig) probes(pid int) []*model.Probe {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*model.Probe
	for _, e := range r.events {
		if int(e.Key.PID) == pid {
			out = append(out, e.Probe)
		}
	}
	return out
}

// await waits until a process has n probes.
func (r *rig) await(pid, n int) []*model.Probe {
	r.t.Helper()
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got := r.probes(pid); len(got) >= n {
			return got
		}
	}
	r.t.Fatalf("process %d has %d probes within %v, want %d", pid, len(r.probes(pid)), testkit.Deadline, n)
	return nil
}

// run is runWith without attributes.
func (r *rig) run(what string) (pid int, err error) {
	r.t.Helper()
	attr, what := attributes(what)
	if attr == nil {
		attr = r.attr
	}
	return r.runWith(attr, what)
}

// runWith has the test binary do one thing as another process, which may be killed. Afterwards it marks the end with a
// call that sentinel watches, so that what came before is known to be decoded.
func (r *rig) runWith(attr *syscall.SysProcAttr, what string) (pid int, err error) {
	r.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"="+what)
	cmd.SysProcAttr = attr
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if out.Len() > 0 {
		r.t.Logf("helper %q: %s", what, out)
	}
	r.mark()
	return cmd.Process.Pid, err
}

// sentinel is a policy that reports a system call of this process with a number that no other test uses.
const sentinel = `
  kprobes:
  - call: sys_setpriority
    args: [{index: 0, type: int}, {index: 2, type: int}]
    selectors: [{matchArgs: [{index: 0, operator: Equal, values: ["77"]}]}]
`

// mark waits until what has happened so far is decoded.
func (r *rig) mark() {
	r.t.Helper()
	key := Key{Name: "sentinel"}
	r.Manager.mu.Lock()
	known := r.policies[key] != nil
	r.Manager.mu.Unlock()
	if !known {
		p := r.parse(sentinel)[0]
		p.Name = key.Name
		if err := r.Apply(context.Background(), p); err != nil {
			r.t.Fatal(err)
		}
	}
	count := func() (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.events {
			if e.Probe.Policy == key.Name {
				n++
			}
		}
		return n
	}
	before := count()
	_ = unix.Setpriority(77, 0, 0) // EINVAL; seen all the same
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if count() > before {
			return
		}
	}
	r.t.Fatalf("the sentinel was not reported within %v", testkit.Deadline)
}

// hits runs a helper and returns what the policy "test" reported of it.
func (r *rig) hits(what string) []*model.Probe {
	r.t.Helper()
	pid, _ := r.run(what)
	return r.probes(pid)
}

func TestThinPath(t *testing.T) {
	r := newRig(t, nil)
	r.apply(`
  kprobes:
  - call: sys_openat
    message: a file of the test
    tags: [one, two]
    args: [{index: 1, type: string, label: name}, {index: 2, type: int}]
    selectors:
    - matchArgs: [{index: 1, operator: Prefix, values: [/tmp/vigie-trace-]}]
`)
	got := r.hits("open /tmp/vigie-trace-a")
	if len(got) != 1 {
		t.Fatalf("%d probes, want one: %+v", len(got), got)
	}
	p := got[0]
	if p.Policy != "test" || p.Kind != "kprobe" || p.Hook != "sys_openat" || p.Action != "post" || p.Message != "a file of the test" ||
		len(p.Tags) != 2 || len(p.Args) != 2 || p.Args[0].Text != "/tmp/vigie-trace-a" || p.Args[0].Label != "name" {
		t.Errorf("probe is %+v", p)
	}
	if got := r.hits("open /tmp/another"); len(got) != 0 {
		t.Errorf("another file was reported: %+v", got[0])
	}
}

func TestSigkill(t *testing.T) {
	r := newRig(t, nil)
	r.apply(`
  kprobes:
  - call: sys_mkdirat
    args: [{index: 1, type: string}]
    selectors:
    - matchArgs: [{index: 1, operator: Equal, values: [/nowhere/vigie-trace]}]
      matchActions: [{action: Sigkill}]
`)
	pid, err := r.run("mkdir /nowhere/vigie-trace")
	if !killedBy(err, syscall.SIGKILL) {
		t.Errorf("the process ended with %v, want SIGKILL", err)
	}
	if got := r.await(pid, 1); got[0].Action != "sigkill" {
		t.Errorf("action is %q", got[0].Action)
	}
	if pid, err = r.run("mkdir /nowhere/another"); err != nil {
		t.Errorf("another directory: %v", err)
	}
	if got := r.probes(pid); len(got) > 0 {
		t.Errorf("another directory was reported: %+v", got[0])
	}
}

// TestSigkillAtExec: the new program is dead before its first instruction.
func TestSigkillAtExec(t *testing.T) {
	r := newRig(t, nil)
	dir := t.TempDir()
	doomed, made := filepath.Join(dir, "vigie-doomed"), filepath.Join(dir, "made")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(doomed, b, 0o700); err != nil {
		t.Fatal(err)
	}
	r.apply(`
  tracepoints:
  - subsystem: sched
    event: sched_process_exec
    raw: true
    args: [{index: 2, type: linux_binprm}]
    selectors:
    - matchArgs: [{index: 2, operator: Postfix, values: [/vigie-doomed]}]
      matchActions: [{action: Sigkill}]
`)
	run := func() error {
		cmd := exec.Command(doomed)
		cmd.Env = append(os.Environ(), helperEnv+"=mkdir "+made)
		return cmd.Run()
	}
	if err := run(); !killedBy(err, syscall.SIGKILL) {
		t.Errorf("the program ended with %v, want SIGKILL", err)
	}
	if _, err := os.Stat(made); err == nil {
		t.Error("the program has run")
	}
	if err := r.SetMode(testKey, ModeMonitor); err != nil {
		t.Fatal(err)
	}
	if err := run(); err != nil {
		t.Errorf("while the policy only monitors: %v", err)
	}
	if _, err := os.Stat(made); err != nil {
		t.Errorf("while the policy only monitors: %v", err)
	}
}
