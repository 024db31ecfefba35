// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/vigie-io/vigie/internal/testkit"
)

// server is a DNS server in a network namespace of the test. What it answers depends on the first label of the
// name.
type server struct {
	ns *testkit.NetNS

	mu   sync.Mutex
	held []func() // answers to names that begin with "both", until there are two
}

// newServer returns a server that listens nowhere yet, in a network namespace of its own.
func newServer(t *testing.T) *server {
	t.Helper()
	return &server{ns: testkit.NewNetNS(t)}
}

// startServer returns a server on port 53 of both loopback addresses.
func startServer(t *testing.T) *server {
	t.Helper()
	s := newServer(t)
	for _, addr := range []string{"127.0.0.1:53", "[::1]:53"} {
		s.listen(t, addr)
	}
	return s
}

// listen serves UDP and TCP at addr until the test ends.
func (s *server) listen(t *testing.T, addr string) {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	s.ns.Do(t, func() (err error) {
		if udp, err = net.ListenPacket("udp", addr); err != nil {
			return err
		}
		tcp, err = net.Listen("tcp", addr)
		return err
	})
	var done sync.WaitGroup
	done.Go(func() { s.serveUDP(udp) })
	done.Go(func() { s.serveTCP(tcp, &done) })
	t.Cleanup(func() {
		_ = udp.Close()
		_ = tcp.Close()
		done.Wait()
	})
}

func (s *server) serveUDP(c net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		s.answer(append([]byte(nil), buf[:n]...), true, func(b []byte) { _, _ = c.WriteTo(b, from) })
	}
}

func (s *server) serveTCP(l net.Listener, done *sync.WaitGroup) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		done.Go(func() {
			defer c.Close()
			var size [2]byte
			for {
				if _, err := io.ReadFull(c, size[:]); err != nil {
					return
				}
				b := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				s.answer(b, false, func(b []byte) { _, _ = c.Write(framed(b)) })
			}
		})
	}
}

func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func (s *server) answer(b []byte, udp bool, send func([]byte)) {
	var m dnsmessage.Message
	if m.Unpack(b) != nil || len(m.Questions) == 0 {
		return
	}
	q := m.Questions[0]
	what, _, _ := strings.Cut(strings.ToLower(q.Name.String()), ".")
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
	add := func(name dnsmessage.Name, body dnsmessage.ResourceBody) {
		reply.Answers = append(reply.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60}, Body: body})
	}
	switch what {
	case "silent":
		return
	case "garbage":
		send([]byte{b[0], b[1], 0x80, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0xc0, 0x0c})
		return
	case "missing":
		reply.RCode = dnsmessage.RCodeNameError
	case "big":
		if udp {
			reply.Truncated = true
			break
		}
		for i := range 70 {
			add(q.Name, &dnsmessage.AResource{A: [4]byte{192, 0, 2, byte(i)}})
		}
	case "alias":
		to := dnsmessage.MustNewName("Real.Test.")
		add(q.Name, &dnsmessage.CNAMEResource{CNAME: to})
		add(to, &dnsmessage.AResource{A: [4]byte{192, 0, 2, 9}})
	default:
		records(q, add)
	}
	out, err := reply.Pack() // with compression
	if err != nil {
		return
	}
	if what != "both" {
		send(out)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held = append(s.held, func() { send(out) }); len(s.held) == 2 {
		s.held[1]()
		s.held[0]()
		s.held = nil
	}
}

func records(q dnsmessage.Question, add func(dnsmessage.Name, dnsmessage.ResourceBody)) {
	target := dnsmessage.MustNewName("target.test.")
	switch q.Type {
	case dnsmessage.TypeA:
		add(q.Name, &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}})
	case dnsmessage.TypeAAAA:
		add(q.Name, &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()})
	case dnsmessage.TypePTR:
		add(q.Name, &dnsmessage.PTRResource{PTR: target})
	case dnsmessage.TypeMX:
		add(q.Name, &dnsmessage.MXResource{Pref: 10, MX: target})
	case dnsmessage.TypeTXT:
		add(q.Name, &dnsmessage.TXTResource{TXT: []string{"v=1 \"x\"", "two\n"}})
	case dnsmessage.TypeSRV:
		add(q.Name, &dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 443, Target: target})
	case dnsmessage.TypeHTTPS:
		r := &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{Priority: 1, Target: dnsmessage.MustNewName(".")}}
		r.SetParam(dnsmessage.SVCParamALPN, []byte("\x02h2\x02h3"))
		r.SetParam(dnsmessage.SVCParamIPv4Hint, []byte{192, 0, 2, 3})
		add(q.Name, r)
	}
}
