// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// traps are what listens where no server has anything to do. They notice whoever comes.
type traps struct {
	site *site

	mu    sync.Mutex
	said  map[string]int // what came, by what it said first
	count int            // of our own visits
	at    []net.Addr
}

// setTraps listens on addresses of the site, over TCP and over UDP.
func setTraps(t *testing.T, s *site, addresses ...string) *traps {
	t.Helper()
	x := &traps{site: s, said: make(map[string]int)}
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
		// Whoever says nothing has come all the same.
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		x.note(l.Addr(), c)
		_ = c.Close()
	}
}

func (x *traps) note(at net.Addr, c net.Conn) {
	buf := make([]byte, 64)
	n, _ := c.Read(buf)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.said[key(at)+string(buf[:n])]++
}

func (x *traps) receive(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		x.mu.Lock()
		x.said[key(c.LocalAddr())+string(buf[:n])]++
		x.mu.Unlock()
	}
}

func key(a net.Addr) string { return a.Network() + " " + a.String() + ": " }

// visitors are who has come, apart from ourselves. We come last, so that nobody is still on the way.
func (x *traps) visitors(t *testing.T) (who []string) {
	t.Helper()
	x.mu.Lock()
	x.count++
	word := fmt.Sprintf("visit %d", x.count)
	x.mu.Unlock()
	for _, a := range x.at {
		x.site.must(func() error {
			c, err := net.Dial(a.Network(), a.String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(word))
			return err
		})
		await(t, "our own visit to "+key(a), func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return x.said[key(a)+word] > 0
		})
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for what := range x.said {
		if !strings.Contains(what, ": visit ") {
			who = append(who, what)
		}
	}
	clear(x.said)
	return who
}
