// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"iter"
	"slices"
	"strconv"

	"github.com/vigie-io/vigie/internal/model"
)

// Rule is what a status and a verdict say of a rule. What can be told of the policy when somebody asks is not kept: a host
// can have tens of thousands of rules.
type Rule struct {
	// Operations are those that the rule decides about.
	Operations Operations
	index      uint16 // in its list, or restOf
	list       ruleList
	// Weaker: it may be carried by less than it asks for.
	Weaker bool
	// Allows: it permits; what it does not carry out needs no rung.
	Allows bool
}

// restOf in the place of an index stands for what a list does not have.
const restOf = 1<<16 - 1

// Field is the rule's place in the policy: "files.deny[0]", "processes.allow" for what its list does not have; empty for no
// rule.
func (r Rule) Field() string {
	name := ruleLists[r.list]
	if r.rest() || r.list == noList {
		return name
	}
	return name + "[" + strconv.Itoa(int(r.index)) + "]"
}

// Denies reports whether the rule stands in a list of what is denied.
func (r Rule) Denies() bool { return !r.Allows && !r.rest() }

// rest: it stands for what its list does not have, and always holds.
func (r Rule) rest() bool { return r.index == restOf }

// Operations is a set of operations, by their places in model.Operations.
type Operations uint32

// All goes through the set in the order of model.Operations.
func (s Operations) All() iter.Seq[model.Operation] {
	return func(yield func(model.Operation) bool) {
		for i, op := range model.Operations() {
			if s>>i&1 != 0 && !yield(op) {
				return
			}
		}
	}
}

func operationsOf(ops ...model.Operation) (s Operations) {
	for i, op := range model.Operations() {
		if slices.Contains(ops, op) {
			s |= 1 << i
		}
	}
	return s
}

// ruleList is a list of rules in a policy. The list of what a section allows follows the one of what it denies.
type ruleList uint8

const (
	noList ruleList = iota // of Rules[0], which is no rule
	processesDeny
	processesAllow
	filesDeny
	filesAllow
	egressDeny
	egressAllow
	ingressDeny
	ingressAllow
	listenDeny
	listenAllow
	capabilitiesDeny
	capabilitiesAllow
	operationsDeny
)

var ruleLists = [...]string{"", "processes.deny", "processes.allow", "files.deny", "files.allow", "network.egress.deny", "network.egress.allow",
	"network.ingress.deny", "network.ingress.allow", "network.listen.deny", "network.listen.allow", "capabilities.deny", "capabilities.allow",
	"operations.deny"}

func denyOf(d Direction) ruleList  { return egressDeny + 2*ruleList(d) }
func allowOf(d Direction) ruleList { return denyOf(d) + 1 }

// flat is a rule of any section, in the order in which rules of its section are asked: the first that holds decides.
type flat struct {
	Rule
	by     []string
	parent []string

	path    string // path rules
	ops     [FileOps]bool
	network *NetworkRule // network rules
	dir     Direction    // of these
	caps    []int        // privileges by number: capabilities and operations
}

// flatten lists the rules of a policy, Rules[0] included, which is none.
func (p *Policy) flatten() []flat {
	f := flattener{p: p, rules: make([]flat, 1, p.countRules()+8)}
	if s := p.Processes; s != nil {
		f.weaker = s.Weaker
		lists(&f, processesDeny, s.Deny, s.Allow, s.HasAllow, operationsOf(model.OpExec), f.process)
	}
	if s := p.Files; s != nil {
		f.weaker = s.Weaker
		lists(&f, filesDeny, s.Deny, s.Allow, s.HasAllow, operationsOf(model.OpRead, model.OpWrite, model.OpModify), f.file)
	}
	for d := Egress; d < Directions; d++ {
		f.direction(d)
	}
	if s := p.Capabilities; s != nil {
		f.weaker = s.Weaker
		lists(&f, capabilitiesDeny, s.Deny, s.Allow, s.HasAllow, operationsOf(model.OpCapability), f.capability)
	}
	if s := p.Operations; s != nil {
		f.weaker = s.Weaker
		lists(&f, operationsDeny, s.Deny, nil, false, 0, f.operation)
	}
	return f.rules
}

