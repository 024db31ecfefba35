// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"testing"

	"github.com/vigie-io/vigie/internal/kernel/probe"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

const onlyAllowed = `
	network:
		egress: {allow: [{to: {cidr: [127.0.0.1, "::1"]}, ports: [1000-1999]}]}
`

// Every way to begin a conversation, to an address that is allowed and to one that is not.
func testConnect(t *testing.T, w *world) {
	for _, addr := range []string{"127.0.0.1:1001", "127.0.0.1:2001", "[::1]:1001", "[::1]:2001"} {
		w.server("tcp"+family(addr), addr)
		w.server("udp"+family(addr), addr)
	}
	w.apply(onlyAllowed)
	a := w.actor()
	for _, c := range []struct{ deed, allowed, denied string }{
		{"connect tcp4", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"connect tcp4", "127.0.0.1:1001", "127.0.0.2:1001"},
		{"connect tcp4", "127.0.0.1:1001", "192.0.2.1:1001"},
		{"connect tcp6", "[::1]:1001", "[::1]:2001"},
		{"connect tcp6", "[::1]:1001", "[2001:db8::1]:1001"},
		{"connect tcp6", "[::ffff:127.0.0.1]:1001", "[::ffff:127.0.0.1]:2001"}, // IPv4, whatever it is written as
		{"connect tcp6", "[::ffff:127.0.0.1]:1001", "[::ffff:127.0.0.2]:1001"},
		{"connect tcp4", "0.0.0.0:1001", "0.0.0.0:2001"}, // is 127.0.0.1
		{"connect tcp6", "[::]:1001", "[::]:2001"},       // is ::1
		{"connect mptcp4", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"connect mptcp6", "[::1]:1001", "[::1]:2001"},
		{"fastopen tcp4", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"fastopen tcp6", "[::1]:1001", "[::1]:2001"},
		{"fastconnect tcp4", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"ring tcp4", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"sendmmsg", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"connect udp4", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"connect udp6", "[::1]:1001", "[::1]:2001"},
		{"connect udp6", "[::ffff:127.0.0.1]:1001", "[::ffff:127.0.0.1]:2001"},
		{"send udp4", "127.0.0.1:1001", "127.0.0.1:2001"},
		{"send udp6", "[::1]:1001", "[::1]:2001"},
		{"send udp6", "[::ffff:127.0.0.1]:1001", "[::ffff:127.0.0.1]:2001"},
		{"send udp4", "0.0.0.0:1001", "0.0.0.0:2001"},
		{"send udp6", "[::]:1001", "[::]:2001"},
	} {
		a.expect("ok", "%s %s", c.deed, c.allowed)
		a.expect("EPERM", "%s %s", c.deed, c.denied)
	}
	ev := w.verdict(model.VerdictDenied, model.OpConnect, "127.0.0.1:2001")
	v := ev.Verdict
	if v.Policy != "p0" || v.Rule != "network.egress.allow" || v.Hook != "cgroup connect" || v.Guarantee != model.DeniedBefore || v.Protocol != "tcp" {
		t.Errorf("verdict %+v", v)
	}
	if ev.Key.PID != a.pid() {
		t.Errorf("the verdict is about process %d, want %d", ev.Key.PID, a.pid())
	}
	if v := w.verdict(model.VerdictDenied, model.OpSend, "[::1]:2001").Verdict; v.Hook != "cgroup sendmsg" || v.Protocol != "udp" {
		t.Errorf("verdict %+v", v)
	}
	// Nobody else is concerned: this process is under no policy.
	w.ns.Do(t, func() error {
		_, err := (&deeds{last: -1}).do("connect", []string{"tcp4", "127.0.0.1:2001"})
		return err
	})
}

func family(addr string) string {
	if a := netip.MustParseAddrPort(addr).Addr(); a.Is4() {
		return "4"
	}
	return "6"
}

// A socket that is connected anew is judged anew.
func testReconnect(t *testing.T, w *world) {
	for _, addr := range []string{"127.0.0.1:1001", "127.0.0.1:2001"} {
		w.server("udp4", addr)
		w.server("tcp4", addr)
	}
	w.apply(onlyAllowed)
	a := w.actor()
	for _, network := range []string{"udp4", "tcp4"} {
		a.expect("ok", "connect %s 127.0.0.1:1001", network)
		a.expect("ok", "echo")
		a.expect("ok", "reconnect")
		a.expect("EPERM", "reconnect 127.0.0.1:2001")
		a.expect("ok", "reconnect 127.0.0.1:1001")
		a.expect("ok", "echo")
	}
	a.expect("ok", "connect udp4 127.0.0.1:1001")
	a.expect("EPERM", "reconnect 127.0.0.1:2001") // without AF_UNSPEC before
	a.expect("EPERM", "sendto 127.0.0.1:2001")    // past the end that it is connected to
}

func testAudit(t *testing.T, w *world) {
	w.server("tcp4", "127.0.0.1:2001")
	w.apply("\tmode: audit\n" + onlyAllowed)
	a := w.actor()
	a.expect("ok", "connect tcp4 127.0.0.1:2001")
	if v := w.verdict(model.VerdictAudited, model.OpConnect, "127.0.0.1:2001").Verdict; v.Guarantee != model.SeenOnly {
		t.Errorf("verdict %+v", v)
	}
}

