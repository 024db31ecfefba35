// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"slices"
	"sync"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// podKinds is the word of a control for all kinds that have a pod's spec.
const podKinds = "pods"

// Inventory is what else was scanned: namespaces with their labels, RBAC, and the lists for controls that look at
// several objects. Everything is added before anything is judged by those.
type Inventory struct {
	namespaces map[string]*corev1.Namespace
	byKind     map[string][]*object.Object
	rbac       rbac

	mu    sync.Mutex
	lists map[listKey][]listed
}

// listed is an object in a list; asPod: in the form that all that make pods have, see podForm.
type listed struct {
	object *object.Object
	asPod  bool
}

// listKey names a list. narrow is what its objects have in common, see narrows.
type listKey struct {
	control, name, namespace, narrow string
}

// NewInventory is an empty one.
func NewInventory() *Inventory {
	return &Inventory{namespaces: map[string]*corev1.Namespace{}, byKind: map[string][]*object.Object{}, lists: map[listKey][]listed{}}
}

// Add takes in an object, if it is of one of the kinds that are looked for, a namespace or RBAC.
func (inv *Inventory) Add(o *object.Object, kinds map[string]bool) {
	if ns, ok := o.API.(*corev1.Namespace); ok {
		inv.namespaces[ns.Name] = ns
	}
	inv.rbac.add(o.API)
	if key := o.Served.GroupVersion().String() + "/" + o.Served.Kind; kinds[key] {
		inv.byKind[key] = append(inv.byKind[key], o)
	}
	if kinds[podKinds] && slices.Contains(control.PodKinds(), o.Served.Kind) {
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

// related are the lists that a control declared, as it sees them from an object; each is in parts.
func (inv *Inventory) related(c *control.Control, o *object.Object) map[string][]listKey {
	out := make(map[string][]listKey, len(c.Related))
	inv.mu.Lock()
	defer inv.mu.Unlock()
	for name, r := range c.Related {
		key := listKey{control: c.ID, name: name}
		inv.fill(key, r)
		if r.Scope == "namespace" {
			key.namespace = o.Namespace
		}
		for _, narrow := range wanted(r, o) {
			key.narrow = narrow
			out[name] = append(out[name], key)
		}
	}
	return out
}

// list is one part. The lists are whole once one was asked for.
func (inv *Inventory) list(key listKey) []listed {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.lists[key]
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
			for _, narrow := range narrows(r, o, kind == podKinds) {
				key.narrow = narrow
				inv.lists[key] = append(inv.lists[key], listed{o, kind == podKinds})
			}
		}
	}
}

// view is the inventory as CEL sees it. Its values fill in what they hold when they are asked, so that a view belongs to one
// goroutine.
type view struct {
	inventory  *Inventory
	objects    map[listed]ref.Val
	lists      map[listKey]ref.Val
	namespaces map[string]*corev1.Namespace // that nobody declared
}

func newView(inv *Inventory) *view {
	return &view{inv, map[listed]ref.Val{}, map[listKey]ref.Val{}, map[string]*corev1.Namespace{}}
}

// namespace is the one that an object is in: as declared, or one that has only the label that all have.
func (v *view) namespace(o *object.Object) *corev1.Namespace {
	if o.Namespace == "" {
		return nil
	}
	if declared, ok := v.inventory.namespaces[o.Namespace]; ok {
		return declared
	}
	made, ok := v.namespaces[o.Namespace]
	if !ok {
		made = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.Namespace, Labels: map[string]string{corev1.LabelMetadataName: o.Namespace}}}
		v.namespaces[o.Namespace] = made
	}
	return made
}

// related are the lists of a control, for engine.Request.
func (v *view) related(c *control.Control, o *object.Object) map[string]any {
	out := make(map[string]any, len(c.Related))
	for name, keys := range v.inventory.related(c, o) {
		if len(keys) == 1 {
			out[name] = v.list(keys[0])
			continue
		}
		var values []ref.Val
		for _, key := range keys {
			values = v.values(values, key)
		}
		out[name] = values
	}
	return out
}

// list is a whole list, made once: most objects of a namespace see the same.
func (v *view) list(key listKey) ref.Val {
	have, ok := v.lists[key]
	if !ok {
		have = types.NewRefValList(types.DefaultTypeAdapter, v.values(nil, key))
		v.lists[key] = have
	}
	return have
}

func (v *view) values(to []ref.Val, key listKey) []ref.Val {
	for _, l := range v.inventory.list(key) {
		to = append(to, v.value(l))
	}
	return to
}

func (v *view) value(l listed) ref.Val {
	have, ok := v.objects[l]
	if !ok {
		have = engine.Value(l.object)
		if l.asPod {
			have = podForm(l.object)
		}
		v.objects[l] = have
	}
	return have
}

// podForm is what an object's pods will be, whatever makes them.
func podForm(o *object.Object) ref.Val {
	spec := any(map[string]any{})
	if have := o.Value(podPath(o)); have != nil {
		spec = engine.ValueOf(have)
	}
	return types.DefaultTypeAdapter.NativeToValue(map[string]any{"kind": o.Kind.Kind, "name": o.Name, "namespace": o.Namespace, "labels": podLabels(o), "spec": spec})
}
