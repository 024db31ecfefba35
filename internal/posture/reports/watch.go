// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// sink takes what a watch tells of one resource. It implements cache.ReflectorStore without keeping anything: the Keeper keeps
// objects in the form that they are judged in.
type sink struct {
	resource schema.GroupVersionResource
	change   func(*unstructured.Unstructured)
	remove   func(namespace, name string)
	keep     func([]*unstructured.Unstructured) // these are all that there are
}

// Add implements cache.ReflectorStore.
func (s *sink) Add(o any) error {
	if u, ok := o.(*unstructured.Unstructured); ok {
		s.change(u)
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (s *sink) Update(o any) error { return s.Add(o) }

// Delete implements cache.ReflectorStore.
func (s *sink) Delete(o any) error {
	if u, ok := o.(*unstructured.Unstructured); ok {
		s.remove(u.GetNamespace(), u.GetName())
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *sink) Replace(list []any, _ string) error {
	var all []*unstructured.Unstructured
	for _, o := range list {
		if u, ok := o.(*unstructured.Unstructured); ok {
			all = append(all, u)
			s.change(u)
		}
	}
	s.keep(all)
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *sink) Resync() error { return nil }

// follow tells a sink everything of a resource until ctx ends: a list by pages, then a watch, and that again when it breaks.
func follow(ctx context.Context, client dynamic.Interface, s *sink) {
	r := client.Resource(s.resource)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return r.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return r.Watch(ctx, o)
		},
	}
	cache.NewNamedReflector(s.resource.GroupResource().String(), lw, &unstructured.Unstructured{}, s, 0).RunWithContext(ctx)
}
