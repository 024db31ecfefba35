// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"
	"testing"

	admv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"

	"github.com/vigie-io/vigie/internal/posture/object"
)

// vap is a policy for pods and config maps, and for what edit adds.
func vap(name, expression string, edit func(*admv1.ValidatingAdmissionPolicySpec)) Policy {
	p := &admv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.MatchConstraints = &admv1.MatchResources{ResourceRules: []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{
		Operations: []admv1.OperationType{admv1.OperationAll},
		Rule:       admv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods", "configmaps", "namespaces"}}}}}}
	p.Spec.Validations = []admv1.Validation{{Expression: expression, Message: "no"}}
	if edit != nil {
		edit(&p.Spec)
	}
	return Policy{ValidatingAdmissionPolicy: p}
}

func decode(t *testing.T, fields map[string]any) *object.Object {
	t.Helper()
	o, err := object.NewDecoder().Decode(fields)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func configMap(t *testing.T, name string, labels map[string]any) *object.Object {
	return decode(t, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "namespace": "shop", "labels": labels}, "data": map[string]any{"a": "1"}})
}

func review(t *testing.T, r Request, policies ...Policy) []Verdict {
	t.Helper()
	e, err := New(policies, Version{1, 36})
	if err != nil {
		t.Fatal(err)
	}
	return e.Review(t.Context(), r)
}

func TestWhatAPolicyAppliesTo(t *testing.T) {
	selector := func(m map[string]string) *metav1.LabelSelector { return &metav1.LabelSelector{MatchLabels: m} }
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"tier": "gold"}}}
	for _, tt := range []struct {
		name    string
		edit    func(*admv1.ValidatingAdmissionPolicySpec)
		op      admission.Operation
		applies bool
	}{
		{"by its rules", nil, admission.Create, true},
		{"another operation", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.ResourceRules[0].Operations = []admv1.OperationType{admv1.Delete}
		}, admission.Create, false},
		{"the namespace's labels", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.NamespaceSelector = selector(map[string]string{"tier": "gold"})
		}, admission.Create, true},
		{"other labels of the namespace", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.NamespaceSelector = selector(map[string]string{"tier": "tin"})
		}, admission.Create, false},
		{"other labels of the object", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.ObjectSelector = selector(map[string]string{"app": "b"})
		}, admission.Create, false},
		{"its name", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.ResourceRules[0].ResourceNames = []string{"one"}
		}, admission.Create, true},
		{"another name", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.ResourceRules[0].ResourceNames = []string{"two"}
		}, admission.Create, false},
		{"excluded", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.ExcludeResourceRules = s.MatchConstraints.ResourceRules
		}, admission.Create, false},
		{"excluded by name", func(s *admv1.ValidatingAdmissionPolicySpec) {
			r := *s.MatchConstraints.ResourceRules[0].DeepCopy()
			r.ResourceNames = []string{"one"}
			s.MatchConstraints.ExcludeResourceRules = []admv1.NamedRuleWithOperations{r}
		}, admission.Create, false},
		{"a condition that holds", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConditions = []admv1.MatchCondition{{Name: "c", Expression: "object.metadata.name == 'one'"}}
		}, admission.Create, true},
		{"a condition that does not hold, beside one with an error", func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.MatchConditions = []admv1.MatchCondition{{Name: "e", Expression: "object.nothing == 'x'"}, {Name: "c", Expression: "false"}}
		}, admission.Create, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := review(t, Request{Operation: tt.op, Object: configMap(t, "one", map[string]any{"app": "a"}), Namespace: shop}, vap("p", "false", tt.edit))
			if (len(got) == 1) != tt.applies {
				t.Errorf("verdicts: %+v", got)
			}
		})
	}
}

