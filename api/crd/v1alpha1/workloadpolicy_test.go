// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "testing"

func TestSummarize(t *testing.T) {
	s := Status{Nodes: []NodeStatus{
		{Name: "a", State: "in force", Hits: 2, Rules: []RuleStatus{{Rung: "cgroup connect4/6"}, {Rung: ""}}},
		{Name: "b", State: "degraded", Hits: 3, Rules: []RuleStatus{{Rung: "lsm file_open"}, {Rung: "cgroup connect4/6"}}},
		{Name: "c", State: "in force"},
	}}
	s.Summarize()
	if s.State != "degraded" || s.Hits != 5 || s.InForce != "2/3" || s.Rungs != "lsm file_open; cgroup connect4/6" {
		t.Errorf("%+v", s)
	}
}
