// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// AddrPort makes an address of 16 bytes and a port in network byte order, as records have them; an IPv4-mapped one becomes
// IPv4.
func AddrPort(b [16]uint8, port uint16) netip.AddrPort {
	var p [2]byte
	binary.NativeEndian.PutUint16(p[:], port)
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), binary.BigEndian.Uint16(p[:]))
}

// NetworkOrder is a port as its bytes are on the wire, as records and maps have it; every target is little endian (bpf/abi.h).
func NetworkOrder(port uint16) uint16 { return bits.ReverseBytes16(port) }

// AddrPortIfAny is AddrPort, but of nothing but zeros it makes none.
func AddrPortIfAny(b [16]uint8, port uint16) netip.AddrPort {
	if b == [16]uint8{} && port == 0 {
		return netip.AddrPort{}
	}
	return AddrPort(b, port)
}
