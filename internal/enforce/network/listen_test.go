// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// Ports that a process asks for.
func testBind(t *testing.T, w *world) {
	w.apply("\tnetwork: {listen: {allow: [{on: {cidr: [127.0.0.1, \"::1\"]}, ports: [1000-1999]}, {on: {cidr: [0.0.0.0]}, ports: [3000]}, {on: {cidr: [\"::\"]}, ports: [3001]}]}}")
	a := w.actor()
	for _, c := range []struct{ network, allowed, denied string }{
		{"tcp4", "127.0.0.1:1001", "127.0.0.1:2001"}, {"tcp4", "127.0.0.1:1001", "0.0.0.0:1001"}, {"tcp6", "[::1]:1001", "[::1]:2001"},
		{"tcp6", "[::ffff:127.0.0.1]:1001", "[::ffff:127.0.0.1]:2001"}, {"mptcp4", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"udp4", "127.0.0.1:1001", "127.0.0.1:2001"}, {"udp6", "[::1]:1001", "[::1]:2001"},
		{"tcp4", "0.0.0.0:3000", "0.0.0.0:3001"},
		{"tcp4", "0.0.0.0:3000", "127.0.0.1:3000"},
		{"udp4", "127.0.0.1:0", "127.0.0.1:2001"}, // a port that the kernel chooses: a client's
	} {
		a.expect("ok", "bind %s %s", c.network, c.allowed)
		a.expect("EPERM", "bind %s %s", c.network, c.denied)
	}
	if v := w.verdict(model.VerdictDenied, model.OpBind, "").Verdict; v.Hook != "cgroup bind" || v.Rule != "network.listen.allow" || v.Local != netip.MustParseAddrPort("127.0.0.1:2001") {
		t.Errorf("verdict %+v", v)
	}
	// :: is 0.0.0.0 too, and that is not allowed for its port, unless the socket is for IPv6 only.
	a.expect("EPERM", "bind tcp6 [::]:3001")
	a.expect("ok", "open tcp6")
	a.expect("ok", "only6")
	a.expect("ok", "rebind [::]:3001")
}

// A port that the kernel chose: listen cannot be refused, and nothing arrives.
func testListenOnChosenPort(t *testing.T, w *world) {
	for _, network := range []string{"tcp4", "mptcp4"} {
		t.Run(network, func(t *testing.T) {
			w := w.world(t)
			w.apply("\tnetwork: {listen: {allow: [{ports: [1000-1999]}]}}")
			a := w.actor()
			a.expect("ok", "bind %s 127.0.0.1:1001", network)
			a.expect("127.0.0.1:1001", "listen")
			w.reach("127.0.0.1:1001", true)
			for _, first := range []string{"open " + network, "bind " + network + " 127.0.0.1:0"} {
				w.forget()
				a.expect("ok", "%s", first)
				addr := a.do("listen")
				at, err := netip.ParseAddrPort(addr)
				if err != nil {
					t.Fatalf("listen: %s", addr)
				}
				if v := w.verdict(model.VerdictDenied, model.OpListen, "").Verdict; v.Protocol != "tcp" {
					t.Errorf("verdict %+v", v)
				}
				w.reach(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port()).String(), false)
			}
		})
	}
}

func testKillListen(t *testing.T, w *world) {
	w.apply("\tonDenied: kill\n\tnetwork: {listen: {allow: [{ports: [1000-1999]}]}}")
	a := w.actor()
	a.expect("ok", "open tcp4")
	a.expect("killed", "listen")
	w.verdict(model.VerdictKilled, model.OpListen, "")
}

// reach connects from this process, which is under no policy.
func (w *world) reach(addr string, want bool) {
	w.t.Helper()
	err := w.ns.Run(func() error {
		c, err := net.DialTimeout("tcp", addr, 400*time.Millisecond)
		if err == nil {
			c.Close()
		}
		return err
	})
	if (err == nil) != want {
		w.t.Errorf("connect to %s: %v, should work: %t", addr, err, want)
	}
}

const fromOne = `
	network:
		ingress: {allow: [{from: {cidr: [127.0.0.1, "::1"]}, ports: [1000-1999]}]}
		listen: {allow: [{ports: ["*"]}]}
		egress: {allow: [{to: {cidr: 127.0.0.99}}]}
`

