// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// talks are the conversations without connection of the world's network namespace.
func (w *world) talks() []*Talk {
	w.t.Helper()
	var out []*Talk
	err := w.sensor.Talks(func(k *Talk) {
		if k.NetNS == w.ns.Inode {
			out = append(out, k)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// talk waits for a conversation that matches.
func (w *world) talk(what string, match func(*Talk) bool) *Talk {
	w.t.Helper()
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, k := range w.talks() {
			if match(k) {
				return k
			}
		}
	}
	w.t.Fatalf("%s is not among the conversations: %+v", what, w.talks())
	return nil
}

func TestDatagramsAreCountedByConversation(t *testing.T) {
	w := newWorld(t)
	server, client := w.socket(unix.AF_INET, unix.SOCK_DGRAM), w.socket(unix.AF_INET, unix.SOCK_DGRAM)
	other := w.socket(unix.AF_INET, unix.SOCK_DGRAM)
	server.bind("127.0.0.1:53")
	other.bind("127.0.0.1:54")
	buf := make([]byte, 100)
	for range 3 {
		client.check("send", unix.Sendto(client.fd, []byte("hello"), 0, server.address("127.0.0.1:53")))
		_, from, err := unix.Recvfrom(server.fd, buf, 0)
		server.check("receive", err)
		server.check("answer", unix.Sendto(server.fd, []byte("hello!"), 0, from))
		client.read(6)
	}
	client.check("send", unix.Sendto(client.fd, []byte("x"), 0, server.address("127.0.0.1:54")))
	out := w.talk("the question", func(k *Talk) bool { return !k.Inbound && k.Remote.Port() == 53 && k.Counters.PacketsReceived == 3 })
	in := w.talk("the answer", func(k *Talk) bool { return k.Inbound && k.Local.Port() == 53 && k.Counters.PacketsSent == 3 })
	if out.Local != in.Remote || out.Remote != in.Local || out.Protocol != "udp" || out.Cookie != client.cookie() || in.Cookie != server.cookie() {
		t.Errorf("the two ends are %+v and %+v", out, in)
	}
	if out.Counters != (model.FlowCounters{BytesSent: 15, BytesReceived: 18, PacketsSent: 3, PacketsReceived: 3}) {
		t.Errorf("the client counts %+v", out.Counters)
	}
	if in.Counters != (model.FlowCounters{BytesSent: 18, BytesReceived: 15, PacketsSent: 3, PacketsReceived: 3}) {
		t.Errorf("the server counts %+v", in.Counters)
	}
	if out.Owner.PID != uint32(testkit.PID()) || out.First == 0 || out.Last < out.First || out.Closed {
		t.Errorf("the client is %+v", out)
	}
	w.talk("the other one", func(k *Talk) bool { return k.Remote.Port() == 54 && k.Counters.BytesSent == 1 && !k.Inbound })
	client.close()
	w.talk("the end", func(k *Talk) bool { return k.Closed && k.Remote.Port() == 54 })
	if err := w.sensor.Forget(out); err != nil {
		t.Error(err)
	}
	for _, k := range w.talks() {
		if k.Cookie == out.Cookie && k.Remote == out.Remote {
			t.Error("it was not forgotten")
		}
	}
}

func TestEchoIsAConversationAtBothEnds(t *testing.T) {
	for _, c := range []struct {
		name, addr, protocol string
		family, proto        int
		request              byte
	}{{"ipv4", "127.0.0.1:0", "icmp", unix.AF_INET, unix.IPPROTO_ICMP, 8}, {"ipv6", "[::1]:0", "icmpv6", unix.AF_INET6, unix.IPPROTO_ICMPV6, 128}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.socketIn(w.ns, c.family, unix.SOCK_RAW, c.proto)
			packet := append([]byte{c.request, 0, 0, 0, 0, 7, 0, 1}, make([]byte, 56)...)
			if c.family == unix.AF_INET {
				sum := ^(uint32(c.request)<<8 + 7 + 1)
				packet[2], packet[3] = byte(sum>>8), byte(sum)
			}
			s.check("send", unix.Sendto(s.fd, packet, 0, s.address(c.addr)))
			s.await(unix.POLLIN)
			at := netip.MustParseAddrPort(c.addr)
			out := w.talk("the request", func(k *Talk) bool { return k.Cookie == s.cookie() && k.Counters.PacketsReceived > 0 })
			in := w.talk("the kernel's answer", func(k *Talk) bool { return k.Owner.IsZero() })
			if out.Remote != at || out.Protocol != c.protocol || out.Owner.PID != uint32(testkit.PID()) || out.ICMPType != c.request || out.Counters.BytesSent != 56 {
				t.Errorf("the request is %+v", out)
			}
			if in.Remote != at || !in.Inbound || in.ICMPType != c.request || in.Counters.BytesReceived != 56 || in.Counters.BytesSent != 56 {
				t.Errorf("the answer is %+v", in)
			}
		})
	}
}
