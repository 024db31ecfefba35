// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/object"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// Key names an object.
type Key struct {
	Resource        schema.GroupVersionResource
	Namespace, Name string
}

// Keeper knows the objects of a cluster, and which of them must be judged anew: those that changed, and those that may look at
// what changed. It is safe for concurrent use; rounds go one at a time.
type Keeper struct {
	judge  *scan.Judge
	theirs func(*unstructured.Unstructured) bool // made by a controller, or Kubernetes' own: known and not judged

	mu         sync.Mutex
	objects    map[Key]*kept
	dirty      map[Key]bool
	spaces     map[string]bool // namespaces in which everything is dirty
	all        bool
	gone       []*unstructured.Unstructured
	exceptions *exception.Set
	broken     int // objects that cannot be decoded
}

// kept is one object.
type kept struct {
	object *object.Object
	self   *unstructured.Unstructured // its identity alone
	hash   uint64
	known  bool // and not judged
}

// NewKeeper knows nothing yet.
func NewKeeper(judge *scan.Judge, theirs func(*unstructured.Unstructured) bool) *Keeper {
	return &Keeper{judge: judge, theirs: theirs, objects: map[Key]*kept{}, dirty: map[Key]bool{}, spaces: map[string]bool{}}
}

// SetExceptions makes everything dirty when they are others than before.
func (k *Keeper) SetExceptions(set *exception.Set) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.exceptions, k.all = set, true
}

// Change takes in an object as it is now. A change of its status, or of who manages its fields, is none.
func (k *Keeper) Change(r schema.GroupVersionResource, u *unstructured.Unstructured) {
	key := Key{r, u.GetNamespace(), u.GetName()}
	fields := runtime.DeepCopyJSON(u.Object)
	delete(fields, "status")
	copied := &unstructured.Unstructured{Object: fields}
	copied.SetManagedFields(nil)
	copied.SetResourceVersion("")
	text, err := json.Marshal(fields)
	if err != nil {
		return // what came as JSON goes as JSON
	}
	h := fnv.New64a()
	h.Write(text)
	now := &kept{hash: h.Sum64(), known: k.theirs(u), self: identity(u)}
	k.mu.Lock()
	defer k.mu.Unlock()
	if before := k.objects[key]; before != nil && before.hash == now.hash {
		return
	}
	if now.object, err = k.judge.Decode(fields); err != nil {
		k.broken++
		return
	}
	k.objects[key] = now
	k.dirty[key] = true
	k.touch(now)
}

// Remove forgets an object.
func (k *Keeper) Remove(key Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	have := k.objects[key]
	if have == nil {
		return
	}
	delete(k.objects, key)
	delete(k.dirty, key)
	if !have.known {
		k.gone = append(k.gone, have.self)
	}
	k.touch(have)
}

// Keep removes what of a resource is not among keys: a watch began anew.
func (k *Keeper) Keep(r schema.GroupVersionResource, keys map[Key]bool) {
	k.mu.Lock()
	var lost []Key
	for key := range k.objects {
		if key.Resource == r && !keys[key] {
			lost = append(lost, key)
		}
	}
	k.mu.Unlock()
	for _, key := range lost {
		k.Remove(key)
	}
}

// touch marks who may look at an object that changed. mu is held.
func (k *Keeper) touch(o *kept) {
	switch k.judge.ReachOf(o.object) {
	case scan.Itself:
	case scan.Cluster:
		k.all = true
	case scan.Namespace:
		space := o.object.Namespace
		if _, ok := o.object.API.(*corev1.Namespace); ok {
			space = o.object.Name
		}
		k.spaces[space] = true
	}
}

func identity(u *unstructured.Unstructured) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: map[string]any{}}
	out.SetAPIVersion(u.GetAPIVersion())
	out.SetKind(u.GetKind())
	out.SetNamespace(u.GetNamespace())
	out.SetName(u.GetName())
	out.SetUID(u.GetUID())
	return out
}

// Judged is one object, and how every control that looks at it judged it.
type Judged struct {
	Self     *unstructured.Unstructured
	Outcomes []Outcome
}

// Round is what a round found.
type Round struct {
	Judged []Judged
	Gone   []*unstructured.Unstructured // objects that are not there any more
}

// Pending reports whether a round would do something.
func (k *Keeper) Pending() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all || len(k.dirty) > 0 || len(k.spaces) > 0 || len(k.gone) > 0
}

// Size is how many objects are known, and how many could not be decoded.
func (k *Keeper) Size() (objects, broken int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.objects), k.broken
}

// Round judges what is dirty. What changes meanwhile is the next round's.
func (k *Keeper) Round(ctx context.Context, now time.Time) Round {
	k.mu.Lock()
	var todo []*kept
	objects := make([]*object.Object, 0, len(k.objects))
	spaces := map[string]*corev1.Namespace{}
	for key, o := range k.objects {
		objects = append(objects, o.object)
		if ns, ok := o.object.API.(*corev1.Namespace); ok {
			spaces[ns.Name] = ns
		}
		if !o.known && (k.all || k.dirty[key] || k.spaces[key.Namespace]) {
			todo = append(todo, o)
		}
	}
	r := Round{Gone: k.gone}
	exceptions := k.exceptions
	k.gone, k.all, k.dirty, k.spaces = nil, false, map[Key]bool{}, map[string]bool{}
	k.mu.Unlock()
	inventory := k.judge.Inventory(objects)
	for _, o := range todo {
		if ctx.Err() != nil {
			return r
		}
		outcomes := []Outcome{}
		for _, v := range k.judge.Verdicts(ctx, o.object, inventory) {
			outcomes = append(outcomes, k.outcome(v, o, spaces[o.object.Namespace], exceptions, now))
		}
		r.Judged = append(r.Judged, Judged{o.self, outcomes})
	}
	return r
}

func (k *Keeper) outcome(v engine.Verdict, o *kept, ns *corev1.Namespace, exceptions *exception.Set, now time.Time) Outcome {
	c := k.judge.Controls[v.Policy]
	out := Outcome{Control: c, Result: Pass}
	switch v.State {
	case engine.Passed:
	case engine.Unevaluated:
		out.Result, out.Message = Error, v.Err
	case engine.Failed:
		out.Result = Fail
		for i, f := range v.Failures {
			if i > 0 {
				out.Message += "; "
			}
			out.Message += f.Message
		}
		if e := exceptions.Excuse(c.ID, exception.SubjectOf(o.object, ns), now); e != nil {
			out.Result, out.Exception = Skip, e.Name
			out.Message += " (excused by " + e.Name + ": " + e.Spec.Reason + ")"
		}
	}
	return out
}
