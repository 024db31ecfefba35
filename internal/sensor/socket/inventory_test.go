// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestWhatWasOpenBeforeIsListedAndItsCloseIsNamed(t *testing.T) {
	testkit.RequireBPF(t)
	w := &world{t: t, ns: testkit.NewNetNS(t)}
	dir := testkit.RealPath(t, t.TempDir())

	l := w.listener(unix.AF_INET, "127.0.0.1:80")
	client, server := w.pair(l)
	server.write(11)
	client.read(11)
	waiting := w.socket(unix.AF_INET, unix.SOCK_STREAM) // connected, and accepted only when the sensor runs
	waiting.check("connect", waiting.connect("127.0.0.1:80"))
	resolver := w.socket(unix.AF_INET6, unix.SOCK_DGRAM)
	resolver.check("set SO_REUSEADDR", unix.SetsockoptInt(resolver.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	resolver.bind("[::1]:53")
	stub := w.socket(unix.AF_INET6, unix.SOCK_DGRAM)
	stub.check("connect", stub.connect("[::1]:53"))
	peer := w.socket(unix.AF_INET6, unix.SOCK_DGRAM) // a server's end of one UDP conversation
	peer.check("set SO_REUSEADDR", unix.SetsockoptInt(peer.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	peer.bind("[::1]:53")
	peer.check("connect", peer.connect(stub.local().String()))
	local := w.socket(unix.AF_UNIX, unix.SOCK_STREAM)
	local.check("bind", unix.Bind(local.fd, &unix.SockaddrUnix{Name: dir + "/s"}))
	local.check("listen", unix.Listen(local.fd, 3))
	idle := w.socket(unix.AF_INET, unix.SOCK_STREAM)
	var multi *sock
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP); err == nil {
		unix.Close(fd)
		multi = w.socketIn(w.ns, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		multi.check("connect", multi.connect("127.0.0.1:80"))
	}

	w.sensor = New(Options{})
	w.Kernel = testkit.StartSensor(t, w.sensor)
	w.Inventory(t, w.sensor)
	w.Inventory(t, w.sensor) // a second time there is nothing left to tell, but for what has no owner in it

	pre := func(s *sock, typ model.Type, protocol, direction string) {
		t.Helper()
		got := w.story(s.cookie(), typ)
		e := got[0]
		if !e.PreExisting || e.Key.PID != uint32(testkit.PID()) || e.Key.Start == 0 || e.Socket.Protocol != protocol ||
			e.Socket.Direction != direction || e.Socket.NetNS != w.ns.Inode {
			t.Errorf("%s by %+v (pre-existing: %t): %+v", typ, e.Key, e.PreExisting, e.Socket)
		}
	}
	pre(l, model.TypeListen, "tcp", "listener")
	pre(client, model.TypeConnect, "tcp", "outbound")
	pre(server, model.TypeAccept, "tcp", "inbound")
	pre(resolver, model.TypeListen, "udp", "listener")
	pre(stub, model.TypeConnect, "udp", "outbound")
	pre(peer, model.TypeAccept, "udp", "inbound")
	pre(local, model.TypeListen, "unix", "listener")
	if p := w.of(local.cookie())[0].Socket.Path; p != dir+"/s" {
		t.Errorf("path is %q, want %q", p, dir+"/s")
	}
	w.story(idle.cookie())

	// From here on they live on like any others.
	stub.write(20)
	peer.receive(20)
	cc, sc, lc, rc, uc, pc := client.cookie(), server.cookie(), l.cookie(), resolver.cookie(), stub.cookie(), peer.cookie()
	late := l.accept()
	if multi != nil {
		remote, end := multi.local(), l.accept()
		multi.close()
		end.readEnd()
		end.close()
		match := func(typ model.Type) func(e *model.Event) bool {
			return func(e *model.Event) bool {
				return e.Type == typ && e.Socket.NetNS == w.ns.Inode && e.Socket.Local == remote
			}
		}
		e, closed := w.Await(t, "the MPTCP connection", match(model.TypeConnect)), w.Await(t, "its close", match(model.TypeClose))
		if !e.PreExisting || closed.Key != e.Key || closed.Socket.Direction != "outbound" {
			t.Errorf("MPTCP: %+v %+v", e, closed)
		}
	}
	client.close()
	server.readEnd()
	server.close()
	stub.close()
	resolver.close()
	peer.close()
	waiting.close()
	late.readEnd()
	remote := late.remote()
	late.close()
	l.close()
	for c, typ := range map[uint64]model.Type{cc: model.TypeConnect, sc: model.TypeAccept, lc: model.TypeListen, rc: model.TypeListen, uc: model.TypeConnect, pc: model.TypeAccept} {
		if got := w.story(c, typ, model.TypeClose); got[1].Key != got[0].Key || got[1].PreExisting {
			t.Errorf("close by %+v, want %+v", got[1].Key, got[0].Key)
		}
	}
	checkDatagrams(t, w.of(pc)[1].Socket, 0, 0, 1, 20)
	if s := w.of(sc)[1].Socket; s.BytesSent != 11 {
		t.Errorf("%d bytes sent before the sensor ran are counted as %d", 11, s.BytesSent)
	}
	for _, typ := range []model.Type{model.TypeAccept, model.TypeClose} {
		w.Await(t, string(typ)+" of what waited", func(e *model.Event) bool {
			return e.Type == typ && e.Socket.NetNS == w.ns.Inode && e.Socket.Remote == remote
		})
	}
}
