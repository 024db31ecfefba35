// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/vigie-io/vigie/internal/kube/policies"
	"github.com/vigie-io/vigie/internal/policy"
)

// The kinds of the cluster's objects that are WorkloadPolicies: of a namespace's pods, and of every workload of every node.
const (
	kindWorkload        = "WorkloadPolicy"
	kindClusterWorkload = "ClusterWorkloadPolicy"
)

// objectName is what a policy of the cluster's objects is called among all policies.
func objectName(o *policies.Object) string {
	if o.Kind == kindWorkload {
		return o.Namespace + "/" + o.Name
	}
	return o.Name
}

// reloadCluster brings the WorkloadPolicies among the cluster's objects in force. Of one that cannot be, what was in force
// of it stays; the problems say why, by the policies' names.
func (s *policyStore) reloadCluster(ctx context.Context, list []*policies.Object) map[string]error {
	s.changing.Lock()
	defer s.changing.Unlock()
	problems := make(map[string]error)
	if s.trouble.notReady() != nil {
		return problems
	}
	now := s.now.Load()
	next := now.clone()
	there := make(map[string]bool)
	var fresh []*heldPolicy
	for _, o := range list {
		if o.Kind != kindWorkload && o.Kind != kindClusterWorkload {
			continue
		}
		name := objectName(o)
		there[name] = true
		before := now.policies[name]
		if before != nil && before.origin != fromCluster {
			problems[name] = fmt.Errorf("a policy of this name is kept in %s on this node: give one of them another name", before.origin)
			continue
		}
		if before != nil && before.Text == string(o.JSON) {
			continue
		}
		p, err := s.parseObject(o)
		if err != nil {
			problems[name] = err
			continue
		}
		next.policies[name] = p
		fresh = append(fresh, p)
	}
	gone := false
	maps.DeleteFunc(next.policies, func(name string, p *heldPolicy) bool {
		mine := p.origin == fromCluster && !there[name]
		gone = gone || mine
		return mine
	})
	if len(fresh) == 0 && !gone {
		return problems
	}
	if s.change(ctx, next, fromDirectory) == nil {
		return problems
	}
	// Something of it cannot be: each by itself.
	alone := s.now.Load().clone()
	maps.DeleteFunc(alone.policies, func(name string, p *heldPolicy) bool { return p.origin == fromCluster && !there[name] })
	if err := s.change(ctx, alone, fromDirectory); err != nil {
		problems[""] = err
	}
	for _, p := range fresh {
		with := s.now.Load().clone()
		with.policies[p.Name] = p
		if err := s.change(ctx, with, fromDirectory); err != nil {
			problems[p.Name] = err
		}
	}
	return problems
}

// parseObject reads a WorkloadPolicy or ClusterWorkloadPolicy.
func (s *policyStore) parseObject(o *policies.Object) (*heldPolicy, error) {
	var written struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(o.JSON, &written); err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	text, err := json.Marshal(map[string]any{"apiVersion": policy.APIVersion, "kind": kindWorkload, "metadata": map[string]string{"name": o.Name}, "spec": written.Spec})
	if err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	list, err := policy.Parse(o.Kind+" "+objectName(o), text)
	if err != nil {
		return nil, err
	}
	p := *list[0]
	p.Name, p.Source = objectName(o), string(o.JSON)
	if o.Kind == kindWorkload {
		p.Selector.Namespace = o.Namespace
	}
	one := newWorkloadPolicy(&p)
	d := Document{Source: fromCluster, Line: 1, Text: string(o.JSON), Kind: o.Kind, Name: p.Name, KindAt: fromCluster, NameAt: fromCluster}
	return &heldPolicy{Document: d, origin: fromCluster, carrier: s.kind(kindWorkload), written: one, current: one}, nil
}
