// SPDX-License-Identifier: Apache-2.0

// Package admission makes of controls and exceptions what an API server enforces by itself: few
// ValidatingAdmissionPolicies, one for each family of kinds and step, so that a request is put before one of them and not
// before one for each control. In: a Plan. Out: a Bundle of objects; nothing is sent anywhere.
//
// An object is judged as in a scan, with these differences, all of which let more through: what is being deleted may be changed,
// and so may what was bad before, as long as what controls look at stays as it is. Else a finalizer could not be taken off.
package admission

import (
	"fmt"
	"slices"
	"time"

	admv1 "k8s.io/api/admissionregistration/v1"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/exception"
)

// Step is how far a control has come.
type Step string

// The steps. Each goes one further than the one before.
const (
	Audit Step = "audit" // failures stand in the API server's audit log
	Warn  Step = "warn"  // whoever makes the request is told too
	Deny  Step = "deny"  // the request is refused
)

// Steps are all of them in order.
func Steps() []Step { return []Step{Audit, Warn, Deny} }

// Next is the step after s; ok is false when there is none.
func (s Step) Next() (next Step, ok bool) {
	i := slices.Index(Steps(), s)
	if i < 0 || i == len(Steps())-1 {
		return s, false
	}
	return Steps()[i+1], true
}

// ParseStep reads a step.
func ParseStep(text string) (Step, error) {
	if s := Step(text); slices.Contains(Steps(), s) {
		return s, nil
	}
	return "", fmt.Errorf("step %q: the steps are audit, warn, deny", text)
}

func (s Step) actions() []admv1.ValidationAction {
	switch s {
	case Deny:
		return []admv1.ValidationAction{admv1.Deny, admv1.Audit}
	case Warn:
		return []admv1.ValidationAction{admv1.Warn, admv1.Audit}
	}
	return []admv1.ValidationAction{admv1.Audit}
}

// Plan is what an API server is to enforce.
type Plan struct {
	Controls []*control.Control
	Params   map[string]map[string]string // control → parameter → value; what is not set has its default
	Step     Step                         // of controls that Steps does not name
	Steps    map[string]Step
	// Levels, when not nil, bind the controls of the Pod Security Standards to namespaces of a level.
	Levels *Levels
	// Except are namespaces in which nothing is judged.
	Except     []string
	Exceptions *exception.Set
	Now        time.Time   // what has expired by then is left out
	Fixes      []FixChoice // made on the way in
	// Target is the API server's version; 0 is the newest that is known. What it does not serve needs no policy.
	Target engine.Version
}

// Levels are Pod Security Standards by namespace: a label says which of privileged, baseline and restricted holds.
type Levels struct {
	Label   string // of namespaces
	Default string // where the label is missing, or says something else
}

// LevelNames are the levels, the weakest first.
func LevelNames() []string { return []string{"privileged", "baseline", "restricted"} }

// of are the levels at which a control holds; nil: at all, because it is no part of the standards.
func (l *Levels) of(c *control.Control) []string {
	switch {
	case l == nil:
		return nil
	case len(c.Frameworks["pss-baseline"]) > 0:
		return []string{"baseline", "restricted"}
	case len(c.Frameworks["pss-restricted"]) > 0:
		return []string{"restricted"}
	}
	return nil
}

// Applies reports whether a control holds in a namespace with these labels.
func (l *Levels) Applies(c *control.Control, namespace map[string]string) bool {
	levels := l.of(c)
	if levels == nil {
		return true
	}
	level := namespace[l.Label]
	if !slices.Contains(LevelNames(), level) {
		level = l.Default
	}
	return slices.Contains(levels, level)
}

func (p *Plan) stepOf(id string) Step {
	if s, ok := p.Steps[id]; ok {
		return s
	}
	if p.Step == "" {
		return Audit
	}
	return p.Step
}

// Bundle is what an API server is given.
type Bundle struct {
	Policies []*admv1.ValidatingAdmissionPolicy
	Bindings []*admv1.ValidatingAdmissionPolicyBinding
	Fixes    []Fix
	Places   []Place
	Left     []Left
}

// Place is where a validation of a control is.
type Place struct {
	Control    string
	Step       Step
	Policy     string
	Validation int // index in the policy
}

// Left is a control that is not in the bundle, and why.
type Left struct {
	Control, Why string
}

// ControlsOf are the controls in a policy, in order.
func (b *Bundle) ControlsOf(policy string) []string {
	var out []string
	for _, p := range b.Places {
		if p.Policy == policy && !slices.Contains(out, p.Control) {
			out = append(out, p.Control)
		}
	}
	return out
}

// Compile makes a bundle. The same plan always makes the same one.
func Compile(p Plan) (*Bundle, error) {
	if p.Levels != nil && !slices.Contains(LevelNames(), p.Levels.Default) {
		return nil, fmt.Errorf("default level %q: the levels are privileged, baseline, restricted", p.Levels.Default)
	}
	b := &Bundle{}
	target := p.Target
	if target.Major == 0 {
		_, target = engine.Supported()
	}
	var rules []*rule
	for _, c := range p.Controls {
		if c.ScanOnly() {
			b.Left = append(b.Left, Left{c.ID, "it looks at several objects, which an API server cannot: vigie scan and the reports judge it"})
			continue
		}
		if minor, ok := removedBy(c); ok && minor <= target.Minor {
			b.Left = append(b.Left, Left{c.ID, "an API server refuses by itself what it does not serve"})
			continue
		}
		rules = append(rules, &rule{control: c, atoms: atomsOf(c.Policy.Spec.MatchConstraints)})
	}
	for _, f := range families(rules) {
		for _, step := range Steps() {
			b.family(&p, f, step)
		}
	}
	slices.SortFunc(b.Left, func(x, y Left) int { return compare(x.Control, y.Control) })
	if err := b.fixes(&p); err != nil {
		return nil, err
	}
	return b, b.check()
}

// check compiles what was made: a bundle that an API server would refuse is never handed out.
func (b *Bundle) check() error {
	_, newest := engine.Supported()
	policies := make([]engine.Policy, len(b.Policies))
	for i, p := range b.Policies {
		policies[i] = engine.Policy{ValidatingAdmissionPolicy: p}
	}
	e, err := engine.New(policies, newest)
	if err != nil {
		return fmt.Errorf("compile controls: %w", err)
	}
	for i, p := range b.Policies {
		for _, err := range e.Check(i) {
			return fmt.Errorf("compile controls: policy %s: %w", p.Name, err)
		}
	}
	return nil
}
