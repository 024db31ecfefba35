// SPDX-License-Identifier: Apache-2.0

package object

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func deployment2(t *testing.T) *Object {
	t.Helper()
	o, err := NewDecoder().Decode(map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "a"},
		"spec": map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"a": "b"}},
			"template": map[string]any{"spec": map[string]any{"serviceAccountName": "s",
				"containers": []any{map[string]any{"name": "a"}, map[string]any{"name": "b", "ports": []any{map[string]any{"containerPort": int64(1)}, map[string]any{"containerPort": int64(2)}}}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestPathsOfTypedObjects(t *testing.T) {
	o := deployment2(t)
	containers := []string{"spec", "template", "spec", "containers"}
	if n := o.Len(containers); n != 2 {
		t.Errorf("%d containers", n)
	}
	if s := o.Text([]string{"spec", "template", "spec", "serviceAccountName"}); s != "s" {
		t.Errorf("service account %q", s)
	}
	if m := o.Texts([]string{"spec", "selector", "matchLabels"}); !maps.Equal(m, map[string]string{"a": "b"}) {
		t.Errorf("labels %v", m)
	}
	if _, ok := o.Value([]string{"spec", "template", "spec"}).(*corev1.PodSpec); !ok {
		t.Errorf("the pod's spec is a %T", o.Value([]string{"spec", "template", "spec"}))
	}
	for _, path := range [][]string{{"nothing"}, {"spec", "selector", "matchLabels", "x"}, append(containers, "9"), append(containers, "x"), {"apiVersion", "x"}} {
		if o.Value(path) != nil || o.Len(path) != 0 || o.Text(path) != "" || o.Texts(path) != nil {
			t.Errorf("%v is there", path)
		}
	}
}

func TestOnlyOneElementIsKept(t *testing.T) {
	o := deployment2(t)
	containers := []string{"spec", "template", "spec", "containers"}
	second := o.Only(containers, 1)
	port := second.Only(append(containers, "0", "ports"), 1)
	if second.Len(containers) != 1 || second.Text(append(containers, "0", "name")) != "b" || port.Len(append(containers, "0", "ports")) != 1 {
		t.Errorf("%+v", port.API)
	}
	if got := port.Value(append(containers, "0", "ports", "0", "containerPort")); got != int32(2) {
		t.Errorf("port %v", got)
	}
	if o.Len(containers) != 2 || o.Len(append(containers, "1", "ports")) != 2 {
		t.Error("the object itself was changed")
	}
	if none := o.Only(containers, -1); none.Value(containers) == nil || none.Len(containers) != 0 {
		t.Error("the list that is left is not empty")
	}
	for _, path := range [][]string{{"nothing"}, nil, {"spec", "paused"}, append(containers, "9", "ports"), append(containers, "x")} {
		if o.Only(path, 0) != o {
			t.Errorf("%v was changed", path)
		}
	}
}

func TestPathsOfCustomObjects(t *testing.T) {
	o, err := NewDecoder().Decode(map[string]any{"apiVersion": "example.org/v1", "kind": "Thing", "spec": map[string]any{"list": []any{"a", map[string]any{"in": []any{int64(1), int64(2)}}}, "labels": map[string]any{"a": "b", "n": int64(1)}}})
	if err != nil {
		t.Fatal(err)
	}
	one := o.Only([]string{"spec", "list"}, 1).Only([]string{"spec", "list", "0", "in"}, 1)
	if one.Len([]string{"spec", "list"}) != 1 || one.Value([]string{"spec", "list", "0", "in", "0"}) != int64(2) || o.Len([]string{"spec", "list", "1", "in"}) != 2 {
		t.Errorf("%v", one.API)
	}
	if m := o.Texts([]string{"spec", "labels"}); !maps.Equal(m, map[string]string{"a": "b"}) {
		t.Errorf("labels %v", m)
	}
}
