// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// Go's own listeners are MPTCP where the kernel has it, its dialers where they are told to.
func TestMPTCPIsOneConnection(t *testing.T) {
	w := newWorld(t)
	probe, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err != nil {
		t.Skipf("needs MPTCP (CONFIG_MPTCP, net.mptcp.enabled): %v", err)
	}
	unix.Close(probe)
	for _, c := range []struct {
		name           string
		listen, dialer bool
	}{{"both", true, true}, {"listener", true, false}, {"dialer", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			var lc net.ListenConfig
			lc.SetMultipathTCP(c.listen)
			var d net.Dialer
			d.SetMultipathTCP(c.dialer)
			var l net.Listener
			var client, server net.Conn
			accepted := make(chan error, 1)
			w.ns.Do(t, func() (err error) {
				if l, err = lc.Listen(context.Background(), "tcp", "127.0.0.1:0"); err != nil {
					return err
				}
				go func() {
					var err error
					server, err = l.Accept()
					accepted <- err
				}()
				client, err = d.Dial("tcp", l.Addr().String())
				return errors.Join(err, <-accepted)
			})
			if multi, err := server.(*net.TCPConn).MultipathTCP(); multi != (c.listen && c.dialer) || err != nil {
				t.Fatalf("the connection is MPTCP: %t (%v)", multi, err)
			}
			client.Write(make([]byte, 5000))
			io.ReadFull(server, make([]byte, 5000))
			server.Write(make([]byte, 300))
			io.ReadFull(client, make([]byte, 300))
			// By address: an MPTCP connection goes by the cookie of its first subflow, which cannot be asked for.
			cookieOf := func(typ model.Type, local string) uint64 {
				return w.Await(t, string(typ), func(e *model.Event) bool {
					return e.Type == typ && e.Socket.NetNS == w.ns.Inode && e.Socket.Local.String() == local
				}).Socket.Cookie
			}
			cookies := [3]uint64{cookieOf(model.TypeListen, l.Addr().String()),
				cookieOf(model.TypeConnect, client.LocalAddr().String()), cookieOf(model.TypeAccept, l.Addr().String())}
			client.Close()
			server.Close()
			l.Close()

			listen := w.story(cookies[0], model.TypeListen, model.TypeClose)
			connect := w.story(cookies[1], model.TypeConnect, model.TypeClose)
			accept := w.story(cookies[2], model.TypeAccept, model.TypeClose)
			if s := listen[0].Socket; s.Local.String() != l.Addr().String() || s.Backlog == 0 {
				t.Errorf("listen: %+v", s)
			}
			for i, e := range connect {
				s, other := e.Socket, accept[i].Socket
				if s.Local.String() != client.LocalAddr().String() || s.Remote.String() != l.Addr().String() ||
					other.Local != s.Remote || other.Remote != s.Local {
					t.Errorf("%s is %v to %v, %s %v to %v", e.Type, s.Local, s.Remote, accept[i].Type, other.Local, other.Remote)
				}
			}
			checkCounters(t, connect[1].Socket, 5000, 300)
			checkCounters(t, accept[1].Socket, 300, 5000)
		})
	}
	w.settle()
	for typ, want := range map[model.Type]int{model.TypeListen: 3, model.TypeConnect: 3, model.TypeAccept: 3, model.TypeClose: 9} {
		if n := w.count(typ, func(s *model.Socket) bool { return s.Protocol == "tcp" }); n != want {
			t.Errorf("%d events %s, want %d", n, typ, want)
		}
	}
}

func TestFailedMPTCPConnect(t *testing.T) {
	w := newWorld(t)
	if probe, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP); err != nil {
		t.Skipf("needs MPTCP (CONFIG_MPTCP, net.mptcp.enabled): %v", err)
	} else {
		unix.Close(probe)
	}
	c := w.socketIn(w.ns, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err := c.connect("127.0.0.1:1"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal(err)
	}
	c.close()
	w.failed("127.0.0.1:1", unix.ECONNREFUSED)
	c = w.socketIn(w.ns, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err := c.connect("192.0.2.1:1"); !errors.Is(err, unix.ENETUNREACH) {
		t.Fatal(err)
	}
	c.close()
	w.failed("192.0.2.1:1", unix.ENETUNREACH)
	w.noCloses()
}
