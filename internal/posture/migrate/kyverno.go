// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// The parts of kyverno.io/v1 that decide.
type (
	kyvernoPolicy struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   metav1.ObjectMeta `json:"metadata"`
		Spec       struct {
			Rules []kyvernoRule `json:"rules"`
		} `json:"spec"`
	}
	kyvernoRule struct {
		Name             string                 `json:"name"`
		Match            kyvernoMatch           `json:"match"`
		Exclude          *kyvernoMatch          `json:"exclude"`
		Context          []any                  `json:"context"`
		Preconditions    any                    `json:"preconditions"`
		CELPreconditions []admv1.MatchCondition `json:"celPreconditions"`
		Validate         *kyvernoValidate       `json:"validate"`
		Mutate           any                    `json:"mutate"`
		Generate         any                    `json:"generate"`
		VerifyImages     any                    `json:"verifyImages"`
	}
	kyvernoMatch struct {
		kyvernoFilter
		Any []kyvernoFilter `json:"any"`
		All []kyvernoFilter `json:"all"`
	}
	kyvernoFilter struct {
		Resources    *kyvernoResources `json:"resources"`
		Subjects     []any             `json:"subjects"`
		Roles        []string          `json:"roles"`
		ClusterRoles []string          `json:"clusterRoles"`
	}
	kyvernoResources struct {
		Kinds             []string              `json:"kinds"`
		Name              string                `json:"name"`
		Names             []string              `json:"names"`
		Namespaces        []string              `json:"namespaces"`
		Annotations       map[string]string     `json:"annotations"`
		Operations        []string              `json:"operations"`
		Selector          *metav1.LabelSelector `json:"selector"`
		NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector"`
	}
	kyvernoValidate struct {
		Message     string       `json:"message"`
		Pattern     any          `json:"pattern"`
		AnyPattern  []any        `json:"anyPattern"`
		Deny        *kyvernoDeny `json:"deny"`
		ForEach     []any        `json:"foreach"`
		PodSecurity any          `json:"podSecurity"`
		Manifests   any          `json:"manifests"`
		CEL         *kyvernoCEL  `json:"cel"`
	}
	kyvernoDeny struct {
		Conditions any `json:"conditions"`
	}
	kyvernoCEL struct {
		Expressions      []admv1.Validation      `json:"expressions"`
		Variables        []admv1.Variable        `json:"variables"`
		AuditAnnotations []admv1.AuditAnnotation `json:"auditAnnotations"`
		ParamKind        *admv1.ParamKind        `json:"paramKind"`
	}
)

// Kyverno reads ClusterPolicies and Policies of kyverno.io/v1 and /v2beta1. A document of another kind is an error.
func Kyverno(in io.Reader, file string) ([]Rule, error) {
	var rules []Rule
	err := documents(in, file, func(d *manifest.Document) error {
		var p kyvernoPolicy
		if err := into(d, &p); err != nil {
			return err
		}
		if !strings.HasPrefix(p.APIVersion, "kyverno.io/") || p.Kind != "ClusterPolicy" && p.Kind != "Policy" {
			return fmt.Errorf("%s %s is no policy of Kyverno: want a ClusterPolicy or Policy of kyverno.io", p.APIVersion, p.Kind)
		}
		for i, rule := range p.Spec.Rules {
			at := d.At([]string{"spec", "rules", fmt.Sprint(i)})
			made, err := p.rule(&rule, Rule{Policy: p.Metadata.Name, Name: rule.Name, File: file, Line: at.Line})
			if err != nil {
				return err
			}
			rules = append(rules, made)
		}
		return nil
	})
	return rules, err
}

// rule takes over one rule, or says why not.
func (p *kyvernoPolicy) rule(rule *kyvernoRule, r Rule) (Rule, error) {
	d := &draft{id: identifier(p.Metadata.Name, rule.Name), title: p.Metadata.Annotations["policies.kyverno.io/title"],
		why: p.Metadata.Annotations["policies.kyverno.io/description"], severity: p.severity()}
	if len(p.Spec.Rules) > 1 && d.title != "" {
		d.title += ": " + rule.Name
	}
	if err := p.translate(rule, d); err != nil {
		r.Missing = append(r.Missing, err.Error())
		return r, nil
	}
	if p.Kind == "Policy" {
		namespaces := []string{p.Metadata.Namespace}
		d.spec.MatchConditions = append(d.spec.MatchConditions, admv1.MatchCondition{Name: "namespace", Expression: "request.namespace in " + quoteList(namespaces)})
	}
	return finish(r, d, "Kyverno's policy "+r.String())
}

func (p *kyvernoPolicy) severity() control.Severity {
	s := control.Severity(strings.ToLower(p.Metadata.Annotations["policies.kyverno.io/severity"]))
	if s.Rank() < 0 {
		return control.Medium
	}
	return s
}

