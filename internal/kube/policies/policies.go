// SPDX-License-Identifier: Apache-2.0

// Package policies follows the objects of a cluster that are policies: NetworkPolicy, ClusterNetworkPolicy, those of Cilium
// and vigie's own. In: the API server. Out: each object as JSON, and a word when some have changed. What is not installed in
// the cluster is asked for again from time to time.
package policies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Kind is a kind of objects that is followed.
type Kind struct {
	Kind     string
	Resource schema.GroupVersionResource
}

// Kinds lists every kind that is a policy.
func Kinds() []Kind {
	of := func(kind, group, version, resource string) Kind {
		return Kind{kind, schema.GroupVersionResource{Group: group, Version: version, Resource: resource}}
	}
	return []Kind{
		of("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
		of("ClusterNetworkPolicy", "policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies"),
		of("CiliumNetworkPolicy", "cilium.io", "v2", "ciliumnetworkpolicies"),
		of("CiliumClusterwideNetworkPolicy", "cilium.io", "v2", "ciliumclusterwidenetworkpolicies"),
		of("WorkloadPolicy", "vigie.io", "v1alpha1", "workloadpolicies"),
		of("ClusterWorkloadPolicy", "vigie.io", "v1alpha1", "clusterworkloadpolicies"),
	}
}

// Object is one policy as the API server has it. It is immutable: a change makes a new one.
type Object struct {
	Kind            string `json:"kind"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name"`
	UID             string `json:"uid"`
	ResourceVersion string `json:"resourceVersion"`
	Generation      int64  `json:"generation"`
	// JSON is what its author wrote: apiVersion, kind, name, namespace, labels, annotations and spec.
	JSON []byte `json:"json"`
}

// Options are what a Watcher needs.
type Options struct {
	Config *rest.Config
	Kinds  []Kind
	// StateFile is where what is known is kept for the next start; empty for nowhere.
	StateFile string
	Log       *slog.Logger
	// Again is how long is waited before a kind that is not installed is asked for again; 30 s when 0.
	Again time.Duration
}

// Watcher follows policies. Safe for concurrent use.
type Watcher struct {
	options Options
	client  dynamic.Interface
	changed chan struct{}

	mu      sync.Mutex
	kinds   []*followed
	objects map[objectKey]*Object
}

type objectKey struct{ kind, namespace, name string }

// followed is one kind. It is the store of its reflector.
type followed struct {
	Kind
	watcher *Watcher
	read    bool  // whole, or it is known not to be installed; under Watcher.mu
	problem error // under Watcher.mu
}

// New prepares to follow policies, and knows at once those of the last run. It asks the API server nothing: Run does.
func New(o Options) (*Watcher, error) {
	client, err := dynamic.NewForConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("make a client for policies: %w", err)
	}
	return newWatcher(o, client), nil
}

func newWatcher(o Options, client dynamic.Interface) *Watcher {
	if o.Again == 0 {
		o.Again = 30 * time.Second
	}
	w := &Watcher{options: o, client: client, changed: make(chan struct{}, 1), objects: make(map[objectKey]*Object)}
	for _, k := range o.Kinds {
		w.kinds = append(w.kinds, &followed{Kind: k, watcher: w})
	}
	if err := w.restore(); err != nil {
		o.Log.Warn("begins without the policies that were known", "error", err)
	}
	return w
}

// Changed delivers when Objects has something new to say.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Objects is what is known now, ordered by kind, namespace and name. synced: it is what the API server has, no longer what
// was known when the agent ran last.
func (w *Watcher) Objects() (list []*Object, synced bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list = slices.SortedFunc(maps.Values(w.objects), func(a, b *Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	synced = true
	for _, f := range w.kinds {
		synced = synced && f.read
	}
	return list, synced
}

// Problems are why kinds are not followed now; empty when all is well.
func (w *Watcher) Problems() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.kinds {
		if f.problem != nil {
			out = append(out, fmt.Sprintf("policies of kind %s are not followed: %v", f.Kind.Kind, f.problem))
		}
	}
	return out
}

// Run follows policies until ctx ends, and waits for what it has started.
func (w *Watcher) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	for _, f := range w.kinds {
		tasks.Go(func() { f.follow(ctx) })
	}
	tasks.Wait()
}

// follow follows a kind for as long as it is installed, and looks whether it is.
func (f *followed) follow(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := f.watcher.client.Resource(f.Resource).List(ctx, metav1.ListOptions{Limit: 1})
		switch {
		case err == nil:
			f.reflect(ctx)
		case apierrors.IsNotFound(err):
			f.outcome(nil)
			f.replace(nil)
		default:
			f.outcome(err)
		}
		wait := time.NewTimer(f.watcher.options.Again)
		if err != nil && !apierrors.IsNotFound(err) {
			wait.Reset(min(time.Second, f.watcher.options.Again))
		}
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// reflect follows a kind until ctx ends or it is not installed any more.
func (f *followed) reflect(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	of := f.watcher.client.Resource(f.Resource)
	note := func(err error) {
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || errors.Is(err, context.Canceled) {
			return // it is read again at once
		}
		if f.outcome(err); apierrors.IsNotFound(err) {
			cancel()
		}
	}
	lists := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := of.List(ctx, o)
			note(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			stream, err := of.Watch(ctx, o)
			note(err)
			return stream, err
		},
	}
	quiet := logr.FromSlogHandler(curious{f.watcher.options.Log.With("policies", f.Kind.Kind).Handler()})
	example := &unstructured.Unstructured{}
	example.SetGroupVersionKind(f.Resource.GroupVersion().WithKind(f.Kind.Kind))
	reflector := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lists, f.watcher.client), example, f, cache.ReflectorOptions{Name: "vigie/" + f.Resource.Resource, Logger: &quiet})
	reflector.RunWithContext(klog.NewContext(ctx, quiet))
}

// curious logs everything as debug: what goes wrong is told by Problems.
type curious struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h curious) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (h curious) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r)
}

func (f *followed) outcome(err error) {
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	if apierrors.IsNotFound(err) {
		err = nil
	}
	f.problem = err
}
