// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestConnectAcceptListenCloseTCP(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write(make([]byte, 1000))
		io.ReadFull(c, make([]byte, 1000))
		c.Close()
		l.Close()
		la := l.Addr().(*net.TCPAddr).AddrPort()
		k.Await(t, "x", func(e *model.Event) bool {
			return e.Type == model.TypeClose && e.Socket.Direction == "listener" && e.Socket.Local == la
		})
	}
	_ = netip.AddrPort{}
	for _, e := range k.Events(func(e *model.Event) bool { return e.Socket != nil }) {
		t.Logf("%s %v %+v", e.Type, e.Key, *e.Socket)
	}
}
