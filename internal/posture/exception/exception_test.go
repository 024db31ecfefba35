// SPDX-License-Identifier: Apache-2.0

package exception

import (
	"maps"
	"strings"
	"testing"
	"time"

	admv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/object"
)

func noon() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

func document(spec map[string]any) map[string]any {
	full := map[string]any{"owner": "team", "reason": "it must", "expires": noon().Add(time.Hour).Format(time.RFC3339), "controls": []any{"privileged"}}
	maps.Copy(full, spec)
	for k, v := range full {
		if v == nil {
			delete(full, k)
		}
	}
	return map[string]any{"apiVersion": APIVersion, "kind": Kind, "metadata": map[string]any{"name": "e"}, "spec": full}
}

func parse(t *testing.T, spec map[string]any) *Exception {
	t.Helper()
	e, err := Parse(document(spec))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// byCEL asks the condition as an API server would be asked.
func byCEL(t *testing.T, e *Exception, o *object.Object, ns *corev1.Namespace) bool {
	t.Helper()
	p := &admv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	p.Spec.MatchConstraints = &admv1.MatchResources{ResourceRules: []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{
		Operations: []admv1.OperationType{admv1.OperationAll}, Rule: admv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}}}}}}
	p.Spec.Variables = []admv1.Variable{{Name: "moments", Expression: Moments}}
	p.Spec.Validations = []admv1.Validation{{Expression: e.Condition("variables.moments")}}
	_, newest := engine.Supported()
	made, err := engine.New([]engine.Policy{{ValidatingAdmissionPolicy: p}}, newest)
	if err != nil {
		t.Fatal(err)
	}
	v := made.Review(t.Context(), engine.Request{Object: o, Namespace: ns})
	if len(v) != 1 || v[0].State == engine.Unevaluated {
		t.Fatalf("%+v", v)
	}
	return v[0].State == engine.Passed
}

// TestGoAndCELAgree: what a scan excuses is what an API server excuses.
func TestGoAndCELAgree(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"tier": "gold", "it's": "a"}}}
	made := func(kind, name, namespace string, labels map[string]any) *object.Object {
		metadata := map[string]any{"labels": labels, "namespace": namespace}
		if before, ok := strings.CutSuffix(name, "-?"); ok {
			metadata["generateName"] = before + "-"
		} else {
			metadata["name"] = name
		}
		o, err := object.NewDecoder().Decode(map[string]any{"apiVersion": "v1", "kind": kind, "metadata": metadata})
		if err != nil {
			t.Fatal(err)
		}
		m, err := meta.Accessor(o.API)
		if err != nil {
			t.Fatal(err)
		}
		m.SetCreationTimestamp(metav1.NewTime(noon()))
		return o
	}
	in := func(op string, values ...any) map[string]any {
		return map[string]any{"matchExpressions": []any{map[string]any{"key": "app", "operator": op, "values": values}}}
	}
	specs := map[string]map[string]any{
		"namespaces":   {"namespaces": []any{"shop", "other"}},
		"elsewhere":    {"namespaces": []any{"other"}},
		"by label":     {"namespaceSelector": map[string]any{"matchLabels": map[string]any{"tier": "gold"}}},
		"by other":     {"namespaceSelector": map[string]any{"matchLabels": map[string]any{"tier": "lead"}}},
		"kinds":        {"namespaces": []any{"shop"}, "kinds": []any{"Pod"}},
		"names":        {"names": []any{"web-*", "a.b"}},
		"one name":     {"names": []any{"web-1"}},
		"selector":     {"selector": map[string]any{"matchLabels": map[string]any{"app": "web"}}},
		"in":           {"selector": in("In", "web", "db")},
		"not in":       {"selector": in("NotIn", "web")},
		"exists":       {"selector": in("Exists")},
		"not there":    {"selector": in("DoesNotExist")},
		"expired":      {"names": []any{"*"}, "expires": noon().Format(time.RFC3339)},
		"all together": {"names": []any{"*"}, "namespaces": []any{"shop"}, "kinds": []any{"Pod"}, "selector": in("Exists")},
	}
	yes := 0
	for name, spec := range specs {
		e := parse(t, spec)
		for _, o := range []*object.Object{made("Pod", "web-1", "shop", map[string]any{"app": "web"}), made("Pod", "a.b", "shop", nil), made("Pod", "axb", "shop", map[string]any{"app": "x"}),
			made("Service", "web-2", "shop", nil), made("Pod", "web-?", "shop", nil), made("Node", "web-3", "", map[string]any{"app": "db"}), made("Namespace", "shop", "", map[string]any{"tier": "gold"})} {
			space := ns
			if o.Namespace == "" {
				space = nil
			}
			inGo := !e.Expired(noon()) && e.Selects(SubjectOf(o, space))
			if got := byCEL(t, e, o, space); got != inGo {
				t.Errorf("%s: %s %s: CEL says %v, Go %v: %s", name, o.Kind.Kind, o.Name, got, inGo, e.Condition("m"))
			}
			if inGo {
				yes++
			}
		}
	}
	if yes < 20 {
		t.Errorf("only %d were excused", yes)
	}
}

func TestDocumentsThatExcuseNothing(t *testing.T) {
	for name, spec := range map[string]map[string]any{
		"no owner":        {"owner": " ", "names": []any{"a"}},
		"no reason":       {"reason": nil, "names": []any{"a"}},
		"no end":          {"expires": nil, "names": []any{"a"}},
		"no control":      {"controls": nil, "names": []any{"a"}},
		"everything":      {},
		"a bad selector":  {"selector": map[string]any{"matchExpressions": []any{map[string]any{"key": "a", "operator": "Near"}}}},
		"a field too far": {"names": []any{"a"}, "container": "x"},
	} {
		if e, err := Parse(document(spec)); err == nil {
			t.Errorf("%s is taken: %+v", name, e)
		}
	}
	if _, err := Parse(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "e"}}); err == nil {
		t.Error("a pod is taken")
	}
}

func TestSet(t *testing.T) {
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	wide := parse(t, map[string]any{"names": []any{"web"}, "controls": []any{"framework:pss-baseline"}})
	typo := parse(t, map[string]any{"names": []any{"web"}, "controls": []any{"priviledged"}})
	set, errs := NewSet([]*Exception{wide, typo}, all)
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "priviledged") {
		t.Errorf("errors: %v", errs)
	}
	if set.Excuse("host-pid", Subject{Name: "web"}, noon()) != wide || set.Excuse("host-pid", Subject{Name: "db"}, noon()) != nil ||
		set.Excuse("image-digest", Subject{Name: "web"}, noon()) != nil || set.Excuse("host-pid", Subject{Name: "web"}, noon().Add(time.Hour)) != nil {
		t.Error("what is excused is not what the exceptions say")
	}
	var none *Set
	if none.Excuse("host-pid", Subject{Name: "web"}, noon()) != nil {
		t.Error("no set excuses something")
	}
}
