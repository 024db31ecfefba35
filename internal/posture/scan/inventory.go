// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
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
	forms map[form]map[string]any
}

// form is an object as fields, see fields; made once for all controls.
type form struct {
	object *object.Object
	asPod  bool
}

func (inv *Inventory) fields(o *object.Object, asPod bool) map[string]any {
	have, ok := inv.forms[form{o, asPod}]
	if !ok {
		have = fields(o, asPod)
		inv.forms[form{o, asPod}] = have
	}
	return have
}

// listKey names a list. narrow is what its objects have in common, see narrows.
type listKey struct {
	control, name, namespace, narrow string
}

// NewInventory is an empty one.
func NewInventory() *Inventory {
	return &Inventory{namespaces: map[string]*corev1.Namespace{}, byKind: map[string][]*object.Object{}, lists: map[listKey][]any{}, forms: map[form]map[string]any{}}
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
	inv.mu.Lock()
	defer inv.mu.Unlock()
	for name, r := range c.Related {
		key := listKey{control: c.ID, name: name}
		inv.fill(key, r)
		if r.Scope == "namespace" {
			key.namespace = o.Namespace
		}
		list := []any{}
		for _, narrow := range inv.wanted(r, o) {
			key.narrow = narrow
			list = append(list, inv.lists[key]...)
		}
		out[name] = list
	}
	return out
}

// fill makes all lists of one name at once. filled marks that it was done.
func (inv *Inventory) fill(key listKey, r control.Related) {
	const filled = "\x00filled"
	mark := key
	mark.narrow = filled
	if _, done := inv.lists[mark]; done {
		return
	}
	inv.lists[mark] = nil
	for _, kind := range r.Kinds {
		for _, o := range inv.byKind[kind] {
			if r.Scope == "namespace" {
				key.namespace = o.Namespace
			}
			all := inv.fields(o, kind == podKinds)
			for _, narrow := range narrows(r, all) {
				key.narrow = narrow
				inv.lists[key] = append(inv.lists[key], all)
			}
		}
	}
}
