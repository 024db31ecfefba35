// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// TestMain lets the tests run this binary as another process that holds sockets.
func TestMain(m *testing.M) {
	if what := os.Getenv("VIGIE_SOCKET_HELPER"); what != "" {
		if err := helper(what); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// world is a running sensor and a network namespace that nobody else uses, so that a test can count all of
// its events.
type world struct {
	*testkit.Kernel
	t      testing.TB
	ns     *testkit.NetNS
	sensor *Sensor
}

func newWorld(t testing.TB) *world {
	s := New(Options{})
	k := testkit.StartSensor(t, s)
	return &world{Kernel: k, t: t, ns: testkit.NewNetNS(t), sensor: s}
}

// of is what was reported of the socket with this cookie, in order.
func (w *world) of(cookie uint64) []*model.Event {
	return w.Events(func(e *model.Event) bool { return e.Socket != nil && e.Socket.Cookie == cookie })
}

// story waits until the socket has this many events and checks their types. It is final once the world
// has settled.
func (w *world) story(cookie uint64, want ...model.Type) []*model.Event {
	w.t.Helper()
	var got []*model.Event
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = w.of(cookie); len(got) >= len(want) {
			break
		}
	}
	w.settle()
	got = w.of(cookie)
	types := make([]model.Type, len(got))
	for i, e := range got {
		types[i] = e.Type
	}
	if !slices.Equal(types, want) {
		w.t.Fatalf("socket %d has the events %v, want %v", cookie, types, want)
	}
	return got
}

// settle waits until everything that happened before has been reported: a ring keeps the order.
func (w *world) settle() {
	w.t.Helper()
	s := w.socket(unix.AF_INET, unix.SOCK_DGRAM)
	s.bind("127.0.0.1:9")
	cookie := s.cookie()
	w.Await(w.t, "the mark", func(e *model.Event) bool {
		return e.Type == model.TypeListen && e.Socket.Cookie == cookie
	})
	s.close()
}

// count is how many events of a type the namespace has had.
func (w *world) count(typ model.Type, match func(*model.Socket) bool) int {
	return len(w.Events(func(e *model.Event) bool {
		return e.Type == typ && e.Socket.NetNS == w.ns.Inode && match(e.Socket)
	}))
}

// sock is a blocking socket of a test.
type sock struct {
	t      testing.TB
	fd     int
	family int
}

func (w *world) socket(family, typ int) *sock { return w.socketIn(w.ns, family, typ, 0) }

func (w *world) socketIn(ns *testkit.NetNS, family, typ, protocol int) *sock {
	w.t.Helper()
	s := &sock{t: w.t, family: family}
	ns.Do(w.t, func() (err error) {
		s.fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, protocol)
		return err
	})
	w.t.Cleanup(s.close)
	return s
}

