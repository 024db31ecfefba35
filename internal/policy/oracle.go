// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"strconv"

	"github.com/vigie-io/vigie/internal/model"
)

// Subject is who acts, as far as policies tell: the program that the process runs and its parent's, as paths. For exec it
// is the program that calls exec, not the one that is begun. A memfd's path is "/memfd:NAME".
type Subject struct{ Binary, Parent string }

// Access is what is tried. Operation says which of the others count.
type Access struct {
	Operation model.Operation
	Path      string // exec, read, write, modify; of a rename or link with two names, each is an Access

	// Protocol is IPPROTO_* of connect, send, receive, accept, bind and listen. Address is the remote one, for bind and
	// listen the local one; Port is the remote one for connect, send and receive, else the local one; 0 where the
	// protocol has none.
	Protocol uint8
	Address  netip.Addr
	Port     uint16
	Names    []string          // connect, send, receive: the DNS names by which the workload asked for Address
	Peers    []*model.Workload // connect, send, receive: who listens there

	Capability model.Cap // capability
}

// Judgement is what a policy says of an access. Rule is the field of the rule that decided, "files.allow" when its list
// does not have what was tried; empty when no rule speaks of it, which allows.
type Judgement struct {
	Action Action
	Rule   string
}

// Judge says what a policy means. It reads the rules one by one and nothing else: tables and kernel programs are held to
// it. It does not ask whether the policy selects the process.
//
// In each section the rules that deny go before those that allow, and an allow list denies what it does not name.
func (p *Policy) Judge(s Subject, a Access) Judgement {
	switch a.Operation {
	case model.OpExec:
		if p.Processes != nil {
			return judge(p, "processes", p.Processes.Deny, p.Processes.Allow, p.Processes.HasAllow, func(r *ProcessRule) bool {
				return MatchPath(r.Path, a.Path) && s.is(r.By, r.Parent)
			})
		}
	case model.OpRead, model.OpWrite, model.OpModify:
		if p.Files != nil {
			return judge(p, "files", p.Files.Deny, p.Files.Allow, p.Files.HasAllow, func(r *FileRule) bool {
				return r.covers(a.Operation) && MatchPath(r.Path, a.Path) && s.is(r.By, r.Parent)
			})
		}
	case model.OpConnect, model.OpSend, model.OpReceive:
		return p.judgeNetwork(Egress, s, a)
	case model.OpAccept:
		return p.judgeNetwork(Ingress, s, a)
	case model.OpBind, model.OpListen:
		return p.judgeNetwork(Listen, s, a)
	case model.OpSocket:
		return p.judgeSocket()
	case model.OpCapability:
		if p.Capabilities != nil {
			return judge(p, "capabilities", p.Capabilities.Deny, p.Capabilities.Allow, p.Capabilities.HasAllow, func(r *CapabilityRule) bool {
				return r.covers(a.Capability) && s.is(r.By, r.Parent)
			})
		}
	case model.OpPtrace, model.OpBPF, model.OpMount, model.OpModule:
		if p.Operations != nil {
			return judge(p, "operations", p.Operations.Deny, nil, false, func(r *OperationRule) bool {
				return contains(r.Operations, string(a.Operation)) && s.is(r.By, r.Parent)
			})
		}
	}
	return Judgement{}
}

// judge finds the first rule of a section that holds.
func judge[R any](p *Policy, section string, deny, allow []R, hasAllow bool, holds func(*R) bool) Judgement {
	for i := range deny {
		if holds(&deny[i]) {
			return Judgement{p.denial(), section + ".deny[" + strconv.Itoa(i) + "]"}
		}
	}
	for i := range allow {
		if holds(&allow[i]) {
			return Judgement{ActAllow, section + ".allow[" + strconv.Itoa(i) + "]"}
		}
	}
	if hasAllow {
		return Judgement{p.denial(), section + ".allow"}
	}
	return Judgement{}
}

