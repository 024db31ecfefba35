// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/model"
)

// Workloads knows the cgroups of the host and whose they are. The agent's resolver implements it.
type Workloads interface {
	// Each calls fn for every cgroup that is known; hierarchy 0 is v2.
	Each(fn func(hierarchy uint32, id uint64, w *model.Workload))
}

// maxCgroups is how many cgroups of containers there can be. 24 bytes each, as they come. Full: those that do not fit are under
// no policy that selects workloads, and the manager's log says so.
const maxCgroups = 65536

// workloadSet is the workloads that a policy, or a selector of it, is for: a map of cgroups that the manager keeps.
type workloadSet struct {
	spec      *ebpf.MapSpec // the containers that are selected; with the host, those that are not
	host      bool          // everything outside of containers is selected too
	pods      *LabelSelector
	container *LabelSelector
	namespace string // of the policy: pods in it only
	inMap     map[bpfVgCgroupRef]bool
}

// newWorkloadSet makes one; nil where nothing is selected, which means everything.
func newWorkloadSet(name string, p *Policy, pods, container, host *LabelSelector) *workloadSet {
	if pods == nil && container == nil && host == nil && p.Namespace == "" {
		return nil
	}
	return &workloadSet{host: host != nil, pods: pods, container: container, namespace: p.Namespace, inMap: make(map[bpfVgCgroupRef]bool),
		spec: &ebpf.MapSpec{Name: name, Type: ebpf.Hash, KeySize: 16, ValueSize: 1, MaxEntries: maxCgroups, Flags: 1 /* BPF_F_NO_PREALLOC */}}
}

// selects says whether the set has a container.
func (s *workloadSet) selects(w *model.Workload) bool {
	if s.namespace != "" && w.Namespace != s.namespace {
		return false
	}
	if s.host && s.pods == nil && s.container == nil {
		return false
	}
	if s.pods != nil && (w.Kind != model.WorkloadPod || !s.pods.matches(podLabels(w))) {
		return false
	}
	return s.container == nil || s.container.matches(map[string]string{"name": containerName(w)})
}

func containerName(w *model.Workload) string {
	if w.Kind == model.WorkloadPod {
		return w.Container
	}
	return w.Name
}

// podLabels are a pod's own, and its namespace under the names that policies use.
func podLabels(w *model.Workload) map[string]string {
	labels := map[string]string{"k8s:io.kubernetes.pod.namespace": w.Namespace, "io.kubernetes.pod.namespace": w.Namespace}
	for k, v := range w.Labels {
		labels[k] = v
	}
	return labels
}

// holds says whether a cgroup belongs into the set's map.
func (s *workloadSet) holds(w *model.Workload) bool {
	if w == nil || w.Kind != model.WorkloadPod && w.Kind != model.WorkloadContainer {
		return false
	}
	return s.selects(w) != s.host
}

func (s *LabelSelector) matches(labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		got, ok := labels[e.Key]
		var holds bool
		switch e.Operator {
		case "In":
			holds = ok && slices.Contains(e.Values, got)
		case "NotIn":
			holds = !ok || !slices.Contains(e.Values, got)
		case "Exists":
			holds = ok
		case "DoesNotExist":
			holds = !ok
		}
		if !holds {
			return false
		}
	}
	return true
}

// fill makes a set's map hold what the set selects of the cgroups that are known.
func (s *workloadSet) fill(m *ebpf.Map, cgroups Workloads) error {
	want := make(map[bpfVgCgroupRef]bool)
	cgroups.Each(func(hierarchy uint32, id uint64, w *model.Workload) {
		if s.holds(w) {
			want[bpfVgCgroupRef{Id: id, Hierarchy: hierarchy}] = true
		}
	})
	for k := range s.inMap {
		if want[k] {
			delete(want, k)
			continue
		}
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("take a cgroup out of a policy: %w", err)
		}
		delete(s.inMap, k)
	}
	for k := range want {
		if err := m.Put(k, uint8(1)); err != nil {
			return fmt.Errorf("put a cgroup into a policy: %w", err)
		}
		s.inMap[k] = true
	}
	return nil
}
