// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/server"
)

func TestABrokenFileKeepsTheDirectoryAsItWas(t *testing.T) {
	s := newStoreTest(t)
	s.write("a.yaml", one("a", "mode: enforce"))
	s.write("b.yml", two("b", ""))
	s.write("notes.txt", "no policy")
	s.write(".hidden.yaml", "mode: bad")
	s.write("sub.yaml/x.yaml", "mode: bad")
	s.reload(t.Context(), false)
	s.want("a enforce", "b audit")
	a := filepath.Join(s.Dir, "a.yaml")
	if p := s.policy("a"); p.Source != a {
		t.Errorf("%+v", p)
	}
	s.write("b.yml", two("b", "mode: enforce"))
	s.write("a.yaml", one("a", "mode: bad"))
	s.write("c.yaml", two("b", "")) // the name of another
	for range 2 {
		s.reload(t.Context(), false)
		s.want("a enforce", "b audit")
		if p := s.policy("a"); p.State != server.PolicyInForce || !strings.Contains(p.Message, a+":1:1: mode: is bad") {
			t.Errorf("%+v", p)
		}
		if p := s.policy("c"); p.State != server.PolicyFailed || !strings.Contains(p.Message, "policy b is also at "+filepath.Join(s.Dir, "b.yml:2:18")) {
			t.Errorf("%+v", p)
		}
		if got := s.trouble.problems(); len(got) != 2 || !strings.Contains(got[0], a+":1:1") {
			t.Errorf("problems: %q", got)
		}
		if n := strings.Count(s.log.String(), "level=ERROR"); n != 2 {
			t.Errorf("%d errors in the log:\n%s", n, s.log)
		}
		// What was in force is there after a restart, though its files are broken.
		s = s.restart()
	}
	s.write("a.yaml", one("a", ""))
	if err := os.Remove(filepath.Join(s.Dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
	s.reload(t.Context(), false)
	s.want("a audit", "b enforce")
	if got := s.trouble.problems(); len(got) != 0 {
		t.Errorf("problems: %q", got)
	}
}

func TestWhatTheKernelRefusesKeepsTheDirectoryAsItWas(t *testing.T) {
	s := newStoreTest(t)
	s.write("a.yaml", one("a", ""))
	s.reload(t.Context(), false)
	s.write("b.yaml", one("b", "refuse: true")+"---\n"+one("c", "refuse: true"))
	s.reload(t.Context(), false)
	s.want("a audit", "")
	if p := s.policy("b"); p.Source != filepath.Join(s.Dir, "b.yaml") || strings.Count(p.Message, "say weaker: accept") != 2 {
		t.Errorf("%+v", p)
	}
	s.write("b.yaml", one("b", ""))
	s.one.fail = errors.New("the map is full")
	s.reload(t.Context(), false)
	s.want("a audit", "")
	s.reload(t.Context(), false) // nothing new
	s.want("a audit", "")
	if got := s.trouble.problems(); len(got) != 1 || !strings.Contains(got[0], "the map is full") {
		t.Errorf("problems: %q", got)
	}
	s.reload(t.Context(), true)
	s.want("a audit, b audit", "")
}

func TestOneNameInTheDirectoryAndByTheAPI(t *testing.T) {
	s := newStoreTest(t)
	s.write("a.yaml", one("a", ""))
	s.reload(t.Context(), false)
	s.wantRefused(s.applyText(one("a", "")), server.Precondition, "request:2:18", filepath.Join(s.Dir, "a.yaml"))
	s.wantRefused(s.delete(t.Context(), "a"), server.Precondition, "remove it there", "vigie policy mode a audit")
	if err := s.applyText(one("b", "")); err != nil {
		t.Fatal(err)
	}
	s.write("b.yaml", one("b", "mode: enforce"))
	s.reload(t.Context(), false)
	s.want("a audit, b audit", "")
	if got := strings.Join(s.trouble.problems(), "\n"); !strings.Contains(got, "b.yaml:2:18: policy b") || !strings.Contains(got, "vigie policy delete b") {
		t.Errorf("problems: %s", got)
	}
}

func TestTheModeOfAFileHoldsUntilTheFileSaysAnother(t *testing.T) {
	s := newStoreTest(t)
	s.write("a.yaml", one("a", "mode: enforce"))
	s.reload(t.Context(), false)
	if _, err := s.setMode(t.Context(), "a", "audit"); err != nil {
		t.Fatal(err)
	}
	s.want("a audit", "")
	s = s.restart()
	s.want("a audit", "")
	s.write("a.yaml", one("a", "mode: enforce # still"))
	s.reload(t.Context(), false)
	s.want("a audit", "")
	s.write("a.yaml", one("a", "mode: audit"))
	s.reload(t.Context(), false)
	s.write("a.yaml", one("a", "mode: enforce"))
	s.reload(t.Context(), false)
	s.want("a enforce", "")
}

func TestWhatDidNotChangeIsNotBroughtInForceAnew(t *testing.T) {
	s := newStoreTest(t)
	s.write("a.yaml", one("a", "")+"---\n"+two("b", ""))
	s.reload(t.Context(), false)
	s.write("a.yaml", one("a", "")+"---\n"+two("b", "mode: enforce"))
	s.reload(t.Context(), false)
	s.want("a audit", "b enforce")
	if s.one.applied != 1 || s.two.applied != 2 {
		t.Errorf("applied %d and %d times", s.one.applied, s.two.applied)
	}
}

// watched is a store that follows its directory.
func watchedStore(t *testing.T, prepare func(*storeTest)) *storeTest {
	s := newStoreTest(t)
	prepare(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return s
}

func (s *storeTest) eventually(one string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if s.one.has() == one {
			return
		}
		runtime.Gosched()
	}
	s.t.Fatalf("in force: %q, want %q; %q", s.one.has(), one, s.trouble.problems())
}

func (s *storeTest) do(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestTheDirectoryIsFollowed(t *testing.T) {
	s := watchedStore(t, func(*storeTest) {}) // there is no directory yet, nor what it is in
	s.write("a.yaml", one("a", ""))
	s.eventually("a audit")
	s.write("a.yaml", one("a", "mode: enforce"))
	s.eventually("a enforce")
	// As editors and tools save: a new file takes the name.
	s.write("b.yaml~", one("b", ""))
	s.do(os.Rename(filepath.Join(s.Dir, "b.yaml~"), filepath.Join(s.Dir, "b.yaml")))
	s.eventually("a enforce, b audit")
	s.do(os.Link(filepath.Join(s.Dir, "b.yaml"), filepath.Join(s.Dir, "b.bak")))
	s.do(os.Remove(filepath.Join(s.Dir, "b.yaml")))
	s.eventually("a enforce")
	s.do(os.Link(filepath.Join(s.Dir, "b.bak"), filepath.Join(s.Dir, "b.yaml")))
	s.eventually("a enforce, b audit")
	// The directory goes and comes, and another takes its place.
	s.do(os.RemoveAll(filepath.Dir(s.Dir)))
	s.eventually("")
	s.write("c.yaml", one("c", ""))
	s.eventually("c audit")
	s.do(os.Rename(s.Dir, s.Dir+".old"))
	s.eventually("")
	s.do(os.Rename(s.Dir+".old", s.Dir))
	s.eventually("c audit")
}

// A volume of Kubernetes: the files are links into a directory whose name is a link, which is replaced.
func TestAVolumeOfKubernetesIsFollowed(t *testing.T) {
	s := watchedStore(t, func(s *storeTest) {
		s.write("..1/a.yaml", one("a", ""))
		s.do(os.Symlink("..1", filepath.Join(s.Dir, "..data")))
		s.do(os.Symlink("..data/a.yaml", filepath.Join(s.Dir, "a.yaml")))
	})
	s.eventually("a audit")
	s.write("..2/a.yaml", one("a", "mode: enforce"))
	s.do(os.Symlink("..2", filepath.Join(s.Dir, "..data_tmp")))
	s.do(os.Rename(filepath.Join(s.Dir, "..data_tmp"), filepath.Join(s.Dir, "..data")))
	s.do(os.RemoveAll(filepath.Join(s.Dir, "..1")))
	s.eventually("a enforce")
	s.write("..2/a.yaml", one("a", ""))
	s.eventually("a audit")
}

func TestWhatLinksLeadToIsFollowed(t *testing.T) {
	elsewhere := t.TempDir()
	target := filepath.Join(elsewhere, "policy")
	s := watchedStore(t, func(s *storeTest) {
		s.do(os.WriteFile(target, []byte(one("a", "")), 0o644))
		real := filepath.Join(elsewhere, "real")
		s.do(os.Mkdir(real, 0o755))
		s.do(os.Mkdir(filepath.Dir(s.Dir), 0o755))
		s.do(os.Symlink(real, s.Dir)) // the directory is a link itself
		s.do(os.Symlink(target, filepath.Join(s.Dir, "a.yaml")))
	})
	s.eventually("a audit")
	s.do(os.WriteFile(target, []byte(one("a", "mode: enforce")), 0o644))
	s.eventually("a enforce")
	other := filepath.Join(elsewhere, "other")
	s.do(os.Mkdir(other, 0o755))
	s.do(os.WriteFile(filepath.Join(other, "b.yaml"), []byte(one("b", "")), 0o644))
	s.do(os.Symlink(other, s.Dir+".new"))
	s.do(os.Rename(s.Dir+".new", s.Dir))
	s.eventually("b audit")
}
