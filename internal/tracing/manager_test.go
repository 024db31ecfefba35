// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

const killOpens = `
  kprobes:
  - call: sys_openat
    args: [{index: 1, type: string}]
    selectors:
    - matchArgs: [{index: 1, operator: Prefix, values: [/vt/]}]
      matchActions: [{action: Sigkill}]
`

var testKey = Key{Name: "test"}

func TestModeOfARunningPolicy(t *testing.T) {
	r := newRig(t, nil)
	r.apply(killOpens + "  options: [{name: policy-mode, value: monitor}]\n")
	expect := func(mode Mode, killed bool) {
		t.Helper()
		if s := r.List()[0]; s.Mode != mode {
			t.Errorf("mode is %s, want %s", s.Mode, mode)
		}
		pid, err := r.run("open /vt/x")
		if killedBy(err, syscall.SIGKILL) != killed {
			t.Errorf("in mode %s the process ended with %v", mode, err)
		}
		if len(r.await(pid, 1)) != 1 {
			t.Errorf("in mode %s the call was not reported once", mode)
		}
	}
	expect(ModeMonitor, false)
	if err := r.SetMode(testKey, ModeEnforce); err != nil {
		t.Fatal(err)
	}
	expect(ModeEnforce, true)
	if err := r.SetMode(testKey, ModeMonitor); err != nil {
		t.Fatal(err)
	}
	expect(ModeMonitor, false)
	s := r.List()[0]
	if s.Posts != 3 || s.Enforced["sigkill"] != 1 || s.Monitored["sigkill"] != 2 || s.KernelBytes == 0 || len(s.Hooks) != 1 || s.Hooks[0].Carrier != "tp_btf/sys_enter" {
		t.Errorf("status is %+v", s)
	}
}

// TestAgentIsLeftAlone: a policy that kills everybody does not kill who can take it back.
func TestAgentIsLeftAlone(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onCall("sys_setpriority", "[{index: 0, type: int}]", "matchArgs: [{index: 0, operator: Equal, values: [\"78\"]}]\n      matchActions: [{action: Sigkill}]"))
	_ = unix.Setpriority(78, 0, 0)
	r.mark()
	if got := r.probes(os.Getpid()); len(got) == 0 || r.last("test").Action != "post" {
		t.Errorf("probes are %+v", got)
	}
}

func TestEnableDisableDelete(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onOpen("Prefix", "/vt/"))
	seen := func() bool { return len(r.hits("open /vt/x")) > 0 }
	if !seen() {
		t.Error("the policy is not in force")
	}
	if err := r.SetEnabled(testKey, false); err != nil {
		t.Fatal(err)
	}
	if seen() || r.List()[0].Enabled {
		t.Error("the policy acts while it is disabled")
	}
	if err := r.SetEnabled(testKey, true); err != nil {
		t.Fatal(err)
	}
	if !seen() {
		t.Error("the policy is not in force again")
	}
	if err := r.Delete(testKey); err != nil {
		t.Fatal(err)
	}
	if seen() {
		t.Error("the policy acts after it was deleted")
	}
	if err := r.SetEnabled(testKey, true); !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v, want %v", err, ErrNotFound)
	}
}

// TestRefusedPolicyLeavesTheOldOne: one hook of two cannot be carried.
func TestRefusedPolicyLeavesTheOldOne(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onOpen("Prefix", "/vt/"))
	err := r.Apply(context.Background(), r.parse(`
  kprobes:
  - call: sys_openat
    args: [{index: 1, type: string}]
    selectors: [{matchArgs: [{index: 1, operator: Prefix, values: [/vt/]}]}]
  - call: no_such_function_in_any_kernel
    syscall: false
`)[0])
	var field *FieldError
	if !errors.As(err, &field) || field.Field != "spec.kprobes[1]" || field.Line != 10 || !strings.Contains(field.Problem, "no_such_function_in_any_kernel") {
		t.Errorf("error is %v", err)
	}
	if got := r.hits("open /vt/x"); len(got) != 1 {
		t.Errorf("the call was reported %d times, want once: by the old policy alone", len(got))
	}
}

