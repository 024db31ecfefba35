// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vigie-io/vigie/internal/model"
)

// netIndex finds in Prefixes and Ports what the kernel finds with its longest-prefix maps.
type netIndex struct {
	prefixes map[Prefix]uint16 // with Class 0
	lengths  [Directions][]int // lengths that are in use, longest first
	ports    map[portKey][]Port
}

type portKey struct {
	direction Direction
	class     uint16
	subject   uint16
	protocol  uint8
}

// index is what Net looks up in.
func (t *Table) index() *netIndex {
	t.once.Do(func() { t.net = t.makeIndex() })
	return t.net
}

func (t *Table) makeIndex() *netIndex {
	net := &netIndex{prefixes: make(map[Prefix]uint16, len(t.Prefixes)), ports: map[portKey][]Port{}}
	for _, p := range t.Prefixes {
		net.prefixes[Prefix{Direction: p.Direction, Prefix: p.Prefix}] = p.Class
		if lengths := &net.lengths[p.Direction]; !slices.Contains(*lengths, p.Prefix.Bits()) {
			*lengths = append(*lengths, p.Prefix.Bits())
		}
	}
	for _, lengths := range net.lengths {
		slices.SortFunc(lengths, func(a, b int) int { return b - a })
	}
	for _, p := range t.Ports {
		k := portKey{p.Direction, p.Class, p.Subject, p.Protocol}
		net.ports[k] = append(net.ports[k], p)
	}
	return net
}

// Net is the decision about a conversation: with a remote address and its port (Egress), a remote address and a local port
// (Ingress) or a local address and its port (Listen). protocol is IPPROTO_*. names are the classes by Names of the names by
// which the address was asked for, peers those of the workloads that listen there (Peer).
func (t *Table) Net(d Direction, protocol uint8, address netip.Addr, port uint16, subject uint32, names, peers []uint16) Decision {
	switch {
	case protocol == icmpv6:
		protocol = icmp
	case protocol != icmp && !hasPorts(protocol):
		protocol = OtherProtocol
	}
	if !hasPorts(protocol) {
		port = 0
	}
	best := t.port(portKey{d, t.addressClass(d, address), uint16(subject), protocol}, port)
	for _, c := range names {
		best = Stronger(best, t.port(portKey{d, c | NameClass, uint16(subject), protocol}, port))
	}
	for _, c := range peers {
		best = Stronger(best, t.port(portKey{d, c | PeerClass, uint16(subject), protocol}, port))
	}
	if best == 0 {
		return t.Default[d]
	}
	return best
}

// Stronger is the decision of two that counts: one that denies before one that permits before none, killing before denying
// before auditing; of two that are alike that of the rule that stands first.
func Stronger(a, b Decision) Decision {
	switch {
	case a == 0:
		return b
	case b == 0 || a.Action() > b.Action():
		return a
	case a.Action() < b.Action():
		return b
	}
	return min(a, b)
}

func (t *Table) addressClass(d Direction, address netip.Addr) uint16 {
	if !address.IsValid() {
		return 0
	}
	mapped := netip.AddrFrom16(address.As16())
	for _, bits := range t.index().lengths[d] {
		p, err := mapped.Prefix(bits)
		if err != nil {
			return 0
		}
		if class, ok := t.index().prefixes[Prefix{Direction: d, Prefix: p}]; ok {
			return class
		}
	}
	return 0
}

func (t *Table) port(k portKey, port uint16) Decision {
	if k.class == NameClass || k.class == PeerClass {
		return 0 // a name or peer that no rule has
	}
	ranges := t.index().ports[k] // disjoint, in order
	i, found := slices.BinarySearchFunc(ranges, port, func(p Port, port uint16) int { return cmp.Compare(p.Port, port) })
	if !found {
		i--
	}
	if i < 0 || uint32(port) >= uint32(ranges[i].Port)+1<<(16-ranges[i].Bits) {
		return 0
	}
	return ranges[i].Decision
}

// Privilege is the decision about a capability or an operation (PrivilegePtrace and so on) of a subject.
func (t *Table) Privilege(privilege int, subject uint32) Decision {
	if len(t.Privileges) == 0 || privilege < 0 || privilege >= Privileges {
		return 0
	}
	return t.Privileges[uint32(privilege)*t.Subjects+subject]
}

// PeerClasses are the classes of the peers that a workload is.
func (t *Table) PeerClasses(w *model.Workload) []uint16 {
	var classes []uint16
	for i := range t.Peers {
		if t.Peers[i].Selector.SelectsWorkload(w) {
			classes = append(classes, uint16(i+1))
		}
	}
	return classes
}

// Decide is the decision about any access, by the tables; it is what Policy.Judge says, found fast.
func (t *Table) Decide(s Subject, a Access) Decision {
	subject := t.Subject(s.Binary, s.Parent)
	network := func(d Direction) Decision {
		var names, peers []uint16
		if d == Egress {
			for _, name := range a.Names {
				names = append(names, t.Names.Class(name))
			}
			for _, w := range a.Peers {
				peers = append(peers, t.PeerClasses(w)...)
			}
		}
		return t.Net(d, a.Protocol, a.Address, a.Port, subject, names, peers)
	}
	switch a.Operation {
	case model.OpExec:
		return t.File(Exec, a.Path, subject)
	case model.OpRead:
		return t.File(Read, a.Path, subject)
	case model.OpWrite:
		return t.File(Write, a.Path, subject)
	case model.OpModify:
		return t.File(Modify, a.Path, subject)
	case model.OpConnect, model.OpSend, model.OpReceive:
		return network(Egress)
	case model.OpAccept:
		return network(Ingress)
	case model.OpBind, model.OpListen:
		return network(Listen)
	case model.OpSocket:
		return t.Sockets
	case model.OpCapability:
		return t.Privilege(int(min(a.Capability, PrivilegePtrace-1)), subject)
	}
	if i := slices.Index(operationNames(), string(a.Operation)); i >= 0 {
		return t.Privilege(PrivilegePtrace+i, subject)
	}
	return 0
}

// ExecDefault is the number of the rule that denies what a list of allowed processes does not have; 0 for none.
func (t *Table) ExecDefault() int {
	return max(0, slices.IndexFunc(t.Rules, func(r Rule) bool { return r.list == processesAllow && r.rest() }))
}

// Judgement is a decision in words.
func (t *Table) Judgement(d Decision) Judgement {
	return Judgement{d.Action(), t.Rules[d.Rule()].Field()}
}
