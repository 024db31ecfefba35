// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/celtext"
)

// Fix is what the API server changes on the way in: one policy for all fixes, with its binding.
type Fix struct {
	Policy  *admv1.MutatingAdmissionPolicy
	Binding *admv1.MutatingAdmissionPolicyBinding
}

// mend sets one field that a manifest left out. What a manifest says is never overruled.
type mend struct {
	pod    bool     // in the pod's spec; else in each container
	parent []string // objects above the field, which may be missing
	field  string
	value  string // CEL
	unless string // CEL over c: where the field would be refused
}

// mends are the fixes that are only a default: control → what it sets.
func mends() map[string]mend {
	security := []string{"securityContext"}
	return map[string]mend{
		"privilege-escalation": {parent: security, field: "allowPrivilegeEscalation", value: "false",
			unless: "c.?securityContext.privileged.orValue(false) || 'SYS_ADMIN' in c.?securityContext.capabilities.add.orValue([]) || 'CAP_SYS_ADMIN' in c.?securityContext.capabilities.add.orValue([])"},
		"capabilities-drop-all": {parent: security, field: "capabilities", value: "{'drop': ['ALL']}"},
		"read-only-root":        {parent: security, field: "readOnlyRootFilesystem", value: "true"},
		"run-as-non-root":       {pod: true, parent: security, field: "runAsNonRoot", value: "true"},
		"seccomp-default":       {pod: true, parent: security, field: "seccompProfile", value: "{'type': 'RuntimeDefault'}"},
		"service-account-token": {pod: true, field: "automountServiceAccountToken", value: "false"},
	}
}

// FixNames are the controls that have a fix for admission.
func FixNames() []string {
	var out []string
	for name := range mends() {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// fixes makes the policy of the plan's fixes. It is for what is created: a fix of what is there would restart it.
func (b *Bundle) fixes(plan *Plan) error {
	if len(plan.Fixes) == 0 {
		return nil
	}
	const name = "vigie-fix"
	pods := []atom{}
	for _, r := range []string{"pods", "podtemplates", "replicationcontrollers"} {
		pods = append(pods, atom{"", "v1", r, admv1.Create})
	}
	for _, r := range []string{"deployments", "statefulsets", "daemonsets", "replicasets"} {
		pods = append(pods, atom{"apps", "v1", r, admv1.Create})
	}
	pods = append(pods, atom{"batch", "v1", "jobs", admv1.Create}, atom{"batch", "v1", "cronjobs", admv1.Create})
	w := &writer{plan: plan, declared: map[string]string{}, policy: &admv1.ValidatingAdmissionPolicy{}}
	at := w.variable("at", "object.kind == 'Pod' ? '/spec' : object.kind == 'CronJob' ? '/spec/jobTemplate/spec/template/spec' : "+
		"object.kind == 'PodTemplate' ? '/template/spec' : '/spec/template/spec'")
	spec := w.variable("spec", "object.kind == 'Pod' ? object.spec : object.kind == 'CronJob' ? object.spec.jobTemplate.spec.template.spec : "+
		"object.kind == 'PodTemplate' ? object.template.spec : object.spec.template.spec")
	var mutations []admv1.Mutation
	for _, id := range slices.Sorted(slices.Values(plan.Fixes)) {
		m, ok := mends()[id]
		if !ok {
			return fmt.Errorf("no fix for admission of control %q: they are %s", id, strings.Join(FixNames(), ", "))
		}
		var expression string
		if m.pod {
			expression = m.patch(spec, at, "[0]", "x")
		} else {
			expression = m.patch("c", at+" + '/containers/' + string(i)", spec+".containers", "c") + " + " +
				m.patch("c", at+" + '/initContainers/' + string(i)", spec+".?initContainers.orValue([])", "c")
		}
		for _, e := range plan.Exceptions.Of(id) {
			if !e.Expired(plan.Now) {
				expression = w.exception(e) + " ? [] : (" + expression + ")"
			}
		}
		mutations = append(mutations, admv1.Mutation{PatchType: admv1.PatchTypeJSONPatch, JSONPatch: &admv1.JSONPatch{Expression: expression}})
	}
	ignore := admv1.Ignore
	labels := map[string]string{OwnerLabel: Owner}
	p := &admv1.MutatingAdmissionPolicy{TypeMeta: metav1.TypeMeta{APIVersion: admv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{ControlsAnnotation: strings.Join(slices.Sorted(slices.Values(plan.Fixes)), ",")}}}
	p.Spec = admv1.MutatingAdmissionPolicySpec{MatchConstraints: constraints(pods), Variables: w.policy.Spec.Variables, Mutations: mutations,
		FailurePolicy: &ignore, ReinvocationPolicy: admv1.NeverReinvocationPolicy}
	binding := &admv1.MutatingAdmissionPolicyBinding{TypeMeta: metav1.TypeMeta{APIVersion: admv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: admv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name}}
	if len(plan.Except) > 0 {
		binding.Spec.MatchResources = outside(plan.Except)
	}
	b.Fixes = append(b.Fixes, Fix{p, binding})
	return nil
}

// patch is CEL for a list of patches: of is what has the field, list the elements that i and c go through.
func (m mend) patch(of, at, list, element string) string {
	get := of
	for _, p := range append(slices.Clone(m.parent), m.field) {
		get += ".?" + p
	}
	missing := "!" + get + ".hasValue()"
	if m.unless != "" {
		missing += " && !(" + m.unless + ")"
	}
	one := func(when, path, value string) string {
		if when != "" {
			when = " && " + when
		}
		return list + ".transformList(i, " + element + ", " + missing + when + ", JSONPatch{op: 'add', path: " + at + " + " + celtext.Quote(path) + ", value: " + value + "})"
	}
	if len(m.parent) == 0 {
		return one("", "/"+m.field, m.value)
	}
	parent := m.parent[0]
	return one("has("+of+"."+parent+")", "/"+parent+"/"+m.field, m.value) + " + " +
		one("!has("+of+"."+parent+")", "/"+parent, "{"+celtext.Quote(m.field)+": "+m.value+"}")
}

// outside selects all namespaces but some.
func outside(except []string) *admv1.MatchResources {
	return &admv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: slices.Sorted(slices.Values(except))}}}}
}
