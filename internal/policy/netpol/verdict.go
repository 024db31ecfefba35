// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// Conversation is what somebody begins: its addresses are those that are on its packets when a destination's address has
// been translated.
type Conversation struct {
	Source, Destination netip.Addr
	Protocol            uint8 // IPPROTO_*
	Port                uint16
}

// Verdict says whether a conversation may be, and why.
type Verdict struct {
	Denied bool
	// Audited: it is allowed, and would not be if the policies that only watch were enforced.
	Audited   bool
	Direction Direction
	// Policy and Rule decided; nil when nothing speaks of it. Rule is the field, or the direction's name where a policy
	// isolates the pod and no rule allows it.
	Policy *Policy
	Rule   string
}

// Verdict is what policies say of a conversation: of its beginning where the source is a pod, then of its end. It is the
// meaning of policies; Compile makes the same as look-ups.
func (c *Cluster) Verdict(policies []*Policy, v Conversation) Verdict {
	out := Verdict{}
	for _, d := range []Direction{Egress, Ingress} {
		pod, other := c.PodAt(v.Source), v.Destination
		if d == Ingress {
			pod, other = c.PodAt(v.Destination), v.Source
		}
		if pod == nil {
			continue
		}
		one := c.judgeWithAudit(policies, d, pod, other, v)
		if one.Denied {
			return one
		}
		if one.Audited || (out.Policy == nil && !out.Audited) {
			out = one
		}
	}
	return out
}

// Judge is Verdict of one pod's end.
func (c *Cluster) Judge(policies []*Policy, d Direction, pod *model.Pod, other netip.Addr, protocol uint8, port uint16) Verdict {
	return c.judgeWithAudit(policies, d, pod, other, Conversation{Protocol: protocol, Port: port})
}

func (c *Cluster) judgeWithAudit(policies []*Policy, d Direction, pod *model.Pod, other netip.Addr, v Conversation) Verdict {
	if c.always(d, pod, other, v) {
		return Verdict{Direction: d}
	}
	enforced := slices.DeleteFunc(slices.Clone(policies), func(p *Policy) bool { return p.Mode == policy.Audit })
	out := c.judge(enforced, d, pod, other, v)
	if out.Denied || len(enforced) == len(policies) {
		return out
	}
	if all := c.judge(policies, d, pod, other, v); all.Denied {
		all.Denied, all.Audited = false, true
		return all
	}
	return out
}

// always is what no policy is asked about: other protocols, a pod and itself, and what comes from its own node.
func (c *Cluster) always(d Direction, pod *model.Pod, other netip.Addr, v Conversation) bool {
	switch v.Protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP:
	default:
		return true
	}
	return pod.HostNetwork || other.IsLoopback() || slices.Contains(pod.Addresses, other) || (d == Ingress && c.host(other))
}

func (c *Cluster) judge(policies []*Policy, d Direction, pod *model.Pod, other netip.Addr, v Conversation) Verdict {
	selected := slices.DeleteFunc(slices.Clone(policies), func(p *Policy) bool { return !p.Subject.Selects(pod, c.namespace(pod.Namespace)) })
	slices.SortStableFunc(selected, func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.ID(), b.ID()))
	})
	find := func(t Tier, of Action) (*Policy, *Rule) {
		for _, p := range selected {
			for i := range p.Directions[d].List {
				r := &p.Directions[d].List[i]
				if p.Tier == t && (of == 0 || r.Action == of) && c.matches(r, d, pod, other, v) {
					return p, r
				}
			}
		}
		return nil, nil
	}
	decided := func(p *Policy, r *Rule) Verdict {
		return Verdict{Denied: r.Action == Deny, Direction: d, Policy: p, Rule: r.Field}
	}
	if p, r := find(Admin, 0); r != nil && r.Action != Pass {
		return decided(p, r)
	}
	for _, action := range []Action{Deny, Allow} {
		if p, r := find(Namespace, action); r != nil {
			return decided(p, r)
		}
	}
	for _, p := range selected {
		if p.Tier == Namespace && p.Directions[d].Isolates {
			return Verdict{Denied: true, Direction: d, Policy: p, Rule: d.String()}
		}
	}
	if p, r := find(Baseline, 0); r != nil && r.Action != Pass {
		return decided(p, r)
	}
	return Verdict{Direction: d}
}

func (c *Cluster) matches(r *Rule, d Direction, pod *model.Pod, other netip.Addr, v Conversation) bool {
	destination := pod
	if d == Egress {
		destination = c.PodAt(other)
	}
	if r.Peers == nil {
		return r.hasPort(destination, v)
	}
	return slices.ContainsFunc(r.Peers, func(p Peer) bool {
		to := destination
		if d == Egress && (p.Block != nil || p.Domain != "") {
			to = nil // ports have names where pods are named
		}
		return c.isPeer(p, d, pod, other) && r.hasPort(to, v)
	})
}

func (r *Rule) hasPort(destination *model.Pod, v Conversation) bool {
	return r.Ports == nil || slices.ContainsFunc(r.Ports, func(p Port) bool { return p.matches(destination, v.Protocol, v.Port) })
}

// matches reports whether a port is meant; a name means what the destination's containers call so.
func (p Port) matches(destination *model.Pod, protocol uint8, port uint16) bool {
	if p.Protocol != 0 && p.Protocol != protocol {
		return false
	}
	if p.Name == "" {
		return p.First <= port && port <= p.Last
	}
	return destination != nil && slices.Contains(destination.Ports, model.PodPort{Name: p.Name, Port: port, Protocol: protocol})
}

func (c *Cluster) isPeer(p Peer, d Direction, pod *model.Pod, other netip.Addr) bool {
	it, node := c.PodAt(other), c.NodeAt(other)
	inside := it != nil || node != nil || c.host(other)
	switch {
	case p.Pods != nil:
		return it != nil && p.Pods.Selects(it, c.namespace(it.Namespace))
	case p.Nodes != nil:
		return node != nil && p.Nodes.Matches(node.Labels)
	case p.Block != nil:
		return p.Block.contains(other) && (!p.Block.Outside || !inside)
	case p.Domain != "":
		return d == Egress && c.Names != nil && slices.ContainsFunc(c.Names(pod, other), func(n string) bool { return policy.MatchName(p.Domain, n) })
	}
	switch p.Entity {
	case EntityAll:
		return true
	case EntityCluster:
		return inside
	case EntityHost:
		return c.host(other)
	case EntityRemoteNode:
		return node != nil && !c.host(other)
	case EntityWorld:
		return !inside
	case EntityKubeAPIServer:
		return it == nil && c.apiServer(other)
	}
	return false
}

func (b *Block) contains(a netip.Addr) bool {
	return b.Prefix.Contains(a) && !slices.ContainsFunc(b.Except, func(e netip.Prefix) bool { return e.Contains(a) })
}
