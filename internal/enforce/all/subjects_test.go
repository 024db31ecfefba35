// SPDX-License-Identifier: Apache-2.0

package all

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// servant is an actor that lives and does one deed after the other.
type servant struct {
	t   *testing.T
	pid int
	in  io.Writer
	out *bufio.Scanner
}

// start starts an actor that waits for deeds.
func (w *world) start(attr *syscall.SysProcAttr) *servant {
	w.t.Helper()
	cmd := exec.Command(w.actor, "serve")
	cmd.Env = append(os.Environ(), actorEnv+"=1")
	cmd.Dir, cmd.SysProcAttr, cmd.Stderr = w.dir, attr, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // killed, or not
	})
	s := &servant{w.t, cmd.Process.Pid, in, bufio.NewScanner(out)}
	s.expect("ok", "nothing")
	return s
}

func (s *servant) expect(want string, args ...string) {
	s.t.Helper()
	fmt.Fprintln(s.in, strings.Join(args, " "))
	got := "ended"
	if s.out.Scan() {
		got = s.out.Text()
	}
	if got != want {
		s.t.Errorf("%s: %s, want %s", strings.Join(args, " "), got, want)
	}
}

const noBad = "\tmode: enforce\n\tweaker: accept\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\"}]}"

// What runs already is under a policy as soon as it is applied, and free of it as soon as it is gone.
func TestRunningProcesses(t *testing.T) {
	w := newWorld(t, "execkill")
	bad := w.dir + "/bin/bad"
	copyFile(t, w.actor, bad)
	s := w.start(nil)
	s.expect("ok", "spawn", bad, "nothing")
	w.apply(noBad)
	s.expect("killed", "spawn", bad, "nothing")
	w.apply()
	s.expect("ok", "spawn", bad, "nothing")
	w.apply(strings.Replace(noBad, "enforce", "audit", 1))
	s.expect("ok", "spawn", bad, "nothing")
	w.verdict(model.VerdictAudited, model.OpExec, bad)
}

// Once selected by its binary, a process cannot leave by running another, nor what it starts.
func TestSelectedStays(t *testing.T) {
	w := newWorld(t, "execkill")
	copyFile(t, w.actor, w.dir+"/bin/bad")
	copyFile(t, w.actor, w.dir+"/bin/other")
	w.apply(noBad)
	w.expect("killed", "exec", "{dir}/bin/other", "exec", "{dir}/bin/bad", "nothing")
	w.expect("killed", "spawn", "{dir}/bin/other", "exec", "{dir}/bin/bad", "nothing")
	if got := w.doAs(w.dir+"/bin/other", "exec", w.dir+"/bin/bad", "nothing"); got != "ok" {
		t.Errorf("a process that was never selected: %s", got)
	}
}

