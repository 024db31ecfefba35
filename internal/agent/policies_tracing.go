// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/tracing"
)

// tracer carries TracingPolicies: *tracing.Manager.
type tracer interface {
	// Check says what keeps a policy from being in force here.
	Check(context.Context, *tracing.Policy) error
	// Replace puts exactly these policies in force, all or none.
	Replace(ctx context.Context, want []tracing.Desired) error
	// Status is how a policy is doing; false when it is not in force.
	Status(tracing.Key) (tracing.Status, bool)
}

// tracingKind are the policies of Tetragon's kinds.
type tracingKind struct{ tracer tracer }

// tracingPolicy is one of them, in a mode.
type tracingPolicy struct {
	*tracing.Policy
	mode string
}

// Name implements parsedPolicy.
func (p tracingPolicy) Name() string { return p.Key().String() }

// Mode implements parsedPolicy. What Tetragon calls monitor is audit here.
func (p tracingPolicy) Mode() string { return p.mode }

// WithMode implements parsedPolicy.
func (p tracingPolicy) WithMode(mode string) (parsedPolicy, error) {
	return tracingPolicy{p.Policy, mode}, nil
}

// Kinds implements policyKind.
func (tracingKind) Kinds() []string { return []string{"TracingPolicy", "TracingPolicyNamespaced"} }

// Parse implements policyKind.
func (tracingKind) Parse(d *Document) (parsedPolicy, error) {
	list, err := tracing.Parse(d.Source, d.Padded())
	if err != nil {
		return nil, err
	}
	return tracingPolicy{list[0], modeWord(list[0].Mode())}, nil
}

// Check implements policyKind.
func (k tracingKind) Check(one parsedPolicy) error {
	p := one.(tracingPolicy)
	if p.mode == "enforce" && p.Policy.Mode() == tracing.ModeMonitorOnly {
		return server.Refuse(server.Precondition, tracing.ErrNothingToEnforce)
	}
	return server.Refuse(server.Precondition, k.tracer.Check(context.Background(), p.Policy))
}

// Apply implements policyKind.
func (k tracingKind) Apply(ctx context.Context, list []parsedPolicy) error {
	want := make([]tracing.Desired, len(list))
	for i, one := range list {
		p := one.(tracingPolicy)
		want[i] = tracing.Desired{Policy: p.Policy, Mode: tracing.ModeEnforce}
		if p.mode == "audit" {
			want[i].Mode = tracing.ModeMonitor
		}
	}
	return k.tracer.Replace(ctx, want)
}

// Describer implements policyKind.
func (k tracingKind) Describer() func(parsedPolicy, *server.Policy) { return k.describe }

func (k tracingKind) describe(one parsedPolicy, d *server.Policy) {
	p := one.(tracingPolicy)
	d.Selector = "every process"
	s, ok := k.tracer.Status(p.Key())
	if !ok {
		return // it is only described
	}
	if d.Mode = modeWord(s.Mode); !s.Enabled {
		d.State = server.PolicyDisabled
	}
	if s.Selects {
		d.Selector = "the workloads that it selects"
	}
	for _, h := range s.Hooks {
		d.Rules = append(d.Rules, server.PolicyRule{Field: h.Field, Text: h.Kind + " " + h.Hook, Rung: h.Carrier})
	}
	for _, action := range slices.Sorted(maps.Keys(s.Enforced)) {
		if n := s.Enforced[action] + s.Monitored[action]; n > 0 {
			d.Rules = append(d.Rules, server.PolicyRule{Field: "matchActions", Text: action, Hits: n})
		}
	}
	d.Rules = append(d.Rules, server.PolicyRule{Field: "matchActions", Text: fmt.Sprintf("post: reported %d times", s.Posts)})
}

func modeWord(m tracing.Mode) string {
	if m == tracing.ModeEnforce {
		return "enforce"
	}
	return "audit"
}
