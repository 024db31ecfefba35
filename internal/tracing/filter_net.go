// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// sockTest jumps to hit when the socket, packet or address of a slot is as one of the values says, to miss when there
// is none in the slot.
func (c *compiler) sockTest(path, op string, m *ArgMatch, v *value, hit, miss string) {
	c.text(v.slot, miss)
	size := unsafe.Sizeof(bpfVgProbeSock{})
	c.emit(asm.JLT.Imm(regValue, int32(size), miss))
	half := func(offset uintptr) {
		c.emit(asm.LoadMem(regValue, regText, int16(offset), asm.Half))
	}
	switch op {
	case "SAddr":
		c.addrTest(path, m.Values, unsafe.Offsetof(bpfVgProbeSock{}.Saddr), hit)
	case "DAddr":
		c.addrTest(path, m.Values, unsafe.Offsetof(bpfVgProbeSock{}.Daddr), hit)
	case "SPort":
		half(unsafe.Offsetof(bpfVgProbeSock{}.Sport))
		c.portTest(path, m.Values, hit)
	case "DPort":
		half(unsafe.Offsetof(bpfVgProbeSock{}.Dport))
		c.portTest(path, m.Values, hit)
	case "SPortPriv":
		half(unsafe.Offsetof(bpfVgProbeSock{}.Sport))
		c.emit(asm.JLT.Imm(regValue, privilegedPorts, hit))
	case "DPortPriv":
		half(unsafe.Offsetof(bpfVgProbeSock{}.Dport))
		c.emit(asm.JLT.Imm(regValue, privilegedPorts, hit))
	case "Protocol":
		half(unsafe.Offsetof(bpfVgProbeSock{}.Protocol))
		c.nameTest(path, m.Values, "IPPROTO_", protocols(), hit)
	case "Family":
		half(unsafe.Offsetof(bpfVgProbeSock{}.Family))
		c.nameTest(path, m.Values, "AF_", families(), hit)
	case "State":
		half(unsafe.Offsetof(bpfVgProbeSock{}.State))
		c.nameTest(path, m.Values, "TCP_", states(), hit)
	}
}

const privilegedPorts = 1024 // below it a port takes CAP_NET_BIND_SERVICE

// addrTest compares sixteen bytes at regText+offset with networks.
func (c *compiler) addrTest(path string, values []string, offset uintptr, hit string) {
	var nets []netip.Prefix
	for i, s := range values {
		p, err := parseNet(s)
		if err != nil {
			c.fail(fmt.Sprintf("%s.values[%d]", path, i), "%q is neither an address nor a network such as 10.0.0.0/8", s)
			continue
		}
		nets = append(nets, p)
	}
	if len(nets) > maxNets {
		c.netSet(nets, offset, hit)
		return
	}
	for _, p := range nets {
		differ := c.label("differ")
		a := p.Addr().As16()
		for at, bits := 0, p.Bits(); bits > 0; at, bits = at+8, bits-64 {
			want := binary.LittleEndian.Uint64(a[at:])
			c.emit(asm.LoadMem(asm.R1, regText, int16(int(offset)+at), asm.DWord))
			if bits < 64 {
				var mask [8]byte
				binary.BigEndian.PutUint64(mask[:], ^uint64(0)<<(64-bits))
				m := binary.LittleEndian.Uint64(mask[:])
				c.emit(asm.LoadImm(asm.R2, int64(m), asm.DWord), asm.And.Reg(asm.R1, asm.R2))
			}
			c.jumpIf(asm.JNE, asm.R1, want, differ)
		}
		c.jump(hit)
		c.place(differ)
	}
}

// parseNet reads an address or a network; one of IPv4 becomes one of ::ffff:0:0/96.
func parseNet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return netip.PrefixFrom(netip.AddrFrom16(p.Masked().Addr().As16()), bits), nil
}

