// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How long the directory must be quiet before it is read, and how long that may take at most: who changes several files
// changes them at once. Both are far below what the effect of a change may take, 100 ms.
const (
	settleQuiet = 5 * time.Millisecond
	settleMost  = 25 * time.Millisecond
)

// watch reloads the directory whenever it changes, until ctx ends. It reads the files once at its beginning: what
// changed since they were read last is not missed.
func (s *policyStore) watch(ctx context.Context) error {
	w, err := newDirectoryWatch(s.Dir)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer w.file.Close()
	failed := make(chan error, 1)
	wg.Go(func() { failed <- w.read() })
	for {
		// The watches first: what changes between is read twice, and none is missed.
		for again := true; again; {
			if again, err = w.follow(); err != nil {
				return fmt.Errorf("watch the policy directory: %w", err)
			}
			s.reload(ctx, false)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("watch the policy directory: %w", err)
		case <-w.changed:
		}
		settle(ctx, w.changed)
	}
}

// settle waits until nothing has changed for a moment.
func settle(ctx context.Context, changed <-chan struct{}) {
	most := time.NewTimer(settleMost)
	defer most.Stop()
	for {
		quiet := time.NewTimer(settleQuiet)
		select {
		case <-changed:
			quiet.Stop()
		case <-quiet.C:
			return
		case <-most.C:
			quiet.Stop()
			return
		case <-ctx.Done():
			quiet.Stop()
			return
		}
	}
}

// directoryWatch tells when files of policies change. It watches the directory, what its symbolic links point into (so do
// the volumes of Kubernetes), and where it is itself: it may come, go and be replaced.
//
// It looks at the end of a write, not at its beginning: half a file can be a whole policy that allows more.
type directoryWatch struct {
	dir     string
	fd      int      // of inotify
	file    *os.File // the same
	changed chan struct{}

	mu      sync.Mutex
	watches map[int32]watched
}

// watched says what a watch is on.
type watched struct {
	policies bool   // the directory itself
	linked   bool   // what a link of it points into
	above    string // path of a directory that it is in
}

func newDirectoryWatch(dir string) (*directoryWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the policy directory: inotify: %w; raise fs.inotify.max_user_instances", err)
	}
	return &directoryWatch{dir: filepath.Clean(dir), fd: fd, file: os.NewFile(uintptr(fd), "inotify"), changed: make(chan struct{}, 1)}, nil
}

// follow watches what there is to watch now, and reports whether that is other than before.
func (w *directoryWatch) follow() (news bool, err error) {
	const mask = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CREATE | unix.IN_DELETE_SELF |
		unix.IN_MOVE_SELF | unix.IN_ATTRIB | unix.IN_ONLYDIR
	w.mu.Lock()
	defer w.mu.Unlock()
	next := make(map[int32]watched)
	for path, what := range w.places() {
		n, err := unix.InotifyAddWatch(w.fd, path, mask)
		wd := int32(n)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			news = true // went away since
			continue
		case err != nil:
			return false, fmt.Errorf("%s: %w", path, err)
		}
		// One directory by two names has one watch.
		what.policies, what.linked = what.policies || next[wd].policies, what.linked || next[wd].linked
		if what.above == "" {
			what.above = next[wd].above
		}
		next[wd] = what
	}
	for wd := range w.watches {
		if _, still := next[wd]; !still {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd)) // fails when it went with its directory
		}
	}
	news = news || !maps.Equal(w.watches, next)
	w.watches = next
	return news, nil
}

// places are the directories to watch: the policies', that which it is in or, while there is none, the nearest that is
// there, and those that links of policies point into.
func (w *directoryWatch) places() map[string]watched {
	want := make(map[string]watched)
	for dir := w.dir; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			if dir == w.dir {
				want[dir] = watched{policies: true}
			} else {
				want[dir] = watched{above: dir}
				break // what moves this one away is not looked for
			}
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	entries, _ := os.ReadDir(w.dir) // reload tells why it cannot be read
	for _, e := range entries {
		if !isPolicyFile(e.Name()) || e.Type() != fs.ModeSymlink {
			continue
		}
		if target, err := filepath.EvalSymlinks(filepath.Join(w.dir, e.Name())); err == nil {
			dir := filepath.Dir(target)
			what := want[dir]
			what.linked = true
			want[dir] = what
		}
	}
	return want
}

// read takes the kernel's news in until the file is closed.
func (w *directoryWatch) read() error {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(b))
			mask := binary.NativeEndian.Uint32(b[4:])
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:end], []byte{0})
			if w.concerns(wd, mask, string(name)) {
				select {
				case w.changed <- struct{}{}:
				default: // told already
				}
			}
			b = b[end:]
		}
	}
}

// concerns reports whether what happened can have changed a policy.
func (w *directoryWatch) concerns(wd int32, mask uint32, name string) bool {
	if mask&(unix.IN_Q_OVERFLOW|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 {
		return true
	}
	w.mu.Lock()
	on := w.watches[wd]
	w.mu.Unlock()
	if on.linked || on.policies && (isPolicyFile(name) || name == "..data") { // what Kubernetes replaces
		return mask&unix.IN_CREATE == 0 || !w.beingWritten(on, name)
	}
	if on.above == "" {
		return false
	}
	path := filepath.Join(on.above, name)
	return path == w.dir || strings.HasPrefix(w.dir, path+"/")
}

// beingWritten reports whether a name that is new is a new file: its content follows, and the end of that is told. A link
// is whole, whatever its kind.
func (w *directoryWatch) beingWritten(on watched, name string) bool {
	if !on.policies {
		return false
	}
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(w.dir, name), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1
}
