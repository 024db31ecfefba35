// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"regexp"
	"slices"
	"sync/atomic"

	"github.com/google/cel-go/common/types"
	admv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules"

	"github.com/vigie-io/vigie/internal/posture/object"
)

type admissionObject = runtime.Object

// policy is a Policy with its defaults and selectors.
type policy struct {
	index int
	Policy
	spec      admv1.ValidatingAdmissionPolicySpec
	namespace labels.Selector
	object    labels.Selector
	alone     bool // it decides by the object alone
	compiled  atomic.Pointer[compiled]

	paramsValue any // Params as CEL sees them; nil when there are none
	paramsSize  object.Size
}

func newPolicy(index int, p Policy) (*policy, error) {
	if p.Spec.MatchConstraints == nil {
		return nil, fmt.Errorf("spec.matchConstraints is missing")
	}
	if p.Spec.ParamKind != nil && p.Params == nil {
		return nil, fmt.Errorf("spec.paramKind asks for parameters and there are none: give an object of kind %s", p.Spec.ParamKind.Kind)
	}
	made := &policy{index: index, Policy: p, spec: *p.Spec.DeepCopy()}
	m := made.spec.MatchConstraints
	if m.MatchPolicy == nil {
		equivalent := admv1.Equivalent
		m.MatchPolicy = &equivalent
	}
	var err error
	if made.namespace, err = selector(m.NamespaceSelector); err != nil {
		return nil, fmt.Errorf("namespaceSelector: %w", err)
	}
	if made.object, err = selector(m.ObjectSelector); err != nil {
		return nil, fmt.Errorf("objectSelector: %w", err)
	}
	if p.Params != nil {
		made.paramsValue = types.DefaultTypeAdapter.NativeToValue(p.Params)
		made.paramsSize = object.SizeOf(p.Params)
	}
	made.alone = !p.Related && made.namespace.Empty() && !slices.ContainsFunc(texts(&made.spec), mentionsOthers.MatchString)
	return made, nil
}

// mentionsOthers finds the names of what is not in the object; that one of them is in a string costs time and nothing else.
var mentionsOthers = regexp.MustCompile(`\b(authorizer|namespaceObject)\b`)

// texts are the expressions of a policy.
func texts(spec *admv1.ValidatingAdmissionPolicySpec) []string {
	var out []string
	for _, v := range spec.Variables {
		out = append(out, v.Expression)
	}
	return append(out, deciding(spec)...)
}

// deciding are the expressions that stand after the variables.
func deciding(spec *admv1.ValidatingAdmissionPolicySpec) []string {
	var out []string
	for _, m := range spec.MatchConditions {
		out = append(out, m.Expression)
	}
	for _, v := range spec.Validations {
		out = append(out, v.Expression, v.MessageExpression)
	}
	for _, a := range spec.AuditAnnotations {
		out = append(out, a.ValueExpression)
	}
	return out
}

func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil // its default is {}
	}
	return metav1.LabelSelectorAsSelector(s)
}

// candidateKey is everything about a request that the rules of a policy look at, but for its name.
type candidateKey struct {
	kind, served schema.GroupVersionKind
	resource     schema.GroupVersionResource
	subresource  string
	operation    admission.Operation
	cluster      bool
}

type candidates struct {
	policies []candidate
	space    *space // that most of them are compiled in
	names    names  // of that space, whose values do not depend on the policy
}

type candidate struct {
	policy   *policy
	rules    []admv1.NamedRuleWithOperations // those that match, but for names
	resource schema.GroupVersionResource     // in which the policy sees the object
	kind     schema.GroupVersionKind
}

