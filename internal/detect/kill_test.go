// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func TestKillEndsTheProcessThatIsMeant(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	pid := uint32(cmd.Process.Pid)
	ticks, err := startTicks(pid)
	if err != nil {
		t.Fatal(err)
	}
	key := model.ProcessKey{PID: pid, Start: ticks * (1e9 / userHZ), Exec: 1}

	earlier := key
	earlier.Start -= 2 * (1e9 / userHZ)
	if err := Kill(earlier); err == nil || !strings.Contains(err.Error(), "another one by now") {
		t.Errorf("a process that had the number before: %v", err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("the process is gone: %v", err)
	}
	within := key
	within.Start += 1e9/userHZ - 1 // the kernel's clock is finer than /proc's
	if err := Kill(within); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
	if err := Kill(key); err == nil {
		t.Error("a process that has ended was ended again")
	}
}

func TestKillSparesTheHostAndTheAgent(t *testing.T) {
	for _, pid := range []uint32{0, 1, uint32(os.Getpid())} {
		if err := Kill(model.ProcessKey{PID: pid, Start: 1}); err == nil {
			t.Errorf("pid %d may be ended", pid)
		}
	}
}
