// SPDX-License-Identifier: Apache-2.0

package file

import "golang.org/x/sys/unix"

// legacyCalls are those that younger architectures do without.
func legacyCalls() []call {
	creat := opens(unix.SYS_CREAT, argCWD, 0, argNone, 1)
	creat.Fixed = unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC
	return []call{
		creat,
		opens(unix.SYS_OPEN, argCWD, 0, 1, 2),
		onPath(unix.SYS_MKDIR, bpfVgFileOpVG_FILE_CREATE, argCWD, 0).withMode(1).makes(unix.S_IFDIR),
		onPath(unix.SYS_MKNOD, bpfVgFileOpVG_FILE_CREATE, argCWD, 0).withMode(1),
		onPath(unix.SYS_SYMLINK, bpfVgFileOpVG_FILE_CREATE, argCWD, 1).makes(unix.S_IFLNK),
		onPath(unix.SYS_UNLINK, bpfVgFileOpVG_FILE_UNLINK, argCWD, 0),
		onPath(unix.SYS_RMDIR, bpfVgFileOpVG_FILE_UNLINK, argCWD, 0),
		onPath(unix.SYS_RENAME, bpfVgFileOpVG_FILE_RENAME, argCWD, 0).to(argCWD, 1),
		onPath(unix.SYS_LINK, bpfVgFileOpVG_FILE_LINK, argCWD, 0).to(argCWD, 1),
		onPath(unix.SYS_CHMOD, bpfVgFileOpVG_FILE_CHMOD, argCWD, 0).withMode(1),
		onPath(unix.SYS_CHOWN, bpfVgFileOpVG_FILE_CHOWN, argCWD, 0).withOwner(1, 2),
		onPath(unix.SYS_LCHOWN, bpfVgFileOpVG_FILE_CHOWN, argCWD, 0).withOwner(1, 2),
	}
}
