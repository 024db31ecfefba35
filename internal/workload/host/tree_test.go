// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTree resolves real cgroups in every hierarchy that is mounted here: by id, by a walk, and after
// they are gone.
func TestTree(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups, and CAP_DAC_READ_SEARCH to open them by id")
	}
	tree, err := Open("/proc")
	if err != nil {
		t.Skipf("needs a mounted cgroup hierarchy: %v", err)
	}
	defer tree.Close()
	tried := 0
	for _, h := range tree.Hierarchies() {
		rel := filepath.Join("vigie-test-"+filepath.Base(t.TempDir()), "a b", "docker-"+idA+".scope")
		dir := filepath.Join(h.Mount, rel)
		if !makeCgroup(t, h.Mount, rel) {
			continue
		}
		tried++
		id, want := cgroupID(t, dir), h.rooted(rel)
		if got, err := tree.Path(h.ID, id); err != nil || got != want {
			t.Errorf("hierarchy %d %v: path of %d: %q, %v; want %q", h.ID, h.Controllers, id, got, err, want)
		}
		walked := ""
		if err := tree.Walk(context.Background(), h.ID, func(i uint64, p string) {
			if i == id {
				walked = p
			}
		}); err != nil || walked != want {
			t.Errorf("hierarchy %d: walk found %q, %v; want %q", h.ID, walked, err, want)
		}
		if rootID := cgroupID(t, h.Mount); h.Root == "/" {
			if got, err := tree.Path(h.ID, rootID); err != nil || got != "/" {
				t.Errorf("hierarchy %d: root is %q, %v", h.ID, got, err)
			}
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if got, err := tree.Path(h.ID, id); !errors.Is(err, ErrGone) {
			t.Errorf("hierarchy %d: removed cgroup: %q, %v; want %v", h.ID, got, err, ErrGone)
		}
	}
	if tried == 0 {
		t.Skip("needs a cgroup hierarchy that is mounted writable")
	}
	if _, err := tree.Path(1<<30, 1); !errors.Is(err, ErrNoHierarchy) {
		t.Errorf("unknown hierarchy: %v", err)
	}
}

// TestPathWithoutCapability: the answer of a kernel that refuses must not be taken for a cgroup that is gone.
func TestPathWithoutCapability(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a capability to give up")
	}
	tree, err := Open("/proc")
	if err != nil {
		t.Skipf("needs a mounted cgroup hierarchy: %v", err)
	}
	defer tree.Close()
	h := tree.Hierarchies()[0]
	id := cgroupID(t, h.Mount)
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread that lost the capability ends with the goroutine
		result <- func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			if err := unix.Capget(&header, &data[0]); err != nil {
				return err
			}
			data[0].Effective &^= 1 << unix.CAP_DAC_READ_SEARCH
			if err := unix.Capset(&header, &data[0]); err != nil {
				return err
			}
			_, err := tree.Path(h.ID, id)
			return err
		}()
	}()
	if err := <-result; !errors.Is(err, unix.EPERM) || errors.Is(err, ErrGone) {
		t.Errorf("without CAP_DAC_READ_SEARCH: %v, want EPERM", err)
	}
}

func (h Hierarchy) rooted(rel string) string { return mount{Hierarchy: h}.abs("/" + rel) }

// makeCgroup makes the cgroups of rel below mount and removes them after the test, innermost first.
func makeCgroup(t *testing.T, mount, rel string) bool {
	t.Helper()
	parent := mount
	for p := range strings.SplitSeq(rel, "/") {
		dir := filepath.Join(parent, p)
		parent = dir
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Logf("cannot make a cgroup: %v", err)
			return false
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
				t.Errorf("cgroup left behind: %v", err)
			}
		})
	}
	return true
}

// cgroupID asks the kernel for the id the other way round than the code under test does.
func cgroupID(t *testing.T, dir string) uint64 {
	t.Helper()
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, 0)
	if err != nil {
		t.Fatalf("id of %s: %v", dir, err)
	}
	return binary.NativeEndian.Uint64(handle.Bytes())
}
