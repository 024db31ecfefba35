// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// namespace is a mount namespace, by its inode number ("mnt:[4026531841]") and a process that is in it.
type namespace struct {
	id  string
	pid int32
}

// namespaceOf is the mount namespace of a process; false when the process is gone.
func namespaceOf(pid int32) (string, bool) {
	var buf [64]byte
	link := append(strconv.AppendInt([]byte("/proc/"), int64(pid), 10), "/ns/mnt"...)
	n, err := unix.Readlink(string(link), buf[:])
	if err != nil || n <= 0 {
		return "", false
	}
	return string(buf[:n]), true
}

// allNamespaces are the mount namespaces that processes of the host are in.
func allNamespaces() (map[string]namespace, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the mount namespaces: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list the mount namespaces: %w", err)
	}
	out := make(map[string]namespace)
	for _, name := range names {
		pid, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			continue
		}
		if id, ok := namespaceOf(int32(pid)); ok {
			if _, known := out[id]; !known {
				out[id] = namespace{id: id, pid: int32(pid)}
			}
		}
	}
	return out, nil
}

// inside runs fn with paths that begin at the root of a mount namespace, and tells it what is mounted there. It does so on
// a thread that ends with it. The agent's own namespace is no different: the agent's root may be another one.
func inside(ns namespace, fn func(mounts []Mount)) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: nothing else is to run in that namespace
		done <- enter(ns, fn)
	}()
	return <-done
}

func enter(ns namespace, fn func([]Mount)) error {
	// Opened before, because the other namespace may have no /proc, or one that somebody made up.
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc: %w", err)
	}
	defer unix.Close(proc)
	file, err := unix.Openat(proc, strconv.Itoa(int(ns.pid))+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the mount namespace of process %d: %w", ns.pid, err)
	}
	defer unix.Close(file)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("part from the other threads' directory: %w", err)
	}
	if err := unix.Setns(file, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the mount namespace of process %d: %w", ns.pid, err)
	}
	fd, err := unix.Openat(proc, "thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read the mounts of process %d: %w", ns.pid, err)
	}
	f := os.NewFile(uintptr(fd), "mountinfo")
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read the mounts of process %d: %w", ns.pid, err)
	}
	fn(parseMounts(text))
	return nil
}

// ownMounts is what is mounted in the agent's own namespace.
func ownMounts() ([]Mount, error) {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the agent's mounts: %w", err)
	}
	return parseMounts(text), nil
}