// listener is a TCP socket that listens on addr.
func (w *world) listener(family int, addr string) *sock {
	w.t.Helper()
	l := w.socket(family, unix.SOCK_STREAM)
	l.check("set SO_REUSEADDR", unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	l.bind(addr)
	l.check("listen", unix.Listen(l.fd, 16))
	return l
}

// pair is a connection over l.
func (w *world) pair(l *sock) (client, server *sock) {
	w.t.Helper()
	client = w.socket(l.family, unix.SOCK_STREAM)
	client.check("connect", client.connect(l.local().String()))
	return client, l.accept()
}

func (s *sock) check(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *sock) address(addr string) unix.Sockaddr {
	a := netip.MustParseAddrPort(addr)
	if s.family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func (s *sock) bind(addr string) {
	s.t.Helper()
	s.check("bind "+addr, unix.Bind(s.fd, s.address(addr)))
}

func (s *sock) connect(addr string) error { return unix.Connect(s.fd, s.address(addr)) }

func (s *sock) accept() *sock {
	s.t.Helper()
	fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
	s.check("accept", err)
	c := &sock{t: s.t, fd: fd, family: s.family}
	s.t.Cleanup(c.close)
	return c
}

func (s *sock) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// abort closes with a reset.
func (s *sock) abort() {
	s.t.Helper()
	s.check("set SO_LINGER", unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	s.close()
}

// await waits for an event on the socket without reading it.
func (s *sock) await(events int16) {
	s.t.Helper()
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); {
		n, err := unix.Poll(fds, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			s.t.Fatalf("poll: %v", err)
		}
		if n > 0 {
			return
		}
	}
	s.t.Fatalf("nothing came from the socket within %v", testkit.Deadline)
}

func (s *sock) write(n int) {
	s.t.Helper()
	for buf := make([]byte, n); len(buf) > 0; {
		n, err := unix.Write(s.fd, buf)
		s.check("write", err)
		buf = buf[n:]
	}
}

func (s *sock) read(n int) {
	s.t.Helper()
	for buf := make([]byte, n); len(buf) > 0; {
		n, err := unix.Read(s.fd, buf)
		s.check("read", err)
		if n == 0 {
			s.t.Fatalf("the peer closed, %d bytes are missing", len(buf))
		}
		buf = buf[n:]
	}
}

// readEnd reads the peer's end of the stream.
func (s *sock) readEnd() {
	s.t.Helper()
	if n, err := unix.Read(s.fd, make([]byte, 1)); n != 0 || err != nil {
		s.t.Fatalf("read %d bytes and error %v, want the end", n, err)
	}
}

func (s *sock) cookie() uint64 {
	s.t.Helper()
	c, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	s.check("read SO_COOKIE", err)
	return c
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// local is the socket's own address as it shows it, IPv4-mapped ones as they are.
func (s *sock) local() netip.AddrPort {
	s.t.Helper()
	sa, err := unix.Getsockname(s.fd)
	s.check("read the local address", err)
	return addrPort(sa)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// process is another process, this binary with a task (see helper).
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

// start runs a helper in the namespace; it gets the sockets as descriptors 3 and up.
func (w *world) start(what string, socks ...*sock) *process {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "VIGIE_SOCKET_HELPER="+what)
	for _, s := range socks {
		fd, err := unix.Dup(s.fd)
		s.check("duplicate a socket", err)
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.ns.Do(w.t, cmd.Start)
	p := &process{w.t, cmd, stdin, bufio.NewReader(stdout)}
	w.t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return p
}

// expect waits for a line of the helper.
func (p *process) expect(want string) {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil || line != want+"\n" {
		p.t.Fatalf("the helper said %q (%v), want %q", line, err, want)
	}
}

func (p *process) pid() uint32 { return uint32(p.cmd.Process.Pid) }

// helper is the other process: it does its task, says so, and waits for the end of its input.
func helper(what string) error {
	switch what {
	case "accept": // from descriptor 3, and close at the end
		fd, _, err := unix.Accept(3)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
	case "connect": // to where descriptor 3 listens, and never close
		sa, err := unix.Getsockname(3)
		if err != nil {
			return err
		}
		if err := connectTo(sa); err != nil {
			return err
		}
	case "connect to 10.9.0.77:80":
		return connectTo(&unix.SockaddrInet4{Addr: [4]byte{10, 9, 0, 77}, Port: 80})
	case "hold": // what it was given
	default:
		return fmt.Errorf("no such task %q", what)
	}
	fmt.Println("done")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// connectTo opens a connection and never closes it.
func connectTo(sa unix.Sockaddr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return unix.Connect(fd, sa)
}

// awaitBlocked waits until a helper is inside connect(2).
func (w *world) awaitBlocked(p *process) {
	w.t.Helper()
	path := fmt.Sprintf("/proc/%d/task", p.pid())
	prefix := fmt.Sprintf("%d ", unix.SYS_CONNECT)
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		threads, _ := os.ReadDir(path)
		for _, th := range threads {
			if b, err := os.ReadFile(path + "/" + th.Name() + "/syscall"); err == nil && strings.HasPrefix(string(b), prefix) {
				return
			}
		}
	}
	w.t.Fatalf("the helper did not call connect within %v", testkit.Deadline)
}

// enableFastOpen has servers and clients of the namespace use TCP fast open.
func (w *world) enableFastOpen() {
	w.t.Helper()
	w.ns.Do(w.t, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte("3"), 0)
	})
}

// counter is one of the namespace's counters in /proc/net/netstat, whose lines are names and then values.
func (w *world) counter(group, name string) (n int) {
	w.t.Helper()
	var b []byte
	w.ns.Do(w.t, func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	var names []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if f[0] != group+":" {
			continue
		}
		if i := slices.Index(names, name); i > 0 {
			n, _ = strconv.Atoi(f[i])
			return n
		}
		names = f
	}
	w.t.Fatalf("the kernel has no counter %s of %s", name, group)
	return 0
}

func (s *sock) remote() netip.AddrPort {
	s.t.Helper()
	sa, err := unix.Getpeername(s.fd)
	s.check("read the remote address", err)
	return addrPort(sa)
}
