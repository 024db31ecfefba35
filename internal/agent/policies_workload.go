// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/user"
	"slices"
	"strconv"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/server"
)

// enforcer carries compiled policies: the back-ends of internal/enforce.
type enforcer interface {
	// Plan says, rule by rule, what will carry a table here, without loading it. Error: a rule that would be carried by
	// less than it asks for and does not accept that.
	Plan(t *policy.Table) ([]*enforce.Carried, error)
	// Apply puts exactly these tables in force, in one step: on an error what was in force before still is, whole.
	Apply(ctx context.Context, tables []*policy.Table) error
	// Status tells how the policies in force are doing, by name.
	Status() map[string]enforce.Status
}

// processes is the process table.
type processes interface {
	List(ended bool) []*model.Process
	ByExecID(id string) *model.Process
}

// workloadPolicies are the policies of kind WorkloadPolicy.
type workloadPolicies struct {
	enforcer enforcer // nil: nothing can be enforced
	running  processes
	env      policy.Env
}

// workloadPolicy is one of them. What is worked out of it is worked out once.
type workloadPolicy struct {
	*policy.Policy
	compiled *compiledPolicy
}

// compiledPolicy is filled in by Check, before anybody else sees the policy.
type compiledPolicy struct {
	table   *policy.Table
	carried []*enforce.Carried
}

func newWorkloadPolicies(e enforcer, running processes) *workloadPolicies {
	return &workloadPolicies{enforcer: e, running: running, env: policy.Env{UserID: userID}}
}

func userID(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(id), err
}

// Name implements parsedPolicy.
func (p workloadPolicy) Name() string { return p.Policy.Name }

// Mode implements parsedPolicy.
func (p workloadPolicy) Mode() string { return string(p.Policy.Mode) }

// WithMode implements parsedPolicy.
func (p workloadPolicy) WithMode(mode string) (parsedPolicy, error) {
	other := *p.Policy
	other.Mode = policy.Mode(mode)
	return newWorkloadPolicy(&other), nil
}

func newWorkloadPolicy(p *policy.Policy) workloadPolicy {
	return workloadPolicy{p, new(compiledPolicy)}
}

// Kinds implements policyKind.
func (*workloadPolicies) Kinds() []string { return []string{"WorkloadPolicy"} }

// Parse implements policyKind.
func (*workloadPolicies) Parse(d *Document) (parsedPolicy, error) {
	p, err := d.Policy()
	if err != nil {
		return nil, err
	}
	return newWorkloadPolicy(p), nil
}

// Check implements policyKind.
func (k *workloadPolicies) Check(one parsedPolicy) error {
	p := one.(workloadPolicy)
	if k.enforcer == nil {
		return server.Refuse(server.Precondition, errors.New("this agent cannot bring policies in force: `vigie doctor` says what this kernel can do"))
	}
	if p.compiled.carried != nil {
		return nil
	}
	table, err := policy.Compile(p.Policy, k.env)
	if err != nil {
		return server.Refuse(server.Invalid, err)
	}
	carried, err := k.enforcer.Plan(table)
	if err != nil {
		return err
	}
	*p.compiled = compiledPolicy{table, carried}
	return nil
}

// Apply implements policyKind.
func (k *workloadPolicies) Apply(ctx context.Context, list []parsedPolicy) error {
	tables := make([]*policy.Table, len(list))
	for i, one := range list {
		tables[i] = one.(workloadPolicy).compiled.table
	}
	return k.enforcer.Apply(ctx, tables)
}

// maxWorkloadNames is how many workloads the status of a policy names.
const maxWorkloadNames = 100

// Describer implements policyKind.
func (k *workloadPolicies) Describer() func(parsedPolicy, *server.Policy) {
	var status map[string]enforce.Status
	if k.enforcer != nil {
		status = k.enforcer.Status()
	}
	running := k.running.List(false)
	return func(one parsedPolicy, d *server.Policy) {
		p := one.(workloadPolicy)
		d.Selector = p.Selector.String()
		if p.compiled.table != nil {
			k.describe(p, status[p.Name()], running, d)
		}
	}
}

func (k *workloadPolicies) describe(p workloadPolicy, status enforce.Status, running []*model.Process, d *server.Policy) {
	d.Processes = status.Processes
	if status.Processes > 0 {
		d.Workloads = k.workloads(p.compiled.table.Selection, running)
	}
	if status.Message != "" {
		d.State, d.Message = server.PolicyDegraded, status.Message
	}
	for number, r := range p.compiled.table.Rules {
		if number == 0 {
			continue
		}
		rule := server.PolicyRule{Field: r.Field(), Text: p.compiled.table.Text(number)}
		if number < len(p.compiled.carried) {
			c := p.compiled.carried[number]
			rule.Rung, rule.Guarantee, rule.Limits = c.Rung, c.Guarantee, c.Limits
			// What the compiler adds to a policy's rules is carried beside them, and says of itself what it is.
			if !r.Allows && c.Guarantee != "" && c.Guarantee.Strength() < asks(p.Policy) {
				d.State = server.PolicyDegraded
				if d.Message == "" {
					d.Message = fmt.Sprintf("%s is carried by less than it asks for: %s", r.Field(), c.Guarantee)
				}
			}
		}
		if number < len(status.Hits) {
			rule.Hits = status.Hits[number]
		}
		d.Rules = append(d.Rules, rule)
	}
}

// asks is how strong a guarantee a policy asks for.
func asks(p *policy.Policy) int {
	if p.Mode == policy.Enforce {
		return model.KilledBefore.Strength() // as good as denied
	}
	return model.SeenOnly.Strength()
}

// workloads are the names of those that a selector selects now, in order.
func (k *workloadPolicies) workloads(s *policy.Selection, running []*model.Process) []string {
	names := make(map[string]bool)
	parent := func(p *model.Process) *model.Process { return k.running.ByExecID(p.ParentExecID) }
	for _, p := range running {
		if p.Workload != nil && !names[p.Workload.Name] && s.Selects(p, parent) {
			names[p.Workload.Name] = true
		}
	}
	list := slices.Sorted(maps.Keys(names))
	return list[:min(len(list), maxWorkloadNames)]
}
