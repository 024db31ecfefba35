// SPDX-License-Identifier: Apache-2.0

package all

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// execRungs are the ways to deny an exec, each forced, and how a denied one looks to the process.
func execRungs(t *testing.T, test func(t *testing.T, w *world, denied string)) {
	for _, rung := range []struct{ backend, denied string }{{"lsm", "EPERM"}, {"fmod_ret", "EPERM"}, {"fanotify", "EPERM"}, {"execkill", "killed"}} {
		t.Run(rung.backend, func(t *testing.T) {
			w := newWorld(t, rung.backend)
			copyFile(t, w.actor, w.dir+"/bin/good")
			copyFile(t, w.actor, w.dir+"/bin/bad")
			test(t, w, rung.denied)
		})
	}
}

// action is what a verdict says of a denied exec.
func action(denied string) model.VerdictAction {
	if denied == "killed" {
		return model.VerdictKilled
	}
	return model.VerdictDenied
}

// weaker is what a policy has to accept where a denial is a kill.
func weaker(denied string) string {
	if denied == "killed" {
		return "\tweaker: accept\n"
	}
	return ""
}

func TestDenyExec(t *testing.T) {
	execRungs(t, func(t *testing.T, w *world, denied string) {
		w.apply(weaker(denied) + "\tmode: enforce\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\"}]}")
		w.expect("ok", "exec", "{dir}/bin/good", "nothing")
		w.expect(denied, "exec", "{dir}/bin/bad", "nothing")
		v := w.verdict(action(denied), model.OpExec, w.dir+"/bin/bad")
		if v.Policy != "p0" || v.Rule != "processes.deny[0]" {
			t.Errorf("decided by %s %s", v.Policy, v.Rule)
		}
		// Its children too, and theirs.
		w.expect("ok", "spawn", "{dir}/bin/good", "exec", w.dir+"/bin/good", "nothing")
		w.expect(denied, "spawn", "{dir}/bin/bad", "nothing")
		// By other names of the same object.
		if err := os.Symlink(w.dir+"/bin/bad", w.dir+"/data/link"); err != nil {
			t.Fatal(err)
		}
		w.expect(denied, "exec", "{dir}/data/link", "nothing")
		w.expect(denied, "exec", "{dir}/data/../bin/bad", "nothing")
		w.expect(denied, "exec", "bin/bad", "nothing")
		// Nobody else is concerned.
		if got := w.doAs(w.dir+"/bin/bad", "nothing"); got != "ok" {
			t.Errorf("a process under no policy: %s", got)
		}
	})
}

