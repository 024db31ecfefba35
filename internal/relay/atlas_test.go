// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"slices"
	"testing"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

func unit(name string, processes uint32) *pb.MapNode {
	return &pb.MapNode{Id: "workload:" + name, Kind: "workload", Name: name, Group: "system.slice", Processes: processes, Workload: &pb.Workload{Kind: "unit", Name: name}}
}

func pod(id, uid, name string, processes uint32) *pb.MapNode {
	return &pb.MapNode{Id: "workload:" + id, Kind: "workload", Name: name, Group: "shop", Processes: processes,
		Workload: &pb.Workload{Kind: "pod", Name: name, PodUid: uid}}
}

func outside(name string, addresses ...string) *pb.MapNode {
	return &pb.MapNode{Id: "external:" + name, Kind: "external", Name: name, Group: "external", Addresses: addresses}
}

func line(source, destination *pb.MapNode, flows, sent uint64) *pb.MapEdge {
	return &pb.MapEdge{Id: source.GetId() + destination.GetId(), Source: source.GetId(), Destination: destination.GetId(), Protocol: "tcp", Port: 443, Flows: flows, BytesSent: sent}
}

func TestOneMapOfTwo(t *testing.T) {
	// On a: a unit of a name that b has too, and a pod that talks to one of b. On b: that pod, in two containers.
	unitA, world := unit("nginx.service", 1), outside("example.org", "192.0.2.1")
	podA, podBfromA := pod("c1", "uid-a", "web", 2), pod("uid-b", "uid-b", "db", 0)
	unitB, worldB := unit("nginx.service", 3), outside("example.org", "192.0.2.2")
	podAfromB, podB, podBside := pod("uid-a", "uid-a", "web", 0), pod("c2", "uid-b", "db", 1), pod("c3", "uid-b", "db", 1)
	var a atlas
	a.add("a", []*pb.MapNode{unitA, world, podA, podBfromA}, []*pb.MapEdge{line(unitA, world, 1, 10), line(podA, podBfromA, 5, 500)}, 0)
	a.add("b", []*pb.MapNode{unitB, worldB, podAfromB, podB, podBside}, []*pb.MapEdge{line(unitB, worldB, 2, 20), line(podAfromB, podB, 3, 400), line(podAfromB, podBside, 1, 90)}, 7)
	nodes, edges, leftOut := a.draw(100)
	if leftOut != 7 {
		t.Errorf("%d left out", leftOut)
	}
	where := make(map[string]string)
	for _, n := range nodes {
		where[n.GetId()] = n.GetNode()
	}
	want := map[string]string{"a/workload:nginx.service": "a", "b/workload:nginx.service": "b", "external:example.org": "", "pod:uid-a": "a", "pod:uid-b": "b"}
	if len(where) != len(want) {
		t.Errorf("nodes are %v", where)
	}
	for id, node := range want {
		if got, ok := where[id]; !ok || got != node {
			t.Errorf("%s is on %q, want %q", id, got, node)
		}
	}
	said := make(map[string][2]uint64)
	for _, e := range edges {
		said[e.GetSource()+" "+e.GetDestination()] = [2]uint64{e.GetFlows(), e.GetBytesSent()}
	}
	for line, want := range map[string][2]uint64{
		"a/workload:nginx.service external:example.org": {1, 10},
		"b/workload:nginx.service external:example.org": {2, 20},
		"pod:uid-a pod:uid-b":                           {5, 500}, // as a saw it, which saw more; b's two containers are one end
	} {
		if said[line] != want {
			t.Errorf("%s: %v, want %v", line, said[line], want)
		}
	}
	for _, n := range nodes {
		if n.GetKind() == "external" && !slices.Equal(n.GetAddresses(), []string{"192.0.2.1", "192.0.2.2"}) {
			t.Errorf("what is outside is at %v", n.GetAddresses())
		}
	}
	if nodes, edges, leftOut := a.draw(2); len(nodes) != 2 || len(edges) != 1 || leftOut != 7+3 {
		t.Errorf("drawn with two: %d nodes, %d edges, %d left out", len(nodes), len(edges), leftOut)
	}
}

func TestExpandIsTranslated(t *testing.T) {
	if got := expandOn("a", []string{"a/workload:/system.slice/x", "b/workload:y", "pod:uid", "/system.slice/z", "*"}); !slices.Equal(got, []string{"workload:/system.slice/x", "uid", "/system.slice/z", "*"}) {
		t.Errorf("on a: %v", got)
	}
}
