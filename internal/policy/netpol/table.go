// SPDX-License-Identifier: Apache-2.0

package netpol

import "github.com/vigie-io/vigie/internal/model"

// Table is everything that deciding about a pod needs, as look-ups; pods that the same policies select, and whose ports have
// the same names, share one. The kernel programs read the same (internal/enforce/pods). What it says does not depend on how
// many policies there are. A Table is immutable but for what it remembers of its own making.
//
// Who the other end is, is told by two numbers: its Class, which all pods and nodes share that no policy can tell apart,
// and the profile that the longest of Blocks has that holds its address. A profile gives, for a protocol and a port, an
// Answer. The answers of
//
//	Profile(direction, class)               Base of the direction where that has none of its own
//	the longest of Blocks for the address
//	the longest of Outside for the address  of what is no pod and no node (class 0)
//	the profiles of the address's names     in Egress
//
// are one by Merge, and Decide says what it means.
type Table struct {
	Rules []RuleRef // by number; Rules[0] is none
	// Isolated is the rule that denies what no rule allows; 0 where no policy isolates the pod.
	Isolated [Directions]uint32
	// Speaks: some policy says something of the direction.
	Speaks [Directions]bool
	Base   [Directions]uint32 // profile; 0: none
	// Blocks and Outside give addresses profiles. IPv4 is mapped, 96 bits longer, and a prefix of IPv6 never means IPv4.
	Blocks, Outside [Directions][]BlockProfile
	// Domains are the patterns of names that Egress rules have.
	Domains []DomainProfile

	Policies []*Policy // that made it, by precedence

	indexes  [Directions]*ruleIndex
	ports    []model.PodPort // of the pod, that Ingress rules name
	profiles [][]PortAnswer  // by number; [0] is none
	known    map[string]uint32
}

// RuleRef names a rule.
type RuleRef struct {
	Policy *Policy
	// Field is "spec.ingress[0]", or the direction's name for what no rule allows.
	Field     string
	Direction Direction
	Action    Action
}

// BlockProfile gives the addresses below a prefix a profile; 0: none, where they are taken out of a shorter one.
type BlockProfile struct {
	Prefix  Prefix
	Profile uint32
}

// Prefix is a prefix of mapped addresses.
type Prefix struct {
	Addr [16]byte
	Bits uint8
}

// DomainProfile gives the addresses of names a profile.
type DomainProfile struct {
	Pattern string
	Profile uint32
}

// PortAnswer is the answer for a range of ports.
type PortAnswer struct {
	Protocol    uint8
	First, Last uint16
	Answer      Answer
}

// Answer is the first rule that speaks, of each tier: 21 bits a tier, Admin the lowest. Each is number of the rule << 2 |
// Action; 0 is none. Rules are numbered in the order in which they are asked, so the lower number goes first.
type Answer uint64

const answerBits = 21

// MaxRules is how many rules a table can have.
const MaxRules = 1<<(answerBits-2) - 1

func answerOf(t Tier, rule uint32, a Action) Answer {
	return Answer(rule<<2|uint32(a)) << (answerBits * t)
}

func (a Answer) of(t Tier) uint32 { return uint32(a>>(answerBits*t)) & (1<<answerBits - 1) }

// Merge is what two answers say together.
func (a Answer) Merge(b Answer) (out Answer) {
	for t := range Tiers {
		x, y := a.of(t), b.of(t)
		if y != 0 && (x == 0 || y < x) {
			x = y
		}
		out |= Answer(x) << (answerBits * t)
	}
	return out
}

// Decide says whether a conversation is denied, and by which rule; 0 for none. isolated is the table's of the direction.
func (a Answer) Decide(isolated uint32) (denied bool, rule uint32) {
	for t := range Tiers {
		if x := a.of(t); x != 0 && Action(x&3) != Pass {
			return Action(x&3) == Deny, x >> 2
		}
		if t == Namespace && isolated != 0 {
			return true, isolated
		}
	}
	return false, 0
}

// Ports are the answers of a profile, by protocol and port; what is in none has none.
func (t *Table) Ports(profile uint32) []PortAnswer { return t.profiles[profile] }

// Answer looks a port up in a profile.
func (t *Table) Answer(profile uint32, protocol uint8, port uint16) Answer {
	for _, p := range t.profiles[profile] {
		if p.Protocol == protocol && p.First <= port && port <= p.Last {
			return p.Answer
		}
	}
	return 0
}
