// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"slices"
	"testing"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// A policy of several nodes is as well as it is on the worst of them, and as strong as on the weakest.
func TestOnePolicyOfSeveralNodes(t *testing.T) {
	policy := func(state, rung, guarantee string, hits uint64) answer[pb.ListPoliciesResponse] {
		return answer[pb.ListPoliciesResponse]{node: &node{name: "node-" + rung}, R: &pb.ListPoliciesResponse{Policies: []*pb.Policy{
			{Name: "web", Kind: "WorkloadPolicy", Mode: "enforce", State: state, Message: state, Processes: 2, Workloads: []string{"nginx.service"},
				Rules: []*pb.PolicyRule{{Field: "files.deny[0]", Rung: rung, Guarantee: guarantee, Hits: hits}}},
			{Name: "api-" + rung, State: "in force"}}}}
	}
	list := joinPolicies([]answer[pb.ListPoliciesResponse]{policy("in force", "lsm", "denied before it happens", 3), policy("degraded", "fanotify", "killed after the fact", 4),
		policy("in force", "lsm", "denied before it happens", 1)}, (*pb.ListPoliciesResponse).GetPolicies)
	var names []string
	for _, p := range list {
		names = append(names, p.GetName())
	}
	if !slices.Equal(names, []string{"api-fanotify", "api-lsm", "web"}) {
		t.Fatalf("policies are %v", names)
	}
	web := list[2]
	if web.GetState() != "degraded" || web.GetMessage() != "degraded" || web.GetProcesses() != 6 || web.GetMode() != "enforce" || len(web.GetNodes()) != 3 || len(web.GetWorkloads()) != 1 {
		t.Errorf("the policy is %v", web)
	}
	if r := web.GetRules()[0]; r.GetHits() != 8 || r.GetRung() != "lsm, fanotify" || r.GetGuarantee() != "killed after the fact" {
		t.Errorf("its rule is %v", r)
	}
	if n := web.GetNodes()[1]; n.GetNode() != "node-fanotify" || n.GetHits() != 4 || n.GetState() != "degraded" {
		t.Errorf("on the second node it is %v", n)
	}
}
