// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// anything is the list of what cannot be narrowed.
const anything = ""

// narrows are the lists that an object is in.
func narrows(r control.Related, all map[string]any) []string {
	switch {
	case r.Labels != "": // found by each of its labels, and by who selects none
		labels, _ := all["labels"].(map[string]any)
		return append(pairs(labels), anything)
	case r.Selectors != "": // found by one pair that it selects: an object without that pair is not selected
		selected := pairs(mapAt(all, r.Selectors))
		if len(selected) == 0 {
			return []string{anything}
		}
		return selected[:1]
	case r.Name != "":
		name, _ := all["name"].(string) // of a pod's form
		if name == "" {
			name, _, _ = unstructured.NestedString(all, "metadata", "name")
		}
		return []string{name}
	}
	return []string{anything}
}

// wanted are the lists that a control sees from an object.
func (inv *Inventory) wanted(r control.Related, o *object.Object) []string {
	switch {
	case r.Labels != "":
		if selected := pairs(mapAt(inv.fields(o, false), r.Labels)); len(selected) > 0 {
			return selected[:1]
		}
	case r.Selectors != "":
		labels, _ := inv.fields(o, true)["labels"].(map[string]any)
		return append(pairs(labels), anything)
	case r.Name != "":
		name, _, _ := unstructured.NestedString(inv.fields(o, false), strings.Split(r.Name, ".")...)
		return []string{name}
	}
	return []string{anything}
}

func mapAt(all map[string]any, path string) map[string]any {
	return nested(all, strings.Split(path, "."))
}

// nested is an object in an object, not a copy; nil when there is none.
func nested(all map[string]any, path []string) map[string]any {
	v, _, err := unstructured.NestedFieldNoCopy(all, path...)
	if err != nil {
		return nil
	}
	m, _ := v.(map[string]any)
	return m
}

// pairs are labels as key=value, in order.
func pairs(labels map[string]any) []string {
	var out []string
	for k, v := range labels {
		if text, ok := v.(string); ok {
			out = append(out, k+"="+text)
		}
	}
	slices.Sort(out)
	return out
}

// fields are an object's, as JSON has them. Of what makes pods it is always the same form: that of a pod.
func fields(o *object.Object, asPod bool) map[string]any {
	var all map[string]any
	if u, ok := o.API.(*unstructured.Unstructured); ok {
		all = u.Object
	} else {
		var err error
		if all, err = runtime.DefaultUnstructuredConverter.ToUnstructured(o.API); err != nil {
			return map[string]any{} // cannot be: it came out of the same converter
		}
	}
	if !asPod {
		return all
	}
	pod := all
	for _, path := range [][]string{{"spec", "jobTemplate", "spec", "template"}, {"spec", "template"}, {"template"}} {
		if t := nested(all, path); t != nil {
			pod = t
			break
		}
	}
	labels, spec := nested(pod, []string{"metadata", "labels"}), nested(pod, []string{"spec"})
	if labels == nil {
		labels = map[string]any{}
	}
	if spec == nil {
		spec = map[string]any{}
	}
	return map[string]any{"kind": o.Kind.Kind, "name": o.Name, "namespace": o.Namespace, "labels": labels, "spec": spec}
}
