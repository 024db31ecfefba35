// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/policy"
)

// marks are the places at which the kernel asks. A directory's mark covers files that come into it later, under whatever
// inode; the mark of a file covers its other names; the mark of a file system covers all that is on it, in every mount
// namespace. A mark too many costs time and changes no answer.
type marks struct {
	groups   groups
	cache    *cache
	markable func(Mount) bool
	placed   map[markKey]mark
	// uncovered are places of rules that could not be marked, and why; told once.
	uncovered map[string]bool
	warn      func(place string, err error)
}

// markKey is what a mark is on: an inode, or a file system by its device.
type markKey struct {
	how uint
	on  inode
}

type mark struct {
	ns   string
	path string
	mask uint64
	// surplus is since when a part of the mask is not wanted; zero: all of it is.
	surplus time.Time
}

// of is the group that a mark is in.
func (m *marks) of(key markKey) group {
	if key.how == unix.FAN_MARK_FILESYSTEM {
		return m.groups[wide]
	}
	return m.groups[near]
}

// wanted is what one pass over mount namespaces found that there should be.
type wanted struct {
	marks  map[markKey]mark
	names  nameSet
	mounts []Mount
	err    error // the kernel has no room for a mark
}

// place marks what the needs of tables come to in a mount namespace, and adds it to w.
func (m *marks) place(w *wanted, ns namespace, tables []*policy.Table, needs []need) error {
	return inside(ns, func(mounts []Mount) {
		w.mounts = mounts
		p := placing{marks: m, want: w, ns: ns.id, mounts: mounts, tables: tables, above: make(map[string]string)}
		for _, n := range needs {
			if n.name == "" {
				p.tree(n.dir, n.mask)
			} else {
				p.directory(n)
			}
		}
	})
}

// placing is the work of place.
type placing struct {
	*marks
	want   *wanted
	ns     string
	mounts []Mount
	tables []*policy.Table
	above  map[string]string // existing, by directory
	dir    string            // of the need before this one: many rules name files of one directory
	dirOn  inode
	dirIs  unix.Statx_t
	dirErr error
}

// directory marks one directory for what is in it now and later. While it is not there its file system is marked, so that
// it can come at any time.
func (p *placing) directory(n need) {
	if n.dir != p.dir {
		p.dir = n.dir
		p.dirOn, p.dirIs, p.dirErr = inodeOf(unix.AT_FDCWD, n.dir, 0)
	}
	on, st, err := p.dirOn, &p.dirIs, p.dirErr
	switch {
	case err != nil:
		p.fileSystem(p.existing(n.dir), n.mask)
		return
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return // no path goes through it: a symbolic link is not what policies name
	}
	if !p.may(st.Mnt_id) {
		return
	}
	p.mark(markKey{unix.FAN_MARK_INODE, on}, n.dir, n.mask|unix.FAN_EVENT_ON_CHILD)
	if !strings.ContainsAny(n.name, globChars) {
		p.file(path.Join(n.dir, n.name), n.mask)
		return
	}
	names, err := namesIn(n.dir)
	if err != nil {
		p.fail(n.dir, fmt.Errorf("list it, to find what has a rule: %w", err))
	}
	for _, name := range names {
		if file := path.Join(n.dir, name); p.deniedByName(file) {
			p.file(file, n.mask)
		}
	}
}

// file marks a file that a rule names, for its other names.
func (p *placing) file(name string, mask uint64) {
	on, st, err := inodeOf(unix.AT_FDCWD, name, 0)
	if err != nil || !p.may(st.Mnt_id) {
		return
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	default:
		return // to open a device or a FIFO for an event would do something
	}
	p.mark(markKey{unix.FAN_MARK_INODE, on}, name, mask)
	if !slices.Contains(p.want.names[on], name) {
		p.want.names[on] = append(p.want.names[on], name)
	}
}

func (p *placing) deniedByName(file string) bool {
	for _, t := range p.tables {
		for s := range t.Subjects {
			if denials(t, cellOf(t, file, uint16(s))) != (policy.Cell{}) {
				return true
			}
		}
	}
	return false
}

// tree marks the file system that a directory is on, and all that are mounted below.
func (p *placing) tree(dir string, mask uint64) {
	p.fileSystem(p.existing(dir), mask)
	for _, m := range p.mounts {
		if m.Point != dir && below(m.Point, dir) {
			p.fileSystem(m.Point, mask)
		}
	}
}

