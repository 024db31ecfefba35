// SPDX-License-Identifier: Apache-2.0

package fanotify

import "golang.org/x/sys/unix"

// inode names a file whatever its path. The time of its birth tells it from a later one with the same number.
type inode struct {
	dev, ino uint64
	born     int64
}

// nameSet says under which names files were marked, in whichever mount namespace: a process can hide a name from itself in a
// mount namespace of its own and use the file by another. It is immutable.
type nameSet map[inode][]string

// of is the names of an event's file.
func (n nameSet) of(fd int32) []string {
	if len(n) == 0 {
		return nil
	}
	i, _, err := inodeOf(int(fd), "", unix.AT_EMPTY_PATH)
	if err != nil {
		return nil
	}
	return n[i]
}

// inodeOf looks at a file without opening it, and not through a symbolic link.
func inodeOf(dir int, path string, flags int) (inode, unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(dir, path, flags|unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC,
		unix.STATX_TYPE|unix.STATX_INO|unix.STATX_BTIME|unix.STATX_MNT_ID, &st)
	return inode{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino, born: st.Btime.Sec<<30 ^ int64(st.Btime.Nsec)}, st, err
}
