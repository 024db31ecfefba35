// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/manifest"
)

func builtin(t *testing.T) *Set {
	t.Helper()
	s, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestValidate(t *testing.T) {
	const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  replicas: REPLICAS\n  selector: {matchLabels: {a: b}}\n  strategy: {rollingUpdate: {maxSurge: SURGE}}\n" +
		"  template: {metadata: {creationTimestamp: null}, spec: {containers: [{CONTAINER, resources: {limits: {memory: 1Gi, cpu: 2}}}]}}\n"
	for _, c := range []struct{ name, replicas, surge, container, want string }{
		{"good", "2", "25%", "name: c, image: i", ""},
		{"an integer or a string", "2", "1", "name: c", ""},
		{"a null is absent", "null", "1", "name: c, image: null", ""},
		{"text for a number", "'2'", "1", "name: c", "spec.replicas"},
		{"a fraction for a number", "1.5", "1", "name: c", "spec.replicas"},
		{"a list for text", "1", "1", "name: c, image: [i]", "spec.template.spec.containers[0].image"},
		{"what must be there", "1", "1", "image: i", "spec.template.spec.containers[0].name"},
		{"a null is not there", "1", "1", "name: null", "spec.template.spec.containers[0].name"},
		{"deep in a list", "1", "1", "name: c, ports: [{hostPort: 1}]", "spec.template.spec.containers[0].ports[0].containerPort"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.NewReplacer("REPLICAS", c.replicas, "SURGE", c.surge, "CONTAINER", c.container).Replace(deployment)
			d := manifest.Text{Line: 1, Bytes: []byte(text)}.Parse()
			if d.Err != nil {
				t.Fatal(d.Err)
			}
			faults, ok, err := builtin(t).Validate(d.Value)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			switch {
			case c.want == "" && len(faults) > 0:
				t.Errorf("it is good, and was found to have %q", faults)
			case c.want != "" && !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, c.want) }):
				t.Errorf("%q, want one about %s", faults, c.want)
			}
		})
	}
}

func TestAKindWithoutSchema(t *testing.T) {
	if _, ok, err := builtin(t).Validate(map[string]any{"apiVersion": "example.org/v1", "kind": "Thing"}); ok || err != nil {
		t.Errorf("ok %v, %v", ok, err)
	}
}

// TestEveryKindResolves makes the whole schema of every kind.
func TestEveryKindResolves(t *testing.T) {
	s := builtin(t)
	for _, kind := range s.Kinds() {
		if _, err := s.validator(kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for resource, want := range map[schema.GroupVersionResource]string{{Version: "v1", Resource: "endpoints"}: "Endpoints", {Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"}: "Ingress",
		{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}: "NetworkPolicy", {Group: "storage.k8s.io", Version: "v1", Resource: "csistoragecapacities"}: "CSIStorageCapacity"} {
		if kind, ok := s.KindOf(resource); !ok || kind.Kind != want {
			t.Errorf("%s is a %s", resource, kind)
		}
	}
	if minor, err := s.Minor(); err != nil || minor < 37 {
		t.Errorf("of 1.%d, %v", minor, err)
	}
	for _, kind := range []schema.GroupVersionKind{{Version: "v1", Kind: "Pod"}, {Group: "batch", Version: "v1", Kind: "CronJob"}, {Group: "resource.k8s.io", Version: "v1", Kind: "ResourceClaim"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingAdmissionPolicy"}} {
		if !s.Has(kind) {
			t.Errorf("no schema of %s", kind)
		}
	}
}
