// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cilium reads the spec of a cilium.io/v2 CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy, as far as docs/cilium.md
// says. What it asks beyond is an error that names the field: a policy is carried whole or not at all.
func (p *Policy) cilium(spec value) {
	spec.only(map[string]string{
		"nodeSelector": "selects nodes, whose own traffic is not judged here: leave it out, or write a WorkloadPolicy",
		"log":          "is not carried: leave it out",
	}, "endpointSelector", "ingress", "ingressDeny", "egress", "egressDeny", "enableDefaultDeny", "description", "labels")
	if s := spec.get("endpointSelector"); !s.given() {
		s.wrong("is missing: write {} for all pods")
	} else {
		p.Subject = p.ciliumPods(s)
		p.Subject.Namespace = p.Namespace
	}
	for _, d := range []Direction{Ingress, Egress} {
		denied, allowed := spec.get(d.String()+"Deny"), spec.get(d.String())
		rules := &p.Directions[d]
		for _, v := range denied.list() {
			rules.List = append(rules.List, p.ciliumRule(v, d, Deny))
		}
		for _, v := range allowed.list() {
			rules.List = append(rules.List, p.ciliumRule(v, d, Allow))
		}
		rules.Isolates = len(rules.List) > 0
		if v := spec.get("enableDefaultDeny").get(d.String()); v.given() {
			rules.Isolates = v.oneOf("true", "false") == "true"
		}
	}
	spec.get("enableDefaultDeny").only(nil, "ingress", "egress")
}

func (p *Policy) ciliumRule(v value, d Direction, action Action) Rule {
	to := map[Direction]string{Ingress: "from", Egress: "to"}[d]
	kinds := []string{to + "Endpoints", to + "CIDR", to + "CIDRSet", to + "Entities"}
	if d == Egress && action == Allow {
		kinds = append(kinds, "toFQDNs")
	}
	v.only(map[string]string{
		"toServices": "is not carried: name the pods behind the service with toEndpoints", "toGroups": "is not carried: write toCIDRSet",
		"toNodes": "is not carried: write toEntities [remote-node] or toCIDR", "fromNodes": "is not carried: write fromEntities [remote-node] or fromCIDR",
		"fromGroups": "is not carried: write fromCIDRSet", "toRequires": "is deprecated and not carried", "fromRequires": "is deprecated and not carried",
		"icmps": "is not carried: ICMP is never denied here", "authentication": "is not carried: leave it out",
		"toFQDNs": "can stand in egress only: which names an address has is not known before it is asked for",
	}, append(kinds, "toPorts")...)
	r := Rule{Field: v.path, Action: action, Peers: []Peer{}}
	named := 0
	for _, k := range kinds {
		if field := v.get(k); field.given() {
			named++
			r.Peers = append(r.Peers, p.ciliumPeers(field, strings.TrimPrefix(k, to))...)
		}
	}
	if v.get("toFQDNs").given() && named > 1 {
		v.get("toFQDNs").wrong("stands beside other ends: write a rule of its own for it")
	}
	ports := v.get("toPorts")
	if named == 0 && len(ports.list()) > 0 {
		r.Peers = nil // ports of everybody; a rule that says nothing at all allows nothing
	}
	for _, port := range ports.list() {
		r.Ports = append(r.Ports, ciliumPorts(port)...)
	}
	return r
}

func (p *Policy) ciliumPeers(v value, kind string) (peers []Peer) {
	for _, item := range v.list() {
		switch kind {
		case "Endpoints":
			s := p.ciliumPods(item)
			peers = append(peers, Peer{Pods: &s})
		case "CIDR":
			if b := block(item, nil, true); b != nil {
				b.Outside = true
				peers = append(peers, Peer{Block: b})
			}
		case "CIDRSet":
			item.only(map[string]string{"cidrGroupRef": "is not carried: write the CIDRs", "cidrGroupSelector": "is not carried: write the CIDRs"}, "cidr", "except")
			if b := block(item.get("cidr"), item.get("except").list(), false); b != nil {
				b.Outside = true
				peers = append(peers, Peer{Block: b})
			}
		case "Entities":
			peers = append(peers, ciliumEntity(item))
		case "FQDNs":
			if name := ciliumName(item); name != "" {
				peers = append(peers, Peer{Domain: name})
			}
		}
	}
	return peers
}

func ciliumEntity(v value) Peer {
	known := []string{string(EntityAll), string(EntityCluster), string(EntityHost), string(EntityRemoteNode), string(EntityWorld), string(EntityKubeAPIServer)}
	if e := v.text(); slices.Contains(known, e) {
		return Peer{Entity: Entity(e)}
	}
	v.wrong("the entity %q is not carried: known are %s", v.text(), strings.Join(known, ", "))
	return Peer{}
}

