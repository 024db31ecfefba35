// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// failed waits for the one connect event of a failed attempt and checks it.
func (w *world) failed(remote string, want unix.Errno) *model.Event {
	w.t.Helper()
	addr := netip.MustParseAddrPort(remote)
	match := func(e *model.Event) bool {
		return e.Type == model.TypeConnect && e.Socket.NetNS == w.ns.Inode && e.Socket.Remote == addr
	}
	e := w.Await(w.t, "the failed connect to "+remote, match)
	w.settle()
	if all := w.Events(match); len(all) != 1 {
		w.t.Errorf("%d connect events to %s, want 1", len(all), remote)
		for _, e := range all {
			w.t.Logf("at %d: %+v", e.BootTime, e.Socket)
		}
	}
	if e.Socket.Error != model.Errno(want) || e.Socket.Direction != "outbound" || e.Key.PID != uint32(testkit.PID()) {
		w.t.Errorf("connect to %s: %+v by %+v, want error %v", remote, e.Socket, e.Key, want)
	}
	return e
}

func (w *world) noCloses() {
	w.t.Helper()
	if n := w.count(model.TypeClose, func(s *model.Socket) bool { return s.Protocol == "tcp" }); n != 0 {
		w.t.Errorf("%d closes of connections that never were", n)
	}
}

func TestRefusedConnectIsReportedOnce(t *testing.T) {
	w := newWorld(t)
	c := w.socket(unix.AF_INET, unix.SOCK_STREAM)
	if err := c.connect("127.0.0.1:1"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal(err)
	}
	if e := w.failed("127.0.0.1:1", unix.ECONNREFUSED); e.Socket.Latency <= 0 || e.Socket.Cookie != c.cookie() {
		t.Errorf("refused connect: %+v, want a latency and cookie %d", e.Socket, c.cookie())
	}
	c.close()

	c = w.socket(unix.AF_INET6, unix.SOCK_STREAM)
	if err := c.connect("[::1]:2"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal(err)
	}
	c.close()
	w.failed("[::1]:2", unix.ECONNREFUSED)

	c = w.socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
	if err := c.connect("127.0.0.1:3"); !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal(err)
	}
	c.await(unix.POLLOUT)
	_ = c.connect("127.0.0.1:3") // gets the error again
	_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
	c.close()
	w.failed("127.0.0.1:3", unix.ECONNREFUSED)
	w.noCloses()
}

func TestConnectThatFailsAtOnceIsReportedOnce(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		remote      string
		family, typ int
		want        unix.Errno
	}{
		{"192.0.2.1:80", unix.AF_INET, unix.SOCK_STREAM, unix.ENETUNREACH},
		{"[2001:db8::1]:80", unix.AF_INET6, unix.SOCK_STREAM, unix.ENETUNREACH},
		{"192.0.2.2:53", unix.AF_INET, unix.SOCK_DGRAM, unix.ENETUNREACH},
		{"127.255.255.255:9", unix.AF_INET, unix.SOCK_DGRAM, unix.EACCES}, // broadcast without SO_BROADCAST
	} {
		s := w.socket(c.family, c.typ)
		if err := s.connect(c.remote); !errors.Is(err, c.want) {
			t.Fatalf("connect to %s: %v, want %v", c.remote, err, c.want)
		}
		w.failed(c.remote, c.want)
	}
	w.noCloses()

	// The only four-tuple that the socket could use is taken: it reaches SYN_SENT, and leaves it without an error of its own.
	l := w.listener(unix.AF_INET, "127.0.0.1:81")
	var last *sock
	for i := range 2 {
		last = w.socket(unix.AF_INET, unix.SOCK_STREAM)
		last.check("set SO_REUSEADDR", unix.SetsockoptInt(last.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		last.bind("127.0.0.1:4000")
		if err := last.connect("127.0.0.1:81"); (i == 0) != (err == nil) {
			t.Fatalf("connect %d: %v", i, err)
		}
	}
	if e := w.story(last.cookie(), model.TypeConnect)[0].Socket.Error; e.String() != "EADDRNOTAVAIL" {
		t.Errorf("error is %v, want EADDRNOTAVAIL", e)
	}
	l.close()
}

func TestConnectWithoutAnAnswer(t *testing.T) {
	w := newWorld(t)
	peer := testkit.NewNetNS(t)
	testkit.Connect(t, w.ns, peer, "10.9.0.1/24", "10.9.0.2/24")

	// Nobody has the address: the kernel gives up by itself, long after connect was called.
	c := w.socket(unix.AF_INET, unix.SOCK_STREAM)
	err := c.connect("10.9.0.77:80")
	if !errors.Is(err, unix.EHOSTUNREACH) {
		t.Fatalf("connect: %v, want EHOSTUNREACH", err)
	}
	c.close()
	if e := w.failed("10.9.0.77:80", unix.EHOSTUNREACH); e.Socket.Latency < time.Millisecond {
		t.Errorf("latency is %v", e.Socket.Latency)
	}

	// Closed before there was an answer.
	c = w.socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
	if err := c.connect("10.9.0.78:80"); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatalf("connect: %v, want EINPROGRESS", err)
	}
	c.close()
	w.failed("10.9.0.78:80", unix.ECANCELED)
	w.noCloses()
}

