// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"encoding/binary"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/policy"
)

// cache has the kernel not ask about files of directories in which no table has anything to say, whatever the file's name.
// That depends on nothing but the directory's paths, so files may come, go, be linked and renamed. It is forgotten, whole,
// when tables or mounts change and when a directory is renamed, which the kernel tells a moment later.
type cache struct {
	groups  groups
	renames int // a fanotify group that tells of what is moved; -1: the kernel cannot, nothing is kept
	exempt  string
	epoch   atomic.Uint64
	offers  chan string
	quit    chan struct{}
	done    sync.WaitGroup

	offered map[string]uint64 // by directory: in which epoch; of the reader's goroutine

	mu      sync.Mutex
	tables  []*policy.Table
	own     []Mount   // of the agent's mount namespace, by whose paths directories are kept
	mounts  [][]Mount // of the namespaces of processes under policies
	watched map[uint64]bool
	memo    map[memoKey]bool
}

type memoKey struct {
	table *policy.Table
	state uint32
}

const maxOffered = 8192

func newCache(g groups, exempt string) *cache {
	c := &cache{groups: g, exempt: exempt, offers: make(chan string, 64), quit: make(chan struct{}), offered: make(map[string]uint64),
		watched: make(map[uint64]bool), memo: make(map[memoKey]bool)}
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE|unix.FAN_REPORT_DFID_NAME, unix.O_RDONLY)
	if err != nil {
		fd = -1
	}
	c.renames = fd
	return c
}

func (c *cache) start() {
	if c.renames < 0 {
		return
	}
	c.done.Go(func() {
		for {
			select {
			case <-c.quit:
				return
			case dir := <-c.offers:
				c.keep(dir)
			}
		}
	})
	c.done.Go(c.follow)
}

func (c *cache) stop() error {
	close(c.quit)
	c.done.Wait()
	if c.renames < 0 {
		return nil
	}
	return unix.Close(c.renames)
}

// offer is told of a file that was opened and that nobody has anything to say about. It does not block.
func (c *cache) offer(file string) {
	if c.renames < 0 || !strings.HasPrefix(file, "/") {
		return
	}
	dir, epoch := path.Dir(file), c.epoch.Load()
	if e, ok := c.offered[dir]; ok && e == epoch {
		return
	}
	select {
	case c.offers <- dir:
		if len(c.offered) >= maxOffered {
			clear(c.offered)
		}
		c.offered[dir] = epoch
	default:
	}
}

// watch has the kernel tell of renames on a file system; where it cannot nothing is kept.
func (c *cache) watch(dev uint64, dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renames < 0 {
		return
	}
	c.watched[dev] = unix.FanotifyMark(c.renames, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_MOVED_TO|unix.FAN_ONDIR, unix.AT_FDCWD, dir) == nil
}

// set says what directories are judged by, and forgets what was kept.
func (c *cache) set(tables []*policy.Table, own []Mount, mounts [][]Mount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables, c.own, c.mounts = tables, own, mounts
	c.memo = make(map[memoKey]bool)
	c.forget()
}

// forget has the kernel ask again. With mu held.
func (c *cache) forget() {
	c.epoch.Add(1)
	// All marks on inodes of that group are the cache's.
	_ = unix.FanotifyMark(c.groups[wide].fd, unix.FAN_MARK_FLUSH, 0, unix.AT_FDCWD, "/")
	_ = c.groups[wide].ignore(c.exempt)
}

// follow forgets when a directory is moved.
func (c *cache) follow() {
	const pause = 20 // ms; also how soon it ends
	buf := make([]byte, 64<<10)
	for {
		select {
		case <-c.quit:
			return
		default:
		}
		if !readable(c.renames, pause) {
			continue
		}
		n, err := unix.Read(c.renames, buf)
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) || movedDirectory(buf[:max(n, 0)]) {
			c.mu.Lock()
			c.forget()
			c.mu.Unlock()
		}
	}
}