// existing is the nearest directory upwards that is there.
func (p *placing) existing(dir string) string {
	at, known := p.above[dir]
	if known {
		return at
	}
	for at = dir; at != "/"; at = path.Dir(at) {
		if _, _, err := inodeOf(unix.AT_FDCWD, at, 0); err == nil {
			break
		}
	}
	p.above[dir] = at
	return at
}

func (p *placing) fileSystem(dir string, mask uint64) {
	on, st, err := inodeOf(unix.AT_FDCWD, dir, 0)
	if err != nil || !p.may(st.Mnt_id) {
		return
	}
	p.cache.watch(on.dev, dir)
	p.mark(markKey{unix.FAN_MARK_FILESYSTEM, inode{dev: on.dev}}, dir, mask)
}

// may says whether what is on a mount may be marked. That a whole kind of file system is not watched is in the back-end's
// limits, not worth a warning for each.
func (p *placing) may(mount uint64) bool {
	i := slices.IndexFunc(p.mounts, func(m Mount) bool { return m.ID == mount })
	return i >= 0 && p.markable(p.mounts[i])
}

// mark places a mark, once in a pass, and again if an earlier pass did: what it was on may have been replaced by something
// with the same number.
func (p *placing) mark(key markKey, path string, mask uint64) {
	done := p.want.marks[key].mask
	if mask&^done == 0 {
		return
	}
	mask |= done
	if err := p.of(key).mark(key.how, mask, path); err != nil {
		p.fail(path, err)
		return
	}
	p.want.marks[key] = mark{ns: p.ns, path: path, mask: mask}
	before := p.placed[key]
	p.placed[key] = mark{ns: p.ns, path: path, mask: mask | before.mask, surplus: before.surplus}
}

func (p *placing) fail(place string, err error) {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return // it went away meanwhile; the next pass sees what is there then
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOSPC):
		p.want.err = fmt.Errorf("mark %s to be asked about it: %w", place, err)
	}
	if len(p.uncovered) > 1024 {
		clear(p.uncovered) // told again rather than kept for ever
	}
	if !p.uncovered[place] {
		p.uncovered[place] = true
		p.warn(place, err)
	}
}

// lingering is how long a mark stays that is not wanted. An open looks for marks at several places, one after the other;
// one that has looked for a new mark too early may still have to find the old one, however long it is held up in between.
const lingering = 5 * time.Second

// trim takes back what has been in no w for a while. What cannot be reached by the path that it had stays: it costs time
// and changes no answer.
func (m *marks) trim(w []*wanted, now time.Time, namespaces func() (map[string]namespace, error)) {
	surplus := make(map[string]map[markKey]mark) // by mount namespace
	for key, at := range m.placed {
		placed := at
		for _, want := range w {
			at.mask &^= want.marks[key].mask
		}
		switch {
		case at.mask == 0:
			placed.surplus = time.Time{}
			m.placed[key] = placed
			continue
		case placed.surplus.IsZero():
			placed.surplus = now
			m.placed[key] = placed
			continue
		case now.Sub(placed.surplus) < lingering:
			continue
		}
		if surplus[at.ns] == nil {
			surplus[at.ns] = make(map[markKey]mark)
		}
		surplus[at.ns][key] = at
	}
	if len(surplus) == 0 {
		return
	}
	there, err := namespaces()
	if err != nil {
		return // with the next pass
	}
	for id, keys := range surplus {
		if ns, ok := there[id]; ok {
			if err := inside(ns, func([]Mount) { m.unmark(keys) }); err != nil {
				continue // its last process has ended: the next pass forgets them
			}
		}
		for key, at := range keys {
			m.forget(key, at.mask)
		}
	}
}

func (m *marks) unmark(keys map[markKey]mark) {
	for key, at := range keys {
		on, _, err := inodeOf(unix.AT_FDCWD, at.path, 0)
		if err != nil || on.dev != key.on.dev || key.how == unix.FAN_MARK_INODE && on != key.on {
			continue // another file has that name now
		}
		if err := m.of(key).unmark(key.how, at.mask, at.path); err != nil && !errors.Is(err, unix.ENOENT) {
			m.warn(at.path, fmt.Errorf("take a mark back: %w", err))
		}
	}
}

func (m *marks) forget(key markKey, mask uint64) {
	at := m.placed[key]
	at.surplus = time.Time{}
	if at.mask &^= mask; at.mask == 0 {
		delete(m.placed, key)
		return
	}
	m.placed[key] = at
}

// namesIn lists a directory. The agent's own open of it is answered by its reader.
func namesIn(dir string) ([]string, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return names, err
		}
		if n <= 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}