// TestReplaceIsAllOrNothing: policies change together.
func TestReplaceIsAllOrNothing(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	named := func(name, spec string) *Policy {
		p := r.parse(spec)[0]
		p.Name = name
		return p
	}
	good, bad := named("a", onOpen("Equal", "/vt/a")), named("b", "  tracepoints: [{subsystem: sched, event: sched_nothing}]\n")
	mine := named("mine", onOpen("Equal", "/vt/mine"))
	if err := r.Apply(ctx, mine); err != nil {
		t.Fatal(err)
	}
	with := func(list ...Desired) []Desired { return append(slices.Clone(r.want), list...) }
	names := func() (out []string) {
		for _, s := range r.List() {
			if s.Name != "sentinel" {
				out = append(out, s.Name)
			}
		}
		return out
	}
	if err := r.Replace(ctx, with(Desired{good, ""}, Desired{bad, ""})); err == nil || !strings.Contains(err.Error(), "sched_nothing") {
		t.Errorf("error is %v", err)
	}
	if got := names(); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("after a refusal there are %v", got)
	}
	kill := named("b", killOpens)
	if err := r.Replace(ctx, with(Desired{good, ""}, Desired{kill, ModeMonitor})); err != nil {
		t.Fatal(err)
	}
	first, _ := r.Status(Key{Name: "b"})
	if first.Mode != ModeMonitor {
		t.Errorf("mode is %s", first.Mode)
	}
	if err := r.Replace(ctx, with(Desired{kill, ModeEnforce})); err != nil {
		t.Fatal(err)
	}
	second, _ := r.Status(Key{Name: "b"})
	if got := names(); !slices.Equal(got, []string{"mine", "b"}) || second.ID != first.ID || second.Mode != ModeEnforce {
		t.Errorf("there are %v; b is %+v, was %+v", got, second, first)
	}
	if err := r.Check(ctx, bad); err == nil {
		t.Error("a policy that cannot be carried passed the check")
	}
	if err := r.Check(ctx, named("c", killOpens)); err != nil || len(names()) != 2 {
		t.Errorf("the check ended with %v and left %v", err, names())
	}
}

// TestReplacedPolicyLeavesNoGap: a call that both versions of a policy watch is seen however often it is replaced.
func TestReplacedPolicyLeavesNoGap(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onOpen("Prefix", "/vt/"))
	var wait sync.WaitGroup
	const opens = 20000
	var pid int
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=opens 20000 /vt/x")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid = cmd.Process.Pid
	wait.Go(func() {
		for i := range 10 { // another text each time: the same one would stay
			r.apply(onOpen("Prefix", "/vt/", fmt.Sprintf("/vt/%d", i)))
		}
	})
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	wait.Wait()
	r.mark()
	if err := r.host.ReadLosses(); err != nil {
		t.Fatal(err)
	}
	lost := int(r.losses.Counter("kernel", "security ring full").Load())
	if got := len(r.probes(pid)); got+lost < opens {
		t.Errorf("%d of %d calls were reported, and %d counted as lost", got, opens, lost)
	}
}

