// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// The parts of Gatekeeper's templates and constraints that decide.
type (
	gatekeeperTemplate struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     struct {
			CRD struct {
				Spec struct {
					Names struct {
						Kind string `json:"kind"`
					} `json:"names"`
				} `json:"spec"`
			} `json:"crd"`
			Targets []struct {
				Rego string `json:"rego"`
				Code []struct {
					Engine string          `json:"engine"`
					Source json.RawMessage `json:"source"`
				} `json:"code"`
			} `json:"targets"`
		} `json:"spec"`
	}
	gatekeeperCEL struct {
		Variables       []admv1.Variable       `json:"variables"`
		Validations     []admv1.Validation     `json:"validations"`
		MatchConditions []admv1.MatchCondition `json:"matchCondition"`
	}
	gatekeeperConstraint struct {
		Kind     string            `json:"kind"`
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     struct {
			EnforcementAction string          `json:"enforcementAction"`
			Match             gatekeeperMatch `json:"match"`
			Parameters        map[string]any  `json:"parameters"`
		} `json:"spec"`
	}
	gatekeeperMatch struct {
		Kinds []struct {
			APIGroups []string `json:"apiGroups"`
			Kinds     []string `json:"kinds"`
		} `json:"kinds"`
		Scope              string                `json:"scope"`
		Namespaces         []string              `json:"namespaces"`
		ExcludedNamespaces []string              `json:"excludedNamespaces"`
		LabelSelector      *metav1.LabelSelector `json:"labelSelector"`
		NamespaceSelector  *metav1.LabelSelector `json:"namespaceSelector"`
		Name               string                `json:"name"`
		Source             string                `json:"source"`
	}
)

