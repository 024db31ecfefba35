// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/testkit"
)

const (
	lateAllowed = "answered late by the watchdog, allowed"
	lateDenied  = "answered late by the watchdog, denied"
)

// timeouts are the choices of a policy, and what an open comes to that the agent does not answer.
func timeouts(t *testing.T, test func(t *testing.T, s *scene, late, reason string)) {
	for _, c := range []struct{ choice, late, reason string }{{"allow", "ok", lateAllowed}, {"deny", "EPERM", lateDenied}} {
		t.Run(c.choice, func(t *testing.T) { test(t, newScene(t, c.choice), c.late, c.reason) })
	}
}

// An agent that is stopped hangs nobody: its watchdog answers as the policy says, and the agent tells when it is back.
func TestAgentIsStopped(t *testing.T) {
	timeouts(t, func(t *testing.T, s *scene, late, reason string) {
		s.expect("EPERM", "key")
		s.expect("ok", "file")
		if err := s.agent.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		awaitStopped(t, s.agent.Process.Pid)
		const opens = 100
		for range opens {
			s.ask("key")
		}
		for range opens {
			if got := s.answer(); got != late {
				t.Errorf("open of a protected file: %s, want %s", got, late)
			}
		}
		if err := s.agent.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		s.await("the watchdog's answers are counted", func(got said) bool { return got.Losses[reason] >= opens })
		s.await("the agent answers again", func(said) bool {
			s.ask("key")
			denied := s.answer() == "EPERM"
			s.ask("file")
			return s.answer() == "ok" && denied
		})
	})
}

// Nor does one whose workers are stuck.
func TestWorkersAreStuck(t *testing.T) {
	timeouts(t, func(t *testing.T, s *scene, late, reason string) {
		s.order(order{Jam: true})
		for range 20 {
			s.expect(late, "key")
		}
		s.expect("ok", "file") // no rule speaks of it: the reader answers
		s.order(order{Unjam: true})
		s.await("the watchdog's answers are counted", func(got said) bool { return got.Losses[reason] >= 20 })
		s.await("the agent denies again", func(said) bool {
			s.ask("key")
			return s.answer() == "EPERM"
		})
	})
}

// When the agent is killed, with opens waiting, the kernel lets them go on; the watchdog goes with it.
func TestAgentIsKilled(t *testing.T) {
	s := newScene(t, "deny")
	s.expect("EPERM", "key")
	watchdog := s.order(order{Losses: true}).Watchdog
	// Neither answers, so that the open waits.
	for _, pid := range []int{watchdog, s.agent.Process.Pid} {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	s.ask("key")
	if err := s.agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := s.answer(); got != "ok" {
		t.Errorf("open when the agent was killed: %s, want ok", got)
	}
	s.expect("ok", "key")
}

// A watchdog that is killed is replaced.
func TestWatchdogIsKilled(t *testing.T) {
	s := newScene(t, "deny")
	first := s.order(order{Losses: true}).Watchdog
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.await("another watchdog", func(got said) bool {
		return got.Losses["watchdog ended, started again"] == 1 && got.Watchdog != first && got.Watchdog != 0
	})
	s.expect("EPERM", "key")
	if err := s.agent.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, s.agent.Process.Pid)
	s.expect("EPERM", "key")
	if err := s.agent.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.await("its answers are counted", func(got said) bool { return got.Losses[lateDenied] >= 1 })
}

// awaitStopped waits until all threads of a process that was sent SIGSTOP stand still: until then one can answer.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		running := 0
		for _, name := range threads {
			b, err := os.ReadFile(name)
			if _, state, ok := strings.Cut(string(b), ") "); err == nil && ok && state[0] != 'T' {
				running++
			}
		}
		if running == 0 {
			return
		}
	}
	t.Fatalf("process %d does not stop", pid)
}
