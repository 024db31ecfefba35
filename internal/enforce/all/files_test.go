// SPDX-License-Identifier: Apache-2.0

package all

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// fileRungs are the ways to deny that a file is opened, each forced.
func fileRungs(t *testing.T, test func(t *testing.T, w *world)) {
	for _, backend := range []string{"lsm", "fmod_ret", "fanotify"} {
		t.Run(backend, func(t *testing.T) {
			w := newWorld(t, backend)
			writeFile(t, w.dir+"/secret/key", []byte("secret"), 0o644)
			writeFile(t, w.dir+"/data/file", []byte("data"), 0o644)
			test(t, w)
		})
	}
}

// nameRungs are the ways to deny that names and attributes are changed.
func nameRungs(t *testing.T, test func(t *testing.T, w *world)) {
	for _, backend := range []string{"lsm", "fmod_ret"} {
		t.Run(backend, func(t *testing.T) {
			w := newWorld(t, backend)
			writeFile(t, w.dir+"/secret/key", []byte("secret"), 0o644)
			writeFile(t, w.dir+"/data/file", []byte("data"), 0o644)
			test(t, w)
		})
	}
}

func TestDenyOpen(t *testing.T) {
	fileRungs(t, func(t *testing.T, w *world) {
		w.apply("\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/secret/key\", access: [read]}, {path: \"{dir}/data/*.ro\", access: [write]}]}")
		w.expect("ok", "read", "{dir}/data/file")
		w.expect("ok", "write", "{dir}/data/file")
		w.expect("EPERM", "read", "{dir}/secret/key")
		if v := w.verdict(model.VerdictDenied, model.OpRead, w.dir+"/secret/key"); v.Rule != "files.deny[0]" {
			t.Errorf("decided by %s", v.Rule)
		}
		w.expect("ok", "write", "{dir}/secret/key")
		w.expect("ok", "create", "{dir}/data/new")
		w.expect("EPERM", "create", "{dir}/data/new.ro")
		if got := w.doAs("/proc/self/exe", "read", w.dir+"/secret/key"); got != "ok" {
			t.Errorf("a process under no policy: %s", got)
		}
	})
}

// Files that are not there yet have nothing but their names to be told apart by.
func TestEachFileIsTold(t *testing.T) {
	fileRungs(t, func(t *testing.T, w *world) {
		w.apply("\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/data/*.ro\", access: [write]}]}")
		w.expect("EPERM", "create-each", "{dir}/data/a.ro", "{dir}/data/b.ro", "{dir}/data/c.ro")
		for _, name := range []string{"a", "b", "c"} {
			w.verdict(model.VerdictDenied, model.OpWrite, w.dir+"/data/"+name+".ro")
		}
	})
}

