// SPDX-License-Identifier: Apache-2.0

package wire

import (
	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// MapToProto converts a map.
func MapToProto(m *model.Map) *pb.GetMapResponse {
	return &pb.GetMapResponse{Nodes: nodesToProto(m.Nodes), Edges: edgesToProto(m.Edges), NodesLeftOut: uint32(m.NodesLeftOut),
		CompleteSince: timestamp(m.CompleteSince)}
}

// MapDeltaToProto converts what changed of a map.
func MapDeltaToProto(d *model.MapDelta) *pb.StreamMapResponse {
	return &pb.StreamMapResponse{Whole: d.Whole, Nodes: nodesToProto(d.Nodes), Edges: edgesToProto(d.Edges),
		RemovedNodes: texts(d.RemovedNodes), RemovedEdges: texts(d.RemovedEdges), NodesLeftOut: uint32(d.NodesLeftOut)}
}

func nodesToProto(list []model.MapNode) []*pb.MapNode {
	out := make([]*pb.MapNode, len(list))
	for i := range list {
		n := &list[i]
		out[i] = &pb.MapNode{Id: text(n.ID), Kind: text(string(n.Kind)), Name: text(n.Name), Group: text(n.Group),
			Workload: WorkloadToProto(n.Workload), Process: refToProto(n.Process), Parent: text(n.Parent),
			Processes: uint32(n.Processes), Addresses: texts(n.Addresses)}
	}
	return out
}

func edgesToProto(list []model.MapEdge) []*pb.MapEdge {
	out := make([]*pb.MapEdge, len(list))
	for i := range list {
		e := &list[i]
		out[i] = &pb.MapEdge{Id: text(e.ID), Source: text(e.Source), Destination: text(e.Destination), Protocol: text(e.Protocol),
			Port: uint32(e.Port), Application: text(e.Application), Flows: e.Flows, Open: e.Open, Denied: e.Denied,
			Audited: e.Audited, Failed: e.Failed, BytesSent: e.BytesSent, BytesReceived: e.BytesReceived,
			Retransmits: e.Retransmits, RttNs: int64(e.RTT), Requests: e.Requests, RequestErrors: e.RequestErrors,
			LatencyP50Ns: int64(e.LatencyP50), LatencyP99Ns: int64(e.LatencyP99), FirstSeen: timestamp(e.FirstSeen),
			LastSeen: timestamp(e.LastSeen), Change: text(string(e.Change))}
	}
	return out
}
