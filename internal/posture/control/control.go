// SPDX-License-Identifier: Apache-2.0

// Package control holds the controls: what a good object looks like, why, and how to get there. In: files, each a
// ValidatingAdmissionPolicy with its description and its tests; those that come with vigie are embedded. Out: Controls whose
// policy is whole, as an API server would take it.
//
// What every control of pods would repeat is written once: a file may leave out matchConstraints and say
// "match: pods", and may use the variables of library.yaml without declaring them. Both are filled in when it is read.
package control

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
)

// Severity is how bad it is when a control fails.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // a way out of the container or to the whole cluster
	High     Severity = "high"     // one step away from that
	Medium   Severity = "medium"   // a missing layer of defence, or an outage waiting
	Low      Severity = "low"      // good practice
)

// Severities are all of them, the worst first.
func Severities() []Severity { return []Severity{Critical, High, Medium, Low} }

// Rank orders severities: 0 is the worst.
func (s Severity) Rank() int { return slices.Index(Severities(), s) }

// Control is one rule over Kubernetes objects.
type Control struct {
	ID          string              `json:"-"`
	Title       string              `json:"title"`
	Severity    Severity            `json:"severity"`
	Why         string              `json:"why"`
	Remediation string              `json:"remediation"`
	Frameworks  map[string][]string `json:"frameworks,omitempty"` // name → its paragraphs
	// Match fills in matchConstraints: "pods" are pods, what is in a pod's ephemeralcontainers, and all controllers' templates.
	Match string `json:"match,omitempty"`
	// Fields are where the fault is, so that a finding has a line: container.x is in each container, pod.x in the
	// pod's spec, everything else from the top of the object. [*] is each element of a list.
	Fields []string `json:"fields,omitempty"`
	// Sensitive: what stands there is a secret, and no report shows it.
	Sensitive bool `json:"sensitive,omitempty"`
	// Related are lists of other objects that the control looks at, as params.related.NAME. An API server cannot do
	// that, so such a control works in a scan only.
	Related    map[string]Related   `json:"related,omitempty"`
	Parameters map[string]Parameter `json:"parameters,omitempty"`
	Fix        *Fix                 `json:"fix,omitempty"` // nil: nobody but its owner knows how to make the object good

	Policy *admv1.ValidatingAdmissionPolicy `json:"-"`
	Source string                           `json:"-"` // the file
	tests  []byte
	line   int // of tests in the file
}

// Related says which objects a list holds.
type Related struct {
	Kinds []string `json:"kinds"` // as in "v1/Service", or "pods" for all that have a pod's spec
	Scope string   `json:"scope"` // "namespace": those in the object's own; "cluster": all
	// What narrows the list before CEL looks at it, so that n objects beside n others are not n×n. None of them decides.
	Labels    string `json:"labels,omitempty"`    // path in the object of labels that it selects: those with one of them
	Selectors string `json:"selectors,omitempty"` // path in the others of labels that they select: those that may select the object's pods
	Name      string `json:"name,omitempty"`      // path in the object of a name: those that have it
}

// Parameter is a value that a user may set. The policy reads it as params.data.NAME, a string as in a ConfigMap.
type Parameter struct {
	Default     string `json:"default"`
	Description string `json:"description"`
}

// ScanOnly reports whether no API server could evaluate the control.
func (c *Control) ScanOnly() bool { return len(c.Related) > 0 }

// Params is the object that the policy's paramKind asks for: the defaults, with what set names replaced. nil when
// the control has no parameters.
func (c *Control) Params(set map[string]string) map[string]any {
	if len(c.Parameters) == 0 {
		return nil
	}
	data := map[string]any{}
	for name, p := range c.Parameters {
		data[name] = p.Default
		if v, ok := set[name]; ok {
			data[name] = v
		}
	}
	return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": c.ID}, "data": data}
}

// check finds what is missing in a description.
func (c *Control) check() error {
	switch {
	case c.Title == "" || c.Why == "" || c.Remediation == "":
		return fmt.Errorf("%s: title, why and remediation must be given", c.ID)
	case c.Severity.Rank() < 0:
		return fmt.Errorf("%s: severity %q: the severities are critical, high, medium, low", c.ID, c.Severity)
	case c.Policy.Name != c.ID:
		return fmt.Errorf("%s: the policy is called %q: both must have the same name", c.ID, c.Policy.Name)
	case len(c.Policy.Spec.Validations) == 0:
		return fmt.Errorf("%s: the policy has no validations", c.ID)
	case c.Policy.Spec.MatchConstraints == nil:
		return fmt.Errorf("%s: give match: pods, or the policy's matchConstraints", c.ID)
	}
	if err := c.Fix.check(); err != nil {
		return fmt.Errorf("%s: %w", c.ID, err)
	}
	for name, r := range c.Related {
		if len(r.Kinds) == 0 || r.Scope != "namespace" && r.Scope != "cluster" {
			return fmt.Errorf("%s: related.%s: give kinds, and as scope namespace or cluster", c.ID, name)
		}
	}
	for name := range c.Frameworks {
		if _, ok := Frameworks()[name]; !ok {
			return fmt.Errorf("%s: framework %q is unknown", c.ID, name)
		}
	}
	return nil
}

// Frameworks are the catalogues that controls are mapped to: name → title.
func Frameworks() map[string]string {
	return map[string]string{
		"pss-baseline":   "Pod Security Standards: baseline",
		"pss-restricted": "Pod Security Standards: restricted",
		"nsa":            "NSA/CISA Kubernetes Hardening Guidance 1.2",
		"cis":            "CIS Kubernetes Benchmark 1.11",
		"mitre":          "MITRE ATT&CK for containers",
		"kubescape":      "Kubescape control ids",
	}
}

// Select picks controls: by id, by framework ("framework:nsa") or by severity ("severity:high" and worse).
// Nothing asked is everything; an unknown name is an error.
func Select(all []*Control, names []string) ([]*Control, error) {
	if len(names) == 0 {
		return all, nil
	}
	var out []*Control
	for _, name := range names {
		match, err := selector(name)
		if err != nil {
			return nil, err
		}
		found := false
		for _, c := range all {
			if match(c) {
				found = true
				if !slices.Contains(out, c) {
					out = append(out, c)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("no control %q: `vigie controls list` names them", name)
		}
	}
	slices.SortFunc(out, func(a, b *Control) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func selector(name string) (func(*Control) bool, error) {
	if framework, ok := strings.CutPrefix(name, "framework:"); ok {
		if Frameworks()[framework] == "" {
			return nil, fmt.Errorf("no framework %q: the frameworks are %s", framework, strings.Join(FrameworkNames(), ", "))
		}
		return func(c *Control) bool { return len(c.Frameworks[framework]) > 0 }, nil
	}
	if severity, ok := strings.CutPrefix(name, "severity:"); ok {
		rank := Severity(severity).Rank()
		if rank < 0 {
			return nil, fmt.Errorf("no severity %q: the severities are critical, high, medium, low", severity)
		}
		return func(c *Control) bool { return c.Severity.Rank() <= rank }, nil
	}
	return func(c *Control) bool { return c.ID == name }, nil
}

// FrameworkNames are the frameworks in order.
func FrameworkNames() []string {
	return []string{"pss-baseline", "pss-restricted", "nsa", "cis", "mitre", "kubescape"}
}
