// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"net"
	"sync"
	"testing"
)

// traps are what listens where no server has anything to do. They notice whoever comes.
type traps struct {
	site *site
	at   []net.Addr

	mu   sync.Mutex
	came map[visit]bool
}

// visit is a connection or a datagram, by both its ends.
type visit struct{ network, to, from string }

// setTraps listens on addresses of the site, over TCP and over UDP.
func setTraps(t *testing.T, s *site, addresses ...string) *traps {
	t.Helper()
	x := &traps{site: s, came: make(map[visit]bool)}
	var listening sync.WaitGroup
	t.Cleanup(listening.Wait) // last, when all are closed
	for _, a := range addresses {
		var tcp net.Listener
		var udp net.PacketConn
		s.must(func() (err error) {
			if tcp, err = net.Listen("tcp4", a); err != nil {
				return err
			}
			udp, err = net.ListenPacket("udp4", a)
			return err
		})
		x.at = append(x.at, tcp.Addr(), udp.LocalAddr())
		listening.Go(func() { x.accept(tcp) })
		listening.Go(func() { x.receive(udp) })
		t.Cleanup(func() { _ = tcp.Close(); _ = udp.Close() })
	}
	return x
}

func (x *traps) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		x.note(l.Addr(), c.RemoteAddr())
		_ = c.Close()
	}
}

func (x *traps) receive(c net.PacketConn) {
	for {
		_, from, err := c.ReadFrom(make([]byte, 2048))
		if err != nil {
			return
		}
		x.note(c.LocalAddr(), from)
	}
}

func (x *traps) note(to, from net.Addr) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.came[visit{to.Network(), to.String(), from.String()}] = true
}

// visitors are who has come, apart from ourselves. We come last, so that nobody is still on the way.
func (x *traps) visitors(t *testing.T) (who []visit) {
	t.Helper()
	for _, a := range x.at {
		var ours visit
		x.site.must(func() error {
			c, err := net.Dial(a.Network(), a.String())
			if err != nil {
				return err
			}
			defer c.Close()
			ours = visit{a.Network(), a.String(), c.LocalAddr().String()}
			_, err = c.Write([]byte("x"))
			if a.Network() == "tcp" {
				return nil // it closes as soon as we are there
			}
			return err
		})
		await(t, "our own visit", func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return x.came[ours]
		})
		x.mu.Lock()
		delete(x.came, ours)
		x.mu.Unlock()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for v := range x.came {
		who = append(who, v)
	}
	clear(x.came)
	return who
}
