// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/policy"
)

// maxAliases bounds the files of one policy that are known by their inodes.
const maxAliases = 4096

// Refresh finds the files that policies deny by name and has the kernel know them by their inodes too, so that a hard link
// or a bind mount is no way round. Files come and go: call it every few seconds.
func (e *Enforcer) Refresh() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subjects == nil {
		return nil
	}
	want := make(map[subject.InodeKey]uint32)
	roots := e.roots()
	for _, in := range e.inForce {
		found := 0
		for _, pattern := range deniedPaths(in.Table.Policy) {
			for _, root := range roots {
				found += find(root, pattern, maxAliases-found, func(path string, st *unix.Stat_t) {
					key := subject.InodeKey{Inode: st.Ino, Dev: unix.Major(st.Dev)<<20 | unix.Minor(st.Dev), Table: uint32(in.Number)}
					want[key] = uint32(in.Table.Paths.Class(path))
				})
			}
		}
	}
	return e.writeInodes(want)
}

func (e *Enforcer) writeInodes(want map[subject.InodeKey]uint32) error {
	var errs []error
	var key subject.InodeKey
	var class uint32
	var gone []subject.InodeKey
	for it := e.subjects.Inodes.Iterate(); it.Next(&key, &class); {
		if want[key] == class && class != 0 {
			delete(want, key)
		} else if want[key] == 0 {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		if err := e.subjects.Inodes.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	for key, class := range want {
		if err := e.subjects.Inodes.Put(&key, class); err != nil {
			errs = append(errs, err)
			break // full: all the others fail too
		}
	}
	if err := errors.Join(errs...); err != nil {
		return kernel.Explain("know denied files by their inodes", err)
	}
	return nil
}

// deniedPaths are the path globs that a policy denies explicitly.
func deniedPaths(p *policy.Policy) (out []string) {
	if p.Files != nil {
		for _, r := range p.Files.Deny {
			out = append(out, r.Path)
		}
	}
	if p.Processes != nil {
		for _, r := range p.Processes.Deny {
			out = append(out, r.Path)
		}
	}
	return out
}

// roots are the roots of the mount namespaces of the processes under policies, as paths of this one: /proc/PID/root.
func (e *Enforcer) roots() []string {
	out := []string{"/"}
	own, _ := os.Readlink("/proc/self/ns/mnt")
	seen := map[string]bool{own: true}
	var pid uint32
	var entry subject.Entry
	for it := e.subjects.Subjects.Iterate(); it.Next(&pid, &entry) && len(out) < 256; {
		dir := "/proc/" + strconv.Itoa(int(pid))
		ns, err := os.Readlink(dir + "/ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		out = append(out, dir+"/root")
	}
	return out
}

// find calls fn for at most limit files below root that a glob matches, with their path in root.
func find(root, pattern string, limit int, fn func(string, *unix.Stat_t)) (n int) {
	look := func(name string) bool {
		var st unix.Stat_t
		if unix.Lstat(name, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK && n < limit {
			inside := strings.TrimPrefix(name, strings.TrimSuffix(root, "/"))
			fn(inside, &st)
			n++
		}
		return n < limit
	}
	before, _, deep := strings.Cut(pattern, "**")
	if !deep {
		names, _ := filepath.Glob(escapeRoot(root) + pattern)
		for _, name := range names {
			if !look(name) {
				break
			}
		}
		return n
	}
	// Below the directory before the first `**`, everything: whether it matches, the class says.
	tops, _ := filepath.Glob(escapeRoot(root) + path.Dir(before+"x"))
	for _, top := range tops {
		if filepath.Clean(top) == filepath.Clean(root) {
			continue // the whole file system: by name only
		}
		_ = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return fs.SkipDir
			}
			if !d.IsDir() && !look(name) {
				return fs.SkipAll
			}
			return nil
		})
	}
	return n
}

// escapeRoot is root as a part of a pattern, without its final '/'.
func escapeRoot(root string) string {
	if root == "/" {
		return ""
	}
	return root // "/proc/PID/root" has nothing special
}
