// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The names that scripts rely on.
func TestJSONOfAnExecHasItsFixedNames(t *testing.T) {
	a := startAgent(t)
	cmd := exec.Command("/bin/true", "forged\n{\"type\":\"exec\"}", "\x1b[2J\xff")
	cmd.Dir = "/usr"
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	e := a.awaitEvent("the exec", func(e map[string]any) bool {
		return e["type"] == "exec" && get(e, "process.pid") == float64(cmd.Process.Pid)
	})
	for _, name := range []string{"type", "time", "process.exec_id", "process.pid", "process.binary", "process.args", "process.cwd",
		"process.uid", "process.parent.exec_id", "process.workload.name", "process.workload.kind"} {
		if get(e, name) == nil {
			t.Errorf("%s is missing in %v", name, e)
		}
	}
	if get(e, "process.cwd") != "/usr" || get(e, "process.parent.pid") != float64(os.Getpid()) {
		t.Errorf("wrong process: %v", e["process"])
	}
	args, _ := get(e, "process.args").([]any)
	if len(args) != 3 || args[1] != "forged\n{\"type\":\"exec\"}" || args[2] != "\x1b[2J\\xff" {
		t.Errorf("args %q", args)
	}
	a.stop()
}

func TestSecondAgentIsRefusedWithTheFirstsPID(t *testing.T) {
	a := startAgent(t)
	b := newAgent(t, a.dir)
	if err := b.cmd.Run(); err == nil {
		t.Fatal("the second agent ran")
	}
	if log := b.log.String(); !strings.Contains(log, "pid "+itoa(a.cmd.Process.Pid)) {
		t.Errorf("the refusal does not name pid %d: %s", a.cmd.Process.Pid, log)
	}
	if b.cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("exit code %d, want 2", b.cmd.ProcessState.ExitCode())
	}
}

func TestWithoutPrivilegesItSaysWhatIsMissing(t *testing.T) {
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	_, stderr, code := run(t, attr, "run", "--quiet")
	if code != 2 || !strings.Contains(stderr, "CAP_BPF") || !strings.Contains(stderr, "--replay") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func TestMissingKernelParts(t *testing.T) {
	for _, c := range []struct{ name, prepare, want string }{
		{"no BTF", "mount -t tmpfs none /sys/kernel/btf", "CONFIG_DEBUG_INFO_BTF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAgentIn(t, c.prepare)
			if err := a.cmd.Run(); err == nil || a.cmd.ProcessState.ExitCode() != 2 {
				t.Errorf("ended with %v, want exit code 2", err)
			}
			if log := a.log.String(); !strings.Contains(log, c.want) {
				t.Errorf("the message does not say %q: %s", c.want, log)
			}
		})
	}
}

func TestWithoutCgroup2OnlyTheNetworkIsMissing(t *testing.T) {
	a := newAgentIn(t, "umount /sys/fs/cgroup/unified 2>/dev/null || umount /sys/fs/cgroup")
	a.startUntil(func(health map[string]any) bool {
		problems, _ := health["problems"].([]any)
		return len(problems) > 0 && strings.Contains(problems[0].(string), "no cgroup2 file system is mounted")
	})
	pid := runTrue(t)
	a.awaitEvent("an exec all the same", func(e map[string]any) bool { return e["type"] == "exec" && get(e, "process.pid") == pid })
	a.stop()
}

func TestProgramStatsAreMeasuredWhenAskedFor(t *testing.T) {
	a := startAgent(t, "--program-stats")
	runTrue(t)
	a.await("a program with run time", func() bool {
		sensors, _ := get(a.call("GetStatus"), "status.sensors").([]any)
		for _, s := range sensors {
			programs, _ := s.(map[string]any)["programs"].([]any)
			for _, p := range programs {
				if p := p.(map[string]any); p["name"] == "vg_process_exec" && p["run_count"] != nil && p["run_time_ns"] != nil {
					return true
				}
			}
		}
		return false
	})
	a.stop()
}
