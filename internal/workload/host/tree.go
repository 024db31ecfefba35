// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoHierarchy: no mounted hierarchy has that number.
	ErrNoHierarchy = errors.New("cgroup hierarchy is not mounted")
	// ErrGone: the cgroup was removed.
	ErrGone = errors.New("cgroup is gone")
)

// fileidKernfs is the type of the file handles of kernfs (FILEID_KERNFS in linux/exportfs.h): the
// eight bytes of the node id, which is the cgroup id, in the machine's byte order.
const fileidKernfs = 0xfe

// Tree finds the paths of cgroups in the mounted hierarchies. Safe for concurrent use.
type Tree struct {
	proc string

	mu     sync.RWMutex
	mounts map[uint32]mount
}

type mount struct {
	Hierarchy
	dir *os.File
}

// Open opens the root of each cgroup hierarchy that proc (normally "/proc") says is mounted. An error
// means that there is none; the Tree is of use all the same, after a Refresh that succeeds. Close it.
func Open(proc string) (*Tree, error) {
	t := &Tree{proc: proc, mounts: make(map[uint32]mount)}
	return t, t.Refresh()
}

// Refresh opens the hierarchies that were mounted since.
func (t *Tree) Refresh() error {
	found, err := Discover(t.proc)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range found {
		if old, ok := t.mounts[h.ID]; ok {
			if old.Mount == h.Mount && old.Root == h.Root {
				continue
			}
			old.dir.Close()
			delete(t.mounts, h.ID)
		}
		dir, openErr := os.Open(h.Mount)
		if openErr != nil {
			err = errors.Join(err, fmt.Errorf("open cgroup hierarchy %d: %w", h.ID, openErr))
			continue
		}
		t.mounts[h.ID] = mount{h, dir}
	}
	return err
}

// Hierarchies lists the open hierarchies, v2 first.
func (t *Tree) Hierarchies() []Hierarchy {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Hierarchy, 0, len(t.mounts))
	for _, m := range t.mounts {
		out = append(out, m.Hierarchy)
	}
	slices.SortFunc(out, func(a, b Hierarchy) int { return int(a.ID) - int(b.ID) })
	return out
}

// Path is the path of a cgroup by its id, relative to the root of its hierarchy; three system calls,
// whatever the number of cgroups. Errors: ErrNoHierarchy, ErrGone, or the kernel's: EPERM without
// CAP_DAC_READ_SEARCH in the first user namespace, ENOSYS or EPERM under a system call filter. Walk
// works in these cases.
func (t *Tree) Path(hierarchy uint32, id uint64) (string, error) {
	t.mu.RLock()
	defer t.mu.RUnlock() // holds off a Refresh or Close of the directory
	m, ok := t.mounts[hierarchy]
	if !ok {
		return "", ErrNoHierarchy
	}
	handle := unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(int(m.dir.Fd()), handle, unix.O_PATH|unix.O_CLOEXEC)
	if errors.Is(err, unix.ESTALE) {
		return "", ErrGone
	}
	if err != nil {
		return "", fmt.Errorf("open cgroup by id (needs CAP_DAC_READ_SEARCH): %w", err)
	}
	defer unix.Close(fd)
	full, err := os.Readlink(filepath.Join(t.proc, "self/fd", strconv.Itoa(fd)))
	if err != nil {
		return "", fmt.Errorf("read the path of a cgroup: %w", err)
	}
	rel, ok := strings.CutPrefix(full, strings.TrimSuffix(m.Mount, "/"))
	if !ok || rel != "" && rel[0] != '/' {
		return "", fmt.Errorf("cgroup %d is at %q, outside of its mount %q", id, full, m.Mount)
	}
	return m.abs(strings.TrimSuffix(rel, " (deleted)")), nil
}

// Walk calls found with the id and path of every cgroup of a hierarchy. Cgroups that go away on the
// way are left out.
func (t *Tree) Walk(ctx context.Context, hierarchy uint32, found func(id uint64, path string)) error {
	t.mu.RLock()
	m, ok := t.mounts[hierarchy]
	t.mu.RUnlock()
	if !ok {
		return ErrNoHierarchy
	}
	err := filepath.WalkDir(m.Mount, func(p string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // removed meanwhile, or not ours to read
			return nil
		}
		if !d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		// Since Linux 5.5 and on 64-bit machines, all that this runs on, the inode number is the id.
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			found(st.Ino, m.abs(strings.TrimPrefix(p, m.Mount)))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("walk cgroup hierarchy %d: %w", hierarchy, err)
	}
	return nil
}

// Close closes the hierarchies.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	for id, m := range t.mounts {
		err = errors.Join(err, m.dir.Close())
		delete(t.mounts, id)
	}
	return err
}

// abs makes a path below the mount one below the root of the hierarchy.
func (m mount) abs(rel string) string { return path.Clean("/" + m.Root + "/" + rel) }
