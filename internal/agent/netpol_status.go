// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/vigie-io/vigie/api/crd/v1alpha1"
	"github.com/vigie-io/vigie/internal/server"
)

// reported is what was last written into an object's status.
type reported struct {
	node v1alpha1.NodeStatus
	at   time.Time
}

// hitsEvery is how often a status is written because of hits alone: so much the API server is asked at most, for each policy
// and minute by each node.
const hitsEvery = 30 * time.Second

// keepReporting keeps the status of objects up to date until ctx ends.
func (p *podPolicies) keepReporting(ctx context.Context) {
	told := make(map[string]reported) // by the objects' uids
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.report(ctx, told)
		}
	}
}

// report writes how the WorkloadPolicies among the cluster's objects are doing here into their status, where that has changed.
func (p *podPolicies) report(ctx context.Context, told map[string]reported) {
	list, synced := p.objects.Objects()
	if !synced {
		return
	}
	doing := make(map[string]server.Policy)
	for _, one := range p.store.policies() {
		if one.Source == fromCluster {
			doing[one.Name] = one
		}
	}
	p.mu.Lock()
	refused := p.refused
	p.mu.Unlock()
	for _, o := range list {
		if o.Kind != kindWorkload && o.Kind != kindClusterWorkload {
			continue
		}
		name := objectName(o)
		node := nodeStatus(p.view.Node(), doing[name])
		node.ObservedGeneration = o.Generation
		if err := refused[name]; err != nil {
			node.Message = err.Error()
			if node.State = server.PolicyDegraded; doing[name].Name == "" {
				node.State = server.PolicyFailed
			}
		}
		before, known := told[o.UID]
		quiet := node
		quiet.Hits, quiet.Processes, quiet.Rules = before.node.Hits, before.node.Processes, before.node.Rules
		if known && (reflect.DeepEqual(node, before.node) || (reflect.DeepEqual(quiet, before.node) && time.Since(before.at) < hitsEvery)) {
			continue
		}
		if err := p.objects.Report(ctx, o, node); err != nil {
			p.log.Debug("a policy's status could not be written", "policy", name, "error", err)
			return // the API server is away, or the right is missing: all others would fail too
		}
		told[o.UID] = reported{node, time.Now()}
	}
}

// nodeStatus is how a policy is doing on this node.
func nodeStatus(node string, d server.Policy) v1alpha1.NodeStatus {
	s := v1alpha1.NodeStatus{Name: node, State: d.State, Mode: d.Mode, Message: d.Message, Processes: int64(d.Processes)}
	for _, r := range d.Rules {
		s.Hits += int64(r.Hits)
		s.Rules = append(s.Rules, v1alpha1.RuleStatus{Field: r.Field, Rung: r.Rung, Guarantee: string(r.Guarantee), Hits: int64(r.Hits)})
	}
	if len(s.Rules) > v1alpha1.MaxRules {
		slices.SortStableFunc(s.Rules, func(a, b v1alpha1.RuleStatus) int { return cmp.Compare(b.Hits, a.Hits) })
		s.Rules = s.Rules[:v1alpha1.MaxRules]
	}
	return s
}
