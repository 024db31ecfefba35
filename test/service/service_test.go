// SPDX-License-Identifier: Apache-2.0

// Package service proves the systemd unit: with exactly the capabilities that deploy/systemd/vigie.service
// leaves to it, the agent starts, says so to the service manager and stops when told; without one of those
// that it names as needed it says which is missing. In: the unit and the agent's binary. Out: verdicts.
package service

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	unit = "../../deploy/systemd/vigie.service"
	// keepCaps tells the re-executed test binary which capabilities to keep before it becomes the agent.
	keepCaps = "VIGIE_TEST_KEEP_CAPS"
	patience = 60 * time.Second
)

// numbers of the capabilities that the unit may name.
func numbers() map[string]uintptr {
	return map[string]uintptr{
		"CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN,
		"CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	}
}

func TestMain(m *testing.M) {
	if keep, ok := os.LookupEnv(keepCaps); ok {
		fmt.Fprintln(os.Stderr, become(strings.Fields(keep), os.Args[1:]))
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func TestAgentRunsWithTheUnitsCapabilities(t *testing.T) {
	a := start(t, build(t), capabilities(t))
	a.await(t, "READY=1")
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.await(t, "STOPPING=1")
	if err := a.wait(t); err != nil {
		t.Errorf("the agent was told to stop and ended with %v:\n%s", err, a.log.String())
	}
}

// Of the set, CAP_DAC_READ_SEARCH alone has something in its place, as the unit says.
func TestEachCapabilityIsNeeded(t *testing.T) {
	vigie := build(t)
	all := capabilities(t)
	for _, missing := range all {
		if missing == "CAP_DAC_READ_SEARCH" {
			continue
		}
		t.Run(missing, func(t *testing.T) {
			rest := slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == missing })
			a := start(t, vigie, rest)
			if err := a.wait(t); err == nil {
				t.Errorf("the agent ended well without %s", missing)
			}
			if !strings.Contains(a.log.String(), missing+" missing") {
				t.Errorf("the agent does not say that %s is missing:\n%s", missing, a.log.String())
			}
		})
	}
}

// become drops all capabilities but those to keep, as the service manager does, and executes the agent.
func become(keep, argv []string) error {
	runtime.LockOSThread() // the bounding set is the thread's, and exec takes that of its caller
	kept := map[uintptr]bool{}
	for _, name := range keep {
		kept[numbers()[name]] = true
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if kept[c] {
			continue
		}
		// A kernel that has fewer capabilities says EINVAL.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return fmt.Errorf("execute %s: %w", argv[0], syscall.Exec(argv[0], argv, os.Environ()))
}

// capabilities reads the unit.
func capabilities(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if set, ok := strings.CutPrefix(strings.TrimSpace(line), "CapabilityBoundingSet="); ok {
			caps := strings.Fields(set)
			for _, c := range caps {
				if numbers()[c] == 0 {
					t.Fatalf("the unit names %s: this test does not know why; add it to numbers", c)
				}
			}
			return caps
		}
	}
	t.Fatalf("%s has no CapabilityBoundingSet", unit)
	return nil
}

// build makes the agent, or skips where it could not run.
func build(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: capabilities can only be taken from a process that has them")
	}
	vigie := filepath.Join(t.TempDir(), "vigie")
	cmd := exec.Command("go", "build", "-o", vigie, "../../cmd/vigie")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build vigie: %v\n%s", err, msg)
	}
	return vigie
}

// agent is a running vigie.
type agent struct {
	cmd    *exec.Cmd
	log    bytes.Buffer // complete once wait has returned
	notify *net.UnixConn
	ended  chan error
	gone   bool // wait has returned what ended carried
}

func start(t *testing.T, vigie string, caps []string) *agent {
	t.Helper()
	dir := t.TempDir()
	a := &agent{ended: make(chan error, 1)}
	addr := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	var err error
	if a.notify, err = net.ListenUnixgram("unixgram", addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.notify.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a.cmd = exec.Command(self, vigie, "run", "--quiet", "--http", "off", "--state-dir", filepath.Join(dir, "state"),
		"--socket", filepath.Join(dir, "vigie.sock"), "--lock-file", filepath.Join(dir, "lock"))
	a.cmd.Env = append(os.Environ(), keepCaps+"="+strings.Join(caps, " "), "NOTIFY_SOCKET="+addr.Name)
	a.cmd.Stdout, a.cmd.Stderr = &a.log, &a.log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { a.ended <- a.cmd.Wait() }()
	t.Cleanup(func() {
		if !a.gone {
			_ = a.cmd.Process.Kill()
			<-a.ended
		}
	})
	return a
}

// await reads what the agent tells the service manager until it says the word.
func (a *agent) await(t *testing.T, word string) {
	t.Helper()
	if err := a.notify.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 4096); ; {
		n, err := a.notify.Read(buf)
		if err != nil {
			_ = a.cmd.Process.Kill()
			t.Fatalf("the agent did not say %s (%v); it ended with %v:\n%s", word, err, a.wait(t), a.log.String())
		}
		if slices.Contains(strings.Split(string(buf[:n]), "\n"), word) {
			return
		}
	}
}

// wait returns how the agent ended.
func (a *agent) wait(t *testing.T) error {
	t.Helper()
	a.gone = true
	select {
	case err := <-a.ended:
		return err
	case <-time.After(patience):
		_ = a.cmd.Process.Kill()
		<-a.ended
		t.Fatalf("the agent did not end:\n%s", a.log.String())
		return nil
	}
}
