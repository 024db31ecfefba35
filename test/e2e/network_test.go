// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/vigie-io/vigie/internal/testkit"
)

// answer is a DNS server for the names that have a valid address.
func answer(t *testing.T, conn net.PacketConn, addressOf func(name string) netip.Addr) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil {
			t.Error(err)
			return
		}
		m.Response, m.Additionals = true, nil
		q := m.Questions[0]
		switch addr := addressOf(q.Name.String()); {
		case !addr.IsValid():
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
				Body: &dnsmessage.AResource{A: addr.As4()}}}
		}
		b, err := m.Pack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.WriteTo(b, from)
	}
}

func TestAConnectionCarriesItsNameItsProcessAndItsBytes(t *testing.T) {
	a := startAgent(t)
	ns := testkit.NewNetNS(t)
	var dns net.PacketConn
	var web net.Listener
	ns.Do(t, func() (err error) {
		if dns, err = net.ListenPacket("udp", "127.0.0.1:53"); err != nil {
			return err
		}
		web, err = net.Listen("tcp4", "127.0.0.2:8080")
		return err
	})
	defer dns.Close()
	defer web.Close()
	go answer(t, dns, func(string) netip.Addr { return netip.MustParseAddr("127.0.0.2") })
	go func() {
		for {
			c, err := web.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	var local float64 // the client's port
	ns.Do(t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		// The sockets must be made on this thread, which is in the namespace: no resolver goroutines.
		query := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName("echo.example.org."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := query.Pack()
		if err != nil {
			return err
		}
		q, err := new(net.Dialer).DialContext(ctx, "udp", "127.0.0.1:53")
		if err != nil {
			return err
		}
		defer q.Close()
		if _, err := q.Write(b); err != nil {
			return err
		}
		_ = q.SetReadDeadline(time.Now().Add(deadline))
		if _, err := q.Read(make([]byte, 1500)); err != nil {
			return err
		}
		c, err := new(net.Dialer).DialContext(ctx, "tcp4", "127.0.0.2:8080")
		if err != nil {
			return err
		}
		local = float64(c.LocalAddr().(*net.TCPAddr).Port)
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			return err
		}
		return c.Close()
	})
	mine := func(e map[string]any, typ string) bool {
		return e["type"] == typ && get(e, "process.pid") == float64(testkit.PID())
	}
	a.awaitEvent("the question", func(e map[string]any) bool { return mine(e, "dns") && get(e, "dns.name") == "echo.example.org" })
	connect := a.awaitEvent("the connect", func(e map[string]any) bool { return mine(e, "connect") && get(e, "socket.local_port") == local })
	if get(connect, "socket.remote_name") != "echo.example.org" || get(connect, "socket.remote_address") != "127.0.0.2" {
		t.Errorf("connect says %v", connect["socket"])
	}
	end := a.awaitEvent("the close", func(e map[string]any) bool { return mine(e, "close") && get(e, "socket.local_port") == local })
	if get(end, "socket.bytes_sent") != 1000.0 || get(end, "socket.bytes_received") != 1000.0 || get(end, "socket.cookie") != get(connect, "socket.cookie") {
		t.Errorf("close says %v, connect said %v", end["socket"], connect["socket"])
	}
	accept := a.awaitEvent("the accept", func(e map[string]any) bool { return mine(e, "accept") && get(e, "socket.remote_port") == local })
	if get(accept, "socket.direction") != "inbound" {
		t.Errorf("accept says %v", accept["socket"])
	}
	a.stop()
}
