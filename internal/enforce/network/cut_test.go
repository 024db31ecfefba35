// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// A connection that became forbidden ends, and another beside it lives.
func testCut(t *testing.T, w *world) {
	for _, mode := range []string{"bpf_sock_destroy", "sock_diag", "drop"} {
		t.Run(mode, func(t *testing.T) {
			w := w.world(t)
			for _, addr := range []string{"127.0.0.1:1001", "127.0.0.1:2001", "[::1]:1001", "[::1]:2001"} {
				w.server("tcp"+family(addr), addr)
				w.server("udp"+family(addr), addr)
			}
			for _, network := range []string{"tcp4", "tcp6", "udp4", "mptcp4"} {
				t.Run(network, func(t *testing.T) {
					w.t = t
					w.cut(mode, network)
				})
			}
		})
	}
}

func (w *world) cut(mode, network string) {
	good, bad := "127.0.0.1:1001", "127.0.0.1:2001"
	if strings.HasSuffix(network, "6") {
		good, bad = "[::1]:1001", "[::1]:2001"
	}
	w.apply("\tnetwork: {egress: {deny: [{ports: [9]}]}}")
	w.cutBy(mode)
	keeps, loses := w.actor(), w.actor()
	keeps.expect("ok", "connect %s %s", network, good)
	loses.expect("ok", "connect %s %s", network, bad)
	keeps.expect("ok", "echo")
	loses.expect("ok", "echo")
	w.forget()
	w.apply(onlyAllowed)
	if got := loses.do("echo"); got == "ok" {
		w.t.Errorf("the connection goes on")
	} else if want := ended(network); mode != "drop" && want != "" && got != want {
		w.t.Errorf("it ends with %s, want %s", got, want)
	}
	if mode != "drop" && ended(network) != "" { // the socket itself is as good as new
		loses.do("hear") // takes what is left of the error
		loses.expect("ok", "reconnect")
		loses.expect("ok", "reconnect %s", good)
		loses.expect("ok", "echo")
	}
	keeps.expect("ok", "echo")
	v := w.verdict(model.VerdictDenied, model.OpConnect, bad).Verdict
	if v.Hook != "cut" || v.Rule != "network.egress.allow" {
		w.t.Errorf("verdict %+v", v)
	}
	if n := len(w.verdicts(func(v *model.Verdict) bool { return v.Hook == "cut" && v.Remote.Port() == 1001 })); n > 0 {
		w.t.Errorf("%d verdicts about the connection that is allowed", n)
	}
}

// ended is how a socket fails that was ended; empty where it is not the one that the process holds.
func ended(network string) string {
	return map[string]string{"tcp4": "ECONNABORTED", "tcp6": "ECONNABORTED", "udp4": "EDESTADDRREQ"}[network]
}

// cutBy takes away the better ways to end a connection.
func (w *world) cutBy(mode string) {
	if mode == "bpf_sock_destroy" {
		if w.backend.destroy == nil {
			w.t.Skip("needs bpf_sock_destroy (Linux 6.5)")
		}
		return
	}
	w.backend.mu.Lock()
	defer w.backend.mu.Unlock()
	w.backend.end = w.backend.endByDiag
	if mode == "sock_diag" {
		w.requireDiag()
	}
	if mode == "drop" {
		w.backend.end = func([]bpfVgNetCut) error { return nil }
	}
}

// requireDiag tries to end a listener of the test's own.
func (w *world) requireDiag() {
	w.t.Helper()
	fd, at := w.bound("tcp4", "127.0.0.9:0")
	defer unix.Close(fd)
	err := w.ns.Run(func() error {
		return destroyByDiag(&bpfVgNetCut{Protocol: unix.IPPROTO_TCP, Local: mapped(at.Addr()), LocalPort: kernel.NetworkOrder(at.Port())})
	})
	if err != nil {
		w.t.Skipf("needs sock_diag to end connections (CONFIG_INET_DIAG_DESTROY, module tcp_diag): %v", err)
	}
}

// What came in is judged as that; who listens where it may not any more is deaf.
func testCutInbound(t *testing.T, w *world) {
	w.apply("\tnetwork: {egress: {deny: [{ports: [9]}]}}")
	a, b := w.actor(), w.actor()
	a.expect("ok", "bind tcp4 0.0.0.0:1001")
	a.do("listen")
	b.expect("ok", "bind tcp4 0.0.0.0:1002")
	b.do("listen")
	one := w.dial("tcp4", "127.0.0.1", "127.0.0.1:1001", true)
	two := w.dial("tcp4", "127.0.0.2", "127.0.0.2:1002", true)
	a.expect("ok", "accept")
	b.expect("ok", "accept")
	go echo(one)
	go echo(two)
	a.expect("ok", "echo")
	b.expect("ok", "echo")
	w.apply(fromOne) // whose rules for connecting forbid both, had they been made by the actors
	a.expect("ok", "echo")
	if got := b.do("echo"); got == "ok" {
		t.Error("the connection goes on")
	}
	if v := w.verdict(model.VerdictDenied, model.OpAccept, two.LocalAddr().String()).Verdict; v.Hook != "cut" {
		t.Errorf("verdict %+v", v)
	}
}

