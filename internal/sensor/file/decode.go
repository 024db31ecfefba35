// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

// vg_file.kind (file.bpf.c)
const (
	kindObject  = 0x01
	kindDeleted = 0x02
	kindHeld    = 0x04
	kindGone    = 0x08
	kindCut     = 0x10
	kindNewCut  = 0x20
	kindUnread  = 0x40
	kindNoDir   = 0x80
)

func decodeFile(f *bpfVgFile, tail []byte) (*model.File, error) {
	var parts [4][]byte
	for i, n := range [4]uint16{f.PathLen, f.NewPathLen, f.ArgLen, f.NewArgLen} {
		var err error
		if parts[i], tail, err = kernel.Take(tail, int(n)); err != nil {
			return nil, err
		}
	}
	op, err := fileOp(f.Op)
	if err != nil {
		return nil, err
	}
	mode := uint32(f.FileMode)
	if mode == 0 && op == model.FileCreate { // mknod: the mode says what it makes, a regular file by default
		if mode = f.Mode & unix.S_IFMT; mode == 0 {
			mode = unix.S_IFREG
		}
	}
	file := &model.File{Op: op, PathFrom: "argument", Inode: f.Inode, Device: f.Dev, Flags: f.Flags,
		Mode: f.Mode &^ unix.S_IFMT, UID: f.Uid, GID: f.Gid, FileType: fileType(mode), Error: model.Errno(f.Error)}
	hasNew := op == model.FileRename || op == model.FileLink
	if f.Kind&kindObject == 0 {
		file.Path = argument(parts[0], parts[2], f.Kind&kindCut != 0, f.Kind)
		if hasNew {
			file.NewPath = argument(parts[1], parts[3], f.Kind&kindNewCut != 0, f.Kind)
		}
		return file, nil
	}
	file.PathFrom = "object"
	file.Path = object(parts[0], f)
	switch {
	case !hasNew:
	case len(parts[3]) > 0: // linkat of a descriptor: only the new name is an argument
		file.NewPath = argument(parts[1], parts[3], f.Kind&kindNewCut != 0, f.Kind)
	default:
		file.NewPath = kernel.Path(parts[1], f.Kind&kindNewCut != 0)
	}
	return file, nil
}

// object is the path of an object, with the marks that the kernel's own d_path sets.
func object(components []byte, f *bpfVgFile) string {
	if len(components) == 1 { // one component without a name: not in any directory
		kind := "anon"
		switch uint32(f.FileMode) & unix.S_IFMT {
		case unix.S_IFIFO:
			kind = "pipe"
		case unix.S_IFSOCK:
			kind = "socket"
		}
		return kind + ":[" + strconv.FormatUint(f.Inode, 10) + "]"
	}
	p := kernel.Path(components, f.Kind&kindCut != 0)
	if f.Kind&kindDeleted != 0 {
		p += " (deleted)"
	}
	return p
}

// argument is what a caller passed, made absolute: dir are the components of the directory that it is relative to.
// "." and ".." are resolved by their text alone, so that a symbolic link before ".." misleads: what the kernel made of
// it at the time cannot be told afterwards. Empty when the caller's memory could not be read.
func argument(dir, arg []byte, cut bool, kind uint8) string {
	if i := bytes.IndexByte(arg, 0); i >= 0 {
		arg = arg[:i]
	}
	if len(arg) == 0 && (kind&kindUnread != 0 || len(dir) == 0) {
		return ""
	}
	name := model.CleanString(arg)
	switch {
	case strings.HasPrefix(name, "/"):
		return path.Clean(name)
	case kind&kindNoDir != 0:
		return name
	}
	base := kernel.Path(dir, cut)
	if base == "/" {
		return path.Clean("/" + name)
	}
	return path.Clean(base + "/" + name)
}

func fileOp(op uint8) (model.FileOp, error) {
	switch bpfVgFileOp(op) {
	case bpfVgFileOpVG_FILE_READ:
		return model.FileRead, nil
	case bpfVgFileOpVG_FILE_WRITE:
		return model.FileWrite, nil
	case bpfVgFileOpVG_FILE_CREATE:
		return model.FileCreate, nil
	case bpfVgFileOpVG_FILE_TRUNCATE:
		return model.FileTruncate, nil
	case bpfVgFileOpVG_FILE_RENAME:
		return model.FileRename, nil
	case bpfVgFileOpVG_FILE_LINK:
		return model.FileLink, nil
	case bpfVgFileOpVG_FILE_UNLINK:
		return model.FileUnlink, nil
	case bpfVgFileOpVG_FILE_CHMOD:
		return model.FileChmod, nil
	case bpfVgFileOpVG_FILE_CHOWN:
		return model.FileChown, nil
	}
	return "", fmt.Errorf("file operation %d is not known", op)
}

func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case 0:
		return ""
	case unix.S_IFREG:
		return "regular"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "device"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFLNK:
		return "symlink"
	}
	return "other"
}
