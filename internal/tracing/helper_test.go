// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// attributes takes the first word off a helper's command when it says as what the helper is to run.
func attributes(what string) (*syscall.SysProcAttr, string) {
	first, rest, _ := strings.Cut(what, " ")
	switch first {
	case "newpid":
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, rest
	case "newnet":
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, rest
	case "newuser":
		root := []syscall.SysProcIDMap{{HostID: 0, ContainerID: 0, Size: 1}}
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: root, GidMappings: root}, rest
	case "nocaps":
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, rest
	}
	return nil, what
}

// shell is a program that is not the test's, with its links resolved.
func shell(t *testing.T) string {
	t.Helper()
	s, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Skip("needs a shell: ", err)
	}
	return s
}

// helper does what a test asks of another process.
func helper(words []string) int {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(arg(i), 10, 64)
		return n
	}
	switch words[0] {
	case "open":
		fd, err := unix.Open(arg(1), unix.O_RDONLY, 0)
		if err == nil {
			_ = unix.Close(fd)
		} else if errno := errnoOf(err); errno != unix.ENOENT {
			return int(errno)
		}
	case "wait-open":
		fmt.Println("ready")
		_, _ = fmt.Scanln(new(string))
		_, _ = unix.Open(arg(1), unix.O_RDONLY, 0)
	case "opens":
		for range number(1) {
			_, _ = unix.Open(arg(2), unix.O_RDONLY, 0)
		}
	case "mkdir":
		err := unix.Mkdirat(unix.AT_FDCWD, arg(1), 0o700)
		if errno := errnoOf(err); errno != unix.ENOENT {
			return int(errno)
		}
	case "seek":
		_, _ = unix.Seek(int(number(1)), number(2), 0)
	case "unshare":
		runtime.LockOSThread()
		_ = unix.Unshare(unix.CLONE_NEWUTS)
		_, _ = unix.Open(arg(1), unix.O_RDONLY, 0)
	case "dropcaps":
		runtime.LockOSThread()
		dropNice()
		_, _ = unix.Open(arg(1), unix.O_RDONLY, 0)
	case "fchdir":
		if fd, err := unix.Open(arg(1), unix.O_RDONLY, 0); err == nil {
			_ = unix.Fchdir(fd)
		}
	case "write", "writev", "read":
		return pipes(words)
	case "connect":
		return connect(arg(1))
	case "connect-unix":
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return 1
		}
		_ = unix.Connect(fd, &unix.SockaddrUnix{Name: arg(1)})
	case "pass":
		return pass(arg(1))
	case "wait":
		_, _ = fmt.Scanln(new(string))
	case "send":
		return send(arg(1))
	case "nice":
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -5)
	case "serve":
		return serve(arg(1))
	case "shell": // opens a file by a program of its own
		_ = exec.Command("/bin/sh", "-c", "read x <"+arg(1)).Run()
	case "shell-child": // has a shell start this program again
		cmd := exec.Command("/bin/sh", "-c", "/proc/"+strconv.Itoa(os.Getpid())+"/exe; true")
		cmd.Env = append(os.Environ(), helperEnv+"=open "+arg(1))
		_ = cmd.Run()
	case "exec":
		_ = exec.Command(arg(1)).Run()
	case "bpf":
		return loadBPF(arg(1))
	case "perf":
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CONTEXT_SWITCHES, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
		if _, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC); err != nil {
			return int(errnoOf(err))
		}
	case "read-memory":
		return readMemory(arg(1))
	case "reload":
		return reload(arg(1), arg(2))
	default:
		fmt.Println("unknown helper", words)
		return 3
	}
	return 0
}

func errnoOf(err error) (errno syscall.Errno) {
	errors.As(err, &errno)
	return errno
}

// dropNice gives one capability up.
func dropNice() {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) == nil {
		data[0].Effective &^= 1 << unix.CAP_SYS_NICE
		_ = unix.Capset(&header, &data[0])
	}
}

// pipes writes the words to a pipe, or reads them from one.
func pipes(words []string) int {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return 1
	}
	switch words[0] {
	case "write":
		_, _ = unix.Write(p[1], []byte(words[1]))
	case "writev":
		var list [][]byte
		for _, w := range words[1:] {
			list = append(list, []byte(w))
		}
		_, _ = unix.Writev(p[1], list)
	case "read":
		_, _ = unix.Write(p[1], []byte(words[1]))
		_, _ = unix.Read(p[0], make([]byte, 100))
	}
	return 0
}

func sockaddr(addr string) (unix.Sockaddr, int) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, 0
	}
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}, unix.AF_INET6
}

// connect tries to reach an address where nobody listens.
func connect(addr string) int {
	sa, family := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		return 1
	}
	_ = unix.Connect(fd, sa)
	return 0
}

// serve listens, and connects to itself.
func serve(addr string) int {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_ = c.Close()
	_ = l.Close()
	return 0
}

// send sends a datagram.
func send(addr string) int {
	sa, family := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		return 1
	}
	_ = unix.Sendto(fd, []byte("vigie"), 0, sa)
	return 0
}

// pass connects, gives the connection to a child and closes its own; the child's end closes it.
func pass(addr string) int {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	peer, err := l.Accept()
	if err != nil {
		return 1
	}
	defer peer.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return 1
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=wait")
	cmd.ExtraFiles = []*os.File{f}
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 1
	}
	_, _ = c.Close(), f.Close()
	_, _ = in.Write([]byte("go\n"))
	if cmd.Wait() != nil {
		return 1
	}
	return 0
}

// loadBPF makes a map and a program of a name.
func loadBPF(name string) int {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer m.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SocketFilter, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer p.Close()
	return 0
}

// readMemory reads from a file in memory of a name.
func readMemory(name string) int {
	fd, err := unix.MemfdCreate(name, 0)
	if err != nil {
		return 1
	}
	_, _ = unix.Write(fd, []byte("x"))
	_, _ = unix.Pread(fd, make([]byte, 1), 0)
	return 0
}

// reload takes a module out of the kernel and loads it again from its file.
func reload(name, file string) int {
	if strings.HasSuffix(file, ".xz") {
		plain := filepath.Join(os.TempDir(), name+".ko")
		if err := exec.Command("/bin/sh", "-c", "unxz -c "+file+" >"+plain).Run(); err != nil {
			fmt.Println(err)
			return 1
		}
		defer os.Remove(plain)
		file = plain
	}
	f, err := os.Open(file)
	if err == nil {
		err = errors.Join(unix.DeleteModule(name, 0), unix.FinitModule(int(f.Fd()), "", 0))
		_ = f.Close()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
