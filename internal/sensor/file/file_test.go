// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// TestMain is also the child that some tests start: what it does stands in its environment.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// place is where a case works: a directory, and a descriptor of it.
type place struct {
	t   *testing.T
	dir string
	fd  int
}

// at is name in the place's directory.
func (p place) at(name string) string { return filepath.Join(p.dir, name) }

func (p place) make(name string) string {
	p.t.Helper()
	if err := os.WriteFile(p.at(name), []byte("x"), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return p.at(name)
}

func (p place) open(name string, flags int) int {
	p.t.Helper()
	fd, err := unix.Open(p.at(name), flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// opCase does one thing and says how it must be reported. Paths are below the place's directory.
type opCase struct {
	name string
	// do returns the error of the operation under test; unix.ENOSYS skips the case.
	do   func(p place) error
	want model.File // PathFrom "": "object" with hooks, else "argument"
}

const (
	onlyArgument = "argument" // the hook is not reached
	noPath       = "-"        // in place of a path: none is reported
)

// opCases are the cases for every architecture.
func opCases() []opCase {
	file := func(op model.FileOp, path string) model.File {
		return model.File{Op: op, Path: path, FileType: "regular", PathFrom: "object"}
	}
	name := func(op model.FileOp, path, newPath string) model.File {
		return model.File{Op: op, Path: path, NewPath: newPath}
	}
	return append([]opCase{
		{"openat read", func(p place) error {
			p.make("f")
			return closing(unix.Openat(p.fd, "f", unix.O_RDONLY, 0))
		}, file(model.FileRead, "f")},
		{"openat write", func(p place) error {
			p.make("f")
			return closing(unix.Openat(p.fd, "f", unix.O_WRONLY|unix.O_APPEND, 0))
		}, file(model.FileWrite, "f")},
		{"openat create", func(p place) error {
			return closing(unix.Openat(p.fd, "new", unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, 0o640))
		}, model.File{Op: model.FileCreate, Path: "new", FileType: "regular", PathFrom: "object", Mode: 0o640}},
		{"O_CREAT of a file that is there is a write", func(p place) error {
			p.make("f")
			return closing(unix.Openat(p.fd, "f", unix.O_RDWR|unix.O_CREAT, 0o640))
		}, file(model.FileWrite, "f")},
		{"openat truncate", func(p place) error {
			p.make("f")
			return closing(unix.Openat(p.fd, "f", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600))
		}, file(model.FileTruncate, "f")},
		{"O_TRUNC of a device is a write", func(p place) error {
			if err := unix.Mknodat(p.fd, "null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
				return err
			}
			return closing(unix.Openat(p.fd, "null", unix.O_WRONLY|unix.O_TRUNC, 0))
		}, model.File{Op: model.FileWrite, Path: "null", FileType: "device", PathFrom: "object"}},
		{"openat of a directory", func(p place) error {
			if err := os.Mkdir(p.at("d"), 0o700); err != nil {
				return err
			}
			return closing(unix.Openat(p.fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0))
		}, model.File{Op: model.FileRead, Path: "d", FileType: "directory", PathFrom: "object"}},
		{"openat through a symbolic link", func(p place) error {
			p.make("target")
			if err := os.Symlink("target", p.at("link")); err != nil {
				return err
			}
			return closing(unix.Openat(p.fd, "link", unix.O_RDONLY, 0))
		}, file(model.FileRead, "target")},
		{"openat of /proc/self/fd", func(p place) error {
			p.make("f")
			return closing(unix.Open(fmt.Sprintf("/proc/self/fd/%d", p.open("f", unix.O_RDONLY)), unix.O_WRONLY, 0))
		}, file(model.FileWrite, "f")},
		{"openat2", func(p place) error {
			p.make("f")
			return closing(unix.Openat2(p.fd, "f", &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_TRUNC, Resolve: unix.RESOLVE_BENEATH}))
		}, file(model.FileTruncate, "f")},
		{"openat2 that would leave the directory", func(p place) error {
			return closing(unix.Openat2(p.fd, "../x", &unix.OpenHow{Flags: unix.O_RDONLY, Resolve: unix.RESOLVE_BENEATH}))
		}, model.File{Op: model.FileRead, Path: "../x", Error: model.Errno(unix.EXDEV), PathFrom: onlyArgument}},
		{"open_by_handle_at", func(p place) error {
			p.make("f")
			h, _, err := unix.NameToHandleAt(p.fd, "f", 0)
			if errors.Is(err, unix.EOPNOTSUPP) {
				return unix.ENOSYS // the file system has no handles
			} else if err != nil {
				return err
			}
			return closing(unix.OpenByHandleAt(p.fd, h, unix.O_RDWR))
		}, file(model.FileWrite, "f")},
		{"a descriptor above 1024", func(p place) error {
			p.make("f")
			if err := unix.Dup3(p.fd, 1500, unix.O_CLOEXEC); err != nil {
				return err
			}
			defer unix.Close(1500)
			return closing(unix.Openat(1500, "f", unix.O_RDONLY, 0))
		}, file(model.FileRead, "f")},
		{"O_TMPFILE", func(p place) error {
			fd, err := unix.Openat(p.fd, ".", unix.O_RDWR|unix.O_TMPFILE, 0o600)
			if errors.Is(err, unix.EOPNOTSUPP) {
				return unix.ENOSYS
			}
			return closing(fd, err)
		}, model.File{Op: model.FileWrite, Path: "#* (deleted)", FileType: "regular", PathFrom: "object", Mode: 0o600}},
		{"a removed file through /proc", func(p place) error {
			p.make("f")
			fd := p.open("f", unix.O_RDONLY)
			if err := os.Remove(p.at("f")); err != nil {
				return err
			}
			return closing(unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY, 0))
		}, file(model.FileWrite, "f (deleted)")},
		{"a name with a newline and no UTF-8", func(p place) error {
			return closing(unix.Openat(p.fd, "a\nb\xff\x1b[2J", unix.O_CREAT|unix.O_WRONLY, 0o600))
		}, model.File{Op: model.FileCreate, Path: "a\nb\\xff\x1b[2J", FileType: "regular", PathFrom: "object", Mode: 0o600}},
		{"open denied by a read-only file system", func(p place) error {
			mountReadOnly(p, "ro")
			return closing(unix.Openat(p.fd, "ro/f", unix.O_WRONLY, 0))
		}, model.File{Op: model.FileWrite, Path: "ro/f", Error: model.Errno(unix.EROFS), PathFrom: onlyArgument}},
		{"through a bind mount", func(p place) error {
			mountReadOnly(p, "ro")
			return closing(unix.Openat(p.fd, "ro/f", unix.O_RDONLY, 0))
		}, file(model.FileRead, "ro/f")},

		{"ftruncate", func(p place) error {
			p.make("f")
			return unix.Ftruncate(p.open("f", unix.O_WRONLY), 0)
		}, file(model.FileTruncate, "f")},
		{"ftruncate of what is not open for writing", func(p place) error {
			p.make("f")
			return unix.Ftruncate(p.open("f", unix.O_RDONLY), 0)
		}, model.File{Op: model.FileTruncate, Path: "f", FileType: "regular", PathFrom: "object", Error: model.Errno(unix.EINVAL)}},
		{"fchmod", func(p place) error {
			p.make("f")
			return unix.Fchmod(p.open("f", unix.O_RDONLY), 0o4711)
		}, model.File{Op: model.FileChmod, Path: "f", FileType: "regular", PathFrom: "object", Mode: 0o4711}},
		{"fchown", func(p place) error {
			p.make("f")
			return unix.Fchown(p.open("f", unix.O_RDONLY), 12, -1)
		}, model.File{Op: model.FileChown, Path: "f", FileType: "regular", PathFrom: "object", UID: 12, GID: model.NoUID}},
		{"fchownat of a descriptor", func(p place) error {
			p.make("f")
			return unix.Fchownat(p.open("f", unix.O_RDONLY), "", 13, 14, unix.AT_EMPTY_PATH)
		}, model.File{Op: model.FileChown, Path: "f", FileType: "regular", PathFrom: "object", UID: 13, GID: 14}},

		{"truncate", func(p place) error {
			return unix.Truncate(p.make("f"), 0)
		}, name(model.FileTruncate, "f", "")},
		{"mkdirat", func(p place) error {
			return unix.Mkdirat(p.fd, "./d", 0o750)
		}, model.File{Op: model.FileCreate, Path: "d", FileType: "directory", Mode: 0o750}},
		{"mkdirat of what is there", func(p place) error {
			p.make("d")
			return unix.Mkdirat(p.fd, "d", 0o750)
		}, model.File{Op: model.FileCreate, Path: "d", FileType: "directory", Mode: 0o750, Error: model.Errno(unix.EEXIST), PathFrom: onlyArgument}},
		{"mknodat of a fifo", func(p place) error {
			return unix.Mknodat(p.fd, "fifo", unix.S_IFIFO|0o640, 0)
		}, model.File{Op: model.FileCreate, Path: "fifo", FileType: "fifo", Mode: 0o640}},
		{"symlinkat", func(p place) error {
			return unix.Symlinkat("some/where", p.fd, "../"+filepath.Base(p.dir)+"/./link")
		}, model.File{Op: model.FileCreate, Path: "link", FileType: "symlink"}},
		{"unlinkat", func(p place) error {
			p.make("f")
			return unix.Unlinkat(p.fd, "f", 0)
		}, name(model.FileUnlink, "f", "")},
		{"unlinkat of an absolute name", func(p place) error {
			return unix.Unlinkat(-1, p.make("f"), 0)
		}, name(model.FileUnlink, "f", "")},
		{"unlinkat of a directory", func(p place) error {
			if err := os.Mkdir(p.at("d"), 0o700); err != nil {
				return err
			}
			return unix.Unlinkat(p.fd, "d", unix.AT_REMOVEDIR)
		}, name(model.FileUnlink, "d", "")},
		{"unlinkat of nothing", func(p place) error {
			return unix.Unlinkat(p.fd, "nothing", 0)
		}, model.File{Op: model.FileUnlink, Path: "nothing", Error: model.Errno(unix.ENOENT), PathFrom: onlyArgument}},
		{"unlinkat below no directory", func(p place) error {
			return unix.Unlinkat(p.fd, "no/thing", 0)
		}, model.File{Op: model.FileUnlink, Path: "no/thing", Error: model.Errno(unix.ENOENT), PathFrom: onlyArgument}},
		{"renameat", func(p place) error {
			p.make("old")
			return unix.Renameat(p.fd, "old", p.fd, "new")
		}, name(model.FileRename, "old", "new")},
		{"renameat over a file", func(p place) error {
			p.make("old")
			p.make("new")
			return unix.Renameat(unix.AT_FDCWD, p.at("old"), p.fd, "new")
		}, name(model.FileRename, "old", "new")},
		{"renameat2", func(p place) error {
			p.make("a")
			p.make("b")
			return unix.Renameat2(p.fd, "a", p.fd, "b", unix.RENAME_EXCHANGE)
		}, model.File{Op: model.FileRename, Path: "a", NewPath: "b", Flags: unix.RENAME_EXCHANGE}},
		{"renameat2 that must not replace", func(p place) error {
			p.make("a")
			p.make("b")
			return unix.Renameat2(p.fd, "a", p.fd, "b", unix.RENAME_NOREPLACE)
		}, model.File{Op: model.FileRename, Path: "a", NewPath: "b", Flags: unix.RENAME_NOREPLACE, Error: model.Errno(unix.EEXIST), PathFrom: onlyArgument}},
		{"linkat", func(p place) error {
			p.make("f")
			return unix.Linkat(p.fd, "f", p.fd, "g", 0)
		}, name(model.FileLink, "f", "g")},
		{"linkat of a descriptor", func(p place) error {
			p.make("f")
			return unix.Linkat(p.open("f", unix.O_RDONLY), "", p.fd, "g", unix.AT_EMPTY_PATH)
		}, model.File{Op: model.FileLink, Path: "f", NewPath: "g", FileType: "regular", PathFrom: "object", Flags: unix.AT_EMPTY_PATH}},
		{"fchmodat", func(p place) error {
			p.make("f")
			return change(unix.SYS_FCHMODAT, p.fd, "f", 0o711)
		}, model.File{Op: model.FileChmod, Path: "f", Mode: 0o711}},
		{"fchmodat2", func(p place) error {
			p.make("f")
			return change(unix.SYS_FCHMODAT2, p.fd, "f", 0o712, 0)
		}, model.File{Op: model.FileChmod, Path: "f", Mode: 0o712}},
		{"fchownat", func(p place) error {
			p.make("f")
			return unix.Fchownat(p.fd, "f", -1, 17, unix.AT_SYMLINK_NOFOLLOW)
		}, model.File{Op: model.FileChown, Path: "f", UID: model.NoUID, GID: 17, Flags: unix.AT_SYMLINK_NOFOLLOW}},
	}, legacyOpCases()...)
}

func TestEveryOperationIsReported(t *testing.T) {
	for _, rung := range []struct {
		name    string
		options Options
	}{{"lowest rung", Options{LowestRung: true}}, {"best rung", Options{}}} {
		t.Run(rung.name, func(t *testing.T) {
			s := New(rung.options)
			k := testkit.StartSensor(t, s)
			if !rung.options.LowestRung && s.noHooks != nil {
				t.Skipf("needs fentry on security_path_*: %v", s.noHooks)
			}
			for _, c := range opCases() {
				t.Run(c.name, func(t *testing.T) { testOperation(t, k, c, s.noHooks == nil) })
			}
		})
	}
}

func testOperation(t *testing.T, k *testkit.Kernel, c opCase, hooks bool) {
	t.Helper()
	p := place{t: t, dir: testkit.RealPath(t, t.TempDir())}
	p.fd = p.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	err := c.do(p)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("the kernel or the file system does not have this call")
	}
	want := c.want
	if want.Error != 0 {
		if !errors.Is(err, unix.Errno(want.Error)) {
			t.Fatalf("the operation returned %v, want %v", err, want.Error)
		}
	} else if err != nil {
		t.Fatalf("the operation failed: %v", err)
	}
	if want.Path == noPath {
		want.Path = ""
	} else {
		want.Path = p.at(want.Path)
	}
	if want.NewPath != "" {
		want.NewPath = p.at(want.NewPath)
	}
	if want.PathFrom == "" {
		if want.PathFrom = "argument"; hooks {
			want.PathFrom = "object"
		}
	}
	ev := k.Await(t, fmt.Sprintf("%s of %s", want.Op, want.Path), func(e *model.Event) bool {
		return e.File != nil && e.File.Op == want.Op && matches(want.Path, e.File.Path) && e.File.Error == want.Error
	})
	f := *ev.File
	if ev.Key.PID != uint32(testkit.PID()) || ev.Count != 1 || ev.Key.Start == 0 {
		t.Errorf("event of %+v, count %d", ev.Key, ev.Count)
	}
	if f.NewPath != want.NewPath || f.PathFrom != want.PathFrom {
		t.Errorf("new path %q, path from %s, want %q from %s", f.NewPath, f.PathFrom, want.NewPath, want.PathFrom)
	}
	if want.FileType != "" && f.FileType != want.FileType {
		t.Errorf("file type %q, want %q", f.FileType, want.FileType)
	}
	if (want.Op == model.FileChmod || want.Op == model.FileCreate) && f.Mode != want.Mode {
		t.Errorf("mode %#o, want %#o", f.Mode, want.Mode)
	}
	if want.Op == model.FileChown && (f.UID != want.UID || f.GID != want.GID) {
		t.Errorf("owner %d:%d, want %d:%d", f.UID, f.GID, want.UID, want.GID)
	}
	if (want.Op == model.FileRename || want.Op == model.FileLink) && f.Flags != want.Flags {
		t.Errorf("flags %#x, want %#x", f.Flags, want.Flags)
	}
	checkInode(t, &f)
}