// keep has the kernel ignore a directory of the agent's mount namespace, if no table says anything of files in it.
func (c *cache) keep(dir string) {
	epoch := c.epoch.Load()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	on, st, err := inodeOf(fd, "", unix.AT_EMPTY_PATH)
	if err != nil || pathOf(int32(fd)) != dir {
		return // the path is another mount namespace's, and leads through a symbolic link here
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Of a rename after the look at the path follow hears later, and forgets what is kept here.
	if c.epoch.Load() != epoch || !c.watched[on.dev] || len(c.tables) == 0 {
		return
	}
	i := slices.IndexFunc(c.own, func(m Mount) bool { return m.ID == st.Mnt_id })
	if i < 0 || !below(dir, c.own[i].Point) {
		return
	}
	inside := path.Join(c.own[i].Root, strings.TrimPrefix(dir, strings.TrimSuffix(c.own[i].Point, "/")))
	for _, p := range c.paths(c.own[i].Device, inside) {
		if p == "" || !c.silent(p) {
			return
		}
	}
	_ = c.groups[wide].ignoreIn(fd) // that the kernel cannot (before 6.0) costs time only
}

// paths are those that a directory of a file system has; an empty one when a file in it is mounted by itself somewhere.
func (c *cache) paths(dev uint64, inside string) (out []string) {
	for _, mounts := range append(slices.Clone(c.mounts), c.own) {
		for _, m := range mounts {
			switch {
			case m.Device != dev:
			case below(inside, m.Root):
				out = append(out, path.Join(m.Point, strings.TrimPrefix(inside, strings.TrimSuffix(m.Root, "/"))))
			case path.Dir(m.Root) == inside:
				out = append(out, "")
			}
		}
	}
	return out
}

// silent: no table says anything of any file in a directory.
func (c *cache) silent(dir string) bool {
	return !slices.ContainsFunc(c.tables, func(t *policy.Table) bool { return !c.silentIn(t, strings.TrimSuffix(dir, "/")+"/") })
}

// silentIn runs the table's automaton over the directory, and on over all names that could follow.
func (c *cache) silentIn(t *policy.Table, dir string) bool {
	m := &t.Paths
	if len(m.Cells) == 0 {
		return silentClass(t, 0)
	}
	at := uint32(policy.Start)
	for i := 0; i < len(dir) && !m.Cells[at].Final(); i++ {
		at = m.Next(at, dir[i])
	}
	key := memoKey{t, at}
	if known, ok := c.memo[key]; ok {
		return known
	}
	silent := silentFrom(t, at)
	c.memo[key] = silent
	return silent
}

// silentFrom: no state that a name leads to gives a class that a rule is about.
func silentFrom(t *policy.Table, start uint32) bool {
	const most = 1024 // states; more is not worth the time
	m := &t.Paths
	seen, todo := map[uint32]bool{start: true}, []uint32{start}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !silentClass(t, m.Cells[at].Class()) || len(seen) > most {
			return false
		}
		if m.Cells[at].Final() {
			continue
		}
		for b := range 256 {
			if next := m.Next(at, byte(b)); b != '/' && !seen[next] {
				seen[next] = true
				todo = append(todo, next)
			}
		}
	}
	return true
}

func silentClass(t *policy.Table, class uint16) bool {
	for s := range t.Subjects {
		c := t.Cells[uint32(class)*t.Subjects+s]
		if c[policy.Exec].Action()|c[policy.Read].Action()|c[policy.Write].Action() != policy.ActAllow {
			return false
		}
	}
	return true
}

// movedDirectory reads events of a group that reports names (fanotify(7)): each has its length in front, and its mask after 8 bytes.
func movedDirectory(events []byte) bool {
	for len(events) >= eventSize {
		length := int(binary.NativeEndian.Uint32(events))
		if binary.NativeEndian.Uint64(events[8:])&(unix.FAN_ONDIR|unix.FAN_Q_OVERFLOW) != 0 || length < eventSize || length > len(events) {
			return true
		}
		events = events[length:]
	}
	return false
}
