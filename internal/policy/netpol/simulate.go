// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// maxDenials is how many groups are kept; what does not fit is a limit.
const maxDenials = 10_000

// Simulate judges the flows of a history by policies, all as if they were enforced. c has everything but pods, which are those
// of the flows; known finds what more is known of one by its uid, and may give nil.
func Simulate(policies []*Policy, c *Cluster, history iter.Seq[*model.Event], known func(uid string) *model.Pod) *policy.Simulation {
	s := simulate(policies, func(*model.Event) Cluster { return *c }, history, known)
	s.Limits = append([]string{"a pod is judged by the labels that it has now, one that is gone by those of its containers"}, s.Limits...)
	return s
}

// simulate is Simulate in what is known of the cluster at each event.
func simulate(policies []*Policy, c func(*model.Event) Cluster, history iter.Seq[*model.Event], known func(uid string) *model.Pod) *policy.Simulation {
	enforced := make([]*Policy, len(policies))
	for i, p := range policies {
		enforced[i] = p.WithMode(policy.Enforce)
	}
	s := &policy.Simulation{Limits: []string{"an address has the one DNS name that the source asked for last",
		"an attempt that was denied at the time is one flow, however often it was tried"}}
	groups := map[policy.Denial]*policy.Denial{}
	missed := false
	for ev := range history {
		f := ev.Flow
		if f == nil || f.Report > 1 {
			continue // one conversation, one judgement
		}
		conversation, ok := conversationOf(f)
		if !ok {
			continue
		}
		at := c(ev)
		at.Pods = nil
		for _, end := range []*model.Endpoint{&f.Source, &f.Destination} {
			if p := podOf(end, known); p != nil && !p.HostNetwork {
				at.Pods = append(at.Pods, p)
			}
		}
		if len(at.Pods) == 0 {
			continue
		}
		at.Names = func(*model.Pod, netip.Addr) []string {
			if f.Destination.Name == "" {
				return nil
			}
			return []string{f.Destination.Name}
		}
		count := max(uint64(ev.Count), 1)
		s.Judged += count
		v := at.Verdict(enforced, conversation)
		if !v.Denied {
			continue
		}
		one := denialOf(f, v)
		g := groups[one]
		if g == nil {
			if len(groups) == maxDenials {
				missed = true
				continue
			}
			g = &one
			groups[one] = g
		}
		g.Count += count
		g.Example = ev
	}
	if missed {
		s.Limits = append(s.Limits, "there are more than 10000 groups of denials: further ones are not listed")
	}
	for _, g := range groups {
		s.Denials = append(s.Denials, *g)
	}
	slices.SortFunc(s.Denials, func(a, b policy.Denial) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Object, b.Object))
	})
	return s
}

func conversationOf(f *model.Flow) (Conversation, bool) {
	protocol := map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}[f.Protocol]
	to := f.Destination.Address
	return Conversation{Source: f.Source.Address.Addr(), Destination: to.Addr(), Protocol: protocol, Port: to.Port()},
		protocol != 0 && f.Source.Address.IsValid() && to.IsValid()
}

// podOf is the pod at an end of a flow; nil when it is none.
func podOf(end *model.Endpoint, known func(uid string) *model.Pod) *model.Pod {
	w := end.Workload
	if w == nil || w.Kind != model.WorkloadPod || w.Namespace == "" {
		return nil
	}
	p := model.Pod{UID: w.PodUID, Namespace: w.Namespace, Name: w.Name, Labels: w.Labels, Node: w.Node, ServiceAccount: w.ServiceAccount}
	if k := known(w.PodUID); k != nil {
		p = *k
	}
	p.Addresses, p.Ended = []netip.Addr{end.Address.Addr()}, false
	return &p
}

func denialOf(f *model.Flow, v Verdict) policy.Denial {
	d := policy.Denial{Policy: v.Policy.ID(), Rule: v.Rule, Operation: model.OpConnect}
	from, to := &f.Source, &f.Destination
	d.Object = fmt.Sprintf("%s port %d/%s", nameOf(to), f.Destination.Address.Port(), f.Protocol)
	if v.Direction == Ingress {
		d.Operation = model.OpAccept
		from, to = to, from
		d.Object = fmt.Sprintf("from %s to port %d/%s", nameOf(to), f.Destination.Address.Port(), f.Protocol)
	}
	if w := from.Workload; w != nil {
		d.Workload = w.Namespace + "/" + w.Name
	}
	if from.Process != nil {
		d.Binary = from.Process.Binary
	}
	return d
}

// nameOf is an end for people: the pod, not one of its many ports, where it is the source.
func nameOf(end *model.Endpoint) string {
	if w := end.Workload; w != nil && w.Namespace != "" {
		return w.Namespace + "/" + w.Name
	}
	return end.Address.Addr().String()
}