// checkInode compares the inode number with what is there now, where that is the same object.
func checkInode(t *testing.T, f *model.File) {
	t.Helper()
	path := f.Path
	if f.Op == model.FileRename && f.Flags&unix.RENAME_EXCHANGE == 0 {
		path = f.NewPath
	}
	var st unix.Stat_t
	if f.Inode != 0 && unix.Lstat(path, &st) == nil && (st.Ino != f.Inode) != (f.Flags&unix.RENAME_EXCHANGE != 0 && f.Op == model.FileRename) {
		t.Errorf("inode %d, but %s is %d", f.Inode, path, st.Ino)
	}
	if f.PathFrom == "object" && f.Inode == 0 && f.Op != model.FileCreate {
		t.Errorf("an object without an inode number: %+v", f)
	}
}

// matches compares paths; one "*" in the pattern stands for anything.
func matches(pattern, path string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return path == pattern
	}
	return len(path) >= len(before)+len(after) && strings.HasPrefix(path, before) && strings.HasSuffix(path, after)
}

// mountReadOnly makes a directory with one file and mounts it on itself, read-only, until the test ends.
func mountReadOnly(p place, name string) {
	p.t.Helper()
	dir := p.at(name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.make(name + "/f")
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		p.t.Skipf("needs to mount (CAP_SYS_ADMIN): %v", err)
	}
	p.t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			p.t.Error(err)
		}
	})
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		p.t.Fatal(err)
	}
}
