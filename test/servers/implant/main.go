// SPDX-License-Identifier: Apache-2.0

// Command implant is what an attacker runs inside of a server: a program that no policy knows, without libraries. In: a
// deed and what to do it to, as arguments; with -join first a cgroup.procs as descriptor 3, by which it moves into the
// workload without an exec; with -stay it does not end at once when the deed was done. Out: "ok" when it was done, else the
// errno, or "killed" for a child that was.
//
// It opens nothing that its deed does not ask for, so that what is denied to it is its deed.
package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) > 0 && args[0] == "-join" {
		if _, err := unix.Write(3, []byte("0")); err != nil {
			fmt.Println("join the workload:", err)
			return 1
		}
		args = args[1:]
	}
	stay := len(args) > 0 && args[0] == "-stay"
	if stay {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Println("say what to do")
		return 1
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
	if stay && err == nil {
		const long = 60_000 // milliseconds, in which somebody may come and end it: an agent on a busy host is late
		_, _ = unix.Poll(nil, long)
	}
	return 0
}

func deed(what string, args []string) error {
	if len(args) == 0 {
		return alone(what)
	}
	switch what {
	case "exec":
		return spawn(args)
	case "memfd":
		return memfd(args)
	case "connect", "send", "listen", "mapped":
		at, err := netip.ParseAddrPort(args[0])
		if err != nil {
			return err
		}
		return network(what, at)
	case "ptrace":
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return unix.PtraceSeize(pid) // which does not stop it
	}
	return files(what, args)
}

// alone is a deed that is done to nothing in particular.
func alone(what string) error {
	switch what {
	case "nothing":
		return nil
	case "raw":
		return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	case "packet":
		return socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	case "listen-anywhere": // on a port that the kernel chooses
		return listenAnywhere()
	}
	return fmt.Errorf("no deed %q", what)
}

// listenAnywhere tells its port by descriptor 4 and listens until standard input ends.
func listenAnywhere() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Listen(fd, 1); err != nil {
		return err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	if at, ok := at.(*unix.SockaddrInet4); ok {
		if _, err := unix.Write(4, []byte(strconv.Itoa(at.Port))); err != nil {
			return err
		}
	}
	_, err = unix.Read(0, make([]byte, 1))
	return err
}

func socket(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func files(what string, args []string) error {
	switch what {
	case "read":
		return open(args[0], unix.O_RDONLY)
	case "write":
		return open(args[0], unix.O_WRONLY)
	case "create":
		return create(args[0])
	case "openat2":
		fd, err := unix.Openat2(unix.AT_FDCWD, args[0], &unix.OpenHow{Flags: unix.O_RDONLY})
		return closed(fd, err)
	case "unlink":
		return unix.Unlink(args[0])
	case "truncate":
		return unix.Truncate(args[0], 0)
	case "setuid":
		return unix.Chmod(args[0], 0o4755)
	case "mount":
		return unix.Mount("none", args[0], "tmpfs", 0, "")
	}
	if what == "rename" && len(args) == 2 {
		return unix.Rename(args[0], args[1])
	}
	return fmt.Errorf("no deed %q", what)
}

// create makes a file with something in it.
func create(name string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("evil\n"))
	return err
}

func open(name string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
	return closed(fd, err)
}

func closed(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// spawn starts a program as a child and waits for it. os/exec would open /dev/null.
func spawn(argv []string) error {
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	switch {
	case status.Signaled() && status.Signal() == unix.SIGKILL:
		return errors.New("killed")
	case status.ExitStatus() != 0:
		return fmt.Errorf("exit %d", status.ExitStatus())
	}
	return nil
}

// memfd runs a program that is in no file; it is read from standard input.
func memfd(argv []string) error {
	fd, err := unix.MemfdCreate("payload", 0)
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(0, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if _, err := unix.Write(fd, buf[:n]); err != nil {
			return err
		}
	}
	return spawn(append([]string{fmt.Sprintf("/proc/self/fd/%d", fd)}, argv...))
}

func network(what string, at netip.AddrPort) error {
	kind := unix.SOCK_STREAM
	if what == "send" {
		kind = unix.SOCK_DGRAM
	}
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	if what == "mapped" { // an IPv4 address in the clothes of an IPv6 one
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch what {
	case "send":
		return unix.Sendto(fd, []byte("stolen"), 0, sa)
	case "listen":
		if err := unix.Bind(fd, sa); err != nil {
			return err
		}
		return unix.Listen(fd, 1)
	}
	return unix.Connect(fd, sa)
}
