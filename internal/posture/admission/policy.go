// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/celtext"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/exception"
)

// Labels and annotations of what vigie owns in a cluster.
const (
	OwnerLabel         = "app.kubernetes.io/managed-by"
	Owner              = "vigie"
	StepLabel          = "vigie.io/step"
	ControlsAnnotation = "vigie.io/controls" // ids, by comma
)

// Names of the variables that vigie adds; those of controls cannot begin so, because rename gives them their control's name.
const (
	varResource = "vigieResource"
	varLevel    = "vigieLevel"
	varMoments  = "vigieMoments"
)

// maxValidations bounds a policy. All expressions of a policy share one budget of 10,000,000 cost units for an object: with 120
// it lasts for pods of a thousand containers, which is more than etcd stores.
const maxValidations = 120

// family makes the policies and bindings of a family's controls that are at a step.
func (b *Bundle) family(plan *Plan, f *family, step Step) {
	var now []*rule
	count := 0
	flush := func() {
		if len(now) > 0 {
			b.policy(plan, f, step, now)
		}
		now, count = nil, 0
	}
	for _, r := range f.rules {
		if plan.stepOf(r.control.ID) != step {
			continue
		}
		if n := len(r.control.Policy.Spec.Validations); count+n > maxValidations {
			flush()
			count = n
		} else {
			count += n
		}
		now = append(now, r)
	}
	flush()
}

func (b *Bundle) policy(plan *Plan, f *family, step Step, rules []*rule) {
	name := "vigie-" + f.name + "-" + string(step)
	for n := 2; slices.ContainsFunc(b.Policies, func(p *admv1.ValidatingAdmissionPolicy) bool { return p.Name == name }); n++ {
		name = fmt.Sprintf("vigie-%s-%s-%d", f.name, step, n)
	}
	// Audit and warn break no request: what cannot be evaluated there is let through, and the scan before a rollout names it.
	failure := admv1.Ignore
	if step == Deny {
		failure = admv1.Fail
	}
	w := &writer{plan: plan, family: f, step: step, declared: map[string]string{}, policy: &admv1.ValidatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{OwnerLabel: Owner, StepLabel: string(step)}}}}
	spec := &w.policy.Spec
	spec.FailurePolicy, spec.MatchConstraints = &failure, f.constraints.DeepCopy()
	spec.MatchConditions = f.conditions()
	for _, r := range rules {
		for range r.control.Policy.Spec.Validations {
			b.Places = append(b.Places, Place{Control: r.control.ID, Step: step, Policy: name, Validation: len(spec.Validations)})
			spec.Validations = append(spec.Validations, admv1.Validation{})
		}
		w.rule(r, spec.Validations[len(spec.Validations)-len(r.control.Policy.Spec.Validations):])
	}
	w.annotate()
	w.policy.Annotations = map[string]string{ControlsAnnotation: strings.Join(b.ControlsOf(name), ",")}
	b.Policies = append(b.Policies, w.policy)
	binding := &admv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{OwnerLabel: Owner, StepLabel: string(step)}},
		Spec:       admv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: name, ValidationActions: step.actions()}}
	if len(plan.Except) > 0 {
		binding.Spec.MatchResources = outside(plan.Except)
	}
	b.Bindings = append(b.Bindings, binding)
}

// conditions are when a family's policies judge at all: not what is being deleted, and not again what a request leaves as
// it is. The second is known only of kinds whose fields are known.
func (f *family) conditions() []admv1.MatchCondition {
	out := []admv1.MatchCondition{{Name: "not-being-deleted", Expression: "object == null || !has(object.metadata.deletionTimestamp)"}}
	if fields := f.fields(); len(fields) > 0 {
		differ := []string{"request.operation != 'UPDATE'"}
		for _, field := range append(fields, "metadata.labels", "metadata.annotations") {
			path := "." + strings.ReplaceAll(field, ".", ".?")
			if !strings.Contains(field, ".") {
				path = ".?" + field
			}
			differ = append(differ, "object"+path+" != oldObject"+path)
		}
		out = append(out, admv1.MatchCondition{Name: "changed", Expression: strings.Join(differ, " || ")})
	}
	return out
}

