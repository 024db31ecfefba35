// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is vigie's kinds in a cluster (vigie.io/v1alpha1). In: what agents know of a policy. Out: the status of the
// object. What a policy says is internal/policy's to read; the kinds' definitions beside this file are made from that
// (go test ./internal/policy -run CustomResources -update).
package v1alpha1

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The API group and version of the kinds.
const (
	Group   = "vigie.io"
	Version = "v1alpha1"
)

// Status is what agents say of a policy.
type Status struct {
	// Nodes are the nodes whose agents have read the policy, each by its own agent.
	Nodes []NodeStatus `json:"nodes,omitempty"`
	// The rest is about all nodes together, for `kubectl get`.
	State   string `json:"state,omitempty"`   // in force, degraded, failed; the worst of all nodes
	Rungs   string `json:"rungs,omitempty"`   // what carries the rules
	Hits    int64  `json:"hits"`              // how often rules denied, or would have
	InForce string `json:"inForce,omitempty"` // "2/3": on how many nodes of those that have read it
}

// NodeStatus is how a policy is doing on one node.
type NodeStatus struct {
	Name               string       `json:"name"`
	ObservedGeneration int64        `json:"observedGeneration"`
	State              string       `json:"state"`
	Mode               string       `json:"mode"`
	Message            string       `json:"message,omitempty"`
	Processes          int64        `json:"processes"`
	Hits               int64        `json:"hits"`
	Rules              []RuleStatus `json:"rules,omitempty"`
}

// RuleStatus is how one rule is doing.
type RuleStatus struct {
	Field     string `json:"field"`
	Rung      string `json:"rung,omitempty"`
	Guarantee string `json:"guarantee,omitempty"`
	Hits      int64  `json:"hits"`
}

// MaxRules is how many rules of a policy its status has: those with hits first.
const MaxRules = 50

// Summarize fills in what is about all nodes together.
func (s *Status) Summarize() {
	rungs := map[string]bool{}
	good := 0
	s.State, s.Hits = "", 0
	for _, n := range s.Nodes {
		s.Hits += n.Hits
		if n.State == "in force" {
			good++
		}
		if worse(n.State) > worse(s.State) {
			s.State = n.State
		}
		for _, r := range n.Rules {
			if r.Rung != "" {
				rungs[r.Rung] = true
			}
		}
	}
	names := make([]string, 0, len(rungs))
	for r := range rungs {
		names = append(names, r)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	s.Rungs, s.InForce = strings.Join(names, "; "), fmt.Sprintf("%d/%d", good, len(s.Nodes))
}

// worse orders states: more is worse.
func worse(state string) int {
	return slices.Index([]string{"", "in force", "disabled", "degraded", "failed"}, state)
}
