// SPDX-License-Identifier: Apache-2.0

package netpol_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
)

// TestSimulate holds that recorded flows are judged once each, by the policies as if they were enforced.
func TestSimulate(t *testing.T) {
	c := netpoltest.Cluster()
	end := func(i int, port uint16) model.Endpoint {
		p := c.Pods[i]
		return model.Endpoint{Address: netip.AddrPortFrom(netpoltest.Address(i, false), port), Process: &model.Process{Binary: "/bin/x"},
			Workload: &model.Workload{Kind: model.WorkloadPod, Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, PodUID: p.UID}}
	}
	flow := func(from, to int, port uint16, report uint32) *model.Event {
		return &model.Event{Count: 1, Flow: &model.Flow{Report: report, Protocol: "tcp", Source: end(from, 40000), Destination: end(to, port)}}
	}
	history := []*model.Event{flow(1, 0, 80, 1), flow(1, 0, 80, 2), flow(1, 0, 80, 1), flow(2, 0, 80, 1), flow(3, 4, 80, 1), {Type: model.TypeExec}}
	policies, err := netpol.Parse("p", []byte(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x, annotations: {vigie.io/mode: audit}},
		spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	s := netpol.Simulate(policies, c, slices.Values(history), func(string) *model.Pod { return nil })
	if s.Judged != 4 || len(s.Denials) != 1 {
		t.Fatalf("%d judged, %+v", s.Judged, s.Denials)
	}
	d := s.Denials[0]
	if d.Policy != "NetworkPolicy/x/p" || d.Rule != "ingress" || d.Count != 2 || d.Workload != "x/a" || d.Object != "from x/b to port 80/tcp" || d.Operation != model.OpAccept {
		t.Errorf("%+v", d)
	}
}