// What names a program by another way than its path meets the same rule.
func TestDenyExecByOtherNames(t *testing.T) {
	execRungs(t, func(t *testing.T, w *world, denied string) {
		if err := os.Link(w.dir+"/bin/bad", w.dir+"/data/hardlink"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(w.dir+"/bind", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(w.dir+"/bin", w.dir+"/bind", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(w.dir+"/bind", unix.MNT_DETACH)
		w.apply(weaker(denied) + "\tmode: enforce\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\"}]}")
		if err := w.enforcer.Refresh(); err != nil {
			t.Fatal(err)
		}
		for _, deed := range [][]string{
			{"exec", "{dir}/data/hardlink", "nothing"}, {"exec", "{dir}/bind/bad", "nothing"}, {"exec-fd", "{dir}/bin/bad", "nothing"},
			{"exec", "/proc/self/root{dir}/bin/bad", "nothing"},
		} {
			w.expect(denied, deed...)
		}
		w.expect("ok", "exec", "{dir}/bind/good", "nothing")
		w.expect("ok", "exec-fd", "{dir}/bin/good", "nothing")
		// Another program under its name: by a rename over it, and from a file that had none.
		copyFile(t, w.actor, w.dir+"/data/next")
		if err := os.Rename(w.dir+"/data/next", w.dir+"/bin/bad"); err != nil {
			t.Fatal(err)
		}
		w.expect(denied, "exec", "{dir}/bin/bad", "nothing")
		if err := os.Remove(w.dir + "/bin/bad"); err != nil {
			t.Fatal(err)
		}
		w.expect(denied, "tmpfile-exec", "{dir}/data", "{dir}/bin/good", "{dir}/bin/bad", "nothing")
	})
}

func TestAllowExec(t *testing.T) {
	execRungs(t, func(t *testing.T, w *world, denied string) {
		w.apply(weaker(denied) + "\tmode: enforce\n\tprocesses: {allow: [{path: \"{dir}/bin/good\"}]}")
		w.expect("ok", "exec", "{dir}/bin/good", "nothing")
		w.expect(denied, "exec", "{dir}/bin/bad", "nothing")
		if v := w.verdict(action(denied), model.OpExec, w.dir+"/bin/bad"); v.Rule != "processes.allow" {
			t.Errorf("decided by %s", v.Rule)
		}
		// A file without a name is on no list. Whatever rung stands before it, the last one kills.
		if got := w.do("memfd", "{dir}/bin/good", "nothing"); got != denied && got != "killed" {
			t.Errorf("memfd: %s", got)
		}
	})
}

// The program that runs may not be started again, and not by another's first line.
func TestDenyExecOfItself(t *testing.T) {
	execRungs(t, func(t *testing.T, w *world, denied string) {
		writeFile(t, w.dir+"/data/script", []byte("#!"+w.dir+"/bin/bad nothing\n"), 0o755)
		w.apply(weaker(denied) + "\tmode: enforce\n\tprocesses: {deny: [{path: \"{dir}/bin/actor\"}, {path: \"{dir}/bin/bad\"}]}")
		w.expect(denied, "exec", "/proc/self/exe", "nothing")
		w.expect(denied, "exec", "{dir}/data/script")
		w.expect("ok", "exec", "{dir}/bin/good", "nothing")
	})
}

func TestAuditExec(t *testing.T) {
	execRungs(t, func(t *testing.T, w *world, _ string) {
		w.apply("\tmode: audit\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\"}]}")
		w.expect("ok", "exec", "{dir}/bin/bad", "nothing")
		w.verdict(model.VerdictAudited, model.OpExec, w.dir+"/bin/bad")
	})
}

func TestExecBy(t *testing.T) {
	execRungs(t, func(t *testing.T, w *world, denied string) {
		w.apply(weaker(denied) + "\tmode: enforce\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\", by: [\"{dir}/bin/good\"]}]}")
		w.expect("ok", "exec", "{dir}/bin/bad", "nothing")
		w.expect(denied, "exec", "{dir}/bin/good", "exec", "{dir}/bin/bad", "nothing")
		w.apply(weaker(denied) + "\tmode: enforce\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\", parent: [\"{dir}/bin/good\"]}]}")
		w.expect("ok", "exec", "{dir}/bin/bad", "nothing")
		w.expect("ok", "exec", "{dir}/bin/good", "exec", "{dir}/bin/bad", "nothing")
		w.expect(denied, "exec", "{dir}/bin/good", "spawn", "{dir}/bin/actor", "exec", "{dir}/bin/bad", "nothing")
	})
}

func TestKill(t *testing.T) {
	execRungs(t, func(t *testing.T, w *world, _ string) {
		w.apply("\tmode: enforce\n\tonDenied: kill\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\"}]}")
		w.expect("ok", "exec", "{dir}/bin/good", "nothing")
		w.expect("killed", "exec", "{dir}/bin/bad", "nothing")
		w.verdict(model.VerdictKilled, model.OpExec, w.dir+"/bin/bad")
	})
}

func TestWeaker(t *testing.T) {
	w := newWorld(t, "execkill")
	err := w.tryApply("\tmode: enforce\n\tprocesses: {deny: [{path: /bin/false}]}")
	if err == nil {
		t.Fatal("a denial that would be a kill was not refused")
	}
	t.Log(err)
	w.apply("\tmode: enforce\n\tprocesses: {deny: [{path: /bin/false, weaker: accept}]}")
}
