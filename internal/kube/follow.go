// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/vigie-io/vigie/internal/model"
)

// resource is one kind of objects that is followed. It is the store of its reflector: what the API server tells goes straight
// into the View.
type resource struct {
	name     string
	client   *rest.RESTClient
	path     string // of the collection: "pods"
	selector string // of fields; empty: all
	example  runtime.Object
	set      func(object any)
	delete   func(object any)
	// replace takes in a list of all. Where it is nil, set takes in each, and keep drops what is not among them.
	replace func(list []any)
	keep    func(list []any)
	now     func() time.Time
	synced  func() // tells that it was read whole

	changes atomic.Uint64
	mu      sync.Mutex
	read    time.Time
	problem string
}

// follow lists what is followed.
func (c *Client) follow() []*resource {
	v, node := c.view, c.options.Node
	mine := func(p *model.Pod) bool { return p.Node == node }
	list := []*resource{
		c.podResource("pods of this node", "spec.nodeName="+node, mine),
		{name: "namespaces", client: c.api.core, path: "namespaces", example: &corev1.Namespace{},
			set: on(func(o *corev1.Namespace) {
				v.setNamespace(o.Name, &model.ClusterNamespace{Name: o.Name, Labels: o.Labels})
			}),
			delete: on(func(o *corev1.Namespace) { v.setNamespace(o.Name, nil) }),
			keep:   keeping(func(o *corev1.Namespace) string { return o.Name }, v.keepNamespaces)},
		{name: "nodes", client: c.api.core, path: "nodes", example: &corev1.Node{},
			set:    on(func(o *corev1.Node) { v.setNode(o.Name, nodeOf(o)) }),
			delete: on(func(o *corev1.Node) { v.setNode(o.Name, nil) }),
			keep:   keeping(func(o *corev1.Node) string { return o.Name }, v.keepNodes)},
		{name: "services", client: c.api.core, path: "services", example: &corev1.Service{},
			set:    on(func(o *corev1.Service) { v.setService(ServiceName{o.Namespace, o.Name}, serviceOf(o)) }),
			delete: on(func(o *corev1.Service) { v.setService(ServiceName{o.Namespace, o.Name}, nil) }),
			keep:   keeping(func(o *corev1.Service) ServiceName { return ServiceName{o.Namespace, o.Name} }, v.keepServices)},
		{name: "endpointslices", client: c.api.discovery, path: "endpointslices", example: &discoveryv1.EndpointSlice{},
			set:    on(func(o *discoveryv1.EndpointSlice) { n := nameOf(o); v.setSlice(n.of, n.slice, endpointsOf(o)) }),
			delete: on(func(o *discoveryv1.EndpointSlice) { n := nameOf(o); v.setSlice(n.of, n.slice, nil) }),
			keep:   keeping(nameOf, v.keepSlices)},
	}
	if !c.options.OwnPodsOnly {
		list = append(list, c.podResource("pods of other nodes",
			"spec.nodeName!="+node+",spec.nodeName!=", func(p *model.Pod) bool { return !mine(p) }))
	}
	for _, r := range list {
		r.now, r.synced = c.options.Now, c.checkSynced
	}
	return list
}

func (c *Client) podResource(name, selector string, mine func(*model.Pod) bool) *resource {
	pod := func(o *corev1.Pod) listedPod {
		l := listedPod{pod: c.view.podOf(o, o.Spec.NodeName == c.options.Node)}
		if owner := metav1.GetControllerOfNoCopy(o); owner != nil && owner.Kind == "Job" {
			l.job = string(owner.UID)
		}
		return l
	}
	return &resource{name: name, client: c.api.core, path: "pods", selector: selector, example: &corev1.Pod{},
		set: on(func(o *corev1.Pod) {
			l := pod(o)
			if l.pod.Ended && l.pod.Node != c.options.Node {
				c.view.pastPod(l.pod)
				return
			}
			c.view.setPod(l.pod, l.job)
			if l.job != "" {
				c.wantOwner()
			}
		}),
		delete: on(func(o *corev1.Pod) { c.view.deletePod(string(o.UID)) }),
		replace: func(objects []any) {
			list := make([]listedPod, 0, len(objects))
			for _, o := range objects {
				on(func(o *corev1.Pod) {
					if l := pod(o); !l.pod.Ended || l.pod.Node == c.options.Node {
						list = append(list, l)
					}
				})(o)
			}
			c.view.replacePods(list, mine)
			c.wantOwner()
		}}
}