type flattener struct {
	p      *Policy
	rules  []flat
	weaker bool // the section says so
}

func (f *flattener) add(r flat) {
	r.Weaker = r.Weaker || f.weaker || f.p.Weaker
	f.rules = append(f.rules, r)
}

func lists[R any](f *flattener, denies ruleList, deny, allow []R, hasAllow bool, ops Operations, one func(*R) flat) {
	for i := range deny {
		r := one(&deny[i])
		r.list, r.index = denies, uint16(i)
		f.add(r)
	}
	for i := range allow {
		r := one(&allow[i])
		r.list, r.index, r.Allows = denies+1, uint16(i), true
		f.add(r)
	}
	if hasAllow {
		f.add(flat{Rule: Rule{list: denies + 1, index: restOf, Operations: ops}})
	}
}

func (f *flattener) process(r *ProcessRule) flat {
	return flat{path: r.Path, ops: [FileOps]bool{Exec: true}, by: r.By, parent: r.Parent,
		Rule: Rule{Operations: operationsOf(model.OpExec), Weaker: r.Weaker}}
}

func (f *flattener) file(r *FileRule) flat {
	one := flat{path: r.Path, by: r.By, parent: r.Parent, Rule: Rule{Weaker: r.Weaker}}
	for _, op := range r.Access {
		one.ops[op] = true
		one.Operations |= 1 << op // the first of model.Operations
	}
	return one
}

func (f *flattener) capability(r *CapabilityRule) flat {
	one := flat{by: r.By, parent: r.Parent, Rule: Rule{Weaker: r.Weaker, Operations: operationsOf(model.OpCapability)}}
	for _, c := range r.Caps {
		one.caps = append(one.caps, int(c))
	}
	return one
}

func (f *flattener) operation(r *OperationRule) flat {
	one := flat{by: r.By, parent: r.Parent, Rule: Rule{Weaker: r.Weaker}}
	for i, name := range operationNames() {
		if contains(r.Operations, name) {
			one.caps = append(one.caps, PrivilegePtrace+i)
			one.Operations |= operationsOf(model.Operation(name))
		}
	}
	return one
}

func (f *flattener) direction(d Direction) {
	s := f.p.direction(d)
	if s == nil {
		return
	}
	f.weaker = s.Weaker
	ops := operationsOf(d.operations()...)
	rest := ops
	if d == Egress { // its allow list also forbids the sockets that know no rules
		rest |= operationsOf(model.OpSocket)
	}
	lists(f, denyOf(d), s.Deny, s.Allow, s.HasAllow, rest, func(r *NetworkRule) flat {
		return flat{network: r, dir: d, by: r.By, parent: r.Parent, Rule: Rule{Operations: ops, Weaker: r.Weaker}}
	})
	if d == Egress && !s.HasAllow && len(s.Deny) > 0 {
		f.add(flat{Rule: Rule{list: egressDeny, index: restOf, Operations: operationsOf(model.OpSocket)}})
	}
}

func directionOf(section string) Direction {
	for d := Egress; d < Directions; d++ {
		if section == "network."+d.String() {
			return d
		}
	}
	return Directions
}

// String is the direction's name in policies.
func (d Direction) String() string {
	return [...]string{"egress", "ingress", "listen", "none"}[min(d, Directions)]
}

func (d Direction) operations() []model.Operation {
	switch d {
	case Egress:
		return []model.Operation{model.OpConnect, model.OpSend, model.OpReceive}
	case Ingress:
		return []model.Operation{model.OpAccept}
	default:
		return []model.Operation{model.OpBind, model.OpListen}
	}
}

func (o FileOp) operation() model.Operation {
	return [...]model.Operation{model.OpExec, model.OpRead, model.OpWrite, model.OpModify}[o]
}