// Connections that come in, by who makes them and to which port.
func testAccept(t *testing.T, w *world) {
	for _, network := range []string{"tcp4", "tcp6", "mptcp4"} {
		t.Run(network, func(t *testing.T) {
			w := w.world(t)
			w.apply(fromOne)
			a := w.actor()
			host, other := "127.0.0.1", "127.0.0.2"
			if network == "tcp6" {
				host, other = "::1", "::ffff:127.0.0.2"
			}
			any := netip.AddrPortFrom(netip.IPv4Unspecified(), 1001)
			if network == "tcp6" {
				any = netip.AddrPortFrom(netip.IPv6Unspecified(), 1001)
			}
			a.expect("ok", "bind %s %s", network, any)
			a.do("listen")
			to := net.JoinHostPort(host, "1001")
			w.dial(network, host, to, true)
			a.expect("ok", "accept")
			a.expect("ok", "bind %s %s", network, netip.AddrPortFrom(any.Addr(), 1002))
			a.do("listen")
			w.dial(network, other, net.JoinHostPort(other, "1002"), false)
			v := w.verdict(model.VerdictDenied, model.OpAccept, "").Verdict
			if v.Hook != "cgroup_skb ingress" || v.Remote.Addr() != netip.MustParseAddr(other).Unmap() || v.Local.Port() != 1002 || v.Rule != "network.ingress.allow" {
				t.Errorf("verdict %+v", v)
			}
			a.expect("ok", "bind %s %s", network, netip.AddrPortFrom(any.Addr(), 2001))
			a.do("listen")
			w.dial(network, host, net.JoinHostPort(host, "2001"), false)
			// The server answers whom it may not call.
			a.expect("ok", "bind %s %s", network, netip.AddrPortFrom(any.Addr(), 1003))
			a.do("listen")
			c := w.dial(network, host, net.JoinHostPort(host, "1003"), true)
			a.expect("ok", "accept")
			if c != nil {
				defer c.Close()
				go func() { _, _ = c.Write([]byte("x")) }()
				a.expect("ok", "echo")
			}
			a.expect("EPERM", "connect %s", connectTo(network, to))
		})
	}
}

func connectTo(network, to string) string { return network + " " + to }

// dial connects from an address of this process.
func (w *world) dial(network, from, to string, want bool) net.Conn {
	w.t.Helper()
	var c net.Conn
	err := w.ns.Run(func() (err error) {
		d := net.Dialer{Timeout: 400 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		d.SetMultipathTCP(strings.HasPrefix(network, "mptcp"))
		c, err = d.Dial("tcp", to)
		return err
	})
	if (err == nil) != want {
		w.t.Errorf("connect from %s to %s: %v, should work: %t", from, to, err, want)
	}
	if err != nil {
		return nil
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// Datagrams: who wrote first is asked about, and then both may.
func testDatagrams(t *testing.T, w *world) {
	one, _ := w.bound("udp4", "127.0.0.1:5001")
	two, _ := w.bound("udp4", "127.0.0.2:5002")
	called, _ := w.bound("udp4", "127.0.0.99:5003")
	w.apply(fromOne)
	a := w.actor()
	a.expect("ok", "bind udp4 0.0.0.0:1001")
	send := func(fd int, to string) {
		t.Helper()
		if err := unix.Sendto(fd, []byte("x"), 0, sockaddr("udp4", to)); err != nil {
			t.Fatal(err)
		}
	}
	a.expect("EPERM", "sendto 127.0.0.1:5001") // not before it was written to
	send(one, "127.0.0.1:1001")
	a.expect("127.0.0.1:5001", "receive")
	a.expect("ok", "sendto 127.0.0.1:5001")
	send(two, "127.0.0.1:1001")
	a.expect("EAGAIN", "hear")
	a.expect("EPERM", "sendto 127.0.0.2:5002")
	w.verdict(model.VerdictDenied, model.OpAccept, "127.0.0.2:5002")
	a.expect("ok", "sendto 127.0.0.99:5003")
	send(called, "127.0.0.1:1001") // is answered, whose address no rule lets in
	a.expect("127.0.0.99:5003", "receive")
	// Under other tables too.
	w.apply(strings.ReplaceAll(fromOne, "127.0.0.99", "127.0.0.98"))
	send(one, "127.0.0.1:1001")
	a.expect("127.0.0.1:5001", "receive")
	a.expect("ok", "sendto 127.0.0.1:5001")
	a.expect("EPERM", "sendto 127.0.0.99:5003")
}