// What names a file by another way than its path meets the same rule.
func TestDenyOpenByOtherWays(t *testing.T) {
	fileRungs(t, func(t *testing.T, w *world) {
		link := func(name, to string) {
			if err := os.Symlink(to, w.dir+name); err != nil {
				t.Fatal(err)
			}
		}
		link("/data/symlink", "../secret/key")
		link("/data/dirlink", w.dir+"/secret")
		if err := os.Link(w.dir+"/secret/key", w.dir+"/data/hardlink"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(w.dir+"/bind", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(w.dir+"/secret", w.dir+"/bind", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(w.dir+"/bind", unix.MNT_DETACH)
		w.apply("\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/secret/*\", access: [read, write]}]}")
		if err := w.enforcer.Refresh(); err != nil {
			t.Fatal(err)
		}
		for _, deed := range [][]string{
			{"read", "{dir}/data/symlink"}, {"read", "{dir}/data/dirlink/key"}, {"read", "{dir}/data/../secret/./key"},
			{"read", "secret/key"}, {"chdir-read", "{dir}/secret", "key"}, {"openat2", "{dir}/secret/key"},
			{"reopen", "{dir}/secret/key"}, {"read", "{dir}/data/hardlink"}, {"read", "{dir}/bind/key"},
			{"read", "/proc/self/root{dir}/secret/key"}, {"chroot-read", "{dir}", "/secret/key"}, {"uring", "{dir}/secret/key"},
		} {
			w.expect("EPERM", deed...)
		}
		w.expect("ok", "uring", "{dir}/data/file")
		w.expect("ok", "chroot-read", "{dir}", "/data/file")
		// Renamed over, the name still is the rule's.
		writeFile(t, w.dir+"/data/other", nil, 0o644)
		if err := os.Rename(w.dir+"/data/other", w.dir+"/secret/key"); err != nil {
			t.Fatal(err)
		}
		w.expect("EPERM", "read", "{dir}/secret/key")
	})
}

// A file that gets its name late, one whose name is hidden in a mount namespace, and calls that keep their flags in memory.
func TestDenyOpenOfOtherKinds(t *testing.T) {
	fileRungs(t, func(t *testing.T, w *world) {
		if err := os.Mkdir(w.dir+"/other", 0o755); err != nil {
			t.Fatal(err)
		}
		w.apply("\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/secret/*\", access: [read]}, {path: \"{dir}/data/*.ro\", access: [write]}]}")
		if err := w.enforcer.Refresh(); err != nil {
			t.Fatal(err)
		}
		w.expect("ok", "tmpfile-link", "{dir}/data", "{dir}/secret/new")
		w.expect("EPERM", "read", "{dir}/secret/new")
		w.expect("EPERM", "hide-read", "{dir}/secret", "{dir}/other")
		writeFile(t, w.dir+"/data/file.ro", nil, 0o644)
		w.expect("EPERM", "openat2-write", "{dir}/data/file.ro")
		w.expect("ok", "openat2-write", "{dir}/data/file")
		w.expect("ok", "read", "{dir}/data/file.ro")
	})
}

// While policies are replaced, what all of them say of an open holds for every one of a thousand.
func TestReplaceWithoutGapForOpens(t *testing.T) {
	fileRungs(t, func(t *testing.T, w *world) {
		policies := []string{
			"\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/secret/*\", access: [read]}]}",
			"\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/secret/**\", access: [read, write]}]}",
			"\tmode: enforce\n\tonDenied: deny\n\tfiles: {deny: [{path: \"{dir}/secret/key\", access: [read]}]}",
		}
		w.apply(policies[0])
		var readers sync.WaitGroup
		var left atomic.Int32
		for range 4 {
			left.Add(1)
			readers.Go(func() {
				defer left.Add(-1)
				w.expect(w.dir+"/secret/key never, "+w.dir+"/data/file always", "read-many", "{dir}/secret/key", "{dir}/data/file")
			})
		}
		replaced := 0
		for left.Load() > 0 {
			replaced++
			w.apply(policies[replaced%len(policies)])
		}
		readers.Wait()
		t.Logf("replaced %d times", replaced)
	})
}

// A list of what is allowed denies all else.
func TestAllowOpen(t *testing.T) {
	fileRungs(t, func(t *testing.T, w *world) {
		w.apply("\tmode: enforce\n\tweaker: accept\n\tfiles:\n\t\tallow: [{path: \"{dir}/data/**\", access: [read, write]}, {path: \"{dir}/bin/**\", access: [read]}, {path: \"/proc/**\", access: [read]}, {path: \"/sys/**\", access: [read]}, {path: \"/dev/**\", access: [read, write]}]")
		w.expect("ok", "read", "{dir}/data/file")
		w.expect("ok", "create", "{dir}/data/new")
		w.expect("EPERM", "read", "{dir}/secret/key")
		w.expect("EPERM", "create", "{dir}/bin/new")
		w.expect("EPERM", "create", "{dir}/secret/new")
		if v := w.verdict(model.VerdictDenied, model.OpRead, w.dir+"/secret/key"); v.Rule != "files.allow" {
			t.Errorf("decided by %s", v.Rule)
		}
	})
}

func TestAuditOpen(t *testing.T) {
	fileRungs(t, func(t *testing.T, w *world) {
		w.apply("\tmode: audit\n\tfiles: {deny: [{path: \"{dir}/secret/*\", access: [read]}]}")
		w.expect("ok", "read", "{dir}/secret/key")
		w.verdict(model.VerdictAudited, model.OpRead, w.dir+"/secret/key")
	})
}

func TestKillOpen(t *testing.T) {
	fileRungs(t, func(t *testing.T, w *world) {
		w.apply("\tmode: enforce\n\tonDenied: kill\n\tfiles: {deny: [{path: \"{dir}/secret/*\", access: [read]}]}")
		w.expect("killed", "read", "{dir}/secret/key")
		w.verdict(model.VerdictKilled, model.OpRead, w.dir+"/secret/key")
		w.expect("ok", "read", "{dir}/data/file")
	})
}

func TestDenyNames(t *testing.T) {
	nameRungs(t, func(t *testing.T, w *world) {
		w.apply("\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/secret/**\", access: [modify]}]}")
		for _, deed := range [][]string{
			{"unlink", "{dir}/secret/key"}, {"rename", "{dir}/secret/key", "{dir}/data/key"}, {"rename", "{dir}/data/file", "{dir}/secret/key"},
			{"link", "{dir}/secret/key", "{dir}/data/hard"}, {"link", "{dir}/data/file", "{dir}/secret/hard"}, {"mkdir", "{dir}/secret/dir"},
			{"chmod", "{dir}/secret/key"}, {"tmpfile-link", "{dir}/data", "{dir}/secret/new"},
		} {
			w.expect("EPERM", deed...)
		}
		w.verdict(model.VerdictDenied, model.OpModify, w.dir+"/secret/key")
		w.expect("ok", "read", "{dir}/secret/key")
		w.expect("ok", "chmod", "{dir}/data/file")
		w.expect("ok", "mkdir", "{dir}/data/dir")
		w.expect("ok", "rename", "{dir}/data/file", "{dir}/data/file2")
		w.expect("ok", "unlink", "{dir}/data/file2")
		w.apply("\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/secret/**\", access: [write]}]}")
		w.expect("EPERM", "truncate", "{dir}/secret/key")
		w.expect("EPERM", "create", "{dir}/secret/new")
		w.expect("ok", "unlink", "{dir}/secret/key")
	})
}

// A program runs by a loader that is executed in its place; an interpreter runs a script that is executed.
func TestExecByOtherWays(t *testing.T) {
	for _, backend := range []string{"lsm", "fmod_ret", "fanotify"} {
		t.Run(backend, func(t *testing.T) {
			w := newWorld(t, backend)
			ldso := loader(t)
			id, err := exec.LookPath("id")
			if err != nil {
				t.Skip("needs a program that is linked dynamically: id")
			}
			copyFile(t, id, w.dir+"/bin/id")
			writeFile(t, w.dir+"/bin/script", []byte("#!/bin/sh\nexit 0\n"), 0o755)
			w.apply("\tmode: enforce\n\tprocesses: {deny: [{path: \"{dir}/bin/id\"}, {path: \"{dir}/bin/script\"}]}")
			w.expect("EPERM", "exec", "{dir}/bin/id")
			w.expect("EPERM", "exec", "{dir}/bin/script")
			if got := w.do("exec", ldso, "{dir}/bin/id"); got == "ok" || strings.Contains(got, "uid=") {
				t.Errorf("the loader ran what is denied: %s", got)
			}
			if got := w.do("exec", ldso, id); !strings.Contains(got, "uid=") {
				t.Errorf("the loader did not run what is not denied: %s", got)
			}
		})
	}
}

func loader(t *testing.T) string {
	t.Helper()
	for _, pattern := range []string{"/lib64/ld-linux-*.so.*", "/lib/ld-linux-*.so.*"} {
		if names, _ := filepath.Glob(pattern); len(names) > 0 {
			real, err := filepath.EvalSymlinks(names[0])
			if err != nil {
				t.Fatal(err)
			}
			return real
		}
	}
	t.Skip("needs a dynamic loader")
	return ""
}

// While policies are replaced, what both deny stays denied and what both allow stays allowed.
func TestReplaceWithoutGap(t *testing.T) {
	rungs := func(t *testing.T, test func(t *testing.T, w *world, denied string)) {
		execRungs(t, test)
	}
	rungs(t, func(t *testing.T, w *world, denied string) {
		policies := []string{
			weaker(denied) + "\tmode: enforce\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\"}]}",
			weaker(denied) + "\tmode: enforce\n\tprocesses: {allow: [{path: \"{dir}/bin/good\"}, {path: \"{dir}/bin/actor\"}]}",
		}
		w.apply(policies[0])
		const attempts = 1000
		var wrong atomic.Int32
		var next atomic.Int32
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for n := next.Add(1); n <= attempts; n = next.Add(1) {
					binary, want := w.dir+"/bin/bad", denied
					if n%2 == 0 {
						binary, want = w.dir+"/bin/good", "ok"
					}
					if got := w.do("exec", binary, "nothing"); got != want {
						wrong.Add(1)
						t.Errorf("exec %s: %s, want %s", binary, got, want)
					}
				}
			})
		}
		replaced := 0
		for next.Load() < attempts {
			replaced++
			w.apply(policies[replaced%2])
		}
		workers.Wait()
		t.Logf("%d attempts while the policy was replaced %d times, %d wrong", attempts, replaced, wrong.Load())
	})
}
