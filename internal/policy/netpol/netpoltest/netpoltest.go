// SPDX-License-Identifier: Apache-2.0

// Package netpoltest makes clusters and network policies for tests. In: a source of chance. Out: nine pods in three
// namespaces, and policies of all kinds that tell them apart, written as YAML.
package netpoltest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
)

// Ports are those that pods listen at and that policies name.
var ports = [...]uint16{80, 81}

// Ports are the ports that tests probe.
func Ports() []uint16 { return ports[:] }

// Protocols are those that tests probe.
func Protocols() []uint8 { return []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} }

// Address is where pod number i of nine is, by family.
func Address(i int, six bool) netip.Addr {
	if six {
		return netip.MustParseAddr(fmt.Sprintf("fd00:10::%x", 0x10+i))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.99.%d.%d", i/3, 10+i%3))
}

// Gateway is the address of the pods' node, by family.
func Gateway(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr("fd00:10::1")
	}
	return netip.MustParseAddr("10.99.255.1")
}

// Cluster has the pods a, b and c in each of the namespaces x, y and z, on one node.
func Cluster() *netpol.Cluster {
	c := &netpol.Cluster{Node: "here", Host: []netip.Addr{Gateway(false), Gateway(true)},
		Nodes: []*model.ClusterNode{
			{Name: "here", Labels: map[string]string{"node": "here"}, Addresses: []netip.Addr{Gateway(false)}},
			{Name: "there", Labels: map[string]string{"node": "there"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}},
		}}
	for i, ns := range []string{"x", "y", "z"} {
		c.Namespaces = append(c.Namespaces, &model.ClusterNamespace{Name: ns, Labels: map[string]string{"ns": ns, "kubernetes.io/metadata.name": ns}})
		for j, name := range []string{"a", "b", "c"} {
			n := 3*i + j
			p := &model.Pod{UID: fmt.Sprintf("00000000-0000-0000-0000-%012d", n), Namespace: ns, Name: name, Node: "here",
				Labels: map[string]string{"pod": name}, Addresses: []netip.Addr{Address(n, false), Address(n, true)},
				Ports: []model.PodPort{{Name: "first", Port: 80, Protocol: unix.IPPROTO_TCP}, {Name: "second", Port: 81, Protocol: unix.IPPROTO_UDP}}}
			if name == "c" {
				p.Labels["tier"] = "back"
				p.Ports[0].Port = 81
			}
			c.Pods = append(c.Pods, p)
		}
	}
	return c
}

// Policies makes up to n policies, as YAML.
func Policies(t testing.TB, r *rand.Rand, n int) string {
	t.Helper()
	g := generator{r}
	var docs []string
	for i := range 1 + r.IntN(n) {
		b, err := yaml.Marshal(g.policy(i))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, string(b))
	}
	return strings.Join(docs, "---\n")
}

type (
	object = map[string]any
	list   = []any
)

type generator struct{ *rand.Rand }

func (g generator) maybe(percent int) bool { return g.IntN(100) < percent }

