// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/enforce/pods"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/server"
)

// networkPolicies are the policies of whole pods that come by files and the API.
type networkPolicies struct{ pods *podPolicies } // nil: no pods are known

// networkPolicy is one of them.
type networkPolicy struct{ *netpol.Policy }

// Name implements parsedPolicy.
func (p networkPolicy) Name() string { return p.ID() }

// Mode implements parsedPolicy.
func (p networkPolicy) Mode() string { return string(p.Policy.Mode) }

// WithMode implements parsedPolicy.
func (p networkPolicy) WithMode(mode string) (parsedPolicy, error) {
	return networkPolicy{p.Policy.WithMode(policy.Mode(mode))}, nil
}

// Kinds implements policyKind.
func (networkPolicies) Kinds() []string {
	var out []string
	for _, k := range netpol.Kinds() {
		out = append(out, string(k))
	}
	return out
}

// Parse implements policyKind.
func (networkPolicies) Parse(d *Document) (parsedPolicy, error) {
	p, err := netpol.ParseNode(d.Source, d.Line, d.Text, d.root)
	if err != nil {
		return nil, err
	}
	return networkPolicy{p}, nil
}

// Check implements policyKind.
func (k networkPolicies) Check(parsedPolicy) error {
	if k.pods == nil {
		return server.Refuse(server.Precondition, errNoCluster)
	}
	return nil
}

// Apply implements policyKind.
func (k networkPolicies) Apply(ctx context.Context, list []parsedPolicy) error {
	if k.pods == nil {
		return nil
	}
	files := make([]*netpol.Policy, len(list))
	for i, one := range list {
		files[i] = one.(networkPolicy).Policy
	}
	k.pods.mu.Lock()
	defer k.pods.mu.Unlock()
	before := k.pods.files
	k.pods.files = files
	if err := k.pods.bring(ctx); err != nil {
		k.pods.files = before
		return err
	}
	return nil
}

// Describer implements policyKind.
func (k networkPolicies) Describer() func(parsedPolicy, *server.Policy) {
	describe := k.pods.describer()
	return func(one parsedPolicy, d *server.Policy) { describe(one.(networkPolicy).Policy, d) }
}

// describer looks once at how policies are doing, and returns what tells of one.
func (p *podPolicies) describer() func(*netpol.Policy, *server.Policy) {
	var hits map[string]map[string]uint64
	var carried pods.Carried
	var state pods.State
	if p != nil {
		hits, carried = p.enforcer.Hits(), p.enforcer.Carried()
		p.mu.Lock()
		state = p.state
		p.mu.Unlock()
	}
	return func(one *netpol.Policy, d *server.Policy) {
		d.Selector = one.Subject.String()
		for _, c := range state.Cgroups {
			if c.Pod != nil && state.Cluster.Selects(one, c.Pod) {
				d.Workloads = append(d.Workloads, c.Pod.Namespace+"/"+c.Pod.Name)
			}
		}
		slices.Sort(d.Workloads)
		for _, direction := range []netpol.Direction{netpol.Ingress, netpol.Egress} {
			for _, r := range one.Directions[direction].List {
				d.Rules = append(d.Rules, server.PolicyRule{Field: r.Field, Text: r.String(direction), Rung: carried.Rung, Guarantee: carried.Guarantee,
					Limits: carried.Limits, Hits: hits[one.ID()][r.Field]})
			}
			if one.Directions[direction].Isolates {
				d.Rules = append(d.Rules, server.PolicyRule{Field: direction.String(), Text: "deny what no rule allows", Rung: carried.Rung,
					Guarantee: carried.Guarantee, Limits: carried.Limits, Hits: hits[one.ID()][direction.String()]})
			}
		}
	}
}

// has reports whether a policy is one of the cluster's objects.
func (p *podPolicies) has(name string) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.lastGood {
		if one.ID() == name {
			return true
		}
	}
	return false
}

// ofCluster lists the policies of the cluster's objects.
func (p *podPolicies) ofCluster() (out []server.Policy) {
	if p == nil {
		return nil
	}
	describe := p.describer()
	p.mu.Lock()
	defer p.mu.Unlock()
	for o, got := range p.parsed {
		d := server.Policy{Kind: o.Kind, Source: "kubernetes", YAML: string(o.JSON), State: server.PolicyInForce,
			Name: strings.Join(slices.DeleteFunc([]string{o.Kind, o.Namespace, o.Name}, func(s string) bool { return s == "" }), "/")}
		one := p.lastGood[o.Kind+"/"+o.Namespace+"/"+o.Name]
		if one != nil {
			d.Mode = string(one.Mode)
			describe(one, &d)
		}
		switch {
		case got.err != nil && one != nil:
			d.State, d.Message = server.PolicyDegraded, "as it was before: "+got.err.Error()
		case got.err != nil:
			d.State, d.Message = server.PolicyFailed, got.err.Error()
		}
		out = append(out, d)
	}
	return out
}