// A user's processes are selected when they begin as that user's.
func TestSelectByUser(t *testing.T) {
	w := newWorld(t, "execkill")
	copyFile(t, w.actor, w.dir+"/bin/bad")
	if err := os.Chmod(filepath.Dir(w.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.apply("\tselector: {user: \"4711\"}\n" + noBad)
	w.expect("ok", "exec", "{dir}/bin/bad", "nothing")
	w.expect("killed", "as", "4711", w.actor, "exec", "{dir}/bin/bad", "nothing")
	w.expect("ok", "as", "4712", w.actor, "exec", "{dir}/bin/bad", "nothing")
}

// A server that drops its rights without an exec is selected from then on.
func TestSelectWhenUserChanges(t *testing.T) {
	w := newWorld(t, "execkill")
	copyFile(t, w.actor, w.dir+"/bin/bad")
	for _, dir := range []string{filepath.Dir(w.dir), w.dir} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.apply("\tselector: {user: \"4711\"}\n" + noBad)
	s := w.start(nil)
	s.expect("ok", "spawn", w.dir+"/bin/bad", "nothing")
	s.expect("ok", "setuid", "4711")
	s.expect("killed", "spawn", w.dir+"/bin/bad", "nothing")
}

// A unit that starts is under its policy before its first process runs, without the agent doing anything.
func TestUnitFromItsFirstProcess(t *testing.T) {
	root := kernel.FindCgroup2()
	if root == "" {
		t.Skip("needs cgroup v2")
	}
	w := newWorld(t, "execkill")
	copyFile(t, w.actor, w.dir+"/bin/bad")
	w.apply("\tselector: {unit: vigie-enforce-test.service}\n" + noBad)
	unit := filepath.Join(root, "vigie-enforce-test.service")
	for _, dir := range []string{unit, unit + "/below"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
	}
	for _, dir := range []string{unit, unit + "/below"} {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		cmd := exec.Command(w.actor, "exec", w.dir+"/bin/bad", "nothing")
		cmd.Env = append(os.Environ(), actorEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Errorf("in %s: %v %s, want killed", dir, err, out)
		}
		// And one that moves there while it runs.
		s := w.start(nil)
		s.expect("ok", "spawn", w.dir+"/bin/bad", "nothing")
		s.expect("ok", "move", dir)
		s.expect("killed", "spawn", w.dir+"/bin/bad", "nothing")
		s.expect("ok", "move", root)
		s.expect("ok", "spawn", w.dir+"/bin/bad", "nothing")
	}
}

// Whoever is in a workload's cgroup is under the policies that name the workload: by its container, its labels or its unit. What
// is told of it later counts from then on.
func TestSelectByWorkload(t *testing.T) {
	root := kernel.FindCgroup2()
	if root == "" {
		t.Skip("needs cgroup v2")
	}
	w := newWorld(t, "execkill")
	bad := w.dir + "/bin/bad"
	copyFile(t, w.actor, bad)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.enforcer.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	dir := filepath.Join(root, fmt.Sprintf("vigie-enforce-workload-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	var st unix.Stat_t // the number of a cgroup is that of its directory
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	told := func(one model.Workload) {
		w.cgroups.set(st.Ino, &one)
		w.enforcer.NoticeWorkloads()
	}
	inside, outside := w.start(nil), w.start(nil)
	inside.expect("ok", "move", dir)
	for _, c := range []struct {
		selector       string
		before, become model.Workload
	}{
		{"container: \"we?\"", model.Workload{Kind: model.WorkloadContainer, ID: "1"}, model.Workload{Kind: model.WorkloadContainer, ID: "1", Name: "web"}},
		{"matchLabels: {app: web, tier: front}", model.Workload{Kind: model.WorkloadPod, Name: "web-1", Labels: map[string]string{"app": "web"}},
			model.Workload{Kind: model.WorkloadPod, Name: "web-1", Labels: map[string]string{"app": "web", "tier": "front"}}},
		{"unit: \"web@*.service\"", model.Workload{Kind: model.WorkloadUnit, Name: "webs.service"}, model.Workload{Kind: model.WorkloadUnit, Name: "web@1.service"}},
	} {
		told(c.before)
		w.apply("\tselector: {" + c.selector + "}\n" + noBad)
		inside.expect("ok", "spawn", bad, "nothing")
		told(c.become)
		inside.awaits("killed", "spawn", bad, "nothing")
		outside.expect("ok", "spawn", bad, "nothing")
		told(c.before)
		inside.awaits("ok", "spawn", bad, "nothing")
		w.apply()
	}
	inside.expect("ok", "move", root) // so that its cgroup can go
}

// awaits is expect of what must become so.
func (s *servant) awaits(want string, args ...string) {
	s.t.Helper()
	got := ""
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		fmt.Fprintln(s.in, strings.Join(args, " "))
		if !s.out.Scan() {
			s.t.Fatal("the actor ended")
		}
		if got = s.out.Text(); got == want {
			return
		}
	}
	s.t.Errorf("%s: %s, want %s", strings.Join(args, " "), got, want)
}

// Apply is all or nothing.
func TestApplyFails(t *testing.T) {
	w := newWorld(t, "execkill")
	bad := w.dir + "/bin/bad"
	copyFile(t, w.actor, bad)
	w.apply(noBad)
	if err := w.tryApply(strings.Replace(noBad, "bad", "other", 1), "\tmode: enforce\n\toperations: {deny: [mount]}"); err == nil {
		t.Fatal("a policy that nothing carries was applied")
	}
	w.expect("killed", "exec", bad, "nothing")
}
