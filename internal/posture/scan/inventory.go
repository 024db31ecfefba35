// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// podKinds is the word of a control for all kinds that have a pod's spec.
const podKinds = "pods"

// Inventory is what else was scanned: namespaces with their labels, RBAC, and the lists for controls that look at
// several objects. Everything is added before anything is judged.
type Inventory struct {
	namespaces map[string]*corev1.Namespace
	byKind     map[string][]*object.Object
	rbac       rbac

	mu    sync.Mutex
	lists map[listKey][]any
}

type listKey struct {
	control, name, namespace string
}

// NewInventory is an empty one.
func NewInventory() *Inventory {
	return &Inventory{namespaces: map[string]*corev1.Namespace{}, byKind: map[string][]*object.Object{}, lists: map[listKey][]any{}}
}

// Add takes in an object.
func (inv *Inventory) Add(o *object.Object) {
	if ns, ok := o.API.(*corev1.Namespace); ok {
		inv.namespaces[ns.Name] = ns
	}
	inv.rbac.add(o.API)
	key := o.Served.GroupVersion().String() + "/" + o.Served.Kind
	inv.byKind[key] = append(inv.byKind[key], o)
	if slices.Contains(control.PodKinds(), o.Served.Kind) {
		inv.byKind[podKinds] = append(inv.byKind[podKinds], o)
	}
}

// Authorizer answers for the RBAC objects that were added; nil when there are none, because then nothing is known.
func (inv *Inventory) Authorizer() authorizer.UnconditionalAuthorizer {
	if inv.rbac.empty() {
		return nil
	}
	return &inv.rbac
}

// related are the lists that a control declared, as it sees them from an object.
func (inv *Inventory) related(c *control.Control, o *object.Object) map[string]any {
	out := make(map[string]any, len(c.Related))
	for name, r := range c.Related {
		key := listKey{control: c.ID, name: name}
		if r.Scope == "namespace" {
			key.namespace = o.Namespace
		}
		out[name] = inv.list(key, r)
	}
	return out
}

func (inv *Inventory) list(key listKey, r control.Related) []any {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if have, ok := inv.lists[key]; ok {
		return have
	}
	list := []any{}
	for _, kind := range r.Kinds {
		for _, o := range inv.byKind[kind] {
			if key.namespace == "" || o.Namespace == key.namespace {
				list = append(list, fields(o, kind == podKinds))
			}
		}
	}
	inv.lists[key] = list
	return list
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
		if t, ok, _ := unstructured.NestedMap(all, path...); ok {
			pod = t
			break
		}
	}
	labels, _, _ := unstructured.NestedMap(pod, "metadata", "labels")
	spec, _, _ := unstructured.NestedMap(pod, "spec")
	if labels == nil {
		labels = map[string]any{}
	}
	if spec == nil {
		spec = map[string]any{}
	}
	return map[string]any{"kind": o.Kind.Kind, "name": o.Name, "namespace": o.Namespace, "labels": labels, "spec": spec}
}