// candidatesOf are the policies whose rules match a request.
func (e *Engine) candidatesOf(r *Request, attr admission.Attributes) *candidates {
	s := r.subject()
	key := candidateKey{s.Kind, s.Served, s.Resource, r.Subresource, r.Operation, attr.GetNamespace() == ""}
	e.mu.Lock()
	list, ok := e.candidates[key]
	e.mu.Unlock()
	if ok {
		return list
	}
	list = &candidates{}
	for _, p := range e.policies {
		c, ok := p.candidate(attr, s)
		if !ok {
			continue
		}
		list.policies = append(list.policies, c)
		made := e.compile(p)
		if list.space == nil && made.err == nil {
			list.space = made.space
		}
		for _, v := range made.variables {
			if v.space == list.space && !v.ownParams {
				list.names.add(v)
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.candidates[key] = list
	return list
}

func (p *policy) candidate(attr admission.Attributes, s *object.Object) (candidate, bool) {
	m := p.spec.MatchConstraints
	same := attr
	fuzzy := *m.MatchPolicy == admv1.Equivalent && s.Served != s.Kind
	if ex := matching(m.ExcludeResourceRules, same); anyName(ex) {
		return candidate{}, false
	}
	equivalent := override{attr, s.Served.GroupVersion().WithResource(s.Resource.Resource)}
	if fuzzy && anyName(matching(m.ExcludeResourceRules, equivalent)) {
		return candidate{}, false
	}
	if len(m.ResourceRules) == 0 {
		return candidate{policy: p, resource: s.Resource, kind: s.Kind}, true
	}
	if hit := matching(m.ResourceRules, same); len(hit) > 0 {
		return candidate{p, hit, s.Resource, s.Kind}, true
	}
	if fuzzy {
		if hit := matching(m.ResourceRules, equivalent); len(hit) > 0 {
			return candidate{p, hit, equivalent.resource, s.Served}, true
		}
	}
	return candidate{}, false
}

// override is a request as it would be in another version of its kind.
type override struct {
	admission.Attributes
	resource schema.GroupVersionResource
}

// GetResource implements admission.Attributes.
func (o override) GetResource() schema.GroupVersionResource { return o.resource }

func matching(list []admv1.NamedRuleWithOperations, attr admission.Attributes) []admv1.NamedRuleWithOperations {
	var hit []admv1.NamedRuleWithOperations
	for _, r := range list {
		m := rules.Matcher{Rule: r.RuleWithOperations, Attr: attr}
		if m.Matches() {
			hit = append(hit, r)
		}
	}
	return hit
}

func anyName(list []admv1.NamedRuleWithOperations) bool {
	return slices.ContainsFunc(list, func(r admv1.NamedRuleWithOperations) bool { return len(r.ResourceNames) == 0 })
}

// named holds the part of the rules that is about names.
func (p *policy) named(name string, matched []admv1.NamedRuleWithOperations) bool {
	has := func(r admv1.NamedRuleWithOperations) bool { return slices.Contains(r.ResourceNames, name) }
	if slices.ContainsFunc(p.spec.MatchConstraints.ExcludeResourceRules, has) {
		return false
	}
	return len(p.spec.MatchConstraints.ResourceRules) == 0 || anyName(matched) || slices.ContainsFunc(matched, has)
}

// selects holds the label selectors of the namespace and of the object.
func (p *policy) selects(r *Request, attr admission.Attributes) bool {
	if !p.namespace.Empty() {
		set, has := namespaceLabels(r, attr)
		if has && !p.namespace.Matches(set) {
			return false
		}
	}
	if p.object.Empty() {
		return true
	}
	return labelled(r.Object, p.object) || labelled(r.Old, p.object)
}

// namespaceLabels are those of the object's namespace, or of the object when it is one. Other objects without a
// namespace are selected by every selector.
func namespaceLabels(r *Request, attr admission.Attributes) (labels.Set, bool) {
	if attr.GetResource() == corev1.SchemeGroupVersion.WithResource("namespaces") && r.Object != nil {
		if m, err := meta.Accessor(r.Object.API); err == nil {
			return m.GetLabels(), true
		}
	}
	if r.Namespace == nil {
		return nil, attr.GetNamespace() != ""
	}
	return r.Namespace.Labels, true
}

func labelled(o *object.Object, s labels.Selector) bool {
	if o == nil {
		return false
	}
	m, err := meta.Accessor(o.API)
	return err == nil && s.Matches(labels.Set(m.GetLabels()))
}
