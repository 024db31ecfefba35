// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

// A connection that became forbidden ends, and another beside it lives.
func TestCut(t *testing.T) {
	for _, mode := range []string{"bpf_sock_destroy", "sock_diag", "drop"} {
		for _, network := range []string{"tcp4", "tcp6", "udp4", "mptcp4"} {
			t.Run(mode+" "+network, func(t *testing.T) {
				w := newWorld(t)
				good, bad := "127.0.0.1:1001", "127.0.0.1:2001"
				if strings.HasSuffix(network, "6") {
					good, bad = "[::1]:1001", "[::1]:2001"
				}
				plain := strings.TrimPrefix(network, "mp")
				w.server(plain, good)
				w.server(plain, bad)
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
					t.Errorf("the connection goes on")
				} else if mode == "bpf_sock_destroy" && network == "tcp4" && got != "ECONNABORTED" {
					t.Errorf("it ends with %s", got)
				}
				keeps.expect("ok", "echo")
				v := w.verdict(model.VerdictDenied, model.OpConnect, bad).Verdict
				if v.Hook != "cut" || v.Rule != "network.egress.allow" {
					t.Errorf("verdict %+v", v)
				}
				if n := len(w.verdicts(func(v *model.Verdict) bool { return v.Hook == "cut" && v.Remote.Port() == 1001 })); n > 0 {
					t.Errorf("%d verdicts about the connection that is allowed", n)
				}
			})
		}
	}
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
	if mode == "drop" {
		w.backend.end = func([]bpfVgNetCut) error { return nil }
	}
}

// What came in is judged as that; who listens where it may not any more is deaf.
func TestCutInbound(t *testing.T) {
	w := newWorld(t)
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
func TestListenerFromBefore(t *testing.T) {
	for _, network := range []string{"tcp4", "mptcp4"} {
		t.Run(network, func(t *testing.T) {
			w := newWorld(t)
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
func TestPolicyGoes(t *testing.T) {
	w := newWorld(t)
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
func TestRawSocketFromBefore(t *testing.T) {
	w := newWorld(t)
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
func TestPassedOn(t *testing.T) {
	for _, c := range []struct{ name, to, want string }{{"allowed", "127.0.0.1:1001", "ok"}, {"denied", "127.0.0.1:2001", "killed"}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.server("tcp4", c.to)
			w.apply(onlyAllowed)
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[0])
			theirs := os.NewFile(uintptr(fds[1]), "pair")
			a := w.start("actor", w.ns, theirs)
			theirs.Close()
			var conn int
			w.ns.Do(t, func() (err error) {
				if conn, err = open("tcp4"); err != nil {
					return err
				}
				return unix.Connect(conn, sockaddr("tcp4", c.to))
			})
			defer unix.Close(conn)
			if err := unix.Sendmsg(fds[0], []byte("x"), unix.UnixRights(conn), nil, 0); err != nil {
				t.Fatal(err)
			}
			a.expect(c.want, "take 3")
			if c.want == "killed" {
				if v := w.verdict(model.VerdictKilled, model.OpReceive, c.to).Verdict; v.Hook != "sys_exit" || v.Guarantee != model.KilledAfter {
					t.Errorf("verdict %+v", v)
				}
				return
			}
			a.expect("ok", "echo")
		})
	}
}

// What a listener's process passes on to a worker came in, and is judged as that.
func TestAcceptedAndPassedOn(t *testing.T) {
	w := newWorld(t)
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
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	theirs := os.NewFile(uintptr(fds[1]), "pair")
	a := w.start("actor", w.ns, theirs)
	theirs.Close()
	if err := unix.Sendmsg(fds[0], []byte("x"), unix.UnixRights(conn), nil, 0); err != nil {
		t.Fatal(err)
	}
	a.expect("ok", "take 3")
	a.expect("ok", "echo")
}

// Many processes try while the policy is replaced: never a denial of what all tables allow, never a permission of what none does.
func TestReplaceUnderLoad(t *testing.T) {
	w := newWorld(t)
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
