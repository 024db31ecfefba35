// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// View is what is known of the cluster. Look-ups take a read lock for as long as some map look-ups; what they give is immutable.
// Safe for concurrent use.
type View struct {
	node string
	now  func() time.Time

	mu         sync.RWMutex
	pods       map[string]*podEntry // by uid
	static     map[string]*podEntry // static pods by the uid that kubelet uses
	holders    map[netip.Addr][]holding
	released   []release // oldest first: who no longer holds an address
	namespaces map[string]*model.ClusterNamespace
	nodes      map[string]*model.ClusterNode
	services   map[ServiceName]*serviceEntry
	fronts     map[front]*serviceEntry
	nodePorts  map[front]*serviceEntry // without address
	labels     labelSets
	owners     map[string]model.Controller // of jobs, by the job's uid
	generation uint64
	watchers   map[*Subscription]struct{}

	snapshot atomic.Pointer[Snapshot]
	synced   chan struct{} // closed when everything was read from the API server once
	toldSync sync.Once
}

// podEntry is a pod. It changes under View.mu.
type podEntry struct {
	pod      *model.Pod
	ownerUID string          // of a Job, whose own owner is asked for
	workload *model.Workload // pod as the workload at the far end of a conversation
}

func newView(node string, now func() time.Time) *View {
	return &View{node: node, now: now, pods: make(map[string]*podEntry), static: make(map[string]*podEntry),
		holders: make(map[netip.Addr][]holding), namespaces: make(map[string]*model.ClusterNamespace),
		nodes: make(map[string]*model.ClusterNode), services: make(map[ServiceName]*serviceEntry),
		fronts: make(map[front]*serviceEntry), nodePorts: make(map[front]*serviceEntry), labels: newLabelSets(),
		owners: make(map[string]model.Controller), watchers: make(map[*Subscription]struct{}), synced: make(chan struct{})}
}

// Node is the name of the node that the agent runs on.
func (v *View) Node() string { return v.node }

// Synced is closed once everything has been read from the API server. What is known before then is what was known when the agent
// ran last.
func (v *View) Synced() <-chan struct{} { return v.synced }

// PodByUID is a pod that there is, by its uid, or by the one in the name of its cgroup; nil when it is not known.
func (v *View) PodByUID(uid string) *model.Pod {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if e := v.pods[uid]; e != nil {
		return e.pod
	}
	if e := v.static[uid]; e != nil {
		return e.pod
	}
	return nil
}

// Namespace is a namespace by its name; nil when it is not known.
func (v *View) Namespace(name string) *model.ClusterNamespace {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.namespaces[name]
}

// ClusterNode is a node by its name; nil when it is not known.
func (v *View) ClusterNode(name string) *model.ClusterNode {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.nodes[name]
}

// Snapshot is the whole of a View at one moment. It is immutable and may be shared.
type Snapshot struct {
	// Generation grows with each change.
	Generation uint64
	Pods       []*model.Pod // those that ended included, in no order
	Namespaces map[string]*model.ClusterNamespace
	Nodes      map[string]*model.ClusterNode
	Services   []*model.ClusterService
}

// Snapshot is what is known now. It is made when it is asked for and something has changed since it was last: about a millisecond for
// 10,000 pods, so ask for it once for many changes.
func (v *View) Snapshot() *Snapshot {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if s := v.snapshot.Load(); s != nil && s.Generation == v.generation {
		return s
	}
	s := &Snapshot{Generation: v.generation, Pods: make([]*model.Pod, 0, len(v.pods)),
		Namespaces: make(map[string]*model.ClusterNamespace, len(v.namespaces)), Nodes: make(map[string]*model.ClusterNode, len(v.nodes)),
		Services: make([]*model.ClusterService, 0, len(v.services))}
	for _, e := range v.pods {
		s.Pods = append(s.Pods, e.pod)
	}
	for name, n := range v.namespaces {
		s.Namespaces[name] = n
	}
	for name, n := range v.nodes {
		s.Nodes[name] = n
	}
	for _, e := range v.services {
		if known := e.known(); known != nil {
			s.Services = append(s.Services, known)
		}
	}
	v.snapshot.Store(s)
	return s
}

// everythingRead notes that nothing is from an earlier run any more.
func (v *View) everythingRead() { v.toldSync.Do(func() { close(v.synced) }) }

// setNamespace takes in a namespace; nil: it is gone.
func (v *View) setNamespace(name string, n *model.ClusterNamespace) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.namespaces[name]
	if old == n || old != nil && n != nil && sameLabels(old.Labels, n.Labels) {
		return
	}
	if n == nil {
		delete(v.namespaces, name)
	} else {
		v.namespaces[name] = n
	}
	v.changed(func(c *Changes) { c.namespace(name) })
}

// setNode takes in a node; nil: it is gone.
func (v *View) setNode(name string, n *model.ClusterNode) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.nodes[name]
	if old == n || old != nil && n != nil && sameNode(old, n) {
		return
	}
	if n == nil {
		delete(v.nodes, name)
	} else {
		v.nodes[name] = n
	}
	v.changed(func(c *Changes) { c.node(name) })
}

// keepNamespaces drops the namespaces that a list of all does not name.
func (v *View) keepNamespaces(there map[string]bool) {
	for name := range v.Snapshot().Namespaces {
		if !there[name] {
			v.setNamespace(name, nil)
		}
	}
}

// keepNodes drops the nodes that a list of all does not name.
func (v *View) keepNodes(there map[string]bool) {
	for name := range v.Snapshot().Nodes {
		if !there[name] {
			v.setNode(name, nil)
		}
	}
}
