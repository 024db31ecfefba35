// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"sync"
)

// Table is one compiled policy: everything that deciding needs, as look-ups. The kernel programs and the fanotify
// back-end read the same tables (internal/enforce loads them into maps as they are), so that what a policy means is
// decided in one place only: here, in Go, before anything happens. A Table is immutable.
//
// Deciding about a path: run Paths over it, which gives its class; Cells[class*Subjects + subject] has the decision
// for each operation. A subject is what a policy's `by` and `parent` can tell apart about the process that acts:
//
//	subject = By[class of its binary]*Parents + Parent[class of its parent's binary]
//
// Deciding about an address: the longest of Prefixes that holds it gives its class (0 when none does); the longest of
// Ports for (direction, class, subject, protocol, port) gives the decision, 0 when no rule speaks of it. The same is
// asked for the classes of the names by which the address was asked for (Names, class | NameClass) and of the
// workloads that listen there (class | PeerClass). Of these decisions an explicit denial (killing before denying before
// auditing) goes before a permission, a permission before Default. A protocol without ports is looked up with port 0.
//
// The classes of Names are shared by all directions; only Egress has decisions about names and peers. A Prefix's class is of
// its direction alone.
type Table struct {
	Policy    *Policy
	Mode      Mode   // of Policy
	Rules     []Rule // by number; Rules[0] is no rule
	Subjects  uint32 // how many subjects are told apart, at least 1
	Parents   uint32 // how many of these by the parent, at least 1
	By        []uint8
	Parent    []uint8 // by path class, like By
	Paths     Matcher
	Cells     []Cell
	HasParent bool // a rule says `parent`: the parent's binary matters

	// Selection is whose processes the policy selects. Select is the part of it that the kernel has to know at exec: it
	// matches the binaries of a selector that names one; no cells when it names none.
	Selection *Selection
	Select    Matcher

	Prefixes []Prefix
	Ports    []Port
	Names    Matcher // over DNS names, lower case, without the final dot
	Peers    []Peer  // Peers[i] is the workload of class i+1
	Default  [Directions]Decision
	// Sockets is the decision about sockets that evade network rules: raw, packet, and families that have none.
	Sockets Decision

	// Privileges[privilege*Subjects + subject]: capabilities by their number, then the operations from PrivilegePtrace on.
	// Empty when the policy says nothing of them.
	Privileges []Decision

	net  *netIndex // for Net, made when it is asked for the first time: the kernel has maps of its own
	once sync.Once
}

// Decision is what is done, and by which rule. The zero Decision allows and names no rule.
//
//	bits 14, 15  Action
//	bits 0 to 13 number of the rule in Table.Rules; with ActAllow: the rule that permits
type Decision uint16

// Action is what a decision does.
type Action uint8

// The actions, weakest first.
const (
	ActAllow Action = iota
	ActAudit        // report, and let it happen
	ActDeny
	ActKill
)

// MaxRules is how many rules a decision can name.
const MaxRules = 1<<14 - 1

// Decide makes a Decision.
func Decide(a Action, rule int) Decision { return Decision(a)<<14 | Decision(rule) }

// Action is what is done.
func (d Decision) Action() Action { return Action(d >> 14) }

// Rule is the number of the rule that decided; 0 for none.
func (d Decision) Rule() int { return int(d & MaxRules) }

// Cell holds the decisions about one path class and subject, by FileOp.
type Cell [FileOps]Decision

// FileOp is an operation on a path.
type FileOp uint8

// The operations on paths, in the order of Cell.
const (
	Exec   FileOp = iota
	Read          // open for reading
	Write         // open for writing, or with creation; truncate by name
	Modify        // rename, unlink, link, mkdir, mknod, symlink, chmod, chown
	FileOps
)

// Direction is where a conversation goes.
type Direction uint8

// The directions.
const (
	Egress  Direction = iota // connect, send: the remote address and port
	Ingress                  // accept, and datagrams that come in: the remote address, the local port
	Listen                   // bind and listen: the local address and port
	Directions
)

// Prefix gives the addresses below it a class. IPv4 is mapped (::ffff:a.b.c.d, 96 bits longer), and a prefix of IPv6 never
// means IPv4: where one holds the mapped addresses, ::ffff:0:0/96 is there too.
type Prefix struct {
	Direction Direction
	Prefix    netip.Prefix
	Class     uint16 // 0 to MaxClass; 0 where a longer prefix takes addresses out of a shorter one
}

