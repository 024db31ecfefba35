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
	return []opCase{
		{"open", func(p place) error {
			return closing(rawCall(unix.SYS_OPEN, p.make("f"), unix.O_WRONLY|unix.O_TRUNC))
		}, regular(model.FileTruncate, "f", 0)},
		{"open create", func(p place) error {
			return closing(rawCall(unix.SYS_OPEN, p.at("f"), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o604))
		}, regular(model.FileCreate, "f", 0o604)},
		{"creat", func(p place) error { return closing(rawCall(unix.SYS_CREAT, p.at("f"), 0o602)) }, regular(model.FileCreate, "f", 0o602)},
		{"creat of what is there", func(p place) error {
			return closing(rawCall(unix.SYS_CREAT, p.make("f"), 0o602))
		}, regular(model.FileTruncate, "f", 0)},
		{"mkdir", func(p place) error { return change(unix.SYS_MKDIR, p.at("d"), 0o701, 0) },
			model.File{Op: model.FileCreate, Path: "d", FileType: "directory", Mode: 0o701}},
		{"mknod", func(p place) error { return change(unix.SYS_MKNOD, p.at("f"), 0o604, 0) },
			model.File{Op: model.FileCreate, Path: "f", FileType: "regular", Mode: 0o604}},
		{"symlink", func(p place) error {
			return change(unix.SYS_SYMLINK, "nowhere", p.at("l"))
		}, model.File{Op: model.FileCreate, Path: "l", FileType: "symlink"}},
		{"unlink", func(p place) error { return change(unix.SYS_UNLINK, p.make("f"), 0, 0) },
			model.File{Op: model.FileUnlink, Path: "f"}},
		{"rmdir", func(p place) error {
			if err := os.Mkdir(p.at("d"), 0o700); err != nil {
				return err
			}
			return change(unix.SYS_RMDIR, p.at("d"), 0, 0)
		}, model.File{Op: model.FileUnlink, Path: "d"}},
		{"rename", func(p place) error { return change(unix.SYS_RENAME, p.make("f"), p.at("g")) },
			model.File{Op: model.FileRename, Path: "f", NewPath: "g"}},
		{"link", func(p place) error { return change(unix.SYS_LINK, p.make("f"), p.at("g")) },
			model.File{Op: model.FileLink, Path: "f", NewPath: "g"}},
		{"chmod", func(p place) error { return change(unix.SYS_CHMOD, p.make("f"), 0o606, 0) },
			model.File{Op: model.FileChmod, Path: "f", Mode: 0o606}},
		{"chmod by an argument that cannot be read", func(p place) error {
			return change(unix.SYS_CHMOD, 8, 0o606)
		}, model.File{Op: model.FileChmod, Path: noPath, Mode: 0o606, Error: model.Errno(unix.EFAULT), PathFrom: onlyArgument}},
		{"chown", func(p place) error { return change(unix.SYS_CHOWN, p.make("f"), 21, 22) },
			model.File{Op: model.FileChown, Path: "f", UID: 21, GID: 22}},
		{"lchown", func(p place) error { return change(unix.SYS_LCHOWN, p.make("f"), 23, 24) },
			model.File{Op: model.FileChown, Path: "f", UID: 23, GID: 24}},
	}
}
