// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse reads the WorkloadPolicy documents of a YAML stream. source is what errors call it: the name of the file. Either
// all of it is right, or nothing is returned but Errors, which has everything that is wrong, with its place. A stream
// without documents gives no policies.
func Parse(source string, stream []byte) ([]*Policy, error) {
	r := &report{source: source}
	if len(stream) > maxSource {
		r.add(1, 1, "", fmt.Sprintf("is %d bytes long, at most %d are read: split it", len(stream), maxSource))
		return nil, r.err()
	}
	var policies []*Policy
	lines := map[string]int{}
	s := policySchema()
	c := &checker{report: r}
	for _, part := range Split(string(stream)) {
		c.line = part.Line - 1
		v := c.decode(part.Text, s)
		if v == nil {
			continue
		}
		p := c.policy(v, part.Text)
		name := v.get("metadata").get("name")
		if line := lines[p.Name]; line != 0 {
			c.at(name.node, name.path, fmt.Sprintf("%q is also the name of the policy in line %d: give each its own", p.Name, line))
		} else {
			lines[p.Name] = c.line + name.node.Line
		}
		policies = append(policies, p)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return policies, nil
}

// ParseNode is Parse of one document that the YAML parser has read already: root is what is at its top, text what it was
// read from, line the place of that in the source, from 1.
func ParseNode(source string, line int, text string, root *yaml.Node) (*Policy, error) {
	c := &checker{report: &report{source: source}, line: line - 1}
	if len(text) > maxSource {
		c.add(line, 1, "", fmt.Sprintf("is %d bytes long, at most %d are read: split it", len(text), maxSource))
		return nil, c.err()
	}
	v := c.top(root, policySchema())
	if v == nil {
		return nil, c.err()
	}
	p := c.policy(v, text)
	return p, c.err()
}

// policy makes the policy of a checked document.
func (c *checker) policy(v *value, text string) *Policy {
	p := build(v)
	p.Source = text
	if n := p.countRules(); n > maxRules {
		c.at(v.node, "spec", fmt.Sprintf("has %d rules, at most %d are possible: split the policy", n, maxRules))
	}
	return p
}

// build makes a policy of a checked document.
func build(v *value) *Policy {
	meta, spec := v.get("metadata"), v.get("spec")
	p := &Policy{
		Name:        meta.get("name").text,
		Selector:    buildSelector(spec.get("selector")),
		Mode:        Mode(spec.textOr("mode", string(Audit))),
		OnDenied:    OnDenied(spec.textOr("onDenied", string(Deny))),
		Weaker:      spec.accepts(),
		OnAgentExit: OnAgentExit(spec.textOr("onAgentExit", string(Release))),
		OnTimeout:   OnTimeout(spec.textOr("onTimeout", string(TimeoutAllow))),
	}
	if labels := meta.get("labels"); labels != nil {
		p.Labels = labels.labels
	}
	if s := spec.get("processes"); s != nil {
		p.Processes = &ProcessRules{HasAllow: s.has("allow"), Weaker: s.accepts(),
			Allow: rules(s, "allow", buildProcess), Deny: rules(s, "deny", buildProcess)}
	}
	if s := spec.get("files"); s != nil {
		p.Files = &FileRules{HasAllow: s.has("allow"), Weaker: s.accepts(),
			Allow: rules(s, "allow", buildFile), Deny: rules(s, "deny", buildFile)}
	}
	if s := spec.get("network"); s != nil {
		p.Network = &NetworkRules{Egress: buildDirection(s.get("egress"), "to"),
			Ingress: buildDirection(s.get("ingress"), "from"), Listen: buildDirection(s.get("listen"), "on")}
	}
	if s := spec.get("capabilities"); s != nil {
		p.Capabilities = &CapabilityRules{HasAllow: s.has("allow"), Weaker: s.accepts(),
			Allow: rules(s, "allow", buildCapability), Deny: rules(s, "deny", buildCapability)}
	}
	if s := spec.get("operations"); s != nil {
		p.Operations = &OperationRules{Weaker: s.accepts(), Deny: rules(s, "deny", func(v *value) OperationRule {
			return OperationRule{Operations: v.texts("ops"), By: v.texts("by"), Parent: v.texts("parent"), Weaker: v.accepts()}
		})}
	}
	return p
}

func (v *value) textOr(name, otherwise string) string {
	if f := v.get(name); f != nil {
		return f.text
	}
	return otherwise
}

// accepts says whether the rule or policy says weaker: accept.
func (v *value) accepts() bool { return v.textOr("weaker", "refuse") == "accept" }

func rules[R any](section *value, name string, build func(*value) R) []R {
	list := section.get(name)
	if list == nil {
		return nil
	}
	out := make([]R, len(list.items))
	for i, item := range list.items {
		out[i] = build(item)
	}
	return out
}

func buildSelector(v *value) Selector {
	s := Selector{Unit: v.textOr("unit", ""), Container: v.textOr("container", ""), User: v.textOr("user", ""), Binary: v.textOr("binary", "")}
	if labels := v.get("matchLabels"); labels != nil {
		s.MatchLabels = labels.labels
	}
	return s
}

func buildProcess(v *value) ProcessRule {
	return ProcessRule{Path: v.get("path").text, By: v.texts("by"), Parent: v.texts("parent"), Weaker: v.accepts()}
}

func buildFile(v *value) FileRule {
	r := FileRule{Path: v.get("path").text, By: v.texts("by"), Parent: v.texts("parent"), Weaker: v.accepts()}
	access := v.texts("access")
	for op := Read; op <= Modify; op++ {
		if len(access) == 0 || contains(access, "all") || contains(access, string(op.operation())) {
			r.Access = append(r.Access, op)
		}
	}
	return r
}

func buildDirection(v *value, end string) *DirectionRules {
	if v == nil {
		return nil
	}
	one := func(v *value) NetworkRule {
		to := v.get(end)
		r := NetworkRule{FQDNs: to.texts("fqdn"), By: v.texts("by"), Parent: v.texts("parent"), Weaker: v.accepts()}
		except := to.texts("except")
		for _, cidr := range append(to.texts("cidr"), to.texts("cidrs")...) {
			var below []string
			for _, e := range except {
				if inner, err := parseCIDR(e); err == nil && within(inner, []string{cidr}) {
					below = append(below, e)
				}
			}
			r.CIDRs = append(r.CIDRs, Prefixed{CIDR: cidr, Except: below})
		}
		if w := to.get("workload"); w != nil {
			s := buildSelector(w)
			r.Workload = &s
		}
		for _, text := range v.texts("ports") {
			if ports, err := parsePorts(text); err == nil { // checked
				r.Ports = append(r.Ports, ports)
			}
		}
		return r
	}
	return &DirectionRules{HasAllow: v.has("allow"), Weaker: v.accepts(), Allow: rules(v, "allow", one), Deny: rules(v, "deny", one)}
}

func buildCapability(v *value) CapabilityRule {
	r := CapabilityRule{By: v.texts("by"), Parent: v.texts("parent"), Weaker: v.accepts()}
	for _, name := range v.texts("caps") {
		if c, ok := parseCapability(name); ok { // checked
			r.Caps = append(r.Caps, c)
		}
	}
	return r
}

// within says whether a prefix is a part of one of the CIDRs.
func within(inner netip.Prefix, cidrs []string) bool {
	for _, text := range cidrs {
		if outer, err := parseCIDR(text); err == nil && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr()) {
			return true
		}
	}
	return false
}

func (p *Policy) countRules() int {
	n := 0
	if s := p.Processes; s != nil {
		n += len(s.Allow) + len(s.Deny)
	}
	if s := p.Files; s != nil {
		n += len(s.Allow) + len(s.Deny)
	}
	if s := p.Network; s != nil {
		for _, d := range []*DirectionRules{s.Egress, s.Ingress, s.Listen} {
			if d != nil {
				n += len(d.Allow) + len(d.Deny)
			}
		}
	}
	if s := p.Capabilities; s != nil {
		n += len(s.Allow) + len(s.Deny)
	}
	if s := p.Operations; s != nil {
		n += len(s.Deny)
	}
	return n
}

// words joins what a rule names.
func words(list []string) string { return strings.Join(list, " or ") }
