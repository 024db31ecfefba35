// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

// group is a fanotify group whose events wait for an answer (fanotify(7)).
type group struct{ fd int }

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

func unsupported(err error) error {
	const feature = "being asked before files are opened (fanotify permission events)"
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

// queued waits until there is an event, or something at other, for at most timeout milliseconds; it says what there is.
func (g group) queued(other int, timeout int) (event, signal bool) {
	fds := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}, {Fd: int32(other), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, timeout); err != nil || n == 0 {
		return false, false // EINTR: the caller comes back
	}
	return fds[0].Revents != 0, fds[1].Revents != 0
}