func TestPoliciesOfOneCall(t *testing.T) {
	r := newRig(t, nil)
	r.apply(onOpen("Prefix", "/vt/"))
	other := r.parse("  lists: [{name: all, type: generated_syscalls}]\n" + onCall("list:all", "[]", "matchPIDs: [{operator: NotIn, values: [0]}]"))[0]
	other.Name = "other"
	// Of every call of every process: only in the namespace that the helper makes.
	other.Document.Spec.Kprobes[0].Selectors[0].MatchPIDs = []PIDMatch{{Operator: "In", Values: []uint32{1}, IsNamespacePID: true}}
	other.Document.Spec.Kprobes[0].Selectors[0].MatchNamespaces = []NamespaceMatch{{Namespace: "Pid", Operator: "NotIn", Values: []string{"host_ns"}}}
	if err := r.Apply(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	pid, _ := r.run("newpid open /vt/x")
	calls := make(map[string]int)
	for _, p := range r.probes(pid) {
		calls[p.Policy+" "+p.Hook]++
	}
	if calls["test sys_openat"] != 1 || calls["other sys_openat"] == 0 || calls["other sys_mmap"] == 0 || calls["other sys_exit_group"] != 1 {
		t.Errorf("reported %v", calls)
	}
	if len(r.calls.enter) != 2 {
		t.Errorf("there are %d dispatchers for two policies of the same call", len(r.calls.enter))
	}
	if err := r.Delete(testKey, other.Key(), Key{Name: "sentinel"}); err != nil {
		t.Error(err)
	}
	if len(r.calls.enter) != 0 {
		t.Errorf("%d dispatchers are left without a policy", len(r.calls.enter))
	}
}

// TestFollowWhatRanBefore: a process that was started before the policy is known by what it runs, and so is its child.
func TestFollowWhatRanBefore(t *testing.T) {
	r := newRig(t, nil)
	sh := shell(t)
	// A shell starts a helper, which waits for its input.
	cmd := exec.Command(sh, "-c", "/proc/$PPID/exe; true")
	cmd.Env = append(os.Environ(), helperEnv+"=wait-open /vt/x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	r.apply(onCall("sys_openat", "[{index: 1, type: string}]", "matchArgs: [{index: 1, operator: Equal, values: [/vt/x]}]\n      matchBinaries: [{operator: In, followChildren: true, values: ["+sh+"]}]"))
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	r.mark()
	if got := r.count("test"); got != 1 {
		t.Errorf("the child of a shell was reported %d times, want once", got)
	}
	if got := r.hits("open /vt/x"); len(got) > 0 {
		t.Errorf("what no shell started was reported: %+v", got[0])
	}
}

// oneCgroup knows one cgroup as a workload of its choice.
type oneCgroup struct {
	ref      bpfVgCgroupRef
	workload *model.Workload
}

func (o *oneCgroup) Each(fn func(hierarchy uint32, id uint64, w *model.Workload)) {
	fn(o.ref.Hierarchy, o.ref.Id, o.workload)
}

func TestWorkloads(t *testing.T) {
	pod := &model.Workload{Kind: model.WorkloadPod, Name: "web-1", Namespace: "shop", Container: "app", Labels: map[string]string{"app": "web"}}
	unit := &model.Workload{Kind: model.WorkloadUnit, Name: "web.service"}
	known := &oneCgroup{workload: pod}
	r := newRig(t, known)
	known.ref = r.inCgroup()
	base := onOpen("Prefix", "/vt/")
	inSelector := func(s string) string { return base + "      matchWorkloads: " + s + "\n" }
	tests := []struct {
		name, spec string
		workload   *model.Workload
		want       bool
	}{
		{"label", base + "  podSelector: {matchLabels: {app: web}}\n", pod, true},
		{"other label", base + "  podSelector: {matchLabels: {app: db}}\n", pod, false},
		{"expression", base + "  podSelector: {matchExpressions: [{key: \"k8s:io.kubernetes.pod.namespace\", operator: NotIn, values: [kube-system]}]}\n", pod, true},
		{"absent label", base + "  podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}\n", pod, false},
		{"no pod", base + "  podSelector: {}\n", unit, false},
		{"container", base + "  containerSelector: {matchLabels: {name: app}}\n", pod, true},
		{"other container", base + "  containerSelector: {matchLabels: {name: sidecar}}\n", pod, false},
		{"host", base + "  hostSelector: {}\n", unit, true},
		{"not the host", base + "  hostSelector: {}\n", pod, false},
		{"host or pod", base + "  hostSelector: {}\n  podSelector: {matchLabels: {app: web}}\n", pod, true},
		{"host or another pod", base + "  hostSelector: {}\n  podSelector: {matchLabels: {app: db}}\n", pod, false},
		{"selector", inSelector("{podSelector: {matchLabels: {app: web}}}"), pod, true},
		{"selector of another", inSelector("{podSelector: {matchLabels: {app: db}}}"), pod, false},
		{"selector of the host", inSelector("{hostSelector: {}}"), unit, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			known.workload = test.workload
			r.apply(test.spec)
			if err := r.refresh(); err != nil { // where the text before was the same
				t.Fatal(err)
			}
			if got := len(r.hits("open /vt/x")) > 0; got != test.want {
				t.Errorf("the call was reported: %t, want %t", got, test.want)
			}
		})
	}
	r.t = t
	known.workload = unit
	r.apply(base + "  podSelector: {matchLabels: {app: web}}\n")
	known.workload = pod
	if err := r.refresh(); err != nil {
		t.Fatal(err)
	}
	if len(r.hits("open /vt/x")) == 0 {
		t.Error("a workload that was named after the policy is not in it")
	}
}

func TestPolicyWithANamespace(t *testing.T) {
	pod := &model.Workload{Kind: model.WorkloadPod, Name: "web-1", Namespace: "shop"}
	known := &oneCgroup{workload: pod}
	r := newRig(t, known)
	known.ref = r.inCgroup()
	for namespace, want := range map[string]int{"shop": 1, "other": 0} {
		text := strings.Replace(policyText(onOpen("Prefix", "/vt/")), "kind: TracingPolicy\nmetadata: {name: test}", "kind: TracingPolicyNamespaced\nmetadata: {name: test, namespace: "+namespace+"}", 1)
		policies, err := Parse("test.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Apply(context.Background(), policies...); err != nil {
			t.Fatal(err)
		}
		got := r.hits("open /vt/x")
		if len(got) != want || want > 0 && got[0].Namespace != namespace {
			t.Errorf("a policy of namespace %s reported %d calls, want %d", namespace, len(got), want)
		}
		if err := r.Delete(Key{namespace, "test"}); err != nil {
			t.Error(err)
		}
	}
}

// inCgroup has the rig's helpers run in a cgroup of their own, and returns it as the kernel's programs see it.
func (r *rig) inCgroup() bpfVgCgroupRef {
	r.t.Helper()
	root := kernel.FindCgroup2()
	if root == "" {
		r.t.Skip("needs cgroup v2 mounted")
	}
	dir, err := os.MkdirTemp(root, "vigie-tracing-")
	if err != nil {
		r.t.Skip("needs to make a cgroup: ", err)
	}
	r.t.Cleanup(func() { _ = os.Remove(dir) })
	f, err := os.Open(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		r.t.Fatal(err)
	}
	r.attr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	return bpfVgCgroupRef{Id: info.Sys().(*syscall.Stat_t).Ino} // the cgroup's id is its inode's
}

func TestRecordOfAnUnknownPolicy(t *testing.T) {
	r := newRig(t, nil)
	rec := make(kernel.Record, recordSize)
	keep, err := r.Decode(rec, new(model.Event))
	if keep || err != nil || r.losses.Counter("decode", "probe of an unknown policy").Load() != 1 {
		t.Errorf("the record was kept: %t, error %v", keep, err)
	}
	if _, err := r.Decode(rec[:recordSize-1], new(model.Event)); err == nil {
		t.Error("a record that is too short was taken")
	}
}