// A policy that kills refuses the call too: nothing leaves.
func testKill(t *testing.T, w *world) {
	w.server("tcp4", "127.0.0.1:1001")
	w.apply("\tonDenied: kill\n\tweaker: accept\n" + onlyAllowed)
	for _, deed := range []string{"connect tcp4 127.0.0.1:2001", "send udp4 127.0.0.1:2001", "fastopen tcp4 127.0.0.1:2001", "ring tcp4 127.0.0.1:2001", "socket 2 3 1"} {
		a := w.actor()
		a.expect("ok", "connect tcp4 127.0.0.1:1001")
		a.expect("killed", "%s", deed)
	}
	if v := w.verdict(model.VerdictKilled, model.OpConnect, "127.0.0.1:2001").Verdict; v.Hook != "cgroup connect" {
		t.Errorf("verdict %+v", v)
	}
	w.actor().expect("ok", "nothing") // the next process is none of those
}

// What it says it carries is what the kernel lets it.
func TestCarries(t *testing.T) {
	testkit.RequireBPF(t)
	prober := probe.New(probe.Options{})
	defer prober.Close()
	b := New(Options{Prober: prober})
	for _, op := range model.Operations() {
		c, err := b.Carries(op)
		switch op {
		case model.OpConnect, model.OpSend, model.OpBind, model.OpListen, model.OpAccept:
			if err == nil && (c.Guarantee != model.DeniedBefore || c.Rung == "") {
				t.Errorf("%s is carried by %+v", op, c)
			}
		case model.OpSocket, model.OpReceive:
			if err == nil && (c.Guarantee != model.KilledAfter || len(c.Limits) == 0) {
				t.Errorf("%s is carried by %+v", op, c)
			}
		default:
			if err == nil {
				t.Errorf("%s is carried by %+v", op, c)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s is not carried: %v", op, err)
		}
	}
}

// A denial goes before a permission, of whichever policy.
func testSeveralPolicies(t *testing.T, w *world) {
	for _, addr := range []string{"127.0.0.1:1001", "127.0.0.1:1002"} {
		w.server("tcp4", addr)
	}
	w.apply(onlyAllowed, "\tnetwork: {egress: {deny: [{to: {cidr: 127.0.0.0/8}, ports: [1002/tcp]}]}}")
	a := w.actor()
	a.expect("ok", "connect tcp4 127.0.0.1:1001")
	a.expect("EPERM", "connect tcp4 127.0.0.1:1002")
	if v := w.verdict(model.VerdictDenied, model.OpConnect, "127.0.0.1:1002").Verdict; v.Policy != "p1" || v.Rule != "network.egress.deny[0]" {
		t.Errorf("verdict %+v", v)
	}
}

// Sockets that the rules do not reach are not to be had where there are rules.
func testSockets(t *testing.T, w *world) {
	w.apply("\tweaker: accept\n" + onlyAllowed)
	for _, c := range []struct{ name, want, socket string }{
		{"tcp", "ok", "2 1 0"}, {"udp", "ok", "10 2 17"}, {"unix", "ok", "1 1 0"}, {"netlink", "ok", "16 3 0"},
		{"raw icmp", "EPERM", "2 3 1"}, {"raw ipv6", "EPERM", "10 3 255"}, {"raw tcp", "EPERM", "2 3 6"},
		{"packet", "killed", "17 3 768"}, {"packet datagram", "killed", "17 2 0"}, {"vsock", "killed", "40 1 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.in(t).actor()
			got := a.do("socket %s", c.socket)
			if got == "EAFNOSUPPORT" || got == "EPROTONOSUPPORT" {
				t.Skipf("needs sockets of kind %s", c.socket)
			}
			if got != c.want {
				t.Errorf("socket %s: %s, want %s", c.socket, got, c.want)
			}
		})
	}
	if v := w.verdict(model.VerdictDenied, model.OpSocket, "").Verdict; v.Hook != "cgroup sock_create" || v.Subject == "" {
		t.Errorf("verdict %+v", v)
	}
	if v := w.verdict(model.VerdictKilled, model.OpSocket, "").Verdict; v.Hook != "sys_exit" || v.Guarantee != model.KilledAfter {
		t.Errorf("verdict %+v", v)
	}
}

// Echo requests from a socket that needs no privilege have no hook before the packet.
func testPing(t *testing.T, w *world) {
	w.ns.Do(t, func() error { return writeSysctl("net/ipv4/ping_group_range", "0 2147483647") })
	w.apply("\tnetwork: {egress: {allow: [{to: {cidr: 127.0.0.1}, ports: [icmp]}]}}")
	a := w.actor()
	a.expect("ok", "ping 127.0.0.1:0")
	a.expect("EPERM", "ping 127.0.0.2:0")
	if v := w.verdict(model.VerdictDenied, model.OpSend, "127.0.0.2:0").Verdict; v.Protocol != "icmp" || v.Hook != "cgroup_skb egress" {
		t.Errorf("verdict %+v", v)
	}
}

// A flood of denials is counted, and does not fill the ring.
func testFlood(t *testing.T, w *world) {
	w.apply(onlyAllowed)
	a := w.actor()
	const n = 3000
	a.expect("ok", "scan %d 127.0.0.1", n)
	var hits uint64
	for _, h := range w.enforcer.Status()["p0"].Hits {
		hits += h
	}
	if hits != n {
		t.Errorf("%d hits, want %d", hits, n)
	}
	w.verdict(model.VerdictDenied, model.OpConnect, "")
	if got := len(w.verdicts(func(*model.Verdict) bool { return true })); got > n/2 {
		t.Errorf("%d of %d denials were told one by one", got, n)
	}
}
