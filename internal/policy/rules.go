// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// flat is a rule of any section, in the order in which rules of its section are asked: the first that holds decides.
type flat struct {
	Rule
	number int
	by     []string
	parent []string
	rest   bool // stands for what its section's allow list does not have; holds always

	path    string // path rules
	ops     [FileOps]bool
	network *NetworkRule // network rules, nil for rest
	dir     Direction
	caps    []int // privileges by number: capabilities and operations
}

// flatten lists the rules of a policy, Rules[0] included, which is none.
func (p *Policy) flatten() []flat {
	f := flattener{p: p, rules: make([]flat, 1, p.countRules()+8)}
	if s := p.Processes; s != nil {
		f.weaker = s.Weaker
		lists(&f, "processes", s.Deny, s.Allow, s.HasAllow, []model.Operation{model.OpExec}, f.process)
	}
	if s := p.Files; s != nil {
		f.weaker = s.Weaker
		lists(&f, "files", s.Deny, s.Allow, s.HasAllow, []model.Operation{model.OpRead, model.OpWrite, model.OpModify}, f.file)
	}
	for d := Egress; d < Directions; d++ {
		f.direction(d)
	}
	if s := p.Capabilities; s != nil {
		f.weaker = s.Weaker
		lists(&f, "capabilities", s.Deny, s.Allow, s.HasAllow, []model.Operation{model.OpCapability}, f.capability)
	}
	if s := p.Operations; s != nil {
		f.weaker = s.Weaker
		lists(&f, "operations", s.Deny, nil, false, nil, f.operation)
	}
	return f.rules
}

type flattener struct {
	p      *Policy
	rules  []flat
	weaker bool // the section says so
}

func (f *flattener) add(r flat) {
	r.number = len(f.rules)
	r.Weaker = r.Weaker || f.weaker || f.p.Weaker
	f.rules = append(f.rules, r)
}

func lists[R any](f *flattener, section string, deny, allow []R, hasAllow bool, ops []model.Operation, one func(*R) flat) {
	list := func(name string, rules []R, allows bool) {
		for i := range rules {
			r := one(&rules[i])
			r.Field, r.Allows = section+"."+name+"["+strconv.Itoa(i)+"]", allows
			r.Text += who(r.by, r.parent)
			f.add(r)
		}
	}
	list("deny", deny, false)
	list("allow", allow, true)
	if hasAllow {
		words := map[string]string{"processes": "execute", "files": "use a file", "network.egress": "connect or send to",
			"network.ingress": "accept from", "network.listen": "listen on", "capabilities": "use a capability"}
		f.add(flat{rest: true, dir: directionOf(section), Rule: Rule{Field: section + ".allow", Operations: ops,
			Text: words[section] + " that no rule allows"}})
	}
}

func (f *flattener) process(r *ProcessRule) flat {
	return flat{path: r.Path, ops: [FileOps]bool{Exec: true}, by: r.By, parent: r.Parent,
		Rule: Rule{Text: "execute " + r.Path, Operations: []model.Operation{model.OpExec}, Weaker: r.Weaker}}
}

func (f *flattener) file(r *FileRule) flat {
	one := flat{path: r.Path, by: r.By, parent: r.Parent, Rule: Rule{Weaker: r.Weaker}}
	var names []string
	for _, op := range r.Access {
		one.ops[op] = true
		one.Operations = append(one.Operations, op.operation())
		names = append(names, string(op.operation()))
	}
	one.Text = strings.Join(names, ", ") + " " + r.Path
	return one
}

func (f *flattener) capability(r *CapabilityRule) flat {
	one := flat{by: r.By, parent: r.Parent, Rule: Rule{Weaker: r.Weaker, Operations: []model.Operation{model.OpCapability}}}
	var names []string
	for _, c := range r.Caps {
		one.caps = append(one.caps, int(c))
		names = append(names, model.Cap(c).String())
	}
	one.Text = "use " + words(names)
	return one
}

func (f *flattener) operation(r *OperationRule) flat {
	one := flat{by: r.By, parent: r.Parent, Rule: Rule{Text: words(r.Operations), Weaker: r.Weaker}}
	for i, name := range operationNames() {
		if contains(r.Operations, name) {
			one.caps = append(one.caps, PrivilegePtrace+i)
			one.Operations = append(one.Operations, model.Operation(name))
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
	ops := d.operations()
	section := "network." + d.String()
	rest := ops
	if d == Egress { // its allow list also forbids the sockets that know no rules
		rest = append(ops[:len(ops):len(ops)], model.OpSocket)
	}
	lists(f, section, s.Deny, s.Allow, s.HasAllow, rest, func(r *NetworkRule) flat {
		return flat{network: r, dir: d, by: r.By, parent: r.Parent,
			Rule: Rule{Text: r.text(d), Operations: ops, Weaker: r.Weaker}}
	})
	if d == Egress && !s.HasAllow && len(s.Deny) > 0 {
		f.add(flat{dir: Directions, rest: true, Rule: Rule{Field: section + ".deny", Operations: []model.Operation{model.OpSocket},
			Text: "open a raw or packet socket, which rules for connecting do not reach"}})
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

// text is a network rule in words: "connect to 10.0.0.0/8, port 443/tcp".
func (r *NetworkRule) text(d Direction) string {
	t := [...]string{"connect or send to ", "accept from ", "listen on "}[d]
	var ends []string
	for _, c := range r.CIDRs {
		end := c.CIDR
		if len(c.Except) > 0 {
			end += " but not " + words(c.Except)
		}
		ends = append(ends, end)
	}
	ends = append(ends, r.FQDNs...)
	if r.Workload != nil {
		ends = append(ends, r.Workload.String())
	}
	if len(ends) == 0 {
		ends = []string{"any address"}
	}
	t += words(ends)
	var ports []string
	for _, p := range r.Ports {
		ports = append(ports, p.String())
	}
	if len(ports) > 0 {
		t += ", " + words(ports)
	}
	return t
}

func who(by, parent []string) string {
	t := ""
	if len(by) > 0 {
		t += " by " + words(by)
	}
	if len(parent) > 0 {
		t += " started by " + words(parent)
	}
	return t
}

// String is the range as policies write it: "443/tcp".
func (p PortRange) String() string {
	ports := strconv.Itoa(int(p.First)) + "-" + strconv.Itoa(int(p.Last))
	switch {
	case p.First == 0 && p.Last == 65535:
		ports = "*"
	case p.First == p.Last:
		ports = strconv.Itoa(int(p.First))
	}
	return ports + "/" + protocolName(p.Protocol)
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