// fields are what controls look at in the family's kinds, beside metadata; nil when that is not known of all of them.
func (f *family) fields() []string {
	spec := []string{"spec"}
	known := map[string][]string{
		"pods": spec, "pods/ephemeralcontainers": spec, "replicationcontrollers": spec, "deployments": spec, "statefulsets": spec, "daemonsets": spec,
		"replicasets": spec, "jobs": spec, "cronjobs": spec, "podtemplates": {"template"}, "services": spec, "ingresses": spec, "networkpolicies": spec,
		"poddisruptionbudgets": spec, "horizontalpodautoscalers": spec, "persistentvolumes": spec, "persistentvolumeclaims": spec, "apiservices": spec,
		"gateways": spec, "httproutes": spec, "referencegrants": spec, "resourceclaims": spec, "resourceclaimtemplates": spec,
		"roles": {"rules"}, "clusterroles": {"rules", "aggregationRule"}, "rolebindings": {"roleRef", "subjects"}, "clusterrolebindings": {"roleRef", "subjects"},
		"configmaps": {"data", "binaryData"}, "endpoints": {"subsets"},
	}
	var out []string
	for _, a := range f.atoms {
		if known[a.resource] == nil {
			return nil
		}
		for _, field := range known[a.resource] {
			if !slices.Contains(out, field) {
				out = append(out, field)
			}
		}
	}
	slices.Sort(out)
	return out
}

// writer fills one policy.
type writer struct {
	plan     *Plan
	family   *family
	step     Step
	policy   *admv1.ValidatingAdmissionPolicy
	declared map[string]string // variable → expression
	excuses  []string          // exceptions that the policy has, as CEL lists of one name or none
	seen     map[string]bool   // exceptions in excuses
	failed   []string          // controls that fail, as CEL lists of one id or none
}

// variable declares a variable once. A name that stands for something else already gets a number.
func (w *writer) variable(name, expression string) string {
	for base, n := name, 2; ; n++ {
		have, ok := w.declared[name]
		if !ok {
			w.declared[name] = expression
			w.policy.Spec.Variables = append(w.policy.Spec.Variables, admv1.Variable{Name: name, Expression: expression})
		}
		if !ok || have == expression {
			return selects + name
		}
		name = base + "_" + strconv.Itoa(n)
	}
}

// selects stands before a variable's name.
const selects = "variables."

// rule writes the validations of a control, each with its id before its message.
func (w *writer) rule(r *rule, into []admv1.Validation) {
	c := r.control
	rename := w.names(c)
	guards := w.guards(r, rename)
	for i, v := range c.Policy.Spec.Validations {
		expression := rename(v.Expression)
		if len(guards) > 0 {
			expression = strings.Join(guards, " || ") + " || (" + expression + ")"
		}
		if w.plan.tellsAll(w.step) {
			expression = w.variable("vigieGood_"+celtext.Identifier(c.ID), expression)
			w.failed = append(w.failed, "("+expression+" ? [] : ["+celtext.Quote(c.ID)+"])")
		}
		message := strings.TrimSpace(v.Message)
		if message == "" {
			message = "failed expression: " + strings.TrimSpace(v.Expression)
		}
		into[i] = admv1.Validation{Expression: expression, Message: oneLine(c.ID + ": " + message), Reason: v.Reason}
		if v.MessageExpression != "" {
			into[i].MessageExpression = celtext.Quote(c.ID+": ") + " + (" + rename(v.MessageExpression) + ")"
		}
	}
}

