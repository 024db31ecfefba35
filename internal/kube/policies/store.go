// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"
)

// Add implements cache.ReflectorStore.
func (f *followed) Add(object any) error { return f.set(object) }

// Update implements cache.ReflectorStore.
func (f *followed) Update(object any) error { return f.set(object) }

// Delete implements cache.ReflectorStore.
func (f *followed) Delete(object any) error {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("a policy of the type %T is no object", object)
	}
	w := f.watcher
	w.mu.Lock()
	delete(w.objects, objectKey{f.Kind.Kind, u.GetNamespace(), u.GetName()})
	w.mu.Unlock()
	w.notice()
	return nil
}

// Replace implements cache.ReflectorStore.
func (f *followed) Replace(list []any, _ string) error {
	objects := make([]*Object, 0, len(list))
	for _, o := range list {
		one, ok := o.(*Object) // of a stream, as Transformer made it
		if !ok {
			var err error
			if one, err = f.object(o); err != nil {
				return err
			}
		}
		objects = append(objects, one)
	}
	f.replace(objects)
	return nil
}

// Transformer implements cache.TransformingStore: while a list is read, policies are not gathered as trees of maps, which take ten
// times as much.
func (f *followed) Transformer() cache.TransformFunc {
	return func(o any) (any, error) { return f.object(o) }
}

// GetObjectMeta implements metav1.ObjectMetaAccessor: client-go asks for the name alone.
func (o *Object) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}
}

// Resync implements cache.ReflectorStore: there is nobody to tell again.
func (*followed) Resync() error { return nil }

func (f *followed) set(object any) error {
	one, err := f.object(object)
	if err != nil {
		return err
	}
	w := f.watcher
	w.mu.Lock()
	w.put(one)
	w.mu.Unlock()
	w.notice()
	return nil
}

// put takes an object in, unless it is there as it is. Under Watcher.mu.
func (w *Watcher) put(o *Object) {
	key := objectKey{o.Kind, o.Namespace, o.Name}
	if known := w.objects[key]; known != nil && known.UID == o.UID && string(known.JSON) == string(o.JSON) {
		return
	}
	w.objects[key] = o
}

// replace makes these all that there are of the kind.
func (f *followed) replace(list []*Object) {
	w := f.watcher
	w.mu.Lock()
	there := make(map[objectKey]bool, len(list))
	for _, o := range list {
		there[objectKey{o.Kind, o.Namespace, o.Name}] = true
		w.put(o)
	}
	for key := range w.objects {
		if key.kind == f.Kind.Kind && !there[key] {
			delete(w.objects, key)
		}
	}
	f.read = true
	w.mu.Unlock()
	w.notice()
}

func (w *Watcher) notice() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// object is what its author wrote of an object.
func (f *followed) object(o any) (*Object, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a policy of the type %T is no object", o)
	}
	meta := map[string]any{"name": u.GetName()}
	if u.GetNamespace() != "" {
		meta["namespace"] = u.GetNamespace()
	}
	for name, texts := range map[string]map[string]string{"labels": u.GetLabels(), "annotations": annotations(u)} {
		if len(texts) > 0 {
			meta[name] = texts
		}
	}
	written := map[string]any{"apiVersion": f.Resource.GroupVersion().String(), "kind": f.Kind.Kind, "metadata": meta}
	for _, name := range []string{"spec", "specs"} {
		if v, ok := u.Object[name]; ok {
			written[name] = v
		}
	}
	b, err := json.Marshal(written)
	if err != nil {
		return nil, fmt.Errorf("write the policy %s/%s: %w", u.GetNamespace(), u.GetName(), err)
	}
	return &Object{Kind: f.Kind.Kind, Namespace: u.GetNamespace(), Name: u.GetName(), UID: string(u.GetUID()),
		ResourceVersion: u.GetResourceVersion(), Generation: u.GetGeneration(), JSON: b}, nil
}

// annotations are those that a policy may be changed by: not the copy of itself that kubectl keeps.
func annotations(u *unstructured.Unstructured) map[string]string {
	all := u.GetAnnotations()
	delete(all, "kubectl.kubernetes.io/last-applied-configuration") // a copy, too
	return all
}

// Save keeps what is known for the next start.
func (w *Watcher) Save() error {
	if w.options.StateFile == "" {
		return nil
	}
	list, synced := w.Objects()
	if !synced {
		return nil // what is known in part does not take the place of what was known
	}
	b, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("write policies down: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(w.options.StateFile), filepath.Base(w.options.StateFile)+".*")
	if err != nil {
		return fmt.Errorf("write policies down: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), w.options.StateFile)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write policies down: %w", err)
	}
	return nil
}

// restore begins with what was saved.
func (w *Watcher) restore() error {
	if w.options.StateFile == "" {
		return nil
	}
	b, err := os.ReadFile(w.options.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list []*Object
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return fmt.Errorf("read the policies of the last run: %w", err)
	}
	for _, o := range list {
		w.put(o)
	}
	if len(list) > 0 {
		w.notice()
	}
	return nil
}
