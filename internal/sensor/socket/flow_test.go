// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// counters reads what is due of the world's network namespace, by cookie.
func (w *world) counters(first, interval time.Duration) map[uint64]*model.Socket {
	w.t.Helper()
	got := make(map[uint64]*model.Socket)
	err := w.sensor.Counters(w.Host, first, interval, func(s *model.Socket) {
		if s.NetNS == w.ns.Inode {
			got[s.Cookie] = s
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func TestCountersOfWhatIsOpen(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, addr string
		family     int
	}{{"ipv4", "127.0.0.1:1001", unix.AF_INET}, {"ipv6", "[::1]:1002", unix.AF_INET6}} {
		client, server := w.pair(w.listener(c.family, c.addr))
		client.write(5000)
		server.read(5000)
		server.write(300)
		client.read(300)
		got := w.counters(0, 0)
		out, in := got[client.cookie()], got[server.cookie()]
		if out == nil || in == nil {
			t.Fatalf("%s: counters of %d sockets, and not of both: %v", c.name, len(got), got)
		}
		if out.BytesSent != 5000 || out.BytesReceived != 300 || out.SRTT == 0 || out.Direction != "outbound" || out.Local != unmap(client.local()) {
			t.Errorf("%s: the client's are %+v", c.name, out)
		}
		if in.BytesSent != 300 || in.BytesReceived != 5000 || in.Direction != "inbound" || in.Remote != unmap(client.local()) {
			t.Errorf("%s: the server's are %+v", c.name, in)
		}
		if got := w.counters(time.Hour, time.Hour); len(got) != 0 {
			t.Errorf("%s: %d sockets are due after an hour already", c.name, len(got))
		}
		if got := w.counters(0, time.Hour); got[client.cookie()] == nil {
			t.Errorf("%s: it is not due the first time", c.name)
		}
		for end := time.Now().Add(testkit.Deadline); w.counters(0, time.Hour)[client.cookie()] != nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: it is due again and again within the hour", c.name)
			}
		}
	}
}

func TestCountersOfConnectedUDP(t *testing.T) {
	w := newWorld(t)
	server, client := w.socket(unix.AF_INET, unix.SOCK_DGRAM), w.socket(unix.AF_INET, unix.SOCK_DGRAM)
	server.bind("127.0.0.1:53")
	client.check("connect", client.connect("127.0.0.1:53"))
	client.write(10)
	server.read(10)
	s := w.counters(0, 0)[client.cookie()]
	if s == nil || s.BytesSent != 10 || s.PacketsSent != 1 || s.Protocol != "udp" || s.Error != 0 {
		t.Errorf("counters are %+v", s)
	}
	server.close()
	client.write(1)
	client.await(unix.POLLERR)
	if s := w.counters(0, 0)[client.cookie()]; s == nil || s.Error.String() != "ECONNREFUSED" {
		t.Errorf("after the port was found closed counters are %+v", s)
	}
}
