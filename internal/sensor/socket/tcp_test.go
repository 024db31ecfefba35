// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestTCPConnectionIsToldFromBothEnds(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, listen, dial, family string
		af                         int
	}{
		{"ipv4", "127.0.0.1:1001", "127.0.0.1:1001", "ipv4", unix.AF_INET},
		{"ipv6", "[::1]:1002", "[::1]:1002", "ipv6", unix.AF_INET6},
		{"dual stack", "[::]:1003", "[::ffff:127.0.0.1]:1003", "ipv4", unix.AF_INET6},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := w.listener(c.af, c.listen)
			client := w.socket(c.af, unix.SOCK_STREAM)
			client.check("connect", client.connect(c.dial))
			server := l.accept()
			client.write(100_000)
			server.read(100_000)
			server.write(7)
			client.read(7)
			here, there := unmap(client.local()), unmap(server.local())
			lc, cc, sc := l.cookie(), client.cookie(), server.cookie()
			client.close()
			server.readEnd()
			server.close()
			l.close()

			for _, e := range w.story(lc, model.TypeListen, model.TypeClose) {
				s := e.Socket
				if s.Local != l.at(c.listen) || s.Remote.IsValid() || s.Direction != "listener" || s.Protocol != "tcp" {
					t.Errorf("%s of the listener: %+v", e.Type, s)
				}
				if e.Type == model.TypeListen && s.Backlog != 16 {
					t.Errorf("backlog is %d, want 16", s.Backlog)
				}
			}
			connect := w.story(cc, model.TypeConnect, model.TypeClose)
			accept := w.story(sc, model.TypeAccept, model.TypeClose)
			for _, e := range append(connect, accept...) {
				s := e.Socket
				wantLocal, wantRemote, dir := here, there, "outbound"
				if s.Cookie == sc {
					wantLocal, wantRemote, dir = there, here, "inbound"
				}
				if s.Local != wantLocal || s.Remote != wantRemote || s.Direction != dir || s.Family != c.family || s.Error != 0 {
					t.Errorf("%s is %+v, want %v to %v", e.Type, s, wantLocal, wantRemote)
				}
				if e.Key.PID != uint32(testkit.PID()) || e.Key.Start == 0 || s.NetNS != w.ns.Inode || e.TID == 0 {
					t.Errorf("%s by %+v in namespace %d, want pid %d in %d", e.Type, e.Key, s.NetNS, testkit.PID(), w.ns.Inode)
				}
			}
			if connect[0].Socket.Latency <= 0 {
				t.Errorf("latency is %v", connect[0].Socket.Latency)
			}
			checkCounters(t, connect[1].Socket, 100_000, 7)
			checkCounters(t, accept[1].Socket, 7, 100_000)
		})
	}
}

// at is the address that a listener is expected to show.
func (s *sock) at(addr string) netip.AddrPort { return unmap(addrPort(s.address(addr))) }

func checkCounters(t *testing.T, s *model.Socket, sent, received uint64) {
	t.Helper()
	if s.BytesSent != sent || s.BytesReceived != received {
		t.Errorf("%d bytes sent and %d received, want %d and %d", s.BytesSent, s.BytesReceived, sent, received)
	}
	if s.PacketsSent == 0 || s.PacketsReceived == 0 || s.SRTT <= 0 || s.Duration <= 0 {
		t.Errorf("close has no packets, round-trip time or duration: %+v", s)
	}
}

func TestAcceptNamesTheProcessThatAccepts(t *testing.T) {
	w := newWorld(t)
	l := w.listener(unix.AF_INET, "127.0.0.1:80")
	worker := w.start("accept", l)
	client := w.socket(unix.AF_INET, unix.SOCK_STREAM)
	client.check("connect", client.connect("127.0.0.1:80"))
	worker.expect("done")
	worker.stdin.Close()
	client.readEnd()
	client.close()

	accept := w.Await(t, "the accept", func(e *model.Event) bool {
		return e.Type == model.TypeAccept && e.Socket.NetNS == w.ns.Inode
	})
	for _, e := range w.story(accept.Socket.Cookie, model.TypeAccept, model.TypeClose) {
		if e.Key.PID != worker.pid() || e.Key != accept.Key {
			t.Errorf("%s by %+v, want pid %d, which accepted, not %d, which listens", e.Type, e.Key, worker.pid(), testkit.PID())
		}
	}
}

func TestConnectionThatNobodyAcceptsIsNoEventOfTheServer(t *testing.T) {
	w := newWorld(t)
	l := w.listener(unix.AF_INET, "127.0.0.1:80")
	client := w.socket(unix.AF_INET, unix.SOCK_STREAM)
	client.check("connect", client.connect("127.0.0.1:80"))
	cc := client.cookie()
	l.close()
	client.await(unix.POLLIN)
	client.close()

	got := w.story(cc, model.TypeConnect, model.TypeClose)
	if e := got[1].Socket.Error; e.String() != "ECONNRESET" {
		t.Errorf("the client's close has error %v, want ECONNRESET", e)
	}
	if n := w.count(model.TypeAccept, all) + w.count(model.TypeClose, func(s *model.Socket) bool { return s.Direction == "inbound" }); n != 0 {
		t.Errorf("%d events of a connection that nobody accepted", n)
	}
}

func all(*model.Socket) bool { return true }