// ciliumName is the pattern of DNS names that matchName or matchPattern say.
func ciliumName(v value) string {
	v.only(nil, "matchName", "matchPattern")
	name, pattern := v.get("matchName"), v.get("matchPattern")
	if name.given() == pattern.given() {
		v.wrong("wants exactly one of matchName and matchPattern")
		return ""
	}
	field := name
	if pattern.given() {
		field = pattern
	}
	text := strings.ToLower(strings.TrimSuffix(field.text(), "."))
	rest := strings.TrimPrefix(text, "**.")
	switch plain := strings.ReplaceAll(rest, "*", "a"); {
	case strings.Contains(rest, "**") || strings.Trim(rest, "*") == "":
		field.wrong("%q matches every name: write toEntities [world]", field.text())
	case !domainName(plain) && !domainName("a."+plain), name.given() && strings.Contains(text, "*"):
		field.wrong("%q is no DNS name", field.text())
	default:
		return text
	}
	return ""
}

func ciliumPorts(v value) (out []Port) {
	refused := map[string]string{}
	for _, f := range []string{"terminatingTLS", "originatingTLS", "serverNames", "listener"} {
		refused[f] = "is not carried: vigie does not stand in the middle of connections"
	}
	v.only(refused, "ports", "rules")
	if rules := v.get("rules"); rules.given() {
		for _, kind := range []string{"http", "dns", "kafka", "l7", "l7proto"} {
			if f := rules.get(kind); f.given() {
				f.wrong("%s rules are not carried: vigie does not stand in the middle of connections; allow the port, or leave the rule out", strings.ToUpper(kind))
			}
		}
	}
	if len(v.get("ports").list()) == 0 {
		v.get("ports").wrong("names no port")
	}
	for _, port := range v.get("ports").list() {
		port.only(nil, "port", "endPort", "protocol")
		one := Port{Last: 65535, Protocol: ciliumProtocol(port.get("protocol"))}
		text := port.get("port").text()
		n, err := strconv.ParseUint(text, 10, 16)
		switch {
		case text == "0" || text == "":
		case err == nil:
			one.First, one.Last = uint16(n), uint16(n)
			if end := port.get("endPort"); end.given() {
				if last := uint16(end.number(0, 65535)); last >= one.First {
					one.Last = last
				} else if last != 0 {
					end.wrong("is %d and lies before port %d", last, one.First)
				}
			}
		default:
			one.Name, one.Last = portName(port.get("port")), 0
		}
		out = append(out, one)
	}
	return out
}

func ciliumProtocol(v value) uint8 {
	switch v.text() {
	case "TCP":
		return unix.IPPROTO_TCP
	case "UDP":
		return unix.IPPROTO_UDP
	case "SCTP":
		return unix.IPPROTO_SCTP
	case "", "ANY":
	default:
		v.wrong("%q is not carried: write TCP, UDP, SCTP or ANY", v.text())
	}
	return 0
}

// Labels that Cilium's selectors have for what is no label of a pod.
const (
	ciliumNamespace       = "io.kubernetes.pod.namespace"
	ciliumNamespaceLabels = "io.cilium.k8s.namespace.labels."
)

// ciliumPods is an endpoint selector. In a policy of a namespace it means pods of that namespace unless it says another.
func (p *Policy) ciliumPods(v value) PodSelector {
	var out PodSelector
	elsewhere := false
	for _, r := range v.selector() {
		source, key, has := strings.Cut(r.Key, ":")
		if !has {
			source, key = "any", r.Key
		}
		r.Key = key
		switch {
		case source != "any" && source != "k8s":
			v.wrong("the label %s:%s is none of a pod's: write entities for %s", source, key, source)
		case r.Key == ciliumNamespace:
			elsewhere = true
			r.Key = namespaceName
			out.Namespaces = append(out.Namespaces, r)
		case strings.HasPrefix(r.Key, ciliumNamespaceLabels):
			elsewhere = true
			r.Key = strings.TrimPrefix(r.Key, ciliumNamespaceLabels)
			out.Namespaces = append(out.Namespaces, r)
		case strings.HasPrefix(r.Key, "io.cilium.k8s.policy."):
			v.wrong("the label %s is not carried: select by the pods' own labels", r.Key)
		default:
			out.Pods = append(out.Pods, r)
		}
	}
	if p.Kind == CiliumNetworkPolicy && !elsewhere {
		out.Namespace = p.Namespace
	}
	return out
}
