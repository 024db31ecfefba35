// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"

	"github.com/vigie-io/vigie/internal/model"
)

// protocol is the number of a transport protocol in IP headers.
type protocol uint8

const (
	icmp   protocol = 1
	tcp    protocol = 6
	udp    protocol = 17
	icmpv6 protocol = 58
)

func protocolOf(name string) (protocol, bool) {
	switch name {
	case "tcp":
		return tcp, true
	case "udp":
		return udp, true
	case "icmp":
		return icmp, true
	case "icmpv6":
		return icmpv6, true
	}
	return 0, false
}

func (p protocol) String() string {
	switch p {
	case tcp:
		return "tcp"
	case udp:
		return "udp"
	case icmp:
		return "icmp"
	}
	return "icmpv6"
}

// place is an address and port, in half of netip.AddrPort's size: there are a million of them. The zero place is none.
type place struct {
	addr [16]byte // IPv4 as ::ffff:a.b.c.d
	port uint16
}

func placeOf(a netip.AddrPort) place {
	if !a.IsValid() {
		return place{}
	}
	return place{a.Addr().As16(), a.Port()}
}

func (p place) addrPort() netip.AddrPort {
	if p == (place{}) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(p.addr).Unmap(), p.port)
}

// any reports whether the place has no address, as that of a socket that was not bound to one.
func (p place) any() bool {
	a := netip.AddrFrom16(p.addr).Unmap()
	return p == (place{}) || a.IsUnspecified()
}

func (p place) loopback() bool { return netip.AddrFrom16(p.addr).Unmap().IsLoopback() }

// key is what a conversation is found by: who began, to whom. In two network namespaces there can be one each.
type key struct {
	source, destination place
	protocol            protocol
}

// reversed is the key of the same two addresses when the other end began.
func (k key) reversed() key { return key{k.destination, k.source, k.protocol} }

func (k key) family() string {
	if k.protocol == icmp || netip.AddrFrom16(k.destination.addr).Is4In6() || netip.AddrFrom16(k.source.addr).Is4In6() {
		return "ipv4"
	}
	return "ipv6"
}

// keyOf is the key of the conversation that a socket event is about, and which end of it the socket is.
func keyOf(s *model.Socket) (key, side, bool) {
	proto, ok := protocolOf(s.Protocol)
	if !ok || !s.Remote.IsValid() {
		return key{}, 0, false
	}
	local, remote := placeOf(s.Local), placeOf(s.Remote)
	switch s.Direction {
	case "outbound":
		return key{local, remote, proto}, source, true
	case "inbound":
		return key{remote, local, proto}, destination, true
	}
	return key{}, 0, false
}
