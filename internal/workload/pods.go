// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"maps"
	"reflect"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/workload/cri"
	"github.com/vigie-io/vigie/internal/workload/host"
)

// Pods knows pods before their containers run; what Kubernetes feeds in.
type Pods interface {
	// PodByUID must be quick; nil: it is not known. The uid is the one in the name of the pod's cgroup.
	PodByUID(uid string) *model.Pod
	// PodEnded tells that the container that holds a pod's network is gone: its addresses may be another's soon.
	PodEnded(uid string)
}

// sandbox is the name of that container.
const sandbox = "POD"

// PodNames names pods that Pods does not know; host.PodLogs does.
type PodNames interface {
	Find(uid string) (namespace, name string, ok bool)
}

// PodChanged tells that Pods knows something new of a pod.
func (r *Resolver) PodChanged(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for rec := range r.pods[uid] {
		r.podOf(rec)
	}
}

// PodsChanged tells that Pods knows something new of any pod.
func (r *Resolver) PodsChanged() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, records := range r.pods {
		for rec := range records {
			r.podOf(rec)
		}
	}
}

// podOf brings a record up to date with what is known of its pod. A pod that is gone stays what it was. Under mu.
func (r *Resolver) podOf(rec *record) {
	if p := r.cfg.Pods.PodByUID(rec.podUID); p != nil && p != rec.parts.pod {
		rec.parts.pod = p
		r.publish(rec)
	}
}

// learn completes a new record with what is known without asking. Under mu.
func (r *Resolver) learn(rec *record) {
	r.named.add(rec.query.ID, rec)
	if info, ok := r.told.byID[rec.query.ID]; ok {
		rec.parts.info = &info
	}
	r.pods.add(rec.podUID, rec)
	if r.cfg.Pods != nil && rec.podUID != "" {
		rec.parts.pod = r.cfg.Pods.PodByUID(rec.podUID)
	}
	if r.cfg.PodNames != nil && rec.podUID != "" && rec.parts.pod == nil && rec.parts.info == nil {
		rec.parts.namespace, rec.parts.name, _ = r.cfg.PodNames.Find(rec.podUID)
	}
	rec.current.Store(rec.parts.whole())
}

// announced completes a new record of a cgroup that was made just now: of those of a pod's containers the first is its sandbox's,
// which the runtime tells of only when it runs. CRI-O mostly does without one. Under mu.
func (r *Resolver) announced(rec *record) {
	if rec.podUID == "" || rec.query.ID == "" || rec.parts.info != nil || rec.query.Runtime == host.RuntimeCRIO {
		return
	}
	for other := range r.pods[rec.podUID] {
		if other != rec && other.query.ID != "" {
			return
		}
	}
	rec.parts.sandbox = true
	rec.current.Store(rec.parts.whole())
}

// name publishes what a runtime said.
func (r *Resolver) name(rec *record, info cri.Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.parts.info = &info
	r.publish(rec)
}

// container takes in what a runtime told of a container by itself.
func (r *Resolver) container(id string, info cri.Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told.add(id, info)
	for rec := range r.named[id] {
		if rec.parts.info == nil {
			rec.parts.info = &info
			r.publish(rec)
		}
	}
}

// askAgain has the containers without a name asked for now: their runtime answers again.
func (r *Resolver) askAgain() {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// publish makes what is known of a record its workload, and tells. Under mu.
func (r *Resolver) publish(rec *record) {
	old, next := rec.current.Load(), rec.parts.whole()
	if reflect.DeepEqual(old, next) {
		return
	}
	rec.current.Store(next)
	r.tell(old, rec)
}

// parts are what is known of one workload, by who said it. What Kubernetes says of a pod comes before what the runtime was told
// when the pod was made, and that before what kubelet's directories are called.
type parts struct {
	path            *model.Workload // by the path of its cgroup
	info            *cri.Info       // by the container runtime
	pod             *model.Pod      // by Kubernetes
	namespace, name string          // by kubelet's log directory
	sandbox         bool            // by being the first: it holds the pod's network
}

// whole puts the parts together.
func (p *parts) whole() *model.Workload {
	w := p.path
	if p.name != "" {
		named := *w
		named.Name, named.Namespace = p.name, p.namespace
		w = &named
	}
	if p.info == nil && p.sandbox {
		first := *w
		first.Container = sandbox
		w = &first
	}
	if p.info != nil {
		w = named(w, p.info)
	}
	if p.pod != nil {
		w = inCluster(w, p.pod)
	}
	return w
}

// named is w with what a runtime knows about it.
func named(w *model.Workload, info *cri.Info) *model.Workload {
	next := *w
	next.Labels = maps.Clone(info.Labels)
	for _, f := range []struct {
		field *string
		value string
	}{{&next.Name, info.Name}, {&next.Image, info.Image}, {&next.Runtime, info.Runtime}} {
		if f.value != "" {
			*f.field = f.value
		}
	}
	if info.PodName != "" {
		next.Kind = model.WorkloadPod
		next.Name, next.Namespace, next.Container = info.PodName, info.Namespace, info.Container
		if info.PodUID != "" {
			next.PodUID = info.PodUID
		}
	}
	return &next
}

// runtimeLabels begin the labels that kubelet gives the runtime beside the pod's own.
const runtimeLabels = "io.kubernetes."

// inCluster is w with what Kubernetes knows about its pod.
func inCluster(w *model.Workload, p *model.Pod) *model.Workload {
	next := *w
	next.Kind, next.Name, next.Namespace, next.PodUID = model.WorkloadPod, p.Name, p.Namespace, p.UID
	next.Controller, next.ServiceAccount, next.Node = p.Controller, p.ServiceAccount, p.Node
	next.Labels = p.Labels
	if len(w.Labels) > 0 {
		next.Labels = maps.Clone(w.Labels)
		// The runtime has the pod's labels as they were when it was made.
		maps.DeleteFunc(next.Labels, func(k, _ string) bool { return !strings.HasPrefix(k, runtimeLabels) })
		maps.Copy(next.Labels, p.Labels)
	}
	for i := range p.Containers {
		c := &p.Containers[i]
		if next.Container == "" && c.ID != "" && c.ID == w.ID {
			next.Container = c.Name
		}
		if next.Image == "" && next.Container == c.Name {
			next.Image = c.Image
		}
	}
	return &next
}

// index finds records by a name that several can have.
type index map[string]map[*record]struct{}

func (x index) add(name string, rec *record) {
	if name == "" {
		return
	}
	if x[name] == nil {
		x[name] = make(map[*record]struct{}, 1)
	}
	x[name][rec] = struct{}{}
}

func (x index) remove(name string, rec *record) {
	delete(x[name], rec)
	if len(x[name]) == 0 {
		delete(x, name)
	}
}

// toldContainers are those that runtimes told of last: usually a moment before their cgroups are made.
type toldContainers struct {
	byID  map[string]cri.Info
	order []string // a ring
	next  int
}

func newTold(size int) toldContainers {
	return toldContainers{byID: make(map[string]cri.Info), order: make([]string, size)}
}

// add remembers a container in place of the oldest.
func (t *toldContainers) add(id string, info cri.Info) {
	if _, ok := t.byID[id]; !ok {
		delete(t.byID, t.order[t.next])
		t.order[t.next] = id
		t.next = (t.next + 1) % len(t.order)
	}
	t.byID[id] = info
}
