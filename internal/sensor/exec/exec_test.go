// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"os/exec"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestExecForkExitAreSeenWithTheirDetails(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	cmd := exec.Command("/bin/sh", "-c", "exit 3", "an argument", "")
	cmd.Dir = "/usr"
	_ = cmd.Run()
	pid := uint32(cmd.Process.Pid)

	fork := k.Await(t, "the fork", func(e *model.Event) bool { return e.Type == model.TypeFork && e.Key.PID == pid })
	ex := k.Await(t, "the exec", func(e *model.Event) bool { return e.Type == model.TypeExec && e.Key.PID == pid })
	exit := k.Await(t, "the exit", func(e *model.Event) bool { return e.Type == model.TypeExit && e.Key.PID == pid })

	if fork.Key.Start != ex.Key.Start || ex.Key != exit.Key || fork.Key.Exec+1 != ex.Key.Exec {
		t.Errorf("keys do not belong together: fork %+v, exec %+v, exit %+v", fork.Key, ex.Key, exit.Key)
	}
	if fork.Process.ParentKey.PID != uint32(testkit.PID()) || ex.Process.ParentKey != fork.Process.ParentKey {
		t.Errorf("parent is %+v and %+v, want pid %d", fork.Process.ParentKey, ex.Process.ParentKey, testkit.PID())
	}
	p := ex.Process
	if p.Binary != testkit.RealPath(t, "/bin/sh") || p.CWD != "/usr" {
		t.Errorf("binary %q in %q", p.Binary, p.CWD)
	}
	if want := []string{"/bin/sh", "-c", "exit 3", "an argument", ""}; !slices.Equal(p.Args, want) {
		t.Errorf("args %q, want %q", p.Args, want)
	}
	if exit.Exit.Code != 3 || exit.Exit.Signal != 0 || exit.Exit.RunTime <= 0 {
		t.Errorf("exit %+v", exit.Exit)
	}
	testkit.CheckNamespaces(t, p.Namespaces)
}
