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
	whole      made                         // lists that many objects see
	narrow     made                         // those that few do; at most maxNarrow are kept
	namespaces map[string]*corev1.Namespace // that nobody declared
}

func newView(inv *Inventory) *view {
	return &view{inv, newMade(), newMade(), map[string]*corev1.Namespace{}}
}

// made are lists and objects as CEL sees them: several times as large as the objects themselves.
type made struct {
	objects map[listed]ref.Val
	lists   map[listKey]viewed
}

func newMade() made { return made{map[listed]ref.Val{}, map[listKey]viewed{}} }

// maxNarrow bounds what a view keeps of the lists that few objects see. Those that see the same mostly stand close to each other.
const maxNarrow = 1024

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
func (v *view) related(c *control.Control, o *object.Object) engine.Related {
	out := engine.Related{Lists: make(map[string]any, len(c.Related))}
	for name, keys := range v.inventory.related(c, o) {
		if len(keys) == 1 {
			list := v.list(keys[0])
			out.Lists[name] = list.value
			out.Size = out.Size.With(list.size)
			continue
		}
		var values []ref.Val
		for _, key := range keys {
			list := v.list(key)
			values = append(values, list.values...)
			out.Size = out.Size.With(list.size)
		}
		out.Size.List = max(out.Size.List, len(values))
		out.Lists[name] = values
	}
	return out
}

// viewed is a list that was made for CEL.
type viewed struct {
	values []ref.Val
	value  ref.Val // of all of them
	size   object.Size
}

// list is a whole list, made once: most objects of a namespace see the same.
func (v *view) list(key listKey) viewed {
	m := &v.whole
	if key.narrow != anything {
		m = &v.narrow
		if len(m.lists) >= maxNarrow {
			*m = newMade()
		}
	}
	have, ok := m.lists[key]
	if !ok {
		list := v.inventory.list(key)
		have.values = make([]ref.Val, len(list))
		have.size.List = len(list)
		for i, l := range list {
			have.values[i] = m.value(l)
			have.size = have.size.With(l.object.Size)
		}
		have.value = types.NewRefValList(types.DefaultTypeAdapter, have.values)
		m.lists[key] = have
	}
	return have
}

func (m *made) value(l listed) ref.Val {
	have, ok := m.objects[l]
	if !ok {
		have = engine.Value(l.object)
		if l.asPod {
			have = podForm(l.object)
		}
		m.objects[l] = have
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
