// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// SimulateRecording judges the flows of a recording, which is all that is known of its cluster: pods by their names and labels at the ends
// of flows, and the node by the addresses of its own processes. A policy that asks for more is not judged, and a limit says what
// it asks for. judged is how many policies are. The recording is read twice.
func SimulateRecording(policies []*Policy, recording iter.Seq[*model.Event]) (s *policy.Simulation, judged int) {
	var able []*Policy
	var limits []string
	for _, p := range policies {
		if why := p.notRecorded(); len(why) > 0 {
			limits = append(limits, fmt.Sprintf("%s is not judged: %s", p.ID(), strings.Join(why, "; ")))
			continue
		}
		able = append(able, p)
	}
	if len(able) == 0 {
		return &policy.Simulation{Limits: limits}, 0
	}
	if len(limits) > 0 {
		limits = append(limits, "what only a policy that is not judged allows counts as denied by the others")
	}
	if slices.ContainsFunc(able, (*Policy).asksOutside) {
		limits = append(limits, "addresses of other nodes count as outside of the cluster: they are not recorded")
	}
	known := knownFrom(recording)
	s = simulate(able, known.cluster, recording, known.pod)
	if s.Judged == 0 {
		limits = append(limits, "no conversation of a pod is in the recording")
	}
	s.Limits = append(limits, append([]string{"a pod is judged by the labels that it had last in the recording",
		"a pod that has an address of its node's processes counts as one in its node's network"}, s.Limits...)...)
	return s, len(able)
}

// notRecorded is what the policy asks for and a recording does not have, with the fields.
func (p *Policy) notRecorded() (why []string) {
	say := func(field, what string) {
		if text := field + " " + what; !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	namespaces := func(field string, s LabelSelector) {
		for _, r := range s {
			if r.Key != namespaceName {
				say(field, fmt.Sprintf("asks for the namespace label %s, and a recording has no labels of namespaces", r.Key))
			}
		}
	}
	namespaces("its subject", p.Subject.Namespaces)
	for _, rules := range p.Directions {
		for _, r := range rules.List {
			for _, peer := range r.Peers {
				switch {
				case peer.Pods != nil:
					namespaces(r.Field, peer.Pods.Namespaces)
				case peer.Nodes != nil:
					say(r.Field, "selects nodes, and a recording has neither their addresses nor their labels")
				case peer.Entity == EntityRemoteNode || peer.Entity == EntityKubeAPIServer:
					say(r.Field, fmt.Sprintf("names %s, whose addresses are not in a recording", peer.Entity))
				}
			}
			for _, port := range r.Ports {
				if port.Name != "" {
					say(r.Field, fmt.Sprintf("names the port %s, and a recording does not have the names of ports", port.Name))
				}
			}
		}
	}
	return why
}

// asksOutside reports whether it matters to the policy which addresses are those of nodes.
func (p *Policy) asksOutside() bool {
	for _, rules := range p.Directions {
		for _, r := range rules.List {
			if slices.ContainsFunc(r.Peers, func(peer Peer) bool {
				return peer.Entity == EntityCluster || peer.Entity == EntityWorld || (peer.Block != nil && peer.Block.Outside)
			}) {
				return true
			}
		}
	}
	return false
}

// recorded is what a recording tells of its cluster.
type recorded struct {
	pods  map[string]*model.Pod   // by uid
	hosts map[string][]netip.Addr // addresses of a node's own processes, by the name that a relay gave the node
}

func knownFrom(recording iter.Seq[*model.Event]) *recorded {
	r := &recorded{pods: make(map[string]*model.Pod), hosts: make(map[string][]netip.Addr)}
	for ev := range recording {
		if ev.Flow == nil {
			continue
		}
		for _, end := range []*model.Endpoint{&ev.Flow.Source, &ev.Flow.Destination} {
			if addr := end.Address.Addr(); end.Workload != nil && addr.IsValid() && !addr.IsLoopback() {
				r.see(ev.Node, end, addr)
			}
		}
	}
	for _, p := range r.pods {
		for _, host := range r.hosts {
			p.HostNetwork = p.HostNetwork || slices.ContainsFunc(p.Addresses, func(a netip.Addr) bool { return slices.Contains(host, a) })
		}
	}
	return r
}

func (r *recorded) see(node string, end *model.Endpoint, addr netip.Addr) {
	switch w := end.Workload; w.Kind {
	case model.WorkloadPod:
		if w.PodUID == "" {
			return
		}
		p := r.pods[w.PodUID]
		if p == nil {
			p = &model.Pod{UID: w.PodUID}
			r.pods[w.PodUID] = p
		}
		p.Namespace, p.Name, p.Node, p.ServiceAccount = w.Namespace, w.Name, w.Node, w.ServiceAccount
		if len(w.Labels) > 0 {
			p.Labels = w.Labels
		}
		if !slices.Contains(p.Addresses, addr) {
			p.Addresses = append(p.Addresses, addr)
		}
	case model.WorkloadUnit, model.WorkloadSession, model.WorkloadProcess, model.WorkloadKernel:
		if end.Process != nil && !slices.Contains(r.hosts[node], addr) {
			r.hosts[node] = append(r.hosts[node], addr)
		}
	}
}

func (r *recorded) pod(uid string) *model.Pod { return r.pods[uid] }

// cluster is what is known of it as the node sees it that saw an event.
func (r *recorded) cluster(ev *model.Event) Cluster {
	return Cluster{Node: ev.Node, Host: r.hosts[ev.Node]}
}