func TestResetIsOneCloseAtEachEnd(t *testing.T) {
	w := newWorld(t)
	l := w.listener(unix.AF_INET, "127.0.0.1:80")

	client, server := w.pair(l)
	cc, sc := client.cookie(), server.cookie()
	client.abort()
	server.await(unix.POLLIN)
	server.close()
	w.story(cc, model.TypeConnect, model.TypeClose)
	if e := w.story(sc, model.TypeAccept, model.TypeClose)[1].Socket.Error; e.String() != "ECONNRESET" {
		t.Errorf("the close has error %v, want ECONNRESET", e)
	}

	// Reset while it waits to be accepted: accept returns it all the same.
	client = w.socket(unix.AF_INET, unix.SOCK_STREAM)
	client.check("connect", client.connect("127.0.0.1:80"))
	client.write(5)
	cc = client.cookie()
	client.abort()
	server = l.accept()
	sc = server.cookie()
	server.close()
	w.story(cc, model.TypeConnect, model.TypeClose)
	got := w.story(sc, model.TypeAccept, model.TypeClose)
	if s := got[1].Socket; s.BytesReceived != 5 || s.Direction != "inbound" || s.Error.String() != "ECONNRESET" {
		t.Errorf("close of what was reset before it was accepted: %+v", s)
	}
}

func TestKilledProcessClosesItsConnections(t *testing.T) {
	w := newWorld(t)
	l := w.listener(unix.AF_INET, "127.0.0.1:80")
	p := w.start("connect", l)
	server := l.accept()
	p.expect("done")
	p.cmd.Process.Kill()
	server.readEnd()
	server.close()

	connect := w.Await(t, "the connect", func(e *model.Event) bool {
		return e.Type == model.TypeConnect && e.Key.PID == p.pid()
	})
	got := w.story(connect.Socket.Cookie, model.TypeConnect, model.TypeClose)
	if got[1].Key != connect.Key {
		t.Errorf("the close names %+v, the connect %+v", got[1].Key, connect.Key)
	}
}

func TestHalfCloseAndSimultaneousClose(t *testing.T) {
	w := newWorld(t)
	l := w.listener(unix.AF_INET, "127.0.0.1:80")

	client, server := w.pair(l)
	client.write(10)
	client.check("shutdown", unix.Shutdown(client.fd, unix.SHUT_WR))
	server.read(10)
	server.readEnd()
	server.write(2000)
	cc, sc := client.cookie(), server.cookie()
	server.close()
	client.read(2000)
	client.readEnd()
	client.close()
	checkCounters(t, w.story(cc, model.TypeConnect, model.TypeClose)[1].Socket, 10, 2000)
	checkCounters(t, w.story(sc, model.TypeAccept, model.TypeClose)[1].Socket, 2000, 10)

	for range 50 {
		client, server = w.pair(l)
		client.write(3)
		server.read(3)
		cc, sc = client.cookie(), server.cookie()
		done := make(chan struct{})
		go func() { server.close(); close(done) }()
		client.close()
		<-done
		if s := w.story(cc, model.TypeConnect, model.TypeClose)[1].Socket; s.BytesSent != 3 || s.BytesReceived != 0 {
			t.Fatalf("client's counters: %+v", s)
		}
		if s := w.story(sc, model.TypeAccept, model.TypeClose)[1].Socket; s.BytesSent != 0 || s.BytesReceived != 3 {
			t.Fatalf("server's counters: %+v", s)
		}
	}
}

func TestPortsUsedByManySocketsAreToldApart(t *testing.T) {
	w := newWorld(t)
	// Two listeners on one port.
	listeners := map[uint64]*sock{}
	for range 2 {
		l := w.socket(unix.AF_INET, unix.SOCK_STREAM)
		l.check("set SO_REUSEPORT", unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		l.bind("127.0.0.1:80")
		l.check("listen", unix.Listen(l.fd, 16))
		listeners[l.cookie()] = l
	}
	if len(listeners) != 2 {
		t.Fatal("two sockets share a cookie")
	}
	for c, l := range listeners {
		w.story(c, model.TypeListen)
		l.close()
		w.story(c, model.TypeListen, model.TypeClose)
	}
	// The same four-tuple again at once: a reset leaves no TIME_WAIT.
	l := w.listener(unix.AF_INET, "127.0.0.1:81")
	for range 20 {
		client := w.socket(unix.AF_INET, unix.SOCK_STREAM)
		client.check("set SO_REUSEADDR", unix.SetsockoptInt(client.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		client.bind("127.0.0.1:4242")
		client.check("connect", client.connect("127.0.0.1:81"))
		server := l.accept()
		cc, sc := client.cookie(), server.cookie()
		client.abort()
		server.close()
		w.story(cc, model.TypeConnect, model.TypeClose)
		w.story(sc, model.TypeAccept, model.TypeClose)
	}
}

func TestSocketIsUsedForOneConnectionAfterAnother(t *testing.T) {
	w := newWorld(t)
	l := w.listener(unix.AF_INET, "127.0.0.1:80")
	client, server := w.pair(l)
	cc := client.cookie()
	// connect to AF_UNSPEC takes the connection back.
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(client.fd), uintptr(unsafe.Pointer(&unix.RawSockaddr{})), 16)
	if errno != 0 {
		t.Fatalf("disconnect: %v", errno)
	}
	server.close()
	client.check("connect again", client.connect("127.0.0.1:80"))
	server = l.accept()
	client.close()
	server.close()
	w.story(cc, model.TypeConnect, model.TypeClose, model.TypeConnect, model.TypeClose)
}
