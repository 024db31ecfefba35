// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/vigie-io/vigie/internal/model"
)

// setPod takes in a pod that is new or has changed. job is the uid of the Job that made it, empty without one.
func (v *View) setPod(p *model.Pod, job string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.putPod(p, job)
}

func (v *View) putPod(p *model.Pod, job string) {
	e := v.pods[p.UID]
	if c, ok := v.owners[job]; ok {
		p.Controller = c
	} else if job != "" && e != nil {
		p.Controller = e.pod.Controller // as it was known when the agent ran last
	}
	var old *model.Pod
	if e == nil {
		e = &podEntry{}
		v.pods[p.UID] = e
	} else {
		old = e.pod
	}
	if old != nil && maps.Equal(old.Labels, p.Labels) {
		p.Labels = old.Labels
	} else {
		p.Labels = v.labels.add(p.Labels)
		if old != nil {
			v.labels.remove(old.Labels)
		}
	}
	if old != nil && reflect.DeepEqual(old, p) {
		return
	}
	e.pod, e.ownerUID, e.workload = p, job, nil
	if p.StaticUID != "" {
		v.static[p.StaticUID] = e
	}
	v.hold(e, old)
	v.changed(func(c *Changes) { c.pod(p.UID, old, p) })
}

// deletePod takes in that a pod is gone.
func (v *View) deletePod(uid string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropPod(uid)
}

func (v *View) dropPod(uid string) {
	e := v.pods[uid]
	if e == nil {
		return
	}
	delete(v.pods, uid)
	if v.static[e.pod.StaticUID] == e {
		delete(v.static, e.pod.StaticUID)
	}
	for _, a := range e.pod.Addresses {
		v.release(a, e)
	}
	v.labels.remove(e.pod.Labels)
	v.changed(func(c *Changes) { c.pod(uid, e.pod, nil) })
}

// listedPod is a pod of a list, and the uid of its Job.
type listedPod struct {
	pod *model.Pod
	job string
}

// replacePods takes in a list of all pods for which mine holds, which is all that there is of them.
func (v *View) replacePods(list []*listedPod, mine func(*model.Pod) bool) {
	// Of two that say that they have an address, it is the younger's.
	slices.SortStableFunc(list, func(a, b *listedPod) int { return a.pod.Created.Compare(b.pod.Created) })
	there := make(map[string]bool, len(list))
	for _, l := range list {
		there[l.pod.UID] = true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for uid, e := range v.pods {
		if mine(e.pod) && !there[uid] {
			v.dropPod(uid)
		}
	}
	for _, l := range list {
		v.putPod(l.pod, l.job)
	}
}

// setOwner notes what made a Job; the pods of the Job that are known are its.
func (v *View) setOwner(job string, c model.Controller) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.owners) >= maxOwners {
		v.forgetOwners()
	}
	v.owners[job] = c
	for uid, e := range v.pods {
		if e.ownerUID != job || e.pod.Controller == c {
			continue
		}
		old, next := e.pod, *e.pod
		next.Controller = c
		e.pod, e.workload = &next, nil
		v.changed(func(ch *Changes) { ch.pod(uid, old, &next) })
	}
}

// maxOwners is how many Jobs' owners are remembered, about 200 bytes each, beside those of Jobs that have pods.
const maxOwners = 8192

// forgetOwners drops those of Jobs without pods. Under mu.
func (v *View) forgetOwners() {
	used := make(map[string]bool)
	for _, e := range v.pods {
		used[e.ownerUID] = true
	}
	for job := range v.owners {
		if !used[job] {
			delete(v.owners, job)
		}
	}
}

// WorkloadByAddress is the pod at an address as the workload at the far end of a conversation that began at a moment; nil under
// the conditions of PodByAddress.
func (v *View) WorkloadByAddress(addr netip.Addr, at moment) *model.Workload {
	v.mu.RLock()
	e := v.holder(addr.Unmap(), at)
	if e == nil {
		v.mu.RUnlock()
		return nil
	}
	w := e.workload
	v.mu.RUnlock()
	if w != nil {
		return w
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.workload == nil {
		e.workload = workloadOf(e.pod)
	}
	return e.workload
}

func workloadOf(p *model.Pod) *model.Workload {
	return &model.Workload{Kind: model.WorkloadPod, Name: p.Name, Namespace: p.Namespace, ID: "pod:" + p.UID, PodUID: p.UID,
		Controller: p.Controller, ServiceAccount: p.ServiceAccount, Node: p.Node, Labels: p.Labels}
}

func sameLabels(a, b map[string]string) bool { return maps.Equal(a, b) }

func sameNode(a, b *model.ClusterNode) bool {
	return maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}
