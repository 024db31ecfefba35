// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
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
	fresh    func() wire
	// read is what is kept of an object; the others take that.
	read   func(wire) any
	set    func(told any)
	delete func(told any)
	// replace takes in a list of all. Where it is nil, set takes in each, and keep drops what is not among them.
	replace func(list []any)
	keep    func(list []any)
	now     func() time.Time
	synced  func() // tells that it was read whole

	changes atomic.Uint64
	mu      sync.Mutex
	whole   time.Time // when it was read last
	problem string
}

// follow lists what is followed.
func (c *Client) follow() []*resource {
	v, node := c.view, c.options.Node
	mine := func(p *model.Pod) bool { return p.Node == node }
	list := []*resource{
		c.podResource("pods of this node", "spec.nodeName="+node, mine),
		{name: "namespaces", client: c.api.core, path: "namespaces", fresh: func() wire { return &wireNamespace{} },
			read: reading(func(o *wireNamespace) *model.ClusterNamespace {
				return &model.ClusterNamespace{Name: o.Name, Labels: o.Labels}
			}),
			set:    on(func(n *model.ClusterNamespace) { v.setNamespace(n.Name, n) }),
			delete: on(func(n *model.ClusterNamespace) { v.setNamespace(n.Name, nil) }),
			keep:   keeping(func(n *model.ClusterNamespace) string { return n.Name }, v.keepNamespaces)},
		{name: "nodes", client: c.api.core, path: "nodes", fresh: func() wire { return &wireNode{} },
			read:   reading(func(o *wireNode) *model.ClusterNode { return nodeOf(&o.Node) }),
			set:    on(func(n *model.ClusterNode) { v.setNode(n.Name, n) }),
			delete: on(func(n *model.ClusterNode) { v.setNode(n.Name, nil) }),
			keep:   keeping(func(n *model.ClusterNode) string { return n.Name }, v.keepNodes)},
		{name: "services", client: c.api.core, path: "services", fresh: func() wire { return &wireService{} },
			read:   reading(func(o *wireService) *model.ClusterService { return serviceOf(&o.Service) }),
			set:    on(func(s *model.ClusterService) { v.setService(ServiceName{s.Namespace, s.Name}, s) }),
			delete: on(func(s *model.ClusterService) { v.setService(ServiceName{s.Namespace, s.Name}, nil) }),
			keep:   keeping(func(s *model.ClusterService) ServiceName { return ServiceName{s.Namespace, s.Name} }, v.keepServices)},
		{name: "endpointslices", client: c.api.discovery, path: "endpointslices", fresh: func() wire { return &wireSlice{} },
			read: reading(func(o *wireSlice) *listedSlice {
				return &listedSlice{nameOf(&o.EndpointSlice), endpointsOf(&o.EndpointSlice)}
			}),
			set:    on(func(s *listedSlice) { v.setSlice(s.of, s.slice, s.ends) }),
			delete: on(func(s *listedSlice) { v.setSlice(s.of, s.slice, nil) }),
			keep:   keeping(func(s *listedSlice) sliceName { return s.sliceName }, v.keepSlices)},
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
	gathered := newLabelSets() // of a list that is being read: the pods of a template share theirs from the first on
	return &resource{name: name, client: c.api.core, path: "pods", selector: selector, fresh: func() wire { return &wirePod{} },
		read: reading(func(o *wirePod) *listedPod {
			l := &listedPod{pod: podOf(&o.Pod, o.Spec.NodeName == c.options.Node)}
			l.pod.Labels = gathered.add(l.pod.Labels)
			if owner := metav1.GetControllerOfNoCopy(o); owner != nil && owner.Kind == "Job" {
				l.job = string(owner.UID)
			}
			return l
		}),
		set: on(func(l *listedPod) {
			clear(gathered.sets)
			if l.pod.Ended && l.pod.Node != c.options.Node {
				c.view.pastPod(l.pod)
				return
			}
			c.view.setPod(l.pod, l.job)
			if l.job != "" {
				c.wantOwner()
			}
		}),
		delete: on(func(l *listedPod) {
			clear(gathered.sets)
			c.view.deletePod(l.pod.UID)
		}),
		replace: func(objects []any) {
			list := make([]*listedPod, 0, len(objects))
			for _, o := range objects {
				on(func(l *listedPod) {
					if !l.pod.Ended || l.pod.Node == c.options.Node {
						list = append(list, l)
					}
				})(o)
			}
			c.view.replacePods(list, mine)
			clear(gathered.sets)
			c.wantOwner()
		}}
}

// listedSlice is an EndpointSlice, and what it brings to its service.
type listedSlice struct {
	sliceName
	ends endpoints
}

// nameOf is empty in part for a slice of no service, which is followed under its own name.
func nameOf(o *discoveryv1.EndpointSlice) sliceName {
	return sliceName{ServiceName{o.Namespace, o.Labels[discoveryv1.LabelServiceName]}, o.Name}
}

// reading takes what it knows of any object.
func reading[W wire, T any](read func(W) *T) func(wire) any {
	return func(o wire) any { return read(o.(W)) }
}

// on is for what reading has told.
func on[T any](do func(*T)) func(any) {
	return func(told any) { do(told.(*T)) }
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
	open := lists.WatchFuncWithContext
	lists.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		page, err := r.list(ctx, o)
		r.outcome(ctx, err)
		return page, err
	}
	lists.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		w, err := open(ctx, o)
		r.outcome(ctx, err)
		return w, err
	}
	// What goes wrong is told by Status, and that the API server is away in our own log: the library's lines are for the curious.
	quiet := logr.FromSlogHandler(curious{c.options.Log.With("resource", r.name).Handler()})
	follower := cache.NewReflectorWithOptions(lists, r.fresh(), r, cache.ReflectorOptions{Name: "vigie/" + r.path, Logger: &quiet})
	follower.RunWithContext(klog.NewContext(ctx, quiet))
}