func TestConnectWhoseProcessIsKilled(t *testing.T) {
	w := newWorld(t)
	peer := testkit.NewNetNS(t)
	testkit.Connect(t, w.ns, peer, "10.9.0.1/24", "10.9.0.2/24")
	p := w.start("connect to 10.9.0.77:80")
	w.awaitBlocked(p)
	p.cmd.Process.Kill()
	e := w.Await(t, "the connect that was given up", func(e *model.Event) bool {
		return e.Type == model.TypeConnect && e.Key.PID == p.pid()
	})
	if e.Socket.Error != model.Errno(unix.ECANCELED) {
		t.Errorf("error is %v, want ECANCELED", e.Socket.Error)
	}
	w.story(e.Socket.Cookie, model.TypeConnect)
}

func TestConnectAcrossNamespaces(t *testing.T) {
	w := newWorld(t)
	peer := testkit.NewNetNS(t)
	testkit.Connect(t, w.ns, peer, "10.9.0.1/24", "10.9.0.2/24")
	l := w.socketIn(peer, unix.AF_INET, unix.SOCK_STREAM, 0)
	l.bind("10.9.0.2:80")
	l.check("listen", unix.Listen(l.fd, 1))
	c := w.socket(unix.AF_INET, unix.SOCK_STREAM)
	c.check("connect", c.connect("10.9.0.2:80"))
	s := l.accept()
	cc, sc := c.cookie(), s.cookie()
	c.close()
	s.close()
	for _, e := range w.story(cc, model.TypeConnect, model.TypeClose) {
		if e.Socket.NetNS != w.ns.Inode {
			t.Errorf("%s of the client in namespace %d, want %d", e.Type, e.Socket.NetNS, w.ns.Inode)
		}
	}
	for _, e := range w.story(sc, model.TypeAccept, model.TypeClose) {
		if e.Socket.NetNS != peer.Inode {
			t.Errorf("%s of the server in namespace %d, want %d", e.Type, e.Socket.NetNS, peer.Inode)
		}
	}
}

func TestNonBlockingConnect(t *testing.T) {
	w := newWorld(t)
	l := w.listener(unix.AF_INET, "127.0.0.1:80")
	c := w.socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
	if err := c.connect("127.0.0.1:80"); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	c.await(unix.POLLOUT)
	_ = c.connect("127.0.0.1:80") // says that it is connected
	l.accept().close()
	cc := c.cookie()
	c.close()
	w.story(cc, model.TypeConnect, model.TypeClose)
}

func TestFastOpen(t *testing.T) {
	w := newWorld(t)
	w.enableFastOpen()
	l := w.socket(unix.AF_INET, unix.SOCK_STREAM)
	l.check("set TCP_FASTOPEN", unix.SetsockoptInt(l.fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16))
	l.bind("127.0.0.1:80")
	l.check("listen", unix.Listen(l.fd, 16))
	// The first two ask for a cookie, the others send data in their first packet.
	for i := range 6 {
		c := w.socket(unix.AF_INET, unix.SOCK_STREAM)
		if i%2 == 0 {
			c.check("set TCP_FASTOPEN_CONNECT", unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1))
			c.check("connect", c.connect("127.0.0.1:80"))
			c.write(9)
		} else {
			c.check("send with MSG_FASTOPEN", unix.Sendto(c.fd, make([]byte, 9), unix.MSG_FASTOPEN, c.address("127.0.0.1:80")))
		}
		s := l.accept()
		remote := s.remote()
		s.read(9)
		s.write(4)
		c.read(4)
		cc := c.cookie()
		c.close()
		s.readEnd()
		s.close()
		got := w.story(cc, model.TypeConnect, model.TypeClose)
		if r := got[0].Socket.Remote; r != netip.MustParseAddrPort("127.0.0.1:80") {
			t.Errorf("connect to %v", r)
		}
		checkCounters(t, got[1].Socket, 9, 4)
		of := func(typ model.Type) func(*model.Event) bool {
			return func(e *model.Event) bool {
				return e.Type == typ && e.Socket.NetNS == w.ns.Inode && e.Socket.Remote == remote && e.Socket.Direction == "inbound"
			}
		}
		accept, closed := w.Await(t, "the accept", of(model.TypeAccept)), w.Await(t, "the server's close", of(model.TypeClose))
		if accept.Socket.Cookie != closed.Socket.Cookie {
			t.Errorf("accept has cookie %d, close %d", accept.Socket.Cookie, closed.Socket.Cookie)
		}
		checkCounters(t, closed.Socket, 4, 9)
	}
	w.settle()
	for typ, want := range map[model.Type]int{model.TypeConnect: 6, model.TypeAccept: 6, model.TypeClose: 12} {
		if n := w.count(typ, func(s *model.Socket) bool { return s.Protocol == "tcp" }); n != want {
			t.Errorf("%d events %s, want %d", n, typ, want)
		}
	}
	if w.counter("TcpExt", "TCPFastOpenPassive") == 0 {
		t.Error("no connection carried data in its first packet: fast open was not tested")
	}
}
