// SPDX-License-Identifier: Apache-2.0

package netpol

import "golang.org/x/sys/unix"

// networkPolicy reads the spec of a networking.k8s.io/v1 NetworkPolicy.
func (p *Policy) networkPolicy(spec value) {
	spec.only(nil, "podSelector", "ingress", "egress", "policyTypes")
	p.Subject = PodSelector{Namespace: p.Namespace, Pods: spec.get("podSelector").selector()}
	ingress, egress := spec.get("ingress").list(), spec.get("egress").list()
	// Without policyTypes every policy is about ingress, and one with egress rules about egress, too.
	p.Directions[Ingress].Isolates, p.Directions[Egress].Isolates = true, len(egress) > 0
	if types := spec.get("policyTypes").list(); len(types) > 0 {
		p.Directions[Ingress].Isolates, p.Directions[Egress].Isolates = false, false
		for _, t := range types {
			switch t.oneOf("Ingress", "Egress") {
			case "Ingress":
				p.Directions[Ingress].Isolates = true
			case "Egress":
				p.Directions[Egress].Isolates = true
			}
		}
	}
	p.networkPolicyRules(Ingress, ingress, "from")
	p.networkPolicyRules(Egress, egress, "to")
	for d := range p.Directions {
		if !p.Directions[d].Isolates {
			p.Directions[d].List = nil // policyTypes says that they are not meant
		}
	}
}

func (p *Policy) networkPolicyRules(d Direction, rules []value, peers string) {
	for _, v := range rules {
		v.only(nil, peers, "ports")
		r := Rule{Field: v.path, Action: Allow}
		for _, peer := range v.get(peers).list() {
			if one, ok := p.networkPolicyPeer(peer); ok {
				r.Peers = append(r.Peers, one)
			}
		}
		for _, port := range v.get("ports").list() {
			if one, ok := networkPolicyPort(port); ok {
				r.Ports = append(r.Ports, one)
			}
		}
		p.Directions[d].List = append(p.Directions[d].List, r)
	}
}

func (p *Policy) networkPolicyPeer(v value) (Peer, bool) {
	v.only(nil, "podSelector", "namespaceSelector", "ipBlock")
	pods, namespaces, ip := v.get("podSelector"), v.get("namespaceSelector"), v.get("ipBlock")
	switch {
	case ip.given() && (pods.given() || namespaces.given()):
		ip.wrong("stands beside a selector: write an entry of its own for it")
	case ip.given():
		ip.only(nil, "cidr", "except")
		b := block(ip.get("cidr"), ip.get("except").list(), false)
		return Peer{Block: b}, b != nil
	case pods.given() || namespaces.given():
		s := &PodSelector{Namespaces: namespaces.selector(), Pods: pods.selector()}
		if !namespaces.given() {
			s.Namespace = p.Namespace
		}
		return Peer{Pods: s}, true
	default:
		v.wrong("names nobody: write podSelector, namespaceSelector or ipBlock")
	}
	return Peer{}, false
}

func networkPolicyPort(v value) (Port, bool) {
	v.only(nil, "protocol", "port", "endPort")
	out := Port{Protocol: unix.IPPROTO_TCP, Last: 65535}
	if proto := v.get("protocol"); proto.given() {
		out.Protocol = protocolNumber(proto.oneOf("TCP", "UDP", "SCTP"))
	}
	port, end := v.get("port"), v.get("endPort")
	switch {
	case !port.given() && end.given():
		end.wrong("has no port to begin at: write port beside it")
		return out, false
	case !port.given():
		return out, true
	case port.node.ShortTag() != "!!int":
		if end.given() {
			end.wrong("stands beside a port's name: write the port as a number")
			return out, false
		}
		out.Name, out.Last = portName(port), 0
		return out, out.Name != ""
	}
	out.First = uint16(port.number(1, 65535))
	if out.Last = out.First; end.given() {
		if out.Last = uint16(end.number(1, 65535)); out.Last != 0 && out.Last < out.First {
			end.wrong("is %d and lies before port %d", out.Last, out.First)
		}
	}
	return out, out.First != 0
}

// portName is the name of a container's port (RFC 6335, 5.1).
func portName(v value) string {
	t := v.text()
	letter := false
	for i := range len(t) {
		c := t[i]
		letter = letter || (c >= 'a' && c <= 'z')
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			v.wrong("%q is neither a port's number nor a name of lower case letters, digits and '-'", t)
			return ""
		}
	}
	if !letter || len(t) > 15 {
		v.wrong("%q is no name of a port: at most 15 letters, digits and '-', at least one letter", t)
		return ""
	}
	return t
}

// protocolNumber is the number of a protocol by the name that policies give it; 0 for any other.
func protocolNumber(name string) uint8 {
	switch name {
	case "TCP":
		return unix.IPPROTO_TCP
	case "UDP":
		return unix.IPPROTO_UDP
	case "SCTP":
		return unix.IPPROTO_SCTP
	}
	return 0
}
