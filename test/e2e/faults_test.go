// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/testkit"
)

func itoa(n int) string { return strconv.Itoa(n) }

// runTrue runs /bin/true and returns its pid as JSON numbers come.
func runTrue(t *testing.T) float64 {
	t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return float64(cmd.Process.Pid)
}

// newAgentIn prepares an agent in a mount namespace of its own, in which prepare was run.
func newAgentIn(t *testing.T, prepare string) *agent {
	t.Helper()
	testkit.RequireBPF(t)
	a := newAgent(t, t.TempDir())
	args := append([]string{"-c", prepare + "; exec \"$0\" \"$@\"", vigie(t)}, a.cmd.Args[1:]...)
	a.cmd = exec.Command("/bin/sh", args...)
	a.cmd.Stderr = &a.log
	// Unshareflags alone makes the mounts private too.
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return a
}

// vigiePrograms lists the BPF programs in the kernel that a vigie agent loaded.
func vigiePrograms(t *testing.T) []ebpf.ProgramID {
	t.Helper()
	var out []ebpf.ProgramID
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, "vg_") {
			out = append(out, id)
		}
		_ = p.Close()
	}
	return out
}

func TestKillNineLeavesNothingBehindAndTheNextAgentStarts(t *testing.T) {
	testkit.RequireBPF(t)
	before := vigiePrograms(t)
	dir := t.TempDir()
	a := newAgent(t, dir)
	a.start()
	if len(vigiePrograms(t)) <= len(before) {
		t.Fatal("the agent has no programs loaded")
	}
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
	await(t, "the kernel to free the programs", func() bool {
		return !slices.ContainsFunc(vigiePrograms(t), func(id ebpf.ProgramID) bool { return !slices.Contains(before, id) })
	})
	b := newAgent(t, dir) // same socket file, same lock
	b.start()
	b.stop()
}

func TestForkBombUnderAPidLimit(t *testing.T) {
	a := startAgent(t)
	limit := "/sys/fs/cgroup/pids"
	if _, err := os.Stat(limit); err != nil {
		if limit = "/sys/fs/cgroup"; !fileExists(filepath.Join(limit, "cgroup.controllers")) {
			t.Skip("needs the pids controller")
		}
	}
	group := filepath.Join(limit, "vigie-e2e-bomb")
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		await(t, "the group to empty", func() bool {
			b, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			for pid := range strings.FieldsSeq(string(b)) {
				if n, err := strconv.Atoi(pid); err == nil {
					_ = syscall.Kill(n, syscall.SIGKILL)
				}
			}
			return unix.Rmdir(group) == nil
		})
	})
	if err := os.WriteFile(filepath.Join(group, "pids.max"), []byte("64"), 0o644); err != nil {
		t.Skipf("needs the pids controller: %v", err)
	}
	// Every process starts two more, for two seconds at most.
	bomb := exec.Command("/bin/sh", "-c", `echo $$ > `+group+`/cgroup.procs
		end=$(($(date +%s)+2)); b() { while [ $(date +%s) -lt $end ]; do b & b; done; }; b 2>/dev/null`)
	_ = bomb.Run()
	pid := runTrue(t)
	a.awaitEvent("an exec after the bomb", func(e map[string]any) bool { return e["type"] == "exec" && get(e, "process.pid") == pid })

	status, _ := a.call("GetStatus")["status"].(map[string]any)
	reported := 0
	for _, e := range a.events() {
		if e["type"] == "fork" {
			reported++
		}
	}
	if reported < 64 {
		t.Errorf("%d forks were reported", reported)
	}
	t.Logf("%d forks; losses %v", reported, status["losses"])
	a.stop()
}

func TestFullDiskStallsNothingAndIsCounted(t *testing.T) {
	testkit.RequireBPF(t)
	dir := t.TempDir()
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs to mount tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	a := newAgent(t, dir)
	a.json = filepath.Join(small, "events.json")
	a.cmd.Args[len(a.cmd.Args)-1] = a.json
	a.start()
	for range 200 {
		runTrue(t)
	}
	a.await("the loss to be counted", func() bool {
		status, _ := a.call("GetStatus")["status"].(map[string]any)
		losses, _ := status["losses"].([]any)
		for _, l := range losses {
			l := l.(map[string]any)
			if strings.HasPrefix(l["stage"].(string), "export") && l["count"] != nil {
				return true
			}
		}
		return false
	})
	a.events() // every whole line is JSON
	if err := a.terminate(); err == nil || !strings.Contains(a.log.String(), "lost at the end: no space left on device") {
		t.Errorf("ended with %v, and does not say what was not exported:\n%s", err, a.log.String())
	}
}

func TestReloadReopensTheExport(t *testing.T) {
	a := startAgent(t)
	rotated := a.json + ".1"
	if err := os.Rename(a.json, rotated); err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	a.await("the file to be made anew", func() bool { return fileExists(a.json) })
	pid := runTrue(t)
	a.awaitEvent("an exec in the new file", func(e map[string]any) bool { return get(e, "process.pid") == pid })
	a.stop()
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// unitCapabilities reads the bounding set of the systemd unit, as setpriv(1) names capabilities.
func unitCapabilities(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../deploy/systemd/vigie.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if list, ok := strings.CutPrefix(strings.TrimSpace(line), "CapabilityBoundingSet="); ok {
			return "-all,+" + strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(list), "cap_", ""), " ", ",+")
		}
	}
	t.Fatal("the unit has no CapabilityBoundingSet")
	return ""
}

func TestTheUnitsCapabilitiesSuffice(t *testing.T) {
	testkit.RequireBPF(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("needs setpriv (util-linux)")
	}
	a := newAgent(t, t.TempDir())
	a.cmd.Args = append([]string{setpriv, "--bounding-set", unitCapabilities(t), "--no-new-privs", vigie(t)}, append(a.cmd.Args[1:], "--l7", "all")...)
	a.cmd.Path = setpriv
	a.start() // ready: no sensor has failed
	status, _ := a.call("GetStatus")["status"].(map[string]any)
	sensors, _ := status["sensors"].([]any)
	if len(sensors) < 4 {
		t.Fatalf("status lists %d sensors", len(sensors))
	}
	for _, s := range sensors {
		if s := s.(map[string]any); s["state"] != "on" {
			t.Errorf("sensor %v is %v: %v", s["name"], s["state"], s["message"])
		}
	}
	a.stop()
}