func oneOf[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) policy(i int) object {
	meta := object{"name": fmt.Sprintf("p%d", i)}
	if g.maybe(10) {
		meta["annotations"] = object{netpol.ModeAnnotation: "audit"}
	}
	switch k := g.IntN(10); {
	case k < 6:
		meta["namespace"] = g.namespace()
		return object{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": g.networkPolicy()}
	case k < 8:
		return object{"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": meta, "spec": g.clusterPolicy()}
	case k < 9:
		return object{"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": meta, "spec": g.ciliumPolicy()}
	}
	meta["namespace"] = g.namespace()
	return object{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": g.ciliumPolicy()}
}

func (g generator) namespace() string { return oneOf(g, "x", "y", "z") }

// selector is a label selector over a label with some values.
func (g generator) selector(key string, values ...string) object {
	switch g.IntN(6) {
	case 0:
		return object{}
	case 1:
		return object{"matchExpressions": list{object{"key": key, "operator": "In", "values": list{oneOf(g, values...), oneOf(g, values...)}}}}
	case 2:
		return object{"matchExpressions": list{object{"key": key, "operator": "NotIn", "values": list{oneOf(g, values...)}}}}
	case 3:
		return object{"matchExpressions": list{object{"key": oneOf(g, key, "tier"), "operator": oneOf(g, "Exists", "DoesNotExist")}}}
	}
	return object{"matchLabels": object{key: oneOf(g, values...)}}
}

func (g generator) pods() object       { return g.selector("pod", "a", "b", "c") }
func (g generator) namespaces() object { return g.selector("ns", "x", "y", "z") }

func (g generator) cidr() (string, list) {
	switch g.IntN(5) {
	case 0:
		return "0.0.0.0/0", list{fmt.Sprintf("10.99.%d.0/24", g.IntN(3)), "10.99.1.11/32"}
	case 1:
		return "fd00:10::/64", list{fmt.Sprintf("fd00:10::%x/127", 0x10+2*g.IntN(4))}
	case 2:
		return Address(g.IntN(9), false).String() + "/32", nil
	case 3:
		return "::/0", list{"fd00:10::14/126"}
	}
	return fmt.Sprintf("10.99.%d.0/24", g.IntN(3)), list{fmt.Sprintf("10.99.%d.%d/32", 0, 10)}[:0]
}

func (g generator) some(most int, one func() any) (out list) {
	for range 1 + g.IntN(most) {
		out = append(out, one())
	}
	return out
}

func (g generator) networkPolicy() object {
	spec := object{"podSelector": g.pods()}
	peer := func() any {
		switch g.IntN(4) {
		case 0:
			return object{"podSelector": g.pods()}
		case 1:
			return object{"namespaceSelector": g.namespaces()}
		case 2:
			return object{"podSelector": g.pods(), "namespaceSelector": g.namespaces()}
		}
		cidr, except := g.cidr()
		return object{"ipBlock": object{"cidr": cidr, "except": except}}
	}
	port := func() any {
		switch g.IntN(5) {
		case 0:
			return object{"protocol": oneOf(g, "TCP", "UDP", "SCTP")}
		case 1:
			return object{"protocol": oneOf(g, "TCP", "UDP"), "port": oneOf(g, "first", "second")}
		case 2:
			return object{"port": 70 + g.IntN(12), "endPort": 81 + g.IntN(20)}
		}
		return object{"protocol": oneOf(g, "TCP", "UDP", "SCTP"), "port": int(oneOf(g, ports[:]...))}
	}
	rules := func(peers string) list {
		return g.some(2, func() any {
			rule := object{}
			if g.maybe(80) {
				rule[peers] = g.some(2, peer)
			}
			if g.maybe(50) {
				rule["ports"] = g.some(2, port)
			}
			return rule
		})
	}
	if g.maybe(70) {
		spec["ingress"] = rules("from")
	}
	if g.maybe(50) {
		spec["egress"] = rules("to")
	}
	if g.maybe(60) {
		spec["policyTypes"] = oneOf(g, list{"Ingress"}, list{"Egress"}, list{"Ingress", "Egress"})
	}
	return spec
}

func (g generator) clusterPods() object {
	if g.maybe(40) {
		return object{"namespaces": g.namespaces()}
	}
	return object{"pods": object{"namespaceSelector": g.namespaces(), "podSelector": g.pods()}}
}

func (g generator) clusterPolicy() object {
	port := func() any {
		switch g.IntN(4) {
		case 0:
			return object{"tcp": object{"destinationPort": object{"range": object{"start": 70, "end": 80 + g.IntN(5)}}}}
		case 1:
			return object{"udp": object{}}
		}
		return object{oneOf(g, "tcp", "udp", "sctp"): object{"destinationPort": object{"number": int(oneOf(g, ports[:]...))}}}
	}
	rules := func(peers string) list {
		return g.some(3, func() any {
			peer := func() any {
				if peers == "to" && g.maybe(30) {
					cidr, _ := g.cidr()
					return object{"networks": list{cidr}}
				}
				return g.clusterPods()
			}
			rule := object{"action": oneOf(g, "Accept", "Deny", "Pass"), peers: g.some(2, peer)}
			if g.maybe(40) {
				rule["protocols"] = g.some(2, port)
			}
			return rule
		})
	}
	spec := object{"tier": oneOf(g, "Admin", "Baseline"), "priority": g.IntN(5), "subject": g.clusterPods()}
	if g.maybe(70) {
		spec["ingress"] = rules("from")
	}
	if g.maybe(70) {
		spec["egress"] = rules("to")
	}
	return spec
}

func (g generator) ciliumPolicy() object {
	endpoint := func() any {
		s := g.pods()
		if labels, ok := s["matchLabels"].(object); ok && g.maybe(40) {
			labels["k8s:io.kubernetes.pod.namespace"] = g.namespace()
		}
		return s
	}
	rules := func(to string) list {
		return g.some(2, func() any {
			rule := object{}
			switch g.IntN(4) {
			case 0:
				rule[to+"Entities"] = list{oneOf(g, "all", "cluster", "world", "host")}
			case 1:
				rule[to+"CIDR"] = list{"10.99.0.0/16", "192.0.2.0/24"}
			case 2:
			default:
				rule[to+"Endpoints"] = g.some(2, endpoint)
			}
			if g.maybe(50) {
				rule["toPorts"] = list{object{"ports": list{object{"port": fmt.Sprint(oneOf(g, ports[:]...)), "protocol": oneOf(g, "TCP", "UDP", "ANY")}}}}
			}
			return rule
		})
	}
	spec := object{"endpointSelector": endpoint()}
	for _, d := range []struct{ section, to string }{{"ingress", "from"}, {"ingressDeny", "from"}, {"egress", "to"}, {"egressDeny", "to"}} {
		if g.maybe(35) {
			spec[d.section] = rules(d.to)
		}
	}
	if g.maybe(20) {
		spec["enableDefaultDeny"] = object{"ingress": g.maybe(50), "egress": g.maybe(50)}
	}
	return spec
}
