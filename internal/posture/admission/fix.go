// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/control"
)

// Fix is what the API server changes on the way in: a policy of the fixes for one family of kinds, with its binding.
type Fix struct {
	Policy  *admv1.MutatingAdmissionPolicy
	Binding *admv1.MutatingAdmissionPolicyBinding
}

// FixChoice is a control whose fix is made on the way in.
type FixChoice struct {
	Control *control.Control
	// Overrule: also where a manifest says otherwise. It matters only to a fix that is a default: another can do nothing else.
	Overrule bool
}

// fills reports whether only what was left out is set.
func (f FixChoice) fills() bool { return f.Control.Fix.Default && !f.Overrule }

// Overrules reports whether what a manifest says does not stay.
func (f FixChoice) Overrules() bool { return !f.fills() }

// overruleWord stands behind a control's name and =.
const overruleWord = "overrule"

// ParseFix reads CONTROL or CONTROL=overrule. The error names why a control's fix cannot be made on the way in.
func ParseFix(text string, all []*control.Control) (FixChoice, error) {
	id, word, given := strings.Cut(text, "=")
	i := slices.IndexFunc(all, func(c *control.Control) bool { return c.ID == id })
	switch {
	case i < 0:
		return FixChoice{}, fmt.Errorf("no fix for admission of control %q: there is no such control, `vigie controls list` names them", id)
	case given && word != overruleWord:
		return FixChoice{}, fmt.Errorf("fix %s: want CONTROL or CONTROL=%s", text, overruleWord)
	}
	if why := NotOnTheWayIn(all[i]); why != "" {
		return FixChoice{}, fmt.Errorf("no fix for admission of control %q: %s", id, why)
	}
	return FixChoice{Control: all[i], Overrule: given}, nil
}

// Fixable are the controls whose fix can be made on the way in.
func Fixable(all []*control.Control) []string {
	var out []string
	for _, c := range all {
		if NotOnTheWayIn(c) == "" {
			out = append(out, c.ID)
		}
	}
	return out
}

// NotOnTheWayIn says why a control's fix cannot be made by an API server; empty when it can.
func NotOnTheWayIn(c *control.Control) string {
	switch {
	case c.Fix == nil:
		return "it has no fix, only its owner knows how to make the object good"
	case c.ScanOnly():
		return "it looks at several objects, which an API server cannot"
	case fixAtoms(c) == nil:
		return "its policy says with selectors or wildcards, or not at all for what is created, what it is about"
	}
	for _, e := range c.Fix.Edits {
		if slices.Contains([]string{"apiVersion", "kind"}, e.Set) {
			return "it changes the version of the API, and a request in another one never comes to a policy: the API server refuses it"
		}
	}
	m := &mutator{control: c}
	if m.inPods() {
		if _, ok := m.text(podSpec); !ok || intoObject.MatchString(m.judgement(podSpec, "x")) {
			return "its policy does not look at pods by the variable podSpec, so that it cannot be asked about one container at a time"
		}
	}
	return ""
}

// intoObject is where a policy reads a pod's spec past the variable podSpec.
var intoObject = regexp.MustCompile(`\bobject\s*\.\s*\??(spec|template)\b`)

// fixAtoms are what a control's fix is for: what is created, and what is added to a pod that runs. A change of what is there else would restart it.
func fixAtoms(c *control.Control) []atom {
	return slices.DeleteFunc(slices.Clone(atomsOf(c.Policy.Spec.MatchConstraints)), func(a atom) bool {
		return a.operation != admv1.Create && (a.operation != admv1.Update || a.resource != debugged)
	})
}

// debugged is the resource by which containers are added to a pod that runs.
const debugged = "pods/ephemeralcontainers"

// fixes makes the policies of the plan's fixes, one for each family of kinds: a request is put before one of them.
func (b *Bundle) fixes(plan *Plan) error {
	choice := map[*control.Control]FixChoice{}
	var rules []*rule
	for _, f := range plan.Fixes {
		if why := NotOnTheWayIn(f.Control); why != "" {
			return fmt.Errorf("no fix for admission of control %q: %s", f.Control.ID, why)
		}
		if _, twice := choice[f.Control]; !twice {
			rules = append(rules, &rule{control: f.Control, atoms: fixAtoms(f.Control)})
		}
		choice[f.Control] = f
	}
	// A fix that does not go with some value comes behind those that may take it away.
	slices.SortFunc(rules, func(x, y *rule) int {
		if a, b := len(x.control.Fix.Unless) > 0, len(y.control.Fix.Unless) > 0; a != b {
			if b {
				return -1
			}
			return 1
		}
		return compare(x.control.ID, y.control.ID)
	})
	for _, f := range families(rules) {
		if err := b.fixFamily(plan, f, choice); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bundle) fixFamily(plan *Plan, f *family, choice map[*control.Control]FixChoice) error {
	w := &writer{plan: plan, family: f, declared: map[string]string{}, policy: &admv1.ValidatingAdmissionPolicy{}}
	var mutations []admv1.Mutation
	var ids []string
	for _, r := range f.rules {
		expressions, err := w.mutations(r, choice[r.control])
		if err != nil {
			return err
		}
		ids = append(ids, r.control.ID)
		for _, e := range expressions {
			mutations = append(mutations, admv1.Mutation{PatchType: admv1.PatchTypeJSONPatch, JSONPatch: &admv1.JSONPatch{Expression: e}})
		}
	}
	slices.Sort(ids)
	name := "vigie-fix-" + f.name
	labels := map[string]string{OwnerLabel: Owner}
	ignore := admv1.Ignore
	p := &admv1.MutatingAdmissionPolicy{TypeMeta: metav1.TypeMeta{APIVersion: admv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{ControlsAnnotation: strings.Join(ids, ",")}}}
	p.Spec = admv1.MutatingAdmissionPolicySpec{MatchConstraints: f.constraints.DeepCopy(), Variables: w.policy.Spec.Variables, Mutations: mutations,
		FailurePolicy: &ignore, ReinvocationPolicy: admv1.NeverReinvocationPolicy}
	if slices.ContainsFunc(f.atoms, func(a atom) bool { return a.resource == "pods" }) {
		// The kubelet compares what it finds there with the file that it has.
		p.Spec.MatchConditions = []admv1.MatchCondition{{Name: "no-mirror-of-a-static-pod",
			Expression: "object.kind != 'Pod' || !('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))"}}
	}
	binding := &admv1.MutatingAdmissionPolicyBinding{TypeMeta: metav1.TypeMeta{APIVersion: admv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: admv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name}}
	if len(plan.Except) > 0 {
		binding.Spec.MatchResources = outside(plan.Except)
	}
	b.Fixes = append(b.Fixes, Fix{p, binding})
	return nil
}

// outside selects all namespaces but some.
func outside(except []string) *admv1.MatchResources {
	return &admv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: slices.Sorted(slices.Values(except))}}}}
}