func (p *kyvernoPolicy) translate(rule *kyvernoRule, d *draft) error {
	switch {
	case rule.Mutate != nil:
		return cannot("it changes objects: see `vigie fix`, or write the fix of a control")
	case rule.Generate != nil:
		return cannot("it makes other objects, which admission policies cannot")
	case rule.VerifyImages != nil:
		return cannot("it checks signatures of images, for which CEL has no function")
	case rule.Validate == nil:
		return cannot("it has no validate")
	case len(rule.Context) > 0:
		return cannot("its context asks for other objects or registries, which admission policies cannot")
	case rule.Validate.PodSecurity != nil:
		return cannot("podSecurity: use the controls of framework:pss-baseline or framework:pss-restricted")
	case len(rule.Validate.ForEach) > 0:
		return cannot("foreach")
	case rule.Validate.Manifests != nil:
		return cannot("it checks signatures of manifests")
	}
	pods, err := p.match(rule, d)
	if err != nil {
		return err
	}
	for i, c := range rule.CELPreconditions {
		d.spec.MatchConditions = append(d.spec.MatchConditions, admv1.MatchCondition{Name: cmp.Or(c.Name, fmt.Sprintf("precondition-%d", i)), Expression: c.Expression})
	}
	if rule.Preconditions != nil {
		if pods {
			return cannot("preconditions of a rule for pods: they would have to hold for the templates of controllers too")
		}
		expression, err := conditions(rule.Preconditions)
		if err != nil {
			return fmt.Errorf("preconditions: %w", err)
		}
		d.spec.MatchConditions = append(d.spec.MatchConditions, admv1.MatchCondition{Name: "preconditions", Expression: expression})
	}
	return validation(rule.Validate, d, pods)
}

// validation is the part of a rule that decides. pods: it is about pods, and d is for all that make pods.
func validation(v *kyvernoValidate, d *draft, pods bool) error {
	message := strings.TrimSpace(v.Message)
	if strings.Contains(message, "{{") {
		message = strings.TrimSpace(message[:strings.Index(message, "{{")]) + " ..."
	}
	d.remediation = message
	add := func(expression string) {
		d.spec.Validations = append(d.spec.Validations, admv1.Validation{Expression: expression, Message: cmp.Or(strings.ReplaceAll(message, "\n", " "), "not allowed")})
	}
	switch {
	case v.CEL != nil:
		if v.CEL.ParamKind != nil {
			return cannot("its parameters: write them as the parameters of a control")
		}
		if pods {
			d.match, d.spec.MatchConstraints = "", podsOnly() // its CEL is written for pods
		}
		d.spec.Validations, d.spec.Variables, d.spec.AuditAnnotations = v.CEL.Expressions, v.CEL.Variables, v.CEL.AuditAnnotations
		for i := range d.spec.Validations {
			if own := &d.spec.Validations[i]; own.Message == "" && own.MessageExpression == "" {
				own.Message = message
			}
		}
		return nil
	case v.Pattern != nil:
		expression, err := overlay(v.Pattern, pods)
		if err != nil {
			return err
		}
		add(expression)
		return nil
	case len(v.AnyPattern) > 0:
		var any []string
		for _, pattern := range v.AnyPattern {
			expression, err := overlay(pattern, pods)
			if err != nil {
				return err
			}
			any = append(any, "("+expression+")")
		}
		add(strings.Join(any, " || "))
		return nil
	case v.Deny != nil:
		if pods {
			d.match, d.spec.MatchConstraints = "", podsOnly() // its paths are those of a pod
		}
		expression, err := conditions(v.Deny.Conditions)
		if err != nil {
			return fmt.Errorf("deny: %w", err)
		}
		add("!(" + expression + ")")
		return nil
	}
	return cannot("validate has nothing that is known")
}

// overlay is a pattern over the object. Of pods it is about the pod's spec, labels and annotations, wherever they stand.
func overlay(pattern any, pods bool) (string, error) {
	m, ok := pattern.(map[string]any)
	if !ok {
		return "", cannot("a pattern that is no object")
	}
	if !pods {
		return (&patterns{}).value(m, "object")
	}
	var parts []string
	for key, inner := range m {
		anchor, name := anchorOf(key)
		fields, isObject := inner.(map[string]any)
		switch {
		case name == "spec" && isObject && (anchor == "" || anchor == "="):
			test, err := (&patterns{}).value(fields, "variables.podSpec")
			if err != nil {
				return "", err
			}
			parts = append(parts, test)
		case name == "metadata" && isObject && (anchor == "" || anchor == "="):
			for what, inner := range fields {
				anchor, name := anchorOf(what)
				variable := map[string]string{"labels": "variables.podLabels", "annotations": "variables.podAnnotations"}[name]
				if variable == "" || anchor != "" && anchor != "=" {
					return "", cannot("metadata.%s of the pods that a controller makes", what)
				}
				test, err := (&patterns{}).value(inner, variable)
				if err != nil {
					return "", err
				}
				parts = append(parts, test)
			}
		default:
			return "", cannot("%s in a pattern for pods", key)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " && "), nil
}

func podsOnly() *admv1.MatchResources {
	return &admv1.MatchResources{ResourceRules: []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{
		Operations: []admv1.OperationType{admv1.Create, admv1.Update},
		Rule:       admv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}}}}
}
