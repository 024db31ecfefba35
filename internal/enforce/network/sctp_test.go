// SPDX-License-Identifier: Apache-2.0

package network

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// SCTP has no hook of its own: the packet that begins an association is judged, in both directions.
func testSCTP(t *testing.T, w *world) {
	fd, err := open("sctp4")
	if err != nil {
		t.Skipf("needs a kernel with SCTP: %v", err)
	}
	unix.Close(fd)
	const rules = `
	network:
		egress: {allow: [{to: {cidr: [127.0.0.1, "::1"]}, ports: [1001/sctp]}]}
		ingress: {allow: [{from: {cidr: 127.0.0.1}, ports: [3000-3009/sctp]}]}
		listen: {allow: [{ports: [3000-3001/sctp]}]}
`
	// An association from before the policy, whose end it does not allow, and one that it allows.
	w.associates("127.0.0.1:1001")
	w.associates("127.0.0.1:2001")
	w.associates("[::1]:1001")
	w.associates("[::1]:2001")
	cut, kept := w.actor(), w.actor()
	cut.expect("ok", "connect sctp4 127.0.0.1:2001")
	cut.expect("ok", "echo")
	kept.expect("ok", "connect sctp4 127.0.0.1:1001")
	w.apply(rules)
	kept.expect("ok", "echo")
	if got := cut.do("echo"); got == "ok" {
		t.Error("an association that became forbidden goes on")
	}

	for _, c := range []struct{ network, good, bad string }{
		{"sctp4", "127.0.0.1:1001", "127.0.0.1:2001"}, {"sctp6", "[::1]:1001", "[::1]:2001"},
	} {
		a := w.actor()
		a.expect("ok", "connect %s %s", c.network, c.good)
		a.expect("ok", "echo")
		w.forget()
		if got := a.do("connect %s %s", c.network, c.bad); got == "ok" {
			t.Errorf("%s: an association with %s began", c.network, c.bad)
		}
		if v := w.verdict(model.VerdictDenied, model.OpSend, c.bad).Verdict; v.Protocol != "sctp" || v.Rule != "network.egress.allow" {
			t.Errorf("verdict %+v", v)
		}
	}
	many := w.actor() // a first message begins the association
	w.forget()
	many.do("send sctp-many4 127.0.0.1:2001")
	w.verdict(model.VerdictDenied, model.OpSend, "127.0.0.1:2001")

	for _, c := range []struct {
		at   string
		want bool
		why  model.Operation
	}{
		{"127.0.0.1:3000", true, ""}, {"127.0.0.1:3002", false, model.OpListen}, {"127.0.0.1:4000", false, model.OpListen},
	} {
		a := w.actor()
		a.expect("ok", "bind sctp4 %s", c.at)
		w.forget()
		a.expect(c.at, "listen")
		if c.why != "" {
			w.verdict(model.VerdictDenied, c.why, "")
		}
		w.meets(c.at, "127.0.0.1", c.want)
	}
	a := w.actor()
	a.expect("ok", "bind sctp4 0.0.0.0:3001")
	a.expect("0.0.0.0:3001", "listen")
	w.meets("127.0.0.1:3001", "127.0.0.1", true)
	w.forget()
	w.meets("127.0.0.2:3001", "127.0.0.2", false) // another address than rules let in
	w.verdict(model.VerdictDenied, model.OpAccept, "")

	w.apply("\tnetwork: {listen: {allow: [{ports: [3000-3009]}]}}") // without a protocol: of all that have ports
	b := w.actor()
	b.expect("ok", "bind sctp4 127.0.0.1:3005")
	b.expect("127.0.0.1:3005", "listen")
	w.meets("127.0.0.1:3005", "127.0.0.1", true)
}

// associates serves: who associates gets back what was sent. It is under no policy, and ends with the test.
func (w *world) associates(addr string) {
	w.t.Helper()
	network := "sctp4"
	if addr[0] == '[' {
		network = "sctp6"
	}
	fd, _ := w.bound(network, addr)
	if err := unix.Listen(fd, 16); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	w.t.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		unix.Close(fd)
		<-done
	})
	_ = unix.SetNonblock(fd, true)
	go func() {
		defer close(done)
		var held []int
		b := make([]byte, 16)
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			for _, c := range held {
				fds = append(fds, unix.PollFd{Fd: int32(c), Events: unix.POLLIN})
			}
			if _, err := unix.Poll(fds, 50); err != nil && err != unix.EINTR {
				break
			}
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err == nil {
				held = append(held, c)
			} else if err == unix.EBADF || err == unix.EINVAL {
				break
			}
			for _, c := range held {
				if n, err := unix.Read(c, b); err == nil && n > 0 {
					_, _ = unix.Write(c, b[:n])
				}
			}
		}
		for _, c := range held {
			unix.Close(c)
		}
	}()
}

// meets associates from this process, which is under no policy.
func (w *world) meets(addr, from string, want bool) {
	w.t.Helper()
	err := w.ns.Run(func() error {
		fd, err := open("sctp4")
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, sockaddr("sctp4", from+":0")); err != nil {
			return err
		}
		timeout := unix.NsecToTimeval((2 * time.Second).Nanoseconds())
		if !want {
			timeout = unix.NsecToTimeval((500 * time.Millisecond).Nanoseconds())
		}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
		return unix.Connect(fd, sockaddr("sctp4", addr))
	})
	if (err == nil) != want {
		w.t.Errorf("an association with %s from %s: %v, should work: %t", addr, from, err, want)
	}
}
