// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/object"
)

// match fills in what a rule is for. pods: it is for pods, and Kyverno takes it over to all that make pods.
func (p *kyvernoPolicy) match(rule *kyvernoRule, d *draft) (pods bool, err error) {
	filters := slices.Concat(rule.Match.Any, rule.Match.All)
	if rule.Match.Resources != nil {
		filters = append(filters, rule.Match.kyvernoFilter)
	}
	if len(rule.Match.All) > 1 {
		return false, cannot("match.all of several filters")
	}
	if len(filters) == 0 {
		return false, cannot("it matches nothing")
	}
	var anyOf []string
	var rules []admv1.NamedRuleWithOperations
	pods = true
	for _, f := range filters {
		if f.Resources == nil || len(f.Subjects)+len(f.Roles)+len(f.ClusterRoles) > 0 {
			return false, cannot("a match by subjects or roles")
		}
		pods = pods && slices.Equal(f.Resources.Kinds, []string{"Pod"})
		own, err := resourceRules(f.Resources.Kinds, f.Resources.Operations)
		if err != nil {
			return false, err
		}
		rules = append(rules, own...)
		narrowing, err := f.Resources.condition()
		if err != nil {
			return false, err
		}
		if len(filters) > 1 && narrowing != "true" {
			narrowing = "(request.kind.kind in " + quoteList(kindNames(f.Resources.Kinds)) + " && " + narrowing + ")"
		}
		if len(filters) > 1 && narrowing == "true" {
			narrowing = "request.kind.kind in " + quoteList(kindNames(f.Resources.Kinds))
		}
		anyOf = append(anyOf, narrowing)
	}
	pods = pods && p.Metadata.Annotations["pod-policies.kyverno.io/autogen-controllers"] != "none"
	if pods && !slices.Equal(anyOf, []string{"true"}) {
		pods = false // what narrows it is written for pods
	}
	if pods {
		d.match = "pods"
	} else {
		d.spec.MatchConstraints = &admv1.MatchResources{ResourceRules: rules}
	}
	if test := strings.Join(anyOf, " || "); test != "true" {
		d.spec.MatchConditions = append(d.spec.MatchConditions, admv1.MatchCondition{Name: "match", Expression: test})
	}
	return pods, exclude(rule.Exclude, d)
}

func exclude(m *kyvernoMatch, d *draft) error {
	if m == nil {
		return nil
	}
	filters := slices.Concat(m.Any, m.All)
	if m.Resources != nil {
		filters = append(filters, m.kyvernoFilter)
	}
	if len(m.All) > 1 {
		return cannot("exclude.all of several filters")
	}
	for i, f := range filters {
		if f.Resources == nil || len(f.Subjects)+len(f.Roles)+len(f.ClusterRoles) > 0 {
			return cannot("an exclude by subjects or roles")
		}
		test, err := f.Resources.condition()
		if err != nil {
			return err
		}
		if len(f.Resources.Kinds) > 0 && !slices.Contains(f.Resources.Kinds, "*") {
			test = "request.kind.kind in " + quoteList(kindNames(f.Resources.Kinds)) + " && " + test
		}
		d.spec.MatchConditions = append(d.spec.MatchConditions, admv1.MatchCondition{Name: fmt.Sprintf("exclude-%d", i), Expression: "!(" + test + ")"})
	}
	return nil
}

// condition is what narrows a match beside its kinds.
func (r *kyvernoResources) condition() (string, error) {
	tests := []string{}
	names := r.Names
	if r.Name != "" {
		names = append(slices.Clone(names), r.Name)
	}
	tests = append(tests, oneOf("(has(object.metadata.name) ? object.metadata.name : '')", names)...)
	tests = append(tests, oneOf("request.namespace", r.Namespaces)...)
	if r.NamespaceSelector != nil {
		return "", cannot("a namespaceSelector: give it to the binding")
	}
	for _, key := range sorted(r.Annotations) {
		tests = append(tests, oneOf("object.metadata.?annotations["+"?"+quote(key)+"].orValue('')", []string{r.Annotations[key]})...)
	}
	own, err := selectorTests(r.Selector)
	if err != nil {
		return "", err
	}
	tests = append(tests, own...)
	if len(tests) == 0 {
		return "true", nil
	}
	return strings.Join(tests, " && "), nil
}

