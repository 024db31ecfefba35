// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestUnixSockets(t *testing.T) {
	w := newWorld(t)
	dir := testkit.RealPath(t, t.TempDir())
	long := strings.Repeat("n", 100)
	for _, c := range []struct {
		name, address, path string
		typ                 int
	}{
		{"stream", dir + "/s", dir + "/s", unix.SOCK_STREAM},
		{"seqpacket", dir + "/q", dir + "/q", unix.SOCK_SEQPACKET},
		{"relative", "./relative\n\xff", dir + "/relative\n\\xff", unix.SOCK_STREAM},
		{"abstract", "@vigie " + long, "@vigie " + long, unix.SOCK_STREAM},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(dir)
			l := w.socket(unix.AF_UNIX, c.typ)
			l.check("bind", unix.Bind(l.fd, &unix.SockaddrUnix{Name: c.address}))
			l.check("listen", unix.Listen(l.fd, 7))
			server := w.start("accept", l)
			client := w.socket(unix.AF_UNIX, c.typ)
			client.check("connect", unix.Connect(client.fd, &unix.SockaddrUnix{Name: c.address}))
			server.expect("done")

			for _, want := range []struct {
				typ       model.Type
				pid, peer uint32
				direction string
			}{
				{model.TypeListen, uint32(testkit.PID()), 0, "listener"},
				{model.TypeConnect, uint32(testkit.PID()), uint32(testkit.PID()), "outbound"},
				{model.TypeAccept, server.pid(), uint32(testkit.PID()), "inbound"},
			} {
				match := func(e *model.Event) bool {
					return e.Type == want.typ && e.Socket.Path == c.path && e.Key.PID == want.pid
				}
				s := w.Await(t, string(want.typ), match).Socket
				if s.Protocol != "unix" || s.Family != "unix" || s.PeerPID != want.peer || s.Direction != want.direction ||
					s.NetNS != w.ns.Inode || s.Local.IsValid() || s.Remote.IsValid() || s.Error != 0 {
					t.Errorf("%s: %+v, want peer %d", want.typ, s, want.peer)
				}
				if want.typ == model.TypeListen && s.Backlog != 7 {
					t.Errorf("backlog is %d, want 7", s.Backlog)
				}
				w.settle()
				if n := len(w.Events(match)); n != 1 {
					t.Errorf("%d events %s, want 1", n, want.typ)
				}
			}
		})
	}
}

func TestFailedUnixConnect(t *testing.T) {
	w := newWorld(t)
	dir := testkit.RealPath(t, t.TempDir())
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]unix.Errno{
		dir + "/missing": unix.ENOENT, dir + "/file": unix.ECONNREFUSED, "@nobody\x00here": unix.ECONNREFUSED,
	} {
		s := w.socket(unix.AF_UNIX, unix.SOCK_STREAM)
		if err := unix.Connect(s.fd, &unix.SockaddrUnix{Name: address}); !errors.Is(err, want) {
			t.Fatalf("connect to %q: %v, want %v", address, err, want)
		}
		e := w.Await(t, "the failed connect", func(e *model.Event) bool {
			return e.Type == model.TypeConnect && e.Socket.Path == address
		})
		if e.Socket.Error != model.Errno(want) || e.Socket.PeerPID != 0 {
			t.Errorf("connect to %q: %+v, want %v", address, e.Socket, want)
		}
	}
	// Datagram sockets have no connections to report.
	s := w.socket(unix.AF_UNIX, unix.SOCK_DGRAM)
	_ = unix.Connect(s.fd, &unix.SockaddrUnix{Name: dir + "/datagram"})
	w.settle()
	if n := w.count(model.TypeConnect, func(s *model.Socket) bool { return s.Path == dir+"/datagram" }); n != 0 {
		t.Errorf("%d connects of a datagram socket", n)
	}
}
