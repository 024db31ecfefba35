// SPDX-License-Identifier: Apache-2.0

package all

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/testkit"
)

// act does what its arguments say, prints "ok" or the errno, and is the whole life of the actor.
func act(args []string) int {
	if args[0] == "serve" {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			act(strings.Fields(in.Text()))
		}
		return 0
	}
	err := deed(args[0], args[1:])
	switch errno := syscall.Errno(0); {
	case err == nil:
		fmt.Println("ok")
	case errors.As(err, &errno):
		fmt.Println(unix.ErrnoName(errno))
	default:
		fmt.Println(err)
	}
	return 0
}

func deed(what string, args []string) error {
	switch what {
	case "nothing":
		return nil
	case "and-wait": // for what comes of it
		if err := deed(args[0], args[1:]); err != nil {
			return err
		}
		_, err := unix.Poll(nil, int(testkit.Deadline/time.Millisecond))
		return err
	case "exec": // in its own place
		return unix.Exec(args[0], args, os.Environ())
	case "spawn": // as a child: how that fared
		out, err := exec.Command(args[0], args[1:]...).Output()
		var exit *exec.ExitError
		switch text := strings.TrimSpace(string(out)); {
		case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
			return errors.New(exit.Sys().(syscall.WaitStatus).Signal().String())
		case err == nil && text != "ok":
			return errors.New(text)
		}
		return err
	case "as": // as another user
		uid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		if err := unix.Setresuid(uid, uid, uid); err != nil {
			return err
		}
		return unix.Exec(args[1], args[1:], os.Environ())
	case "setuid":
		uid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return syscall.Setresuid(uid, uid, uid) // of all threads
	case "move": // to another cgroup
		return os.WriteFile(args[0]+"/cgroup.procs", []byte("0"), 0)
	case "memfd": // executes a copy of a file without a name
		return execMemfd(args[0], args[1:])
	case "exec-fd": // a file by its descriptor alone
		return execFD(args[0], args)
	case "tmpfile-exec": // DIRECTORY PROGRAM NAME: a copy that was made without a name and then got one
		return execTmpfile(args[0], args[1], args[2:])
	case "read":
		return open(args[0], unix.O_RDONLY)
	case "write":
		return open(args[0], unix.O_WRONLY)
	case "create":
		return open(args[0], unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	case "create-each": // one at once after the other; what became of the last
		for _, name := range args[1:] {
			if err := deed("create", []string{name}); err == nil {
				return nil
			}
		}
		return deed("create", args[:1])
	case "openat2":
		fd, err := unix.Openat2(unix.AT_FDCWD, args[0], &unix.OpenHow{Flags: unix.O_RDONLY})
		return closed(fd, err)
	case "uring":
		return openByRing(args[0])
	case "reopen": // by the descriptor of an O_PATH open
		fd, err := unix.Open(args[0], unix.O_PATH, 0)
		if err != nil {
			return err
		}
		return open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY)
	case "openat2-write":
		fd, err := unix.Openat2(unix.AT_FDCWD, args[0], &unix.OpenHow{Flags: unix.O_WRONLY})
		return closed(fd, err)
	case "read-many": // each name many times; how often each could be read, where that is neither never nor always
		return readMany(args)
	case "hide-read": // in a mount namespace of its own, where the name is another file's and the file has another name
		return hideAndRead(args[0], args[1])
	case "chdir-read": // relative to a directory
		if err := unix.Chdir(args[0]); err != nil {
			return err
		}
		return open(args[1], unix.O_RDONLY)
	case "chroot-read":
		if err := unix.Chroot(args[0]); err != nil {
			return err
		}
		return open(args[1], unix.O_RDONLY)
	case "unlink":
		return unix.Unlink(args[0])
	case "rename":
		return unix.Rename(args[0], args[1])
	case "link":
		return unix.Link(args[0], args[1])
	case "mkdir":
		return unix.Mkdir(args[0], 0o755)
	case "chmod":
		return unix.Chmod(args[0], 0o600)
	case "truncate":
		return unix.Truncate(args[0], 0)
	case "tmpfile-link": // a file without a name gets one
		fd, err := unix.Open(args[0], unix.O_TMPFILE|unix.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, args[1], unix.AT_SYMLINK_FOLLOW)
	case "ptrace-child":
		return attachToChild()
	case "bpf": // asks for the first program's number: no matter whether there is one
		var next [16]byte
		_, _, errno := unix.Syscall(unix.SYS_BPF, 11 /* BPF_PROG_GET_NEXT_ID */, uintptr(unsafe.Pointer(&next)), unsafe.Sizeof(next))
		if errno != 0 && errno != unix.ENOENT {
			return errno
		}
		return nil
	case "mount":
		return unix.Mount("none", args[0], "tmpfs", 0, "")
	case "hostname": // CAP_SYS_ADMIN
		return unix.Sethostname([]byte("vigie-test"))
	case "chown": // CAP_CHOWN
		return unix.Chown(args[0], 1234, 1234)
	}
	return fmt.Errorf("no deed %q", what)
}

// attachToChild starts a child that waits, and takes hold of it.
func attachToChild() error {
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", "serve")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Process.Kill()
	if err := unix.PtraceAttach(cmd.Process.Pid); err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WALL, nil); err != nil {
		return err
	}
	return unix.PtraceDetach(cmd.Process.Pid)
}

func readMany(names []string) error {
	const times = 250
	var wrong []string
	for _, name := range names {
		opened := 0
		for range times {
			if err := open(name, unix.O_RDONLY); err == nil {
				opened++
			} else if !errors.Is(err, unix.EPERM) {
				return err
			}
		}
		switch opened {
		case times:
			wrong = append(wrong, name+" always")
		case 0:
			wrong = append(wrong, name+" never")
		default:
			wrong = append(wrong, fmt.Sprintf("%s %d of %d times", name, opened, times))
		}
	}
	return errors.New(strings.Join(wrong, ", "))
}

func hideAndRead(dir, other string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(dir, other, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	return open(other+"/key", unix.O_RDONLY)
}

func open(name string, flags int) error {
	fd, err := unix.Open(name, flags, 0o600)
	return closed(fd, err)
}

func closed(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func execMemfd(from string, args []string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("payload", 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, b); err != nil {
		return err
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), append([]string{"payload"}, args...), os.Environ())
}

// execFD executes a file that is named by nothing but a descriptor (execveat(2) with AT_EMPTY_PATH).
func execFD(path string, args []string) error {
	fd, err := unix.Open(path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	none := new(byte)
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(none)), uintptr(unsafe.Pointer(&argv[0])),
		uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return errno
}

// execTmpfile copies a program into a file without a name, links that to one, and executes it.
func execTmpfile(dir, from string, args []string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o755)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, b); err != nil {
		return err
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, args[0], unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	unix.Close(fd) // a program that somebody may write is busy
	return unix.Exec(args[0], args, os.Environ())
}
