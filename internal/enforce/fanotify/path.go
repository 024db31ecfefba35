// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pathOf is the path by which the file of an event was opened, as policies name it: from the root of the mount namespace
// that it was opened in, through the mounts that it was opened through. The kernel says it of our descriptor, which has
// the opener's mount; a chroot changes nothing, because the root that stops the walk is the agent's own. Empty when it is
// too long: no rule matches that, as in bpf/climb.h.
func pathOf(fd int32) string {
	var buf [unix.PathMax + len(deletedSuffix)]byte
	link := strconv.AppendInt([]byte("/proc/self/fd/"), int64(fd), 10)
	n, err := unix.Readlink(string(link), buf[:])
	if err != nil || n <= 0 {
		return ""
	}
	text := string(buf[:n])
	if strings.HasSuffix(text, deletedSuffix) && isDeleted(fd, text) {
		text = text[:len(text)-len(deletedSuffix)]
	}
	return text
}

const deletedSuffix = " (deleted)"

// isDeleted tells a name that is gone from one that happens to end like that.
func isDeleted(fd int32, text string) bool {
	var of, named unix.Stat_t
	if err := unix.Fstat(int(fd), &of); err != nil || of.Nlink == 0 {
		return true
	}
	return unix.Lstat(text, &named) != nil || named.Ino != of.Ino || named.Dev != of.Dev
}

// isLoader reports whether a path is that of a dynamic loader, by its name: ld-linux-x86-64.so.2, ld-2.31.so,
// ld-musl-aarch64.so.1, ld.so.
func isLoader(p string) bool {
	base := path.Base(p)
	if !strings.HasPrefix(base, "ld") {
		return false
	}
	name, version, ok := strings.Cut(base, ".so")
	if !ok {
		return false
	}
	return (name == "ld" || strings.HasPrefix(name, "ld-") || strings.HasPrefix(name, "ld64")) && strings.Trim(version, ".0123456789") == ""
}

// isProgram reports whether the file can be started by running a dynamic loader with its path, and is not a library: a
// library has a name of its own in it (DT_SONAME), or neither asks for a loader nor says that it is a program.
func isProgram(fd int32) bool {
	f, err := newELF(fd)
	if err != nil {
		return false
	}
	return f.program()
}

// exeOf is the path of a process's own binary.
func exeOf(pid int32) string {
	var buf [unix.PathMax + len(deletedSuffix)]byte
	link := append(strconv.AppendInt([]byte("/proc/"), int64(pid), 10), "/exe"...)
	n, err := unix.Readlink(string(link), buf[:])
	if err != nil || n <= 0 {
		return ""
	}
	return strings.TrimSuffix(string(buf[:n]), deletedSuffix)
}

// descriptor reads a file by its descriptor, which it does not close.
type descriptor int32

func (d descriptor) ReadAt(p []byte, off int64) (int, error) {
	n, err := unix.Pread(int(d), p, off)
	if err == nil && n < len(p) {
		err = errShort
	}
	return n, err
}

var errShort = errors.New("the file is shorter than it says")
