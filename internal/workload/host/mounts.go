// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Hierarchy is one cgroup hierarchy and where it is mounted.
type Hierarchy struct {
	ID          uint32   // the kernel's number; 0 is cgroup v2
	Controllers []string // v1: "pids", "memory", "name=systemd"; none for v2
	Mount       string   // mount point
	Root        string   // the mount's root inside the hierarchy, "/" unless it shows only a part
}

// initCgroupNamespace is the inode number of the first cgroup namespace (PROC_CGROUP_INIT_INO).
const initCgroupNamespace = "cgroup:[4026531835]"

// Discover reads from proc (normally "/proc") which cgroup hierarchies are mounted, each once, v2 first.
func Discover(proc string) ([]Hierarchy, error) {
	mounts, err := os.Open(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read the mount table (is /proc mounted?): %w", err)
	}
	defer mounts.Close()
	groups, err := os.Open(filepath.Join(proc, "self/cgroup"))
	if err != nil {
		return nil, fmt.Errorf("read the cgroup hierarchies (does the kernel have CONFIG_CGROUPS?): %w", err)
	}
	defer groups.Close()
	return parseHierarchies(mounts, groups)
}

// InContainer reports whether the process of proc/self runs in a container: in its own cgroup
// namespace or in a container's cgroup. Errors count as no.
func InContainer(proc string) bool {
	if ns, err := os.Readlink(filepath.Join(proc, "self/ns/cgroup")); err == nil && ns != initCgroupNamespace {
		return true
	}
	groups, err := os.ReadFile(filepath.Join(proc, "self/cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(groups)) {
		if _, _, path, ok := cgroupLine(line); ok {
			if _, ok := parseContainer(split(path)); ok {
				return true
			}
		}
	}
	return false
}

// parseHierarchies joins proc_pid_mountinfo(5), which has the mounts, with proc_pid_cgroup(5), which
// has the numbers; the controllers are in both.
func parseHierarchies(mountinfo, cgroup io.Reader) ([]Hierarchy, error) {
	ids := make(map[string]uint32) // by controller; v2 is ""
	lines := bufio.NewScanner(cgroup)
	for lines.Scan() {
		id, controllers, _, ok := cgroupLine(lines.Text())
		if !ok {
			continue
		}
		for _, c := range controllers {
			ids[c] = id
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the cgroup hierarchies: %w", err)
	}
	best := make(map[uint32]Hierarchy)
	lines = bufio.NewScanner(mountinfo)
	lines.Buffer(nil, 1<<20) // overlay mounts have long option lists
	for lines.Scan() {
		h, ok := mountLine(lines.Text(), ids)
		if !ok {
			continue
		}
		if old, have := best[h.ID]; !have || wider(h.Root, old.Root) {
			best[h.ID] = h
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	if len(best) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup`")
	}
	out := make([]Hierarchy, 0, len(best))
	for _, h := range best {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Hierarchy) int { return int(a.ID) - int(b.ID) })
	return out, nil
}

// cgroupLine parses "4:memory:/path"; v2 is "0::/path" and gives the one controller "".
func cgroupLine(line string) (id uint32, controllers []string, path string, ok bool) {
	number, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
	list, path, ok := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(number, 10, 32)
	return uint32(n), strings.Split(list, ","), path, ok && err == nil
}

// mountLine parses a line of mountinfo: id parent major:minor root mount options [tags] - type source super-options.
func mountLine(line string, ids map[string]uint32) (Hierarchy, bool) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 6 || len(right) < 3 {
		return Hierarchy{}, false
	}
	h := Hierarchy{Root: unescapeMount(left[3]), Mount: unescapeMount(left[4])}
	switch right[0] {
	case "cgroup2":
		return h, true
	case "cgroup":
		for option := range strings.SplitSeq(right[2], ",") {
			if id, ok := ids[option]; ok && option != "" {
				h.ID = id
				h.Controllers = append(h.Controllers, option)
			}
		}
		return h, h.ID != 0
	}
	return Hierarchy{}, false
}

// wider reports whether a mount whose root is a shows more of its hierarchy than one with root b:
// a root above the cgroup namespace's own ("/../..") shows most.
func wider(a, b string) bool {
	if up, than := strings.Count(a, "/.."), strings.Count(b, "/.."); up != than {
		return up > than
	}
	return len(a) < len(b)
}

// unescapeMount undoes the octal escapes of mountinfo (\040 is a space).
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if i+3 < len(s) && s[i] == '\\' {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