func TestWhatCannotBeEvaluatedIsNotPassed(t *testing.T) {
	ignore := admv1.Ignore
	r := Request{Object: configMap(t, "one", nil)}
	for _, tt := range []struct{ name, expression, want string }{
		{"does not compile", "object.(", "compilation error"},
		{"wrong type", "'text'", "must evaluate to bool"},
		{"fails", "object.data.missing == 'x'", "no such key"},
		{"newer than the target", "object.data.a.nothing()", "compilation error"},
		{"a variable of nobody", "variables.x == 1", "not declared"},
		{"no RBAC is known", "authorizer.group('').resource('pods').check('get').allowed()", "authorizer"},
		{"too dear", "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, [1,2,3,4,5,6,7,8,9,10].all(g, a+b+c+d+e+f+g > 0)))))))", "cost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := review(t, r, vap("p", tt.expression, func(s *admv1.ValidatingAdmissionPolicySpec) { s.FailurePolicy = &ignore }))
			if len(got) != 1 || got[0].State != Unevaluated || !strings.Contains(got[0].Err, tt.want) {
				t.Errorf("got %+v, want an error with %q", got, tt.want)
			}
		})
	}
}

func TestOperations(t *testing.T) {
	old, now := configMap(t, "one", nil), configMap(t, "one", map[string]any{"a": "b"})
	expression := "request.operation == 'CREATE' ? oldObject == null : request.operation == 'DELETE' ? object == null && oldObject.data.a == '1' : object.metadata.labels.a == 'b' && !has(oldObject.metadata.labels)"
	for _, r := range []Request{{Operation: admission.Create, Object: now}, {Operation: admission.Update, Object: now, Old: old}, {Operation: admission.Delete, Old: old}} {
		if got := review(t, r, vap("p", expression, nil)); len(got) != 1 || got[0].State != Passed {
			t.Errorf("%s: %+v", r.Operation, got)
		}
	}
}

func TestParamsAndMessages(t *testing.T) {
	p := vap("p", "object.data.a in params.data.allowed.split(',')", func(s *admv1.ValidatingAdmissionPolicySpec) {
		s.ParamKind = &admv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
		s.Variables = []admv1.Variable{{Name: "allowed", Expression: "params.data.allowed"}}
		s.Validations[0].MessageExpression = "'want ' + variables.allowed"
	})
	if _, err := New([]Policy{p}, Version{1, 36}); err == nil {
		t.Error("a policy without its parameters was taken")
	}
	other := p
	p.Params = map[string]any{"data": map[string]any{"allowed": "2,3"}}
	other.Params = map[string]any{"data": map[string]any{"allowed": "1"}}
	got := review(t, Request{Object: configMap(t, "one", nil)}, p, other)
	if len(got) != 2 || got[0].State != Failed || got[0].Failures[0].Message != "want 2,3" || got[1].State != Passed {
		t.Errorf("got %+v", got)
	}
}

func TestPoliciesThatMeanDifferentThingsByAName(t *testing.T) {
	with := func(text string) func(*admv1.ValidatingAdmissionPolicySpec) {
		return func(s *admv1.ValidatingAdmissionPolicySpec) {
			s.Variables = []admv1.Variable{{Name: "v", Expression: text}}
		}
	}
	got := review(t, Request{Object: configMap(t, "one", nil)}, vap("a", "variables.v == 1", with("1")), vap("b", "variables.v == 'x'", with("'x'")), vap("c", "variables.v == 1", with("1")))
	for _, v := range got {
		if v.State != Passed {
			t.Errorf("%+v", v)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d verdicts", len(got))
	}
}

func TestTheTargetBoundsTheLanguage(t *testing.T) {
	if _, err := New(nil, Version{1, 20}); err == nil {
		t.Error("1.20 was taken")
	}
	p := vap("p", "semver('1.2.3').major() == 1", nil)
	for minor, want := range map[uint]State{30: Unevaluated, 36: Passed} {
		e, err := New([]Policy{p}, Version{1, minor})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Review(t.Context(), Request{Object: configMap(t, "one", nil)}); got[0].State != want {
			t.Errorf("1.%d: %+v", minor, got)
		}
	}
}