// Gatekeeper reads constraints, and the templates beside them. A template in CEL is taken over; one in Rego only if it is one of the
// common ones of Gatekeeper's library, which are known by the constraint's kind.
func Gatekeeper(in io.Reader, file string) ([]Rule, error) {
	templates := map[string]*gatekeeperTemplate{}
	var constraints []*gatekeeperConstraint
	var rules []Rule
	used := map[string]bool{}
	err := documents(in, file, func(d *manifest.Document) error {
		apiVersion, _ := d.Value["apiVersion"].(string)
		switch group, _, _ := strings.Cut(apiVersion, "/"); group {
		case "templates.gatekeeper.sh":
			t := &gatekeeperTemplate{}
			if err := into(d, t); err != nil {
				return err
			}
			templates[t.Spec.CRD.Spec.Names.Kind] = t
		case "constraints.gatekeeper.sh":
			c := &gatekeeperConstraint{}
			if err := into(d, c); err != nil {
				return err
			}
			constraints = append(constraints, c)
			rules = append(rules, Rule{Policy: c.Kind, Name: c.Metadata.Name, File: file, Line: d.Line})
		default:
			return fmt.Errorf("%s %v is nothing of Gatekeeper: want a ConstraintTemplate or a constraint", apiVersion, d.Value["kind"])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, c := range constraints {
		used[c.Kind] = true
		if rules[i], err = c.rule(templates[c.Kind], rules[i]); err != nil {
			return nil, err
		}
	}
	for _, kind := range sorted(templates) {
		if !used[kind] {
			rules = append(rules, Rule{Policy: kind, File: file, Line: 1, Missing: []string{"the template has no constraint in this file, which would say what it is for: put both into one"}})
		}
	}
	return rules, nil
}

func (c *gatekeeperConstraint) rule(t *gatekeeperTemplate, r Rule) (Rule, error) {
	d := &draft{id: identifier(c.Kind, c.Metadata.Name), title: c.Kind + " " + c.Metadata.Name, severity: control.Medium}
	if t != nil {
		d.why = t.Metadata.Annotations["description"]
	}
	if err := c.translate(t, d); err != nil {
		r.Missing = append(r.Missing, err.Error())
		return r, nil
	}
	return finish(r, d, "Gatekeeper's constraint "+r.String())
}

func (c *gatekeeperConstraint) translate(t *gatekeeperTemplate, d *draft) error {
	if err := c.Spec.Match.fill(d); err != nil {
		return err
	}
	if t != nil {
		for _, target := range t.Spec.Targets {
			for _, code := range target.Code {
				if code.Engine == "K8sNativeValidation" {
					return c.fromCEL(code.Source, d)
				}
			}
		}
	}
	return c.common(d)
}

// fromCEL takes over a template's CEL. Its variables.params are the constraint's parameters, variables.anyObject is the object.
func (c *gatekeeperConstraint) fromCEL(source json.RawMessage, d *draft) error {
	var code gatekeeperCEL
	if err := json.Unmarshal(source, &code); err != nil {
		return fmt.Errorf("read the template's CEL: %w", err)
	}
	params, err := celLiteral(c.Spec.Parameters)
	if err != nil {
		return err
	}
	d.spec.Variables = append([]admv1.Variable{{Name: "params", Expression: params}, {Name: "anyObject", Expression: "object != null ? object : oldObject"}}, code.Variables...)
	d.spec.Validations = code.Validations
	d.spec.MatchConditions = append(d.spec.MatchConditions, code.MatchConditions...)
	if len(d.spec.Validations) == 0 {
		return cannot("the template has no validations")
	}
	return nil
}

// celLiteral writes parameters as CEL. Numbers of JSON that are whole are integers.
func celLiteral(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "{}", nil
	case map[string]any:
		var parts []string
		for _, key := range sorted(v) {
			text, err := celLiteral(v[key])
			if err != nil {
				return "", err
			}
			parts = append(parts, quote(key)+": dyn("+text+")") // values of an object may be of several types
		}
		return "{" + strings.Join(parts, ", ") + "}", nil
	case []any:
		var parts []string
		for _, item := range v {
			text, err := celLiteral(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	}
	return literalOf(v)
}

// fill makes a constraint's match into constraints and conditions of a policy.
func (m *gatekeeperMatch) fill(d *draft) error {
	switch {
	case m.Source == "Generated":
		return cannot("a match of what is generated only")
	case m.NamespaceSelector != nil && len(m.Namespaces)+len(m.ExcludedNamespaces) > 0:
		return cannot("a namespaceSelector beside names of namespaces")
	}
	mc := &admv1.MatchResources{NamespaceSelector: m.NamespaceSelector, ObjectSelector: m.LabelSelector}
	scope := admv1.AllScopes
	switch m.Scope {
	case "Namespaced":
		scope = admv1.NamespacedScope
	case "Cluster":
		scope = admv1.ClusterScope
	}
	ops := []admv1.OperationType{admv1.Create, admv1.Update}
	for _, k := range m.Kinds {
		for _, kind := range k.Kinds {
			_, _, resource, err := resourceOf(kind)
			if err != nil {
				return err
			}
			rule := admv1.NamedRuleWithOperations{RuleWithOperations: admv1.RuleWithOperations{Operations: ops,
				Rule: admv1.Rule{APIGroups: k.APIGroups, APIVersions: []string{"*"}, Resources: []string{resource}, Scope: &scope}}}
			mc.ResourceRules = append(mc.ResourceRules, rule)
		}
	}
	if len(m.Kinds) == 0 {
		mc.ResourceRules = []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{Operations: ops,
			Rule: admv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}, Scope: &scope}}}}
	}
	d.spec.MatchConstraints = mc
	condition := func(name, expression string) {
		d.spec.MatchConditions = append(d.spec.MatchConditions, admv1.MatchCondition{Name: name, Expression: expression})
	}
	if tests := oneOf("request.namespace", m.Namespaces); tests != nil {
		condition("namespaces", strings.Join(tests, ""))
	}
	if tests := oneOf("request.namespace", m.ExcludedNamespaces); tests != nil {
		condition("excluded-namespaces", "!("+strings.Join(tests, "")+")")
	}
	if m.Name != "" {
		condition("name", strings.Join(oneOf("object.metadata.?name.orValue('')", []string{m.Name}), ""))
	}
	return nil
}
