// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

func TestEnded(t *testing.T) {
	if ended(uint32(os.Getpid())) {
		t.Error("this process has ended")
	}
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Skip("needs /bin/true: ", err)
	}
	pid := uint32(cmd.Process.Pid)
	// Whether it is on its way out or nobody has waited for it: it is not told from one that is gone.
	for end := time.Now().Add(testkit.Deadline); !exiting(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never ends")
		}
	}
	if !ended(pid) {
		t.Error("a process that is exiting goes on")
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !ended(pid) {
		t.Error("a process that is gone goes on")
	}
}