// guards are CEL for when there is nothing to judge: any of them is true.
func (w *writer) guards(r *rule, rename func(string) string) (guards []string) {
	c := r.control
	if g := w.elsewhere(r); g != "" {
		guards = append(guards, g)
	}
	if levels := w.plan.Levels.of(c); levels != nil {
		l := w.plan.Levels
		v := w.variable(varLevel, "request.?namespace.orValue('') == '' ? '' : namespaceObject.metadata.?labels[?"+celtext.Quote(l.Label)+"].orValue("+celtext.Quote(l.Default)+")")
		if slices.Contains(levels, l.Default) { // what says neither has the default
			var weaker []string
			for _, name := range LevelNames() {
				if !slices.Contains(levels, name) {
					weaker = append(weaker, name)
				}
			}
			guards = append(guards, v+" in "+celtext.List(weaker))
		} else {
			guards = append(guards, "!("+v+" in "+celtext.List(levels)+")")
		}
	}
	for _, m := range c.Policy.Spec.MatchConditions {
		guards = append(guards, "!("+rename(m.Expression)+")")
	}
	for _, e := range w.plan.Exceptions.Of(c.ID) {
		if !e.Expired(w.plan.Now) {
			guards = append(guards, w.exception(e))
		}
	}
	return guards
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// names declares a control's variables and parameters, and gives the function that renames what its expressions say. A
// variable that another control has with another meaning gets the control's name.
func (w *writer) names(c *control.Control) func(string) string {
	own := map[string]string{}
	params := ""
	prefix := celtext.Identifier(c.ID) + "_"
	if len(c.Parameters) > 0 {
		params = w.variable(prefix+"params", parameters(c, w.plan.Params[c.ID]))
	}
	rename := func(text string) string {
		return celtext.Rename(text, func(name string) string {
			if to, ok := own[name]; ok {
				return to
			}
			return name
		}, params)
	}
	for _, v := range c.Policy.Spec.Variables {
		text, name := rename(v.Expression), v.Name
		if have, ok := w.declared[name]; ok && have != text || strings.HasPrefix(name, "vigie") {
			name = prefix + name
		}
		own[v.Name] = strings.TrimPrefix(w.variable(name, text), selects)
	}
	return rename
}

// parameters are a control's values as CEL of the ConfigMap that its policy would have been given.
func parameters(c *control.Control, set map[string]string) string {
	data, _ := c.Params(set)["data"].(map[string]any)
	var pairs []string
	for name, v := range data {
		text, _ := v.(string)
		pairs = append(pairs, celtext.Quote(name)+": "+celtext.Quote(text))
	}
	slices.Sort(pairs)
	return "{'data': {" + strings.Join(pairs, ", ") + "}}"
}

// elsewhere is CEL for "the family's, but not for this control"; empty when it looks at all of the family.
func (w *writer) elsewhere(r *rule) string {
	if r.atoms == nil {
		return ""
	}
	mine := map[admv1.OperationType][]string{}
	all := true
	for _, a := range w.family.atoms {
		if slices.Contains(r.atoms, a) {
			mine[a.operation] = append(mine[a.operation], a.key())
		} else {
			all = false
		}
	}
	if all {
		return ""
	}
	v := w.variable(varResource, "request.resource.group + '/' + request.resource.version + '/' + request.resource.resource + "+
		"(request.?subResource.orValue('') == '' ? '' : '/' + request.subResource)")
	var same [][]string
	var ops [][]string
	for _, op := range []admv1.OperationType{admv1.Create, admv1.Update, admv1.Delete, admv1.Connect} {
		keys := mine[op]
		slices.Sort(keys)
		i := slices.IndexFunc(same, func(k []string) bool { return slices.Equal(k, keys) })
		switch {
		case len(keys) == 0:
		case i < 0:
			same, ops = append(same, keys), append(ops, []string{string(op)})
		default:
			ops[i] = append(ops[i], string(op))
		}
	}
	if len(same) == 1 && len(ops[0]) == w.operations() {
		return "!(" + v + " in " + celtext.List(same[0]) + ")"
	}
	var parts []string
	for i, keys := range same {
		parts = append(parts, "request.operation in "+celtext.List(ops[i])+" && "+v+" in "+celtext.List(keys))
	}
	return "!(" + strings.Join(parts, " || ") + ")"
}

// operations are how many different ones the family has.
func (w *writer) operations() int {
	var seen []admv1.OperationType
	for _, a := range w.family.atoms {
		if !slices.Contains(seen, a.operation) {
			seen = append(seen, a.operation)
		}
	}
	return len(seen)
}

// exception declares an exception once, as a variable.
func (w *writer) exception(e *exception.Exception) string {
	moments := w.variable(varMoments, exception.Moments)
	v := w.variable("vigieExcept_"+celtext.Identifier(e.Name), e.Condition(moments))
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	if !w.seen[e.Name] {
		w.seen[e.Name] = true
		w.excuses = append(w.excuses, "("+v+" ? ["+celtext.Quote(e.Name)+"] : [])")
	}
	return v
}

// FailedAnnotation is, behind the policy's name and a slash, the key in the audit log under which controls stand that failed.
const FailedAnnotation = "failed"

// tellsAll reports whether a policy must write by itself into the audit log which controls failed. Before 1.37 an API server
// writes the first failure of a request there, and no other.
func (p *Plan) tellsAll(step Step) bool {
	return step != Deny && p.Target.Major == 1 && p.Target.Minor < 37
}

// annotate writes into the audit log which controls failed, at audit and warn; and at deny, which exceptions are about the
// object. An empty text is not written. The expressions are variables, because those may be longer.
func (w *writer) annotate() {
	add := func(key, variable string, lists []string) {
		if len(lists) > 0 {
			v := w.variable(variable, strings.Join(lists, " + "))
			w.policy.Spec.AuditAnnotations = append(w.policy.Spec.AuditAnnotations, admv1.AuditAnnotation{Key: key, ValueExpression: v + ".join(', ')"})
		}
	}
	add(FailedAnnotation, "vigieFailed", w.failed)
	add("exceptions", "vigieExcused", w.excuses)
}
