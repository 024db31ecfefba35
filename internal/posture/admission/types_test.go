// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/schema"
)

// rules are constraints about resources of one group and version.
func rules(group, version string, resources ...any) map[string]any {
	return map[string]any{"resourceRules": []any{map[string]any{"apiGroups": []any{group}, "apiVersions": []any{version}, "operations": []any{"CREATE"}, "resources": resources}}}
}

func TestTypesOfFields(t *testing.T) {
	types, err := schema.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	deployments := func(s map[string]any) { s["matchConstraints"] = rules("apps", "v1", "deployments") }
	both := func(s map[string]any) { s["matchConstraints"] = rules("apps", "v1", "deployments", "statefulsets") }
	for _, c := range []struct {
		name, expression string
		edit             func(map[string]any)
		want             string // a part of the only doubt; empty: none
		note             bool
	}{
		{"good", "object.spec.replicas > 1 && object.spec.template.spec.containers.all(c, c.image.startsWith('r/'))", deployments, "", false},
		{"no such field", "object.spec.replica > 1", deployments, "undefined field 'replica'", false},
		{"deep in a list", "object.spec.template.spec.containers.all(c, c.imageName != '')", deployments, "undefined field 'imageName'", false},
		{"of another type", "object.spec.replicas == '1'", deployments, "no matching overload", false},
		{"an integer or a string", "object.spec.strategy.rollingUpdate.maxSurge == 1", deployments, "", false},
		{"any map", "object.metadata.labels['a'] == 'b'", deployments, "", false},
		{"the old object", "oldObject.spec.replica > 1", deployments, "undefined field 'replica'", false},
		{"good for one kind", "object.kind == 'Deployment' || object.spec.serviceName != ''", both, "of apps/v1 Deployment)", true},
		{"bad for all kinds", "object.spec.replica > 1", both, "of apps/v1 Deployment, apps/v1 StatefulSet)", false},
		{"in a variable", "variables.n > 1", func(s map[string]any) {
			deployments(s)
			s["variables"] = []any{map[string]any{"name": "n", "expression": "object.spec.replica"}}
		}, "variable n: ", false},
		{"by a variable's type", "variables.n == 'a'", func(s map[string]any) {
			deployments(s)
			s["variables"] = []any{map[string]any{"name": "n", "expression": "object.spec.replicas"}}
		}, "no matching overload", false},
		{"a condition", "true", func(s map[string]any) {
			deployments(s)
			s["matchConditions"] = []any{map[string]any{"name": "a", "expression": "object.spec.replica > 1"}}
		}, "matchConditions[0]: ", false},
		{"parameters", "params.dada.x == 'a'", func(s map[string]any) {
			deployments(s)
			s["paramKind"] = map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}
		}, "undefined field 'dada'", false},
		{"parameters of a kind that nobody knows", "params.spec.x == 'a'", func(s map[string]any) {
			deployments(s)
			s["paramKind"] = map[string]any{"apiVersion": "example.org/v1", "kind": "Settings"}
		}, "", false},
		{"a custom resource", "object.spec.what == 1", func(s map[string]any) { s["matchConstraints"] = rules("example.org", "v1", "things") }, "", false},
		{"wildcards", "object.spec.what == 1", func(s map[string]any) { s["matchConstraints"] = rules("*", "*", "*") }, "", false},
		{"the request", "request.operatoin == 'CREATE'", deployments, "undefined field 'operatoin'", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			doubts, checked, err := Check([]map[string]any{policyOf("p", c.expression, c.edit)}, engine.Version{Major: 1, Minor: 37}, nil, types)
			if err != nil || checked != 1 {
				t.Fatal(checked, err)
			}
			switch {
			case c.want == "" && len(doubts) > 0:
				t.Errorf("got %+v", doubts)
			case c.want != "" && (len(doubts) == 0 || !strings.Contains(doubts[0].Message, c.want) || doubts[0].Note != c.note):
				t.Errorf("got %+v, want %q, a note: %v", doubts, c.want, c.note)
			}
		})
	}
}

// TestConditionsOfMutations: of a mutating policy its conditions and variables are checked by the kinds too.
func TestConditionsOfMutations(t *testing.T) {
	types, err := schema.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	for condition, want := range map[string]string{"object.spec.replicas > 1": "", "object.spec.replica > 1": "undefined field 'replica'"} {
		d := map[string]any{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": map[string]any{"name": "m"}, "spec": map[string]any{
			"matchConstraints": rules("apps", "v1", "deployments"), "matchConditions": []any{map[string]any{"name": "a", "expression": condition}},
			"mutations": []any{map[string]any{"patchType": "JSONPatch", "jsonPatch": map[string]any{"expression": "[JSONPatch{op: 'add', path: '/a', value: 1}]"}}}}}
		doubts, _, err := Check([]map[string]any{d}, engine.Version{Major: 1, Minor: 37}, nil, types)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" && len(doubts) > 0 || want != "" && (len(doubts) != 1 || !strings.Contains(doubts[0].Message, want)) {
			t.Errorf("%s: %+v", condition, doubts)
		}
	}
}