// Classes of addresses; those of names and peers are told apart by a bit.
const (
	MaxClass  = 0x3fff
	NameClass = 0x8000
	PeerClass = 0x4000
)

// Port is the decision about a range of ports whose numbers share their first Bits bits.
type Port struct {
	Direction Direction
	Class     uint16 // of the address, a name or a peer; 0: of an address in no Prefix
	Subject   uint16
	Protocol  uint8  // IPPROTO_TCP, UDP, ICMP (also for ICMPv6), SCTP; OtherProtocol
	Port      uint16 // the first of the range
	Bits      uint8  // 0 to 16
	Decision  Decision
}

// OtherProtocol stands for all protocols but TCP, UDP, ICMP, ICMPv6 and SCTP.
const OtherProtocol = 255

// Peer is a workload as the other end of a conversation: the agent tells the tables where it listens.
type Peer struct{ Selector Selector }

// The privileges beyond capabilities, for Table.Privileges.
const (
	PrivilegePtrace = 64 + iota
	PrivilegeBPF
	PrivilegeMount
	PrivilegeModule
	Privileges
)

// Matcher is an automaton over bytes that gives a text its class, whatever the number of patterns: a double array (J. Aoe,
// 1989) with a default for each state. A state is a cell; several cells can be copies of one state. From state s on byte c:
// t = Base[s]+c, of 18 bits without a carry; when there is a cell t and its Edge is c, to t, else to Default[s]. Bases tell
// states apart: no two different states with edges have the same, so that the edge's byte says whose edge it is. It begins
// in state Start. Class 0 is that of texts that no pattern matches. No Cells: every text has class 0.
type Matcher struct {
	Cells   []MatchCell
	Classes int // how many classes there are, 0 included
}

// MatchCell is a state and an edge into it, in one word, which is the kernel's too (VG_CELL_* in bpf/policy.h):
//
//	bits 0 to 15   Class: of a text that ends here
//	bit 16         Final: whatever follows, the class stays
//	bits 17 to 25  Edge: 256 and the byte of the edge that leads to this cell; 0 when none does
//	bits 26 to 43  Base: of the state's own edges; 1 when it has none
//	bits 44 to 60  Default: a state, where all other bytes lead
type MatchCell uint64

const (
	cellFinal    = 1 << 16
	cellEdge     = 17
	cellBase     = 26
	cellDefault  = 44
	cellBaseMask = 1<<(cellDefault-cellBase) - 1
)

// Class is the class of a text that ends here.
func (c MatchCell) Class() uint16 { return uint16(c) }

// Final reports whether the class stays, whatever follows.
func (c MatchCell) Final() bool { return c&cellFinal != 0 }

// leads reports whether it is the edge of a byte that leads here.
func (c MatchCell) leads(b byte) bool { return c>>cellEdge&0x1ff == 0x100|MatchCell(b) }

// edge is the place of the cell to which a byte leads, if one does.
func (c MatchCell) edge(b byte) uint32 { return (uint32(c>>cellBase) + uint32(b)) & cellBaseMask }

// Start is the state in which a Matcher begins; state 0 is none.
const Start = 1

// Class runs the automaton.
func (m *Matcher) Class(text string) uint16 {
	if len(m.Cells) == 0 {
		return 0
	}
	s := uint32(Start)
	for i := 0; i < len(text) && !m.Cells[s].Final(); i++ {
		s = m.Next(s, text[i])
	}
	return m.Cells[s].Class()
}

// Next is the state that a byte leads to; not from one that is final.
func (m *Matcher) Next(state uint32, b byte) uint32 {
	from := m.Cells[state]
	if t := from.edge(b); t < uint32(len(m.Cells)) && m.Cells[t].leads(b) {
		return t
	}
	return uint32(from >> cellDefault)
}

// Subject is the number of the subject that runs binary and was started by parent (both as paths).
func (t *Table) Subject(binary, parent string) uint32 {
	by := uint32(t.By[t.Paths.Class(binary)])
	if !t.HasParent {
		return by * t.Parents
	}
	return by*t.Parents + uint32(t.Parent[t.Paths.Class(parent)])
}

// File is the decision about an operation of a subject on a path.
func (t *Table) File(op FileOp, path string, subject uint32) Decision {
	return t.Cells[uint32(t.Paths.Class(path))*t.Subjects+subject][op]
}
