// SPDX-License-Identifier: Apache-2.0

package file

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// legacyOpCases are the calls that libraries do not make any more, but old and static programs do.
func legacyOpCases() []opCase {
	regular := func(op model.FileOp, path string, mode uint32) model.File {
		return model.File{Op: op, Path: path, FileType: "regular", PathFrom: "object", Mode: mode}
	}
	open := func(nr uintptr, path string, a, b uintptr) error {
		fd, _, e := unix.Syscall(nr, cstring(path), a, b)
		if e == 0 {
			unix.Close(int(fd))
		}
		return errno(e)
	}
	call := func(nr uintptr, path string, a, b uintptr) error {
		_, _, e := unix.Syscall(nr, cstring(path), a, b)
		return errno(e)
	}
	return []opCase{
		{"open", func(p place) error {
			return open(unix.SYS_OPEN, p.make("f"), unix.O_WRONLY|unix.O_TRUNC, 0)
		}, regular(model.FileTruncate, "f", 0)},
		{"open create", func(p place) error {
			return open(unix.SYS_OPEN, p.at("f"), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o604)
		}, regular(model.FileCreate, "f", 0o604)},
		{"creat", func(p place) error { return open(unix.SYS_CREAT, p.at("f"), 0o602, 0) }, regular(model.FileCreate, "f", 0o602)},
		{"creat of what is there", func(p place) error {
			return open(unix.SYS_CREAT, p.make("f"), 0o602, 0)
		}, regular(model.FileTruncate, "f", 0)},
		{"mkdir", func(p place) error { return call(unix.SYS_MKDIR, p.at("d"), 0o701, 0) },
			model.File{Op: model.FileCreate, Path: "d", FileType: "directory", Mode: 0o701}},
		{"mknod", func(p place) error { return call(unix.SYS_MKNOD, p.at("f"), 0o604, 0) },
			model.File{Op: model.FileCreate, Path: "f", FileType: "regular", Mode: 0o604}},
		{"symlink", func(p place) error {
			_, _, e := unix.Syscall(unix.SYS_SYMLINK, cstring("nowhere"), cstring(p.at("l")), 0)
			return errno(e)
		}, model.File{Op: model.FileCreate, Path: "l", FileType: "symlink"}},
		{"unlink", func(p place) error { return call(unix.SYS_UNLINK, p.make("f"), 0, 0) },
			model.File{Op: model.FileUnlink, Path: "f"}},
		{"rmdir", func(p place) error {
			if err := os.Mkdir(p.at("d"), 0o700); err != nil {
				return err
			}
			return call(unix.SYS_RMDIR, p.at("d"), 0, 0)
		}, model.File{Op: model.FileUnlink, Path: "d"}},
		{"rename", func(p place) error { return call(unix.SYS_RENAME, p.make("f"), cstring(p.at("g")), 0) },
			model.File{Op: model.FileRename, Path: "f", NewPath: "g"}},
		{"link", func(p place) error { return call(unix.SYS_LINK, p.make("f"), cstring(p.at("g")), 0) },
			model.File{Op: model.FileLink, Path: "f", NewPath: "g"}},
		{"chmod", func(p place) error { return call(unix.SYS_CHMOD, p.make("f"), 0o606, 0) },
			model.File{Op: model.FileChmod, Path: "f", Mode: 0o606}},
		{"chmod by an argument that cannot be read", func(p place) error {
			_, _, e := unix.Syscall(unix.SYS_CHMOD, 8, 0o606, 0)
			return errno(e)
		}, model.File{Op: model.FileChmod, Path: noPath, Mode: 0o606, Error: model.Errno(unix.EFAULT), PathFrom: onlyArgument}},
		{"chown", func(p place) error { return call(unix.SYS_CHOWN, p.make("f"), 21, 22) },
			model.File{Op: model.FileChown, Path: "f", UID: 21, GID: 22}},
		{"lchown", func(p place) error { return call(unix.SYS_LCHOWN, p.make("f"), 23, 24) },
			model.File{Op: model.FileChown, Path: "f", UID: 23, GID: 24}},
	}
}
