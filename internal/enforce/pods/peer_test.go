// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
)

const peerEnv = "VIGIE_PODS_TEST_PEER"

// order is what a pod's process is told to try.
type order struct {
	Wait    time.Duration
	Targets []target
}

type target struct {
	Address  netip.Addr
	Protocol uint8
	Port     uint16
}

// peer is a pod's process: it answers at all ports and tries what the lines of in say.
func peer(in io.Reader, out io.Writer) int {
	for _, port := range netpoltest.Ports() {
		if err := errors.Join(listenTCP(port), listenUDP(port)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	for _, network := range []string{"ip4:132", "ip6:132"} {
		if err := listenSCTP(network); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := serveLoads(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(out, "ready")
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	held := make(map[string]net.Conn) // by name, until it is let go
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			fmt.Fprintln(out, hold(lines.Text(), held))
			continue
		}
		got := make([]bool, len(o.Targets))
		var all sync.WaitGroup
		for i, t := range o.Targets {
			all.Go(func() { got[i] = try(t, o.Wait) == nil })
		}
		all.Wait()
		b, _ := json.Marshal(got) // a list of booleans
		fmt.Fprintf(out, "%s\n", b)
	}
	return 0
}

// hold opens a connection that stays, and says something on it: "open NETWORK ADDR", "say"; or runs a load: "rr ADDR N", "crr ADDR N".
func hold(line string, held map[string]net.Conn) string {
	var what, network, addr string
	_, _ = fmt.Sscan(line, &what, &network, &addr)
	var err error
	switch what {
	case "open":
		if held["x"] != nil {
			held["x"].Close()
		}
		if held["x"], err = net.DialTimeout(network, addr, 10*time.Second); err == nil {
			err = says(held["x"], 10*time.Second)
		}
	case "rr", "crr":
		var to netip.Addr
		var n int
		if to, err = netip.ParseAddr(network); err == nil {
			if n, err = strconv.Atoi(addr); err == nil {
				err = runLoad(what, to, n)
			}
		}
	case "say":
		err = says(held["x"], time.Second)
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// says writes and waits for the echo.
func says(c net.Conn, wait time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func try(t target, wait time.Duration) error {
	to := netip.AddrPortFrom(t.Address, t.Port).String()
	switch t.Protocol {
	case unix.IPPROTO_TCP:
		c, err := net.DialTimeout("tcp", to, wait)
		if err != nil {
			return err
		}
		defer c.Close()
		return says(c, wait)
	case unix.IPPROTO_UDP:
		c, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		return says(c, wait)
	}
	return trySCTP(t, wait)
}

func listenTCP(port uint16) error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	go func() { // until the process ends
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return nil
}

func listenUDP(port uint16) error {
	for _, network := range []string{"udp4", "udp6"} {
		c, err := net.ListenPacket(network, fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		go func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(buf[:n], from)
			}
		}()
	}
	return nil
}

// SCTP without the kernel's: a packet that begins an association (RFC 9260, 3.3.2), and one that answers.
const (
	chunkInit    = 1
	chunkInitAck = 2
)

func sctp(source, dest uint16, chunk byte) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint16(b, source)
	binary.BigEndian.PutUint16(b[2:], dest)
	b[12], b[15] = chunk, 20
	return b
}

func listenSCTP(network string) error {
	c, err := net.ListenPacket(network, "")
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 32 || buf[12] != chunkInit {
				continue
			}
			source, dest := binary.BigEndian.Uint16(buf), binary.BigEndian.Uint16(buf[2:])
			_, _ = c.WriteTo(sctp(dest, source, chunkInitAck), from)
		}
	}()
	return nil
}

func trySCTP(t target, wait time.Duration) error {
	network := "ip4:132"
	if t.Address.Is6() {
		network = "ip6:132"
	}
	c, err := net.Dial(network, t.Address.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	own := uint16(20000 + time.Now().UnixNano()%20000)
	if _, err := c.Write(sctp(own, t.Port, chunkInit)); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		b := buf[:n]
		if n > 52 || (n == 52 && b[0]>>4 == 4) {
			b = b[int(b[0]&15)*4:] // raw IPv4 sockets may see the header, too
		}
		if len(b) >= 32 && b[12] == chunkInitAck && binary.BigEndian.Uint16(b[2:]) == own && binary.BigEndian.Uint16(b) == t.Port {
			return nil
		}
	}
}
