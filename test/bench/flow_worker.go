// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/flow"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// streamBytes is what is written in one step of a stream.
const streamBytes = 64 << 10

// flowStep exchanges messages, or writes a stream, over a TCP connection to another thread: "rr lo", "stream veth". Each has
// network namespaces of its own, which end with the process.
func (j *job) flowStep() (func() error, func(), error) {
	what, over, _ := strings.Cut(j.target, " ")
	client, server, err := joined(over)
	if err != nil {
		return nil, nil, err
	}
	size, answer := streamBytes, false
	if what == "rr" {
		size, answer = messageBytes, true
		for _, fd := range []int{client, server} {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
				return nil, nil, fmt.Errorf("set TCP_NODELAY: %w", err)
			}
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		buf := make([]byte, size)
		for {
			n, err := unix.Read(server, buf)
			if n <= 0 || err != nil {
				return
			}
			if answer {
				if _, err := unix.Write(server, buf[:n]); err != nil {
					return
				}
			}
		}
	}()
	buf := make([]byte, size)
	step := func() error {
		for sent := 0; sent < size; {
			n, err := unix.Write(client, buf[sent:])
			if err != nil {
				return fmt.Errorf("write: %w", err)
			}
			sent += n
		}
		if answer {
			if _, err := unix.Read(client, buf); err != nil {
				return fmt.Errorf("read: %w", err)
			}
		}
		return nil
	}
	return step, func() {
		_ = unix.Shutdown(client, unix.SHUT_RDWR)
		<-ended
		unix.Close(client)
		unix.Close(server)
	}, nil
}

// joined is a connection over loopback ("lo") or from one network namespace to another ("veth"). The thread stays in one of them.
func joined(over string) (client, server int, err error) {
	near, err := netns.New()
	if err != nil {
		return -1, -1, fmt.Errorf("make a network namespace: %w", err)
	}
	if err := setUp("lo", ""); err != nil {
		return -1, -1, err
	}
	if over == "lo" {
		l, addr, err := listen()
		if err != nil {
			return -1, -1, err
		}
		defer unix.Close(l)
		return connectPair(l, addr)
	}
	if _, err = netns.New(); err != nil { // and into it
		return -1, -1, fmt.Errorf("make a network namespace: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "peer"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer", PeerNamespace: netlink.NsFd(near)}); err != nil {
		return -1, -1, fmt.Errorf("make a pair of virtual devices: %w", err)
	}
	if err := setUp("peer", "10.71.0.2/24"); err != nil {
		return -1, -1, err
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(l)
	addr := &unix.SockaddrInet4{Addr: [4]byte{10, 71, 0, 2}, Port: 7000}
	if err := unix.Bind(l, addr); err != nil {
		return -1, -1, fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(l, 1); err != nil {
		return -1, -1, fmt.Errorf("listen: %w", err)
	}
	if err := netns.Set(near); err != nil {
		return -1, -1, fmt.Errorf("enter a network namespace: %w", err)
	}
	if err := setUp("peer", "10.71.0.1/24"); err != nil {
		return -1, -1, err
	}
	return connectPair(l, addr)
}

// setUp sets a device of this namespace up, with an address when it is not empty.
func setUp(device, addr string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find device %s: %w", device, err)
	}
	if addr != "" {
		ip, network, err := net.ParseCIDR(addr)
		if err != nil {
			return err
		}
		network.IP = ip
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: network}); err != nil {
			return fmt.Errorf("give %s the address %s: %w", device, addr, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", device, err)
	}
	return nil
}

// flowTableStep takes one more connection with both of its ends into a flow table, which the process holds to its end.
func (j *job) flowTableStep(in io.Reader) (func() error, func(), error) {
	debug.SetGCPercent(15) // as the agent has it with so much in use
	table := flow.New(flow.Options{MaxFlows: j.count, Losses: new(pipeline.Losses), Wall: func(boot uint64) time.Time { return time.Unix(0, int64(boot)) }})
	process := &model.Process{Binary: "/usr/bin/worker"}
	to := netip.MustParseAddrPort("10.0.0.2:80")
	n := uint64(0)
	step := func() error {
		n++
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 10<<24|1<<16|uint32(n>>15))
		from := netip.AddrPortFrom(netip.AddrFrom4(a), uint16(n&0x7fff+1024))
		out := model.Socket{Protocol: "tcp", Direction: "outbound", Local: from, Remote: to, Cookie: 2 * n, NetNS: 1}
		in := model.Socket{Protocol: "tcp", Direction: "inbound", Local: to, Remote: from, Cookie: 2*n + 1, NetNS: 1}
		table.See(&model.Event{Type: model.TypeConnect, BootTime: n, Process: process, Socket: &out})
		table.See(&model.Event{Type: model.TypeAccept, BootTime: n, Process: process, Socket: &in})
		return nil
	}
	return step, func() {
		_, _ = io.Copy(io.Discard, in) // until it has been looked at
		runtime.KeepAlive(table)
	}, nil
}
