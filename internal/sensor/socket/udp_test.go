// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

func (s *sock) sendTo(n int, addr string) {
	s.t.Helper()
	s.check("sendto "+addr, unix.Sendto(s.fd, make([]byte, n), 0, s.address(addr)))
}

func (s *sock) receive(n int) (from netip.AddrPort) {
	s.t.Helper()
	s.await(unix.POLLIN)
	got, sa, err := unix.Recvfrom(s.fd, make([]byte, n+1), 0)
	s.check("recvfrom", err)
	if got != n {
		s.t.Fatalf("received %d bytes, want %d", got, n)
	}
	return addrPort(sa)
}

func TestConnectedUDP(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		listen, dial, family string
		af                   int
	}{
		{"127.0.0.1:53", "127.0.0.1:53", "ipv4", unix.AF_INET},
		{"[::1]:54", "[::1]:54", "ipv6", unix.AF_INET6},
		{"[::]:55", "[::ffff:127.0.0.1]:55", "ipv4", unix.AF_INET6},
	} {
		server := w.socket(c.af, unix.SOCK_DGRAM)
		server.bind(c.listen)
		client := w.socket(c.af, unix.SOCK_DGRAM)
		client.check("connect", client.connect(c.dial))
		local := client.local()
		for range 10 {
			client.write(40)
			from := server.receive(40)
			server.sendTo(100, from.String())
			client.read(100)
		}
		cc, sc := client.cookie(), server.cookie()
		client.close()
		server.close()

		for _, e := range w.story(cc, model.TypeConnect, model.TypeClose) {
			s := e.Socket
			if s.Protocol != "udp" || s.Family != c.family || s.Local != unmap(local) || s.Remote != client.at(c.dial) ||
				s.Direction != "outbound" || s.NetNS != w.ns.Inode || e.Key.PID != uint32(testkit.PID()) {
				t.Errorf("%s by %+v: %+v", e.Type, e.Key, s)
			}
			if e.Type == model.TypeClose {
				checkDatagrams(t, s, 10, 400, 10, 1000)
			}
		}
		// What the server sends is answers: no connects of its own.
		for _, e := range w.story(sc, model.TypeListen, model.TypeClose) {
			s := e.Socket
			if s.Protocol != "udp" || s.Local.Port() != client.at(c.dial).Port() || s.Direction != "listener" || e.Key.PID != uint32(testkit.PID()) {
				t.Errorf("%s by %+v: %+v", e.Type, e.Key, s)
			}
			if e.Type == model.TypeClose {
				checkDatagrams(t, s, 10, 1000, 10, 400)
			}
		}
	}
}

func checkDatagrams(t *testing.T, s *model.Socket, sent, bytesSent, received, bytesReceived uint64) {
	t.Helper()
	if s.PacketsSent != sent || s.BytesSent != bytesSent || s.PacketsReceived != received || s.BytesReceived != bytesReceived {
		t.Errorf("%d packets of %d bytes sent, %d of %d received; want %d of %d, %d of %d", s.PacketsSent, s.BytesSent,
			s.PacketsReceived, s.BytesReceived, sent, bytesSent, received, bytesReceived)
	}
}

func TestUnconnectedUDPIsOneConnectForEachAddress(t *testing.T) {
	w := newWorld(t)
	s := w.socket(unix.AF_INET, unix.SOCK_DGRAM)
	for range 3 {
		for range 5 {
			s.sendTo(8, "127.0.0.1:1000")
		}
		s.sendTo(8, "127.0.0.2:1000")
		s.sendTo(8, "127.0.0.1:1001")
	}
	cookie := s.cookie()
	s.close()
	got := w.story(cookie, model.TypeConnect, model.TypeConnect, model.TypeConnect, model.TypeClose)
	for i, remote := range []string{"127.0.0.1:1000", "127.0.0.2:1000", "127.0.0.1:1001"} {
		if r := got[i].Socket.Remote; r != netip.MustParseAddrPort(remote) || got[i].Socket.Protocol != "udp" {
			t.Errorf("connect %d to %v, want %s", i, r, remote)
		}
	}
	if c := got[3].Socket; c.Remote.IsValid() || c.Direction != "outbound" {
		t.Errorf("close of a socket with many peers: %+v", c)
	}
	checkDatagrams(t, got[3].Socket, 21, 168, 0, 0)

	s = w.socket(unix.AF_INET6, unix.SOCK_DGRAM)
	s.sendTo(8, "[::1]:1002")
	cookie = s.cookie()
	s.close()
	got = w.story(cookie, model.TypeConnect, model.TypeClose)
	for _, e := range got {
		if e.Socket.Remote != netip.MustParseAddrPort("[::1]:1002") || e.Socket.Family != "ipv6" {
			t.Errorf("%s: %+v", e.Type, e.Socket)
		}
	}
}

func TestUDPServerThatSendsFirstConnects(t *testing.T) {
	w := newWorld(t)
	s := w.socket(unix.AF_INET, unix.SOCK_DGRAM)
	s.bind("0.0.0.0:500")
	s.sendTo(8, "127.0.0.1:501")
	w.story(s.cookie(), model.TypeListen, model.TypeConnect)
}

// A port that the kernel chose is no listener.
func TestUDPBoundToAnyPortDoesNotListen(t *testing.T) {
	w := newWorld(t)
	s := w.socket(unix.AF_INET, unix.SOCK_DGRAM)
	s.bind("127.0.0.1:0")
	cookie := s.cookie()
	s.close()
	w.story(cookie)
}