func (p *Policy) judgeNetwork(d Direction, s Subject, a Access) Judgement {
	rules := p.direction(d)
	if rules == nil {
		return Judgement{}
	}
	return judge(p, "network."+d.String(), rules.Deny, rules.Allow, rules.HasAllow, func(r *NetworkRule) bool {
		return r.leadsTo(a) && r.coversPort(a.Protocol, a.Port) && s.is(r.By, r.Parent)
	})
}

// judgeSocket is about sockets that could go round the rules for connecting: where there are such rules, there are no
// such sockets.
func (p *Policy) judgeSocket() Judgement {
	rules := p.direction(Egress)
	switch {
	case rules == nil || (!rules.HasAllow && len(rules.Deny) == 0):
		return Judgement{}
	case rules.HasAllow:
		return Judgement{p.denial(), "network.egress.allow"}
	default:
		return Judgement{p.denial(), "network.egress.deny"}
	}
}

// denial is what the policy does about what is not allowed.
func (p *Policy) denial() Action {
	switch {
	case p.Mode != Enforce:
		return ActAudit
	case p.OnDenied == Kill:
		return ActKill
	default:
		return ActDeny
	}
}

// is reports whether the subject is who a rule names; a rule that names nobody means everybody.
func (s Subject) is(by, parent []string) bool {
	return runs(by, s.Binary) && runs(parent, s.Parent)
}

func runs(globs []string, binary string) bool {
	for _, g := range globs {
		if MatchPath(g, binary) {
			return true
		}
	}
	return len(globs) == 0
}

func (r *FileRule) covers(o model.Operation) bool {
	for _, op := range r.Access {
		if op.operation() == o {
			return true
		}
	}
	return false
}

func (r *CapabilityRule) covers(c model.Cap) bool {
	for _, one := range r.Caps {
		if model.Cap(one) == c {
			return true
		}
	}
	return false
}

// leadsTo reports whether the other end is one that the rule names.
func (r *NetworkRule) leadsTo(a Access) bool {
	switch {
	case len(r.CIDRs) > 0:
		for _, c := range r.CIDRs {
			if c.holds(a.Address) {
				return true
			}
		}
		return false
	case len(r.FQDNs) > 0:
		for _, pattern := range r.FQDNs {
			for _, name := range a.Names {
				if MatchName(pattern, name) {
					return true
				}
			}
		}
		return false
	case r.Workload != nil:
		for _, w := range a.Peers {
			if r.Workload.SelectsWorkload(w) {
				return true
			}
		}
		return false
	}
	return true
}

// holds reports whether an address is below the CIDR and below none of its exceptions. A prefix of IPv6 holds no IPv4
// address, also not as ::ffff:a.b.c.d.
func (c Prefixed) holds(address netip.Addr) bool {
	address = address.Unmap()
	inside := func(text string) bool {
		p, err := parseCIDR(text)
		return err == nil && p.Contains(address)
	}
	for _, e := range c.Except {
		if inside(e) {
			return false
		}
	}
	return inside(c.CIDR)
}

// coversPort reports whether the rule is about a port. A protocol without ports is only covered by all ports.
func (r *NetworkRule) coversPort(protocol uint8, port uint16) bool {
	if protocol == icmpv6 {
		protocol = icmp
	}
	for _, p := range r.Ports {
		all := p.First == 0 && p.Last == 65535
		if (p.Protocol == 0 || p.Protocol == protocol) && (all || (hasPorts(protocol) && p.First <= port && port <= p.Last)) {
			return true
		}
	}
	return len(r.Ports) == 0
}

// Protocol numbers (IANA).
const (
	icmp   = 1
	tcp    = 6
	udp    = 17
	icmpv6 = 58
	sctp   = 132
)

func hasPorts(protocol uint8) bool { return protocol == tcp || protocol == udp || protocol == sctp }

func (p *Policy) direction(d Direction) *DirectionRules {
	switch {
	case p.Network == nil:
		return nil
	case d == Egress:
		return p.Network.Egress
	case d == Ingress:
		return p.Network.Ingress
	default:
		return p.Network.Listen
	}
}