// A connection that nobody has accepted yet is cut in its listener's queue.
func testCutQueued(t *testing.T, w *world) {
	w.apply("\tnetwork: {egress: {deny: [{ports: [9]}]}}")
	a := w.actor()
	a.expect("ok", "bind tcp4 0.0.0.0:1001")
	a.do("listen")
	bad := w.dial("tcp4", "127.0.0.2", "127.0.0.2:1001", true)
	good := w.dial("tcp4", "127.0.0.1", "127.0.0.1:1001", true)
	w.apply(fromOne)
	w.verdict(model.VerdictDenied, model.OpAccept, bad.LocalAddr().String())
	if err := bad.SetReadDeadline(time.Now().Add(testkit.Deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) && w.backend.destroy != nil {
		t.Errorf("the connection that is not allowed: %v", err)
	}
	go echo(good)
	if got := a.do("accept"); got != "ok" { // the dead one
		t.Errorf("accept: %s", got)
	}
	if n := len(w.verdicts(func(v *model.Verdict) bool { return v.Hook == "cut" && v.Remote.String() == good.LocalAddr().String() })); n > 0 {
		t.Errorf("%d verdicts about the connection that is allowed", n)
	}
}

func echo(c net.Conn) {
	buf := make([]byte, 64)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A listener from before the policy is under it.
func testListenerFromBefore(t *testing.T, w *world) {
	for _, network := range []string{"tcp4", "mptcp4"} {
		t.Run(network, func(t *testing.T) {
			w := w.world(t)
			a, b := w.actor(), w.actor()
			a.expect("ok", "bind %s 0.0.0.0:1001", network)
			a.do("listen")
			b.expect("ok", "bind %s 0.0.0.0:2001", network)
			b.do("listen")
			w.apply("\tnetwork: {ingress: {allow: [{from: {cidr: 127.0.0.1}}]}, listen: {allow: [{ports: [1001]}]}}")
			w.dial(network, "127.0.0.1", "127.0.0.1:1001", true)
			w.dial(network, "127.0.0.2", "127.0.0.2:1001", false)
			w.dial(network, "127.0.0.1", "127.0.0.1:2001", false)
			// And free of it when it is gone.
			w.apply()
			w.dial(network, "127.0.0.2", "127.0.0.2:1001", true)
		})
	}
}

// Under a policy that goes, everything works again.
func testPolicyGoes(t *testing.T, w *world) {
	w.server("tcp4", "127.0.0.1:2001")
	w.apply(onlyAllowed)
	a := w.actor()
	a.expect("EPERM", "connect tcp4 127.0.0.1:2001")
	w.apply()
	a.expect("ok", "connect tcp4 127.0.0.1:2001")
	w.apply(onlyAllowed)
	a.expect("EPERM", "connect tcp4 127.0.0.1:2001")
}

// A raw socket from before the policy sends nothing any more.
func testRawSocketFromBefore(t *testing.T, w *world) {
	a := w.actor()
	a.expect("ok", "socket 2 3 1")
	a.expect("ok", "raw 127.0.0.1:0")
	w.apply("\tweaker: accept\n" + onlyAllowed)
	a.expect("EPERM", "raw 127.0.0.1:0")
	if v := w.verdict(model.VerdictDenied, model.OpSocket, "").Verdict; v.Hook != "cut" {
		t.Errorf("verdict %+v", v)
	}
}

// A connection that another process passes on is judged as if it had been made.
func testPassedOn(t *testing.T, w *world) {
	w.server("tcp4", "127.0.0.1:1001")
	w.server("tcp4", "127.0.0.1:2001")
	w.apply(onlyAllowed)
	for to, want := range map[string]string{"127.0.0.1:1001": "ok", "127.0.0.1:2001": "killed"} {
		var conn int
		w.ns.Do(t, func() (err error) {
			if conn, err = open("tcp4"); err != nil {
				return err
			}
			return unix.Connect(conn, sockaddr("tcp4", to))
		})
		defer unix.Close(conn)
		a := w.passOn(conn)
		a.expect(want, "take 3")
		if want == "ok" {
			a.expect("ok", "echo")
		} else if v := w.verdict(model.VerdictKilled, model.OpReceive, to).Verdict; v.Hook != "sys_exit" || v.Guarantee != model.KilledAfter {
			t.Errorf("verdict %+v", v)
		}
	}
}

// passOn starts an actor that can take a descriptor over its descriptor 3.
func (w *world) passOn(fd int) *actor {
	w.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { unix.Close(fds[0]) })
	theirs := os.NewFile(uintptr(fds[1]), "pair")
	defer theirs.Close()
	a := w.start("actor", w.ns, theirs)
	if err := unix.Sendmsg(fds[0], []byte("x"), unix.UnixRights(fd), nil, 0); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// What a listener's process passes on to a worker came in, and is judged as that.
func testAcceptedAndPassedOn(t *testing.T, w *world) {
	w.apply(fromOne)
	l, at := w.bound("tcp4", "127.0.0.1:1001")
	defer unix.Close(l)
	client := w.dial("tcp4", "127.0.0.1", at.String(), true)
	go echo(client)
	conn, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(conn)
	a := w.passOn(conn)
	a.expect("ok", "take 3")
	a.expect("ok", "echo")
}

// Many processes try while the policy is replaced: never a denial of what all tables allow, never a permission of what none does.
func testReplaceUnderLoad(t *testing.T, w *world) {
	w.server("udp4", "127.0.0.1:1001")
	specs := []string{onlyAllowed, strings.Replace(onlyAllowed, "1000-1999", "1000-1500", 1)}
	w.apply(specs[0])
	allowed, denied := w.actor(), w.actor()
	results := make(chan [2]string)
	go func() {
		results <- [2]string{allowed.do("times 20000 udp4 127.0.0.1:1001"), denied.do("refused 20000 udp4 127.0.0.1:2001")}
	}()
	for i := 0; ; i++ {
		select {
		case got := <-results:
			if got != [2]string{"ok", "ok"} {
				t.Errorf("while %d policies came and went: %v", i, got)
			}
			if i < 3 {
				t.Errorf("only %d policies came", i)
			}
			return
		default:
			if err := w.enforcer.Apply(context.Background(), w.compile(specs[i%2])); err != nil {
				t.Error(err)
			}
		}
	}
}