// netSet tests a long list of networks with one look-up.
func (c *compiler) netSet(nets []netip.Prefix, offset uintptr, hit string) {
	m := &ebpf.MapSpec{Name: c.mapName("nets"), Type: ebpf.LPMTrie, KeySize: 20, ValueSize: 1, MaxEntries: uint32(len(nets)), Flags: 1 /* BPF_F_NO_PREALLOC */}
	seen := make(map[netip.Prefix]bool)
	for _, p := range nets {
		if seen[p] {
			continue
		}
		seen[p] = true
		key := binary.NativeEndian.AppendUint32(nil, uint32(p.Bits()))
		a := p.Addr().As16()
		m.Contents = append(m.Contents, ebpf.MapKV{Key: append(key, a[:]...), Value: []byte{1}})
	}
	c.emit(asm.StoreImm(asm.RFP, -20, 128, asm.Word))
	for at := int16(0); at < 16; at += 4 {
		c.emit(asm.LoadMem(asm.R1, regText, int16(offset)+at, asm.Word), asm.StoreMem(asm.RFP, -16+at, asm.R1, asm.Word))
	}
	c.emit(asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -20))
	c.loadMap(asm.R1, m)
	c.emit(asm.FnMapLookupElem.Call(), asm.JNE.Imm(asm.R0, 0, hit))
}

// portTest compares regValue with ports and ranges of them ("8000:8080").
func (c *compiler) portTest(path string, values []string, hit string) {
	var ports []uint64
	for i, s := range values {
		first, last, isRange := strings.Cut(s, ":")
		if !isRange {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 16)
		hi, err2 := strconv.ParseUint(last, 10, 16)
		switch {
		case err1 != nil || err2 != nil || lo > hi:
			c.fail(fmt.Sprintf("%s.values[%d]", path, i), "%q is neither a port nor a range of ports such as 8000:8080", s)
		case !isRange:
			ports = append(ports, lo)
		default:
			outside := c.label("outside")
			c.jumpIf(asm.JLT, regValue, lo, outside)
			c.jumpIf(asm.JLE, regValue, hi, hit)
			c.place(outside)
		}
	}
	c.numberIn(ports, hit)
}

// nameTest compares regValue with names, written with or without their prefix, and numbers.
func (c *compiler) nameTest(path string, values []string, prefix string, names map[string]uint64, hit string) {
	var numbers []uint64
	for i, s := range values {
		n, ok := names[strings.TrimPrefix(strings.ToUpper(s), prefix)]
		if !ok {
			var err error
			if n, err = strconv.ParseUint(s, 0, 16); err != nil {
				c.fail(fmt.Sprintf("%s.values[%d]", path, i), "%q is neither a name such as %s nor a number", s, prefix+anyName(names))
				continue
			}
		}
		numbers = append(numbers, n)
	}
	c.numberIn(numbers, hit)
}

func anyName(names map[string]uint64) string {
	least := ""
	for n := range names {
		if least == "" || n < least {
			least = n
		}
	}
	return least
}

// protocols are numbers of IP protocols (include/uapi/linux/in.h).
func protocols() map[string]uint64 {
	return map[string]uint64{"IP": 0, "ICMP": 1, "IGMP": 2, "IPIP": 4, "TCP": 6, "EGP": 8, "PUP": 12, "UDP": 17, "IDP": 22, "TP": 29,
		"DCCP": 33, "IPV6": 41, "RSVP": 46, "GRE": 47, "ESP": 50, "AH": 51, "ICMPV6": 58, "MTP": 92, "BEETPH": 94, "ENCAP": 98, "PIM": 103,
		"COMP": 108, "L2TP": 115, "SCTP": 132, "UDPLITE": 136, "MPLS": 137, "ETHERNET": 143, "RAW": 255, "MPTCP": 262}
}

// families are address families (include/linux/socket.h).
func families() map[string]uint64 {
	return map[string]uint64{"UNSPEC": 0, "UNIX": 1, "LOCAL": 1, "INET": 2, "AX25": 3, "INET6": 10, "KEY": 15, "NETLINK": 16, "ROUTE": 16,
		"PACKET": 17, "RDS": 21, "PPPOX": 24, "LLC": 26, "IB": 27, "MPLS": 28, "CAN": 29, "TIPC": 30, "BLUETOOTH": 31, "ALG": 38, "VSOCK": 40,
		"KCM": 41, "QIPCRTR": 42, "SMC": 43, "XDP": 44, "MCTP": 45}
}

// states are states of TCP (include/net/tcp_states.h).
func states() map[string]uint64 {
	return map[string]uint64{"ESTABLISHED": 1, "SYN_SENT": 2, "SYN_RECV": 3, "FIN_WAIT1": 4, "FIN_WAIT2": 5, "TIME_WAIT": 6, "CLOSE": 7,
		"CLOSE_WAIT": 8, "LAST_ACK": 9, "LISTEN": 10, "CLOSING": 11, "NEW_SYN_RECV": 12}
}
