// SPDX-License-Identifier: Apache-2.0

package netpol_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/policy/netpol/netpoltest"
)

// recordedPod is pod i of netpoltest's cluster at an end of a flow.
func recordedPod(c *netpol.Cluster, i int, port uint16) model.Endpoint {
	p := c.Pods[i]
	return model.Endpoint{Address: netip.AddrPortFrom(netpoltest.Address(i, false), port), Process: &model.Process{Binary: "/bin/x"},
		Workload: &model.Workload{Kind: model.WorkloadPod, Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, PodUID: p.UID}}
}

// kubelet is a process of the node, which probes.
func kubelet() model.Endpoint {
	return model.Endpoint{Address: netip.AddrPortFrom(netpoltest.Gateway(false), 50000), Process: &model.Process{Binary: "/usr/bin/kubelet"},
		Workload: &model.Workload{Kind: model.WorkloadUnit, Name: "kubelet.service"}}
}

func recordedFlow(from, to model.Endpoint) *model.Event {
	return &model.Event{Count: 1, Flow: &model.Flow{Report: 1, Protocol: "tcp", Source: from, Destination: to}}
}

func parsed(t *testing.T, text string) []*netpol.Policy {
	t.Helper()
	list, err := netpol.Parse("p", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSimulateRecording holds that a recording is judged by what it tells of its cluster: the labels that pods had in it, also where an
// earlier flow had not told them, and which addresses are the node's.
func TestSimulateRecording(t *testing.T) {
	c := netpoltest.Cluster()
	early := recordedPod(c, 2, 40000)
	early.Workload = &model.Workload{Kind: model.WorkloadPod, Namespace: "x", Name: "c", PodUID: c.Pods[2].UID} // no labels yet
	proxy := recordedPod(c, 3, 40001)
	proxy.Address = kubelet().Address // in the node's network
	history := []*model.Event{
		recordedFlow(early, recordedPod(c, 0, 80)),
		recordedFlow(recordedPod(c, 1, 40000), recordedPod(c, 0, 80)),
		recordedFlow(recordedPod(c, 2, 40000), recordedPod(c, 0, 80)),
		recordedFlow(kubelet(), recordedPod(c, 0, 80)),
		recordedFlow(proxy, recordedPod(c, 0, 80)),
		recordedFlow(recordedPod(c, 8, 40000), recordedPod(c, 0, 80)),
	}
	s, judged := netpol.SimulateRecording(parsed(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x},
		spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}},
			{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}], ports: [{port: 80}]}]}}`), slices.Values(history))
	if judged != 1 || s.Judged != 6 || len(s.Denials) != 1 || s.Denials[0].Count != 1 || s.Denials[0].Object != "from x/b to port 80/tcp" {
		t.Errorf("%d policies, %d conversations judged, %+v", judged, s.Judged, s.Denials)
	}
}

// TestNotInARecording holds that a policy that asks for more than a recording has is not judged, and that it is said why.
func TestNotInARecording(t *testing.T) {
	c := netpoltest.Cluster()
	history := slices.Values([]*model.Event{recordedFlow(recordedPod(c, 1, 40000), recordedPod(c, 0, 80))})
	const isolate = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: isolate, namespace: x}, spec: {podSelector: {}, ingress: []}}`
	network := func(ingress string) string {
		return `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}, ingress: [` + ingress + `]}}`
	}
	cilium := func(spec string) string {
		return `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: x}, spec: {endpointSelector: {}, ` + spec + `}}`
	}
	for name, o := range map[string]struct{ policy, want string }{
		"namespace":  {network(`{from: [{namespaceSelector: {matchLabels: {team: a}}}]}`), "NetworkPolicy/x/p is not judged: spec.ingress[0] asks for the namespace label team"},
		"named port": {network(`{ports: [{port: http}]}`), "spec.ingress[0] names the port http"},
		"subject": {`{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 1,
			subject: {namespaces: {matchLabels: {team: a}}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}}`, "its subject asks for the namespace label team"},
		"nodes": {`{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 1,
			subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: {matchLabels: {a: b}}}]}]}}`, "spec.egress[0] selects nodes"},
		"API server": {cilium(`egress: [{toEntities: [kube-apiserver]}]`), "names kube-apiserver"},
	} {
		p := parsed(t, o.policy)
		s, judged := netpol.SimulateRecording(p, history)
		if judged != 0 || len(s.Limits) != 1 || !strings.Contains(s.Limits[0], o.want) {
			t.Errorf("%s: %d judged, %q, want %q", name, judged, s.Limits, o.want)
		}
		s, judged = netpol.SimulateRecording(append(p, parsed(t, isolate)...), history)
		if judged != 1 || len(s.Denials) != 1 || !slices.Contains(s.Limits, "what only a policy that is not judged allows counts as denied by the others") {
			t.Errorf("%s, beside another: %d judged, %+v, %q", name, judged, s.Denials, s.Limits)
		}
	}
	s, judged := netpol.SimulateRecording(parsed(t, cilium(`egress: [{toEntities: [world]}]`)), history)
	if judged != 1 || !slices.ContainsFunc(s.Limits, func(l string) bool { return strings.Contains(l, "addresses of other nodes count as outside") }) {
		t.Errorf("the world: %d judged, %q", judged, s.Limits)
	}
}
