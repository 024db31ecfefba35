// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/policy"
)

const treePolicy = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: test}
spec:
  selector: {}
  mode: enforce
  files: {deny: [{path: "%s/**", access: [read]}]}
`

func newTreeScene(t testing.TB) *scene {
	t.Helper()
	s := newScene(t, "allow")
	for _, dir := range []string{"secret", "plain", "plain/sub", "mnt"} {
		if err := os.Mkdir(s.dir+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"secret/file", "plain/file", "plain/sub/file"} {
		if err := os.WriteFile(s.dir+"/"+file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.order(order{Policy: fmt.Sprintf(treePolicy, s.dir+"/secret")})
	s.expect("EPERM", "secret/file")
	s.expect("ok", "plain/file")
	s.quiet("plain/file")
	return s
}

// quiet waits until nobody is asked about a file any more.
func (s *scene) quiet(name string) {
	s.t.Helper()
	s.await("nobody is asked about "+name, func(before said) bool {
		s.expect("ok", name)
		return s.order(order{Losses: true}).Events == before.Events
	})
}

// What was found not to matter is asked about again as soon as it may: a gap of milliseconds where the kernel tells of
// the change afterwards, none where the agent makes it.
func TestCacheForgets(t *testing.T) {
	becomesDenied := func(s *scene, name string) {
		s.t.Helper()
		s.await(name+" is denied", func(said) bool {
			s.ask(name)
			return s.answer() == "EPERM"
		})
	}
	t.Run("a file is moved", func(t *testing.T) {
		s := newTreeScene(t)
		if err := os.Rename(s.dir+"/plain/file", s.dir+"/secret/moved"); err != nil {
			t.Fatal(err)
		}
		s.expect("EPERM", "secret/moved")
	})
	t.Run("a file is linked", func(t *testing.T) {
		s := newTreeScene(t)
		if err := os.Link(s.dir+"/plain/file", s.dir+"/secret/linked"); err != nil {
			t.Fatal(err)
		}
		s.expect("EPERM", "secret/linked")
		s.expect("ok", "plain/file")
	})
	t.Run("a directory is moved", func(t *testing.T) {
		s := newTreeScene(t)
		s.quiet("plain/sub/file")
		if err := os.Rename(s.dir+"/plain", s.dir+"/secret/moved"); err != nil {
			t.Fatal(err)
		}
		becomesDenied(s, "secret/moved/file")
		becomesDenied(s, "secret/moved/sub/file")
	})
	t.Run("a directory is mounted", func(t *testing.T) {
		s := newTreeScene(t)
		if err := os.Mkdir(s.dir+"/secret/mnt", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(s.dir+"/plain", s.dir+"/secret/mnt", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(s.dir+"/secret/mnt", unix.MNT_DETACH)
		becomesDenied(s, "secret/mnt/file")
		s.expect("ok", "plain/file")
	})
	t.Run("a policy comes", func(t *testing.T) {
		s := newTreeScene(t)
		s.order(order{Policy: fmt.Sprintf(treePolicy, s.dir+"/plain")})
		s.expect("EPERM", "plain/file")
		s.expect("ok", "secret/file")
	})
}

// Whether a table says nothing of a directory's files is asked of the table itself.
func TestSilent(t *testing.T) {
	table := tableOf(t, `  files: {deny: [{path: "/a/b*/**/key", access: [read]}, {path: /c/one}, {path: "/d/?.txt", access: [modify]}, {path: "/e/**"}]}`+"\n")
	c := &cache{tables: []*policy.Table{table}, memo: make(map[memoKey]bool)}
	for dir, want := range map[string]bool{
		"/": true, "/a": true, "/a/b": false, "/a/c": true, "/a/bc/d/e": false, "/c": false, "/c/one": true, "/d": true, "/e": false, "/e/f/g": false,
		"/usr/lib": true,
	} {
		if got := c.silent(dir); got != want {
			t.Errorf("%s: %v, want %v", dir, got, want)
		}
	}
	c.tables = []*policy.Table{tableOf(t, `  files: {allow: [{path: "/usr/**", access: [read, write]}]}`+"\n")}
	c.memo = make(map[memoKey]bool)
	for dir, want := range map[string]bool{"/usr/lib": true, "/usr": true, "/": false, "/etc": false} {
		if got := c.silent(dir); got != want {
			t.Errorf("allow list: %s: %v, want %v", dir, got, want)
		}
	}
}
