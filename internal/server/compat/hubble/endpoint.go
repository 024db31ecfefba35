// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	fl "github.com/cilium/cilium/api/v1/flow"

	"github.com/vigie-io/vigie/internal/model"
)

// Cilium's reserved identities (pkg/identity), which `hubble observe` prints as (host) and (world). Those below
// firstIdentity are all reserved.
const (
	identityHost  = 1
	identityWorld = 2
	firstIdentity = 256
)

// endpoint is one end of a flow. A workload outside of Kubernetes stands where Hubble has the pod, by its own
// name and without a namespace: `hubble observe` prints nothing else. local says that the end is on this host although
// nothing more is known of it.
func endpoint(w *model.Workload, local bool) *fl.Endpoint {
	if w == nil || w.Kind == model.WorkloadUnknown {
		if local {
			return &fl.Endpoint{Identity: identityHost, Labels: []string{"reserved:host"}}
		}
		return &fl.Endpoint{Identity: identityWorld, Labels: []string{"reserved:world"}}
	}
	m := &fl.Endpoint{Namespace: valid(w.Namespace), PodName: valid(w.Name), Labels: labels(w),
		Workloads: []*fl.Workload{owner(w)}}
	m.Identity = identity(m.GetLabels())
	m.ID = uint32(hash(w.ID))
	return m
}

// owner is what would make the workload again: a pod's controller where it is known.
func owner(w *model.Workload) *fl.Workload {
	switch {
	case w.Controller.Name != "":
		return &fl.Workload{Name: valid(w.Controller.Name), Kind: valid(w.Controller.Kind)}
	case w.Kind == model.WorkloadPod:
		return &fl.Workload{Name: valid(w.Name), Kind: "Pod"} // as Kubernetes spells it
	}
	return &fl.Workload{Name: valid(w.Name), Kind: string(w.Kind)}
}

// labels are a workload's in Cilium's form, SOURCE:KEY=VALUE, sorted: those it was given, and under the source vigie what
// tells more about it.
func labels(w *model.Workload) []string {
	source := "container:"
	if w.Kind == model.WorkloadPod {
		source = "k8s:"
	}
	out := make([]string, 0, len(w.Labels)+5)
	for k, v := range w.Labels {
		if w.Kind == model.WorkloadPod && strings.HasPrefix(k, runtimeLabels) {
			continue
		}
		out = append(out, valid(source+k+"="+v))
	}
	add := func(key, value string) {
		if value != "" {
			out = append(out, valid(key+"="+value))
		}
	}
	add("k8s:io.kubernetes.pod.namespace", w.Namespace)
	add("k8s:io.cilium.k8s.policy.serviceaccount", w.ServiceAccount)
	add("vigie:kind", string(w.Kind))
	add("vigie:container", w.Container)
	add("vigie:image", w.Image)
	add("vigie:slice", w.Slice)
	add("vigie:user", w.User)
	if w.Kind != model.WorkloadPod { // the replicas of a pod are the same to a policy
		add("vigie:name", w.Name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// runtimeLabels begin the labels of a pod that kubelet gives the runtime to find it by. Cilium leaves them out, too.
const runtimeLabels = "io.kubernetes."

// identity is a number for a set of labels: the same set, the same number, on every host and after every restart. It is a
// hash, in the range that Cilium uses for what is not reserved: two sets may share one.
func identity(labels []string) uint32 {
	const numbers = 1<<24 - firstIdentity
	kept := make([]string, 0, len(labels))
	for _, l := range labels {
		if !perReplica(l) {
			kept = append(kept, l)
		}
	}
	return firstIdentity + uint32(hash(kept...)%numbers)
}

// perReplica reports whether a label tells the pods of one controller apart, or their containers: Cilium leaves the same out of identities.
func perReplica(label string) bool {
	key, _, _ := strings.Cut(label, "=")
	switch key {
	case "vigie:container", "vigie:image": // of a pod at a distance they are not known
		return true
	case "k8s:pod-template-hash", "k8s:pod-template-generation", "k8s:controller-revision-hash", "k8s:statefulset.kubernetes.io/pod-name",
		"k8s:apps.kubernetes.io/pod-index", "k8s:batch.kubernetes.io/job-completion-index", "k8s:controller-uid", "k8s:batch.kubernetes.io/controller-uid":
		return true
	}
	return false
}

func hash(texts ...string) uint64 {
	h := fnv.New64a()
	for _, t := range texts {
		_, _ = h.Write([]byte(t)) // never fails
		_, _ = h.Write([]byte{0})
	}
	return h.Sum64()
}

func names(name string) []string {
	if name == "" {
		return nil
	}
	return []string{valid(name)}
}

func isLocal(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() }
