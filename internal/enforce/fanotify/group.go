// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

// group is a fanotify group whose events wait for an answer (fanotify(7)).
type group struct{ fd int }

// There are two groups: near has the marks of directories and files, wide those of file systems. What the agent has learned
// that it need not be asked about is ignored in wide, and can be forgotten there all at once.
const (
	near = iota
	wide
)

type groups [2]group

// newGroups makes both.
func newGroups() (g groups, err error) {
	if g[near], err = newGroup(); err != nil {
		return g, err
	}
	if g[wide], err = newGroup(); err != nil {
		g[near].close()
	}
	return g, err
}

// close ends both: what waits for an answer goes on.
func (g groups) close() error { return errors.Join(g[near].close(), g[wide].close()) }

func (g groups) flush() error { return errors.Join(g[near].flush(), g[wide].flush()) }

// queued waits until there is an event, or something at other, for at most timeout milliseconds; it says whether it was other.
func (g groups) queued(other int, timeout int) (signal bool) {
	fds := []unix.PollFd{{Fd: int32(g[near].fd), Events: unix.POLLIN}, {Fd: int32(g[wide].fd), Events: unix.POLLIN},
		{Fd: int32(other), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, timeout)
	return err == nil && n > 0 && fds[2].Revents != 0 // EINTR: the caller comes back
}

// The events that a mark can ask for. Listing a directory is no use of a file (docs/policy.md).
const (
	maskOpen = uint64(unix.FAN_OPEN_PERM)
	maskExec = uint64(unix.FAN_OPEN_EXEC_PERM)
)

// newGroup makes a group. Events name the thread, whose open is looked at while it waits. Their descriptors are opened
// with O_NONBLOCK, so that a FIFO does not hold the reader.
func newGroup() (group, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE|
		unix.FAN_UNLIMITED_MARKS|unix.FAN_REPORT_TID,
		unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE|unix.O_NONBLOCK|unix.O_NOATIME)
	if err == nil {
		return group{fd}, nil
	}
	return group{-1}, unsupported(err)
}

const feature = "being asked before files are opened (fanotify permission events)"

func unsupported(err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return &kernel.UnsupportedError{Feature: feature, Cause: fmt.Sprintf("the kernel refused a fanotify group (%v)", err),
			Needs: "a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y"}
	case errors.Is(err, unix.EPERM):
		return &kernel.UnsupportedError{Feature: feature, Cause: "the kernel refused a fanotify group (EPERM)",
			Needs: "CAP_SYS_ADMIN in the first user namespace"}
	}
	return fmt.Errorf("make a fanotify group: %w", err)
}

// mark asks for the events of mask at what path names, from the mount namespace of the calling thread. how is
// FAN_MARK_INODE or FAN_MARK_FILESYSTEM.
func (g group) mark(how uint, mask uint64, path string) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_DONT_FOLLOW|how, mask, unix.AT_FDCWD, path)
}

// unmark takes back what mark asked for; what is gone meanwhile is no error.
func (g group) unmark(how uint, mask uint64, path string) error {
	err := unix.FanotifyMark(g.fd, unix.FAN_MARK_REMOVE|unix.FAN_MARK_DONT_FOLLOW|how, mask, unix.AT_FDCWD, path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// ignore has nobody ask about one file, whatever else is marked.
func (g group) ignore(path string) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_IGNORED_MASK|unix.FAN_MARK_IGNORED_SURV_MODIFY, maskOpen|maskExec,
		unix.AT_FDCWD, path)
}

// ignoreIn has nobody ask about files of a directory, by a descriptor of it; the kernel forgets it when it needs the memory.
// From 6.0 on.
func (g group) ignoreIn(dir int) error {
	return unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_IGNORE_SURV|unix.FAN_MARK_EVICTABLE|unix.FAN_MARK_ONLYDIR,
		maskOpen|maskExec|unix.FAN_EVENT_ON_CHILD, unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(dir))
}

// flush takes all marks back.
func (g group) flush() error {
	return errors.Join(
		unix.FanotifyMark(g.fd, unix.FAN_MARK_FLUSH, 0, unix.AT_FDCWD, "/"),
		unix.FanotifyMark(g.fd, unix.FAN_MARK_FLUSH|unix.FAN_MARK_FILESYSTEM, 0, unix.AT_FDCWD, "/"))
}

// read takes one event, into e, of which all was zero. False when there is none.
func (g group) read(e *unix.FanotifyEventMetadata) (bool, error) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(e)), eventSize)
	n, err := unix.Read(g.fd, b)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, err
	}
	return n == eventSize, nil
}

// answer lets what waits for the event with that descriptor go on, or fail with EPERM. False: nobody waits for an answer
// any more.
func (g group) answer(fd int32, deny bool) bool {
	r := unix.FanotifyResponse{Fd: fd, Response: unix.FAN_ALLOW}
	if deny {
		r.Response = unix.FAN_DENY
	}
	_, err := unix.Write(g.fd, unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)))
	return err == nil
}

func (g group) close() error { return unix.Close(g.fd) }
