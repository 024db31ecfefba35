// SPDX-License-Identifier: Apache-2.0

package netpol

import "strings"

// clusterNetworkPolicy reads the spec of a policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy
// (sigs.k8s.io/network-policy-api v0.2, its experimental fields too).
func (p *Policy) clusterNetworkPolicy(spec value) {
	spec.only(nil, "tier", "priority", "subject", "ingress", "egress")
	if p.Tier = Admin; spec.get("tier").oneOf("Admin", "Baseline") == "Baseline" {
		p.Tier = Baseline
	}
	for _, name := range []string{"tier", "priority", "subject"} {
		if v := spec.get(name); !v.given() {
			v.wrong("is missing")
		}
	}
	p.Priority = spec.get("priority").number(0, 1000)
	if s := clusterPods(spec.get("subject")); s != nil {
		p.Subject = *s
	}
	for _, d := range []Direction{Ingress, Egress} {
		rules := spec.get(d.String())
		if len(rules.list()) > 25 {
			rules.wrong("has more than 25 rules: split the policy")
		}
		for _, v := range rules.list() {
			p.Directions[d].List = append(p.Directions[d].List, clusterRule(v, d))
		}
	}
}

// clusterPods are pods by exactly one of the fields namespaces and pods; nil, and an error, for anything else.
func clusterPods(v value) *PodSelector {
	v.only(nil, "namespaces", "pods")
	namespaces, pods := v.get("namespaces"), v.get("pods")
	switch {
	case !v.given():
		return nil
	case namespaces.given() == pods.given():
		v.wrong("wants exactly one of namespaces and pods")
		return nil
	case namespaces.given():
		return &PodSelector{Namespaces: namespaces.selector()}
	}
	pods.only(nil, "namespaceSelector", "podSelector")
	if s := pods.get("podSelector"); !s.given() {
		s.wrong("is missing: write {} for all pods")
	}
	return &PodSelector{Namespaces: pods.get("namespaceSelector").selector(), Pods: pods.get("podSelector").selector()}
}

func clusterRule(v value, d Direction) Rule {
	ends := map[Direction]string{Ingress: "from", Egress: "to"}[d]
	v.only(nil, "name", "action", ends, "protocols")
	r := Rule{Field: v.path, Name: v.get("name").text(), Peers: []Peer{}}
	if len(r.Name) > 100 {
		v.get("name").wrong("is longer than 100 bytes")
	}
	if a := v.get("action"); !a.given() {
		a.wrong("is missing: write Accept, Deny or Pass")
	}
	r.Action = map[string]Action{"Accept": Allow, "Deny": Deny, "Pass": Pass}[v.get("action").oneOf("Accept", "Deny", "Pass")]
	peers := v.get(ends).list()
	if len(peers) == 0 || len(peers) > 25 {
		v.get(ends).wrong("wants 1 to 25 entries")
	}
	named := false // by what has no named ports
	for _, peer := range peers {
		more, addresses := clusterPeers(peer, d, r.Action)
		r.Peers, named = append(r.Peers, more...), named || addresses
	}
	if ports := v.get("protocols"); ports.given() {
		if n := len(ports.list()); n == 0 || n > 25 {
			ports.wrong("wants 1 to 25 entries")
		}
		for _, port := range ports.list() {
			one := clusterPort(port)
			if one.Name != "" && named {
				port.wrong("names a port, and networks, nodes and domainNames have no named ones: write numbers, or a rule of its own")
			}
			r.Ports = append(r.Ports, one)
		}
	}
	return r
}

// clusterPeers are the other ends that one entry of from or to names; addresses: they are no pods.
func clusterPeers(v value, d Direction, action Action) (peers []Peer, addresses bool) {
	kinds := []string{"namespaces", "pods"}
	if d == Egress {
		kinds = append(kinds, "nodes", "networks", "domainNames")
	}
	v.only(nil, kinds...)
	given := 0
	for _, k := range kinds {
		if v.get(k).given() {
			given++
		}
	}
	if given != 1 {
		v.wrong("wants exactly one of %s", strings.Join(kinds, ", "))
		return nil, false
	}
	if nodes := v.get("nodes"); nodes.given() {
		s := nodes.selector()
		return []Peer{{Nodes: &s}}, true
	}
	if networks := v.get("networks"); networks.given() {
		return cidrs(networks, 25), true
	}
	if domains := v.get("domainNames"); domains.given() {
		if action != Allow {
			domains.wrong("can be accepted only: which names an address has is not known before it is asked for")
		}
		return clusterDomains(domains), true
	}
	if s := clusterPods(v); s != nil {
		peers = append(peers, Peer{Pods: s})
	}
	return peers, false
}

func cidrs(v value, most int) (peers []Peer) {
	if n := len(v.list()); n == 0 || n > most {
		v.wrong("wants 1 to %d entries", most)
	}
	for _, c := range v.list() {
		if b := block(c, nil, false); b != nil {
			peers = append(peers, Peer{Block: b})
		}
	}
	return peers
}

// clusterDomains are DNS names; "*." at the beginning stands for one label or more.
func clusterDomains(v value) (peers []Peer) {
	if n := len(v.list()); n == 0 || n > 25 {
		v.wrong("wants 1 to 25 entries")
	}
	for _, d := range v.list() {
		name := strings.ToLower(strings.TrimSuffix(d.text(), "."))
		rest, wild := strings.CutPrefix(name, "*.")
		if !domainName(rest) {
			d.wrong("%q is no DNS name: write example.org or *.example.org", d.text())
			continue
		}
		if wild {
			name = "**." + rest
		}
		peers = append(peers, Peer{Domain: name})
	}
	return peers
}

// domainName reports whether a text is a DNS name of two labels or more.
func domainName(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return len(labels) > 1 && len(s) <= 253
}

func clusterPort(v value) Port {
	v.only(nil, "tcp", "udp", "sctp", "destinationNamedPort")
	out := Port{Last: 65535}
	given := 0
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		p := v.get(proto)
		if !p.given() {
			continue
		}
		given++
		p.only(nil, "destinationPort")
		out.Protocol = protocolNumber(strings.ToUpper(proto))
		if port := p.get("destinationPort"); port.given() {
			out.First, out.Last = clusterRange(port)
		}
	}
	if name := v.get("destinationNamedPort"); name.given() {
		given++
		out.Name = portName(name)
	}
	if given != 1 {
		v.wrong("wants exactly one of tcp, udp, sctp, destinationNamedPort")
	}
	return out
}

func clusterRange(v value) (first, last uint16) {
	v.only(nil, "number", "range")
	number, span := v.get("number"), v.get("range")
	if number.given() == span.given() {
		v.wrong("wants exactly one of number and range")
		return 0, 0
	}
	if number.given() {
		n := uint16(number.number(1, 65535))
		return n, n
	}
	span.only(nil, "start", "end")
	first, last = uint16(span.get("start").number(1, 65535)), uint16(span.get("end").number(1, 65535))
	if first >= last {
		span.wrong("begins at %d and ends at %d: start must lie before end", first, last)
	}
	return first, last
}