// list asks for a page of all, and keeps briefs of it.
func (r *resource) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	o.FieldSelector = r.selector
	answer, err := r.client.Get().Resource(r.path).VersionedParams(&o, metav1.ParameterCodec).SetHeader("Accept", runtime.ContentTypeProtobuf).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	page := new(internalversion.List)
	page.ListMeta, err = readList(answer, func(message []byte) error {
		object := r.fresh()
		if err := object.Unmarshal(message); err != nil {
			return err
		}
		page.Items = append(page.Items, r.brief(object))
		return nil
	})
	return page, err
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
	return ResourceStatus{Name: r.name, Synced: r.whole, Changes: r.changes.Load(), Problem: r.problem}
}

// brief is what is kept of an object.
func (r *resource) brief(o wire) *brief { return &brief{o.GetNamespace(), o.GetName(), r.read(o)} }

// Add implements cache.ReflectorStore.
func (r *resource) Add(object any) error { return r.take(object, r.set) }

// Update implements cache.ReflectorStore.
func (r *resource) Update(object any) error { return r.take(object, r.set) }

// Delete implements cache.ReflectorStore.
func (r *resource) Delete(object any) error { return r.take(object, r.delete) }

func (r *resource) take(object any, do func(any)) error {
	r.changes.Add(1)
	o, ok := object.(wire)
	if !ok {
		return fmt.Errorf("one of the %s is a %T", r.name, object)
	}
	do(r.read(o))
	return nil
}

// Replace implements cache.ReflectorStore. Its objects are briefs.
func (r *resource) Replace(list []any, _ string) error {
	told := make([]any, 0, len(list))
	for _, o := range list {
		b, ok := o.(*brief)
		if !ok {
			return fmt.Errorf("one of the %s is a %T", r.name, o)
		}
		told = append(told, b.told)
	}
	if r.replace != nil {
		r.replace(told)
	} else {
		r.keep(told)
		for _, o := range told {
			r.set(o)
		}
	}
	r.mu.Lock()
	r.whole, r.problem = r.now(), ""
	r.mu.Unlock()
	r.synced()
	return nil
}

// Resync implements cache.ReflectorStore: there is nobody to tell again.
func (*resource) Resync() error { return nil }

// Transformer implements cache.TransformingStore: what is gathered until a list is whole is briefs.
func (r *resource) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		o, ok := object.(wire)
		if !ok {
			return nil, fmt.Errorf("one of the %s is a %T", r.name, object)
		}
		return r.brief(o), nil
	}
}
