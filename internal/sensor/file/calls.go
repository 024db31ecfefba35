// SPDX-License-Identifier: Apache-2.0

package file

import (
	"golang.org/x/sys/unix"
)

// Where an argument of a system call stands (file.bpf.c): 0 to 5 are the call's own.
const (
	argCWD  = 6
	argRet  = 7
	argNone = 8

	howStruct = 1 // flags and mode are in the struct open_how that the flags argument points to
)

// call is how one system call is decoded.
type call struct {
	nr int
	bpfVgCall
}

func newCall(nr int, op bpfVgFileOp) call {
	return call{nr, bpfVgCall{Op: uint8(op), Fd: argNone, Dir: argCWD, Path: argNone, NewDir: argCWD, NewPath: argNone,
		Flags: argNone, Mode: argNone, Uid: argNone, Gid: argNone}}
}

// opens returns a descriptor: what was done is read from the file behind it, and when the open was denied from
// the flags. path and dir are for the denied.
func opens(nr int, dir, path, flags, mode uint8) call {
	c := newCall(nr, bpfVgFileOpVG_FILE_NONE)
	c.Fd, c.Dir, c.Path, c.Flags, c.Mode = argRet, dir, path, flags, mode
	return c
}

// onFD changes the file behind the descriptor that is its first argument.
func onFD(nr int, op bpfVgFileOp) call {
	c := newCall(nr, op)
	c.Fd = 0
	return c
}

// onPath changes what it names.
func onPath(nr int, op bpfVgFileOp, dir, path uint8) call {
	c := newCall(nr, op)
	c.Dir, c.Path, c.Captured = dir, path, 1
	return c
}

func (c call) to(dir, path uint8) call       { c.NewDir, c.NewPath = dir, path; return c }
func (c call) withFlags(flags uint8) call    { c.Flags = flags; return c }
func (c call) withMode(mode uint8) call      { c.Mode = mode; return c }
func (c call) withOwner(uid, gid uint8) call { c.Uid, c.Gid = uid, gid; return c }
func (c call) makes(kind uint16) call        { c.Type = kind; return c }

// calls lists the system calls that the sensor looks at on the running architecture.
func calls() []call {
	const (
		create   = bpfVgFileOpVG_FILE_CREATE
		truncate = bpfVgFileOpVG_FILE_TRUNCATE
		rename   = bpfVgFileOpVG_FILE_RENAME
		hardlink = bpfVgFileOpVG_FILE_LINK
		remove   = bpfVgFileOpVG_FILE_UNLINK
		chmod    = bpfVgFileOpVG_FILE_CHMOD
		chown    = bpfVgFileOpVG_FILE_CHOWN
	)
	openat2 := opens(unix.SYS_OPENAT2, 0, 1, 2, argNone)
	openat2.How = howStruct
	// Made without a name in any directory: open never sees it.
	memfd := opens(unix.SYS_MEMFD_CREATE, argCWD, 0, 1, argNone)
	memfd.Op = uint8(create)

	return append([]call{
		opens(unix.SYS_OPENAT, 0, 1, 2, 3),
		openat2,
		opens(unix.SYS_OPEN_BY_HANDLE_AT, argCWD, argNone, 2, argNone),
		memfd,
		onFD(unix.SYS_FTRUNCATE, truncate),
		onFD(unix.SYS_FCHMOD, chmod).withMode(1),
		onFD(unix.SYS_FCHOWN, chown).withOwner(1, 2),
		onPath(unix.SYS_TRUNCATE, truncate, argCWD, 0),
		onPath(unix.SYS_MKDIRAT, create, 0, 1).withMode(2).makes(unix.S_IFDIR),
		onPath(unix.SYS_MKNODAT, create, 0, 1).withMode(2),
		onPath(unix.SYS_SYMLINKAT, create, 1, 2).makes(unix.S_IFLNK),
		onPath(unix.SYS_UNLINKAT, remove, 0, 1).withFlags(2),
		onPath(unix.SYS_RENAMEAT, rename, 0, 1).to(2, 3),
		onPath(unix.SYS_RENAMEAT2, rename, 0, 1).to(2, 3).withFlags(4),
		onPath(unix.SYS_LINKAT, hardlink, 0, 1).to(2, 3).withFlags(4),
		onPath(unix.SYS_FCHMODAT, chmod, 0, 1).withMode(2),
		onPath(unix.SYS_FCHMODAT2, chmod, 0, 1).withMode(2).withFlags(3),
		onPath(unix.SYS_FCHOWNAT, chown, 0, 1).withOwner(2, 3).withFlags(4),
	}, legacyCalls()...)
}