// nameOf is empty in part for a slice of no service, which is followed under its own name.
func nameOf(o *discoveryv1.EndpointSlice) sliceName {
	return sliceName{ServiceName{o.Namespace, o.Labels[discoveryv1.LabelServiceName]}, o.Name}
}

func on[T any](do func(*T)) func(any) {
	return func(object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		if o, ok := object.(*T); ok {
			do(o)
		}
	}
}

// keeping gives the names of what a list has to who drops the others.
func keeping[T any, K comparable](name func(*T) K, keep func(there map[K]bool)) func([]any) {
	return func(list []any) {
		there := make(map[K]bool, len(list))
		for _, o := range list {
			on(func(o *T) { there[name(o)] = true })(o)
		}
		keep(there)
	}
}

func (c *Client) checkSynced() {
	for _, r := range c.resources {
		if r.status().Synced.IsZero() {
			return
		}
	}
	c.view.everythingRead()
}

// reflect follows one resource until ctx ends: by a stream that begins with what there is, where the API server serves that, else by
// a list and a watch.
func (c *Client) reflect(ctx context.Context, r *resource) {
	lists := cache.NewFilteredListWatchFromClient(r.client, r.path, metav1.NamespaceAll, func(o *metav1.ListOptions) { o.FieldSelector = r.selector })
	list, open := lists.ListWithContextFunc, lists.WatchFuncWithContext
	lists.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		page, err := list(ctx, o)
		if r.outcome(ctx, err); err != nil {
			return nil, err
		}
		return page, meta.EachListItem(page, func(o runtime.Object) error {
			_, err := strip(o)
			return err
		})
	}
	lists.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		w, err := open(ctx, o)
		r.outcome(ctx, err)
		return w, err
	}
	// What goes wrong is told by Status, and that the API server is away in our own log: the library's lines are for the curious.
	quiet := logr.FromSlogHandler(curious{c.options.Log.With("resource", r.name).Handler()})
	follower := cache.NewReflectorWithOptions(lists, r.example, r, cache.ReflectorOptions{Name: "vigie/" + r.path, Logger: &quiet})
	follower.RunWithContext(klog.NewContext(ctx, quiet))
}

// curious logs everything as debug.
type curious struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h curious) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler. Errors come without a question whether they are wanted.
func (h curious) Handle(ctx context.Context, r slog.Record) error {
	if !h.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h curious) WithAttrs(attrs []slog.Attr) slog.Handler {
	return curious{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h curious) WithGroup(name string) slog.Handler { return curious{h.Handler.WithGroup(name)} }

// outcome notes what became of a request.
func (r *resource) outcome(ctx context.Context, err error) {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || ctx.Err() != nil {
		return // it is read again at once, or never
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.problem = ""
	case apierrors.IsForbidden(err):
		r.problem = err.Error() + " (the agent's ClusterRole lacks a right)"
	default:
		r.problem = rootOf(err).Error()
	}
}

func (r *resource) status() ResourceStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ResourceStatus{Name: r.name, Synced: r.read, Changes: r.changes.Load(), Problem: r.problem}
}

// Add implements cache.ReflectorStore.
func (r *resource) Add(object any) error { return r.take(object, r.set) }

// Update implements cache.ReflectorStore.
func (r *resource) Update(object any) error { return r.take(object, r.set) }

// Delete implements cache.ReflectorStore.
func (r *resource) Delete(object any) error { return r.take(object, r.delete) }

func (r *resource) take(object any, do func(any)) error {
	r.changes.Add(1)
	if _, err := strip(object); err != nil {
		return err
	}
	do(object)
	return nil
}

// Replace implements cache.ReflectorStore.
func (r *resource) Replace(list []any, _ string) error {
	if r.replace != nil {
		r.replace(list)
	} else {
		r.keep(list)
		for _, o := range list {
			r.set(o)
		}
	}
	r.mu.Lock()
	r.read, r.problem = r.now(), ""
	r.mu.Unlock()
	r.synced()
	return nil
}

// Resync implements cache.ReflectorStore: there is nobody to tell again.
func (*resource) Resync() error { return nil }

// Transformer implements cache.TransformingStore: what is gathered until a list is whole is stripped, too.
func (*resource) Transformer() cache.TransformFunc { return strip }
