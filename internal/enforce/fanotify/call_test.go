// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCallOfAThreadThatDoesNotSleepYet: between its event and its sleep a thread may have to wait for a processor, and
// until then nobody knows how it opens. To take that for writing denies what is allowed.
func TestCallOfAThreadThatDoesNotSleepYet(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// It runs, without a system call, and then waits in an open, for a writer.
	busy := exec.Command("/bin/sh", "-c", `echo; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; : <"$0"`, fifo)
	out, err := busy.StdoutPipe()
	if err == nil {
		err = busy.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got := callOf(int32(busy.Process.Pid), time.Minute); got != (call{read: true}) {
		t.Errorf("an open for reading is taken for %+v", got)
	}
	fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := busy.Wait(); err != nil {
		t.Error(err)
	}
}