// selectorTests are those of a label selector. Kyverno allows wildcards in values.
func selectorTests(s *metav1.LabelSelector) ([]string, error) {
	if s == nil {
		return nil, nil
	}
	label := func(key string) string { return "object.metadata.?labels[?" + quote(key) + "]" }
	var tests []string
	for _, key := range sorted(s.MatchLabels) {
		tests = append(tests, oneOf(label(key)+".orValue('')", []string{s.MatchLabels[key]})...)
	}
	for _, e := range s.MatchExpressions {
		switch e.Operator {
		case metav1.LabelSelectorOpExists:
			tests = append(tests, label(e.Key)+".hasValue()")
		case metav1.LabelSelectorOpDoesNotExist:
			tests = append(tests, "!"+label(e.Key)+".hasValue()")
		case metav1.LabelSelectorOpIn:
			tests = append(tests, label(e.Key)+".orValue('') in "+quoteList(e.Values))
		case metav1.LabelSelectorOpNotIn:
			tests = append(tests, "!("+label(e.Key)+".orValue('') in "+quoteList(e.Values)+")")
		default:
			return nil, cannot("the operator %s of a label selector", e.Operator)
		}
	}
	return tests, nil
}

// oneOf tests a string against names that may have wildcards.
func oneOf(expr string, names []string) []string {
	if len(names) == 0 {
		return nil
	}
	var plain, any []string
	for _, n := range names {
		if strings.ContainsAny(n, "*?") {
			any = append(any, expr+".matches("+quote(wildcard(n))+")")
		} else {
			plain = append(plain, n)
		}
	}
	if len(plain) > 0 {
		any = append(any, expr+" in "+quoteList(plain))
	}
	if len(any) == 1 {
		return any
	}
	return []string{"(" + strings.Join(any, " || ") + ")"}
}

// kindNames are the last parts of group/version/Kind.
func kindNames(kinds []string) []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k[strings.LastIndexByte(k, '/')+1:]
	}
	return out
}

// resourceRules are the rules for kinds as Kyverno writes them: Kind, version/Kind or group/version/Kind.
func resourceRules(kinds, operations []string) ([]admv1.NamedRuleWithOperations, error) {
	ops := []admv1.OperationType{admv1.Create, admv1.Update}
	if len(operations) > 0 {
		ops = nil
		for _, o := range operations {
			ops = append(ops, admv1.OperationType(strings.ToUpper(o)))
		}
	}
	var out []admv1.NamedRuleWithOperations
	for _, k := range kinds {
		group, version, resource, err := resourceOf(k)
		if err != nil {
			return nil, err
		}
		out = append(out, admv1.NamedRuleWithOperations{RuleWithOperations: admv1.RuleWithOperations{Operations: ops,
			Rule: admv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}}}})
	}
	return out, nil
}

func resourceOf(kind string) (group, version, resource string, err error) {
	parts := strings.Split(kind, "/")
	name := parts[len(parts)-1]
	if strings.ContainsAny(kind, "?.") || name != "*" && strings.Contains(name, "*") {
		return "", "", "", cannot("the kind %q", kind)
	}
	if name == "*" {
		return "*", "*", "*", nil
	}
	known := object.ResourceOf(name)
	switch len(parts) {
	case 1:
		if known.Resource == "" {
			return "*", "*", object.Plural(name), nil
		}
		return known.Group, known.Version, known.Resource, nil
	case 2:
		return known.Group, parts[0], object.Plural(name), nil
	case 3:
		return parts[0], parts[1], object.Plural(name), nil
	}
	return "", "", "", cannot("the kind %q", kind)
}
