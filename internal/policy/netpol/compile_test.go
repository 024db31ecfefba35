// SPDX-License-Identifier: Apache-2.0

package netpol_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
)

// lookup decides by a table, as the kernel programs do.
func lookup(w *netpol.World, c *netpol.Cluster, t *netpol.Table, d netpol.Direction, other netip.Addr, protocol uint8, port uint16) (bool, uint32) {
	if t == nil || !t.Speaks[d] {
		return false, 0
	}
	var class *netpol.Class
	switch pod, node := c.PodAt(other), c.NodeAt(other); {
	case pod != nil:
		class = w.ClassOfPod(pod)
	case node != nil || slices.Contains(c.Host, other):
		class = w.ClassOfNode(node, slices.Contains(c.Host, other) || node.Name == c.Node, false)
	default:
		class = w.Outside(false)
	}
	a := t.Answer(t.Profile(d, class), protocol, port)
	longest := func(list []netpol.BlockProfile) (best uint32) {
		bits := -1
		for _, b := range list {
			p := netip.PrefixFrom(netip.AddrFrom16(b.Prefix.Addr), int(b.Prefix.Bits))
			// netip tells mapped addresses from IPv6; the kernel does not.
			if sameBits(p.Addr().As16(), other.As16(), int(b.Prefix.Bits)) && int(b.Prefix.Bits) > bits {
				best, bits = b.Profile, int(b.Prefix.Bits)
			}
		}
		return best
	}
	a = a.Merge(t.Answer(longest(t.Blocks[d]), protocol, port))
	if !class.Inside {
		a = a.Merge(t.Answer(longest(t.Outside[d]), protocol, port))
	}
	return a.Decide(t.Isolated[d])
}

func sameBits(a, b [16]byte, bits int) bool {
	for i := range bits {
		if (a[i/8]^b[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

// TestTablesAgreeWithVerdict compares the tables with what policies mean, for policies and conversations of all kinds.
func TestTablesAgreeWithVerdict(t *testing.T) {
	c := netpoltest.Cluster()
	others := []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::1"), netpoltest.Gateway(false)}
	for i := range c.Pods {
		others = append(others, netpoltest.Address(i, false), netpoltest.Address(i, true))
	}
	compiler := netpol.NewCompiler()
	denied, audited := 0, 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := netpoltest.Policies(t, r, 6)
		policies, err := netpol.Parse("test.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		w := compiler.World(policies, c.Namespaces)
		for _, pod := range c.Pods {
			enforced, audit, err := w.Tables(pod)
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range others {
				for _, d := range []netpol.Direction{netpol.Egress, netpol.Ingress} {
					for _, protocol := range netpoltest.Protocols() {
						for _, port := range []uint16{80, 81, 5353} {
							want := c.Judge(policies, d, pod, other, protocol, port)
							if slices.Contains(pod.Addresses, other) || (d == netpol.Ingress && other == netpoltest.Gateway(false)) {
								continue // always allowed, before a table is asked
							}
							got, rule := lookup(w, c, enforced, d, other, protocol, port)
							gotAudit := false
							if !got && audit != nil {
								gotAudit, _ = lookup(w, c, audit, d, other, protocol, port)
							}
							if got != want.Denied || gotAudit != want.Audited {
								t.Fatalf("seed %d: %s/%s %s %v protocol %d port %d: tables say denied %v audited %v, policies %+v\n%s",
									seed, pod.Namespace, pod.Name, d, other, protocol, port, got, gotAudit, want, text)
							}
							if got && (enforced.Rules[rule].Policy != want.Policy || enforced.Rules[rule].Field != want.Rule) {
								t.Fatalf("seed %d: denied by %s %s, want %s %s", seed, enforced.Rules[rule].Policy.ID(), enforced.Rules[rule].Field, want.Policy.ID(), want.Rule)
							}
							if want.Denied {
								denied++
							}
							if want.Audited {
								audited++
							}
						}
					}
				}
			}
		}
		w.Retire()
	}
	if denied == 0 || audited == 0 {
		t.Errorf("%d denied, %d audited: the policies tell nothing apart", denied, audited)
	}
}

// TestManyPolicies holds that a table with 5,000 policies answers as one with few.
func TestManyPolicies(t *testing.T) {
	c := netpoltest.Cluster()
	var policies []*netpol.Policy
	for i := range 5000 {
		p, err := netpol.Parse("test", fmt.Appendf(nil, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p%d, namespace: x},
			spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: n%d}}}], ports: [{port: %d}]}]}}`, i, i%100, 1000+i))
		if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, p...)
	}
	w := netpol.NewCompiler().World(policies, c.Namespaces)
	table, _, err := w.Tables(c.Pods[0])
	if err != nil {
		t.Fatal(err)
	}
	client := &model.Pod{Namespace: "x", Name: "n7", Labels: map[string]string{"pod": "n7"}}
	profile := table.Profile(netpol.Ingress, w.ClassOfPod(client))
	for port, want := range map[uint16]bool{1007: true, 1008: false, 1107: true, 80: false} {
		if denied, _ := table.Answer(profile, unix.IPPROTO_TCP, port).Decide(table.Isolated[netpol.Ingress]); denied == want {
			t.Errorf("port %d: allowed %v, want %v", port, !denied, want)
		}
	}
	if n := len(table.Ports(profile)); n != 50 {
		t.Errorf("the profile has %d ranges, want the 50 of its own policies", n)
	}
}
