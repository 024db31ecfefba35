// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fanotifyMark asks to be asked, before files of a directory are opened for the given purpose. The
// directory is the root of a file system in memory that is mounted nowhere, so nobody waits for us.
func fanotifyMark(mask uint64) func(*env) error {
	return func(*env) error {
		return withFanotify(mask, func(int, *os.File) error { return nil })
	}
}

// fanotifyDenies refuses one opening of a file of that file system and requires that it failed.
func fanotifyDenies(*env) error {
	return withFanotify(unix.FAN_OPEN_PERM, func(group int, dir *os.File) error {
		opened := make(chan error, 1)
		go func() {
			fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			opened <- err
		}()
		denyErr := denyNext(group)
		if denyErr != nil {
			// Closing the group, which our caller does next, lets the opening go on.
			return atRun(denyErr)
		}
		if err := <-opened; !errors.Is(err, unix.EPERM) {
			return errNotCalled
		}
		return nil
	})
}

func withFanotify(mask uint64, use func(group int, dir *os.File) error) error {
	root, err := detached("tmpfs")
	if err != nil {
		return err
	}
	defer root.Close()
	fd, err := unix.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the root of a file system: %w", err)
	}
	dir := os.NewFile(uintptr(fd), "tmpfs")
	defer dir.Close()
	group, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return atLoad(fmt.Errorf("make a fanotify group: %w", err))
	}
	defer unix.Close(group)
	if err := unix.FanotifyMark(group, unix.FAN_MARK_ADD, mask|unix.FAN_ONDIR|unix.FAN_EVENT_ON_CHILD, int(dir.Fd()), ""); err != nil {
		return atAttach(fmt.Errorf("mark a directory: %w", err))
	}
	return use(group, dir)
}

// denyTimeout bounds the wait for one event, in milliseconds. It is reached only by a kernel that
// accepts the mark and then never asks.
const denyTimeout = 1000

// denyNext answers "no" to the next question of a fanotify group.
func denyNext(group int) error {
	poll := []unix.PollFd{{Fd: int32(group), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, denyTimeout)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errNotCalled
		}
		break
	}
	var event unix.FanotifyEventMetadata
	buf := make([]byte, unsafe.Sizeof(event))
	if _, err := unix.Read(group, buf); err != nil {
		return fmt.Errorf("read a fanotify event: %w", err)
	}
	if err := binary.Read(bytes.NewReader(buf), binary.NativeEndian, &event); err != nil {
		return fmt.Errorf("decode a fanotify event: %w", err)
	}
	defer unix.Close(int(event.Fd))
	var answer bytes.Buffer
	if err := binary.Write(&answer, binary.NativeEndian, unix.FanotifyResponse{Fd: event.Fd, Response: unix.FAN_DENY}); err != nil {
		return err
	}
	if _, err := unix.Write(group, answer.Bytes()); err != nil {
		return fmt.Errorf("answer a fanotify event: %w", err)
	}
	return nil
}
