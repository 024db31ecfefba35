// SPDX-License-Identifier: Apache-2.0

package model

import "time"

// Map says who talked to whom. vigie.v1.GetMapResponse documents the fields.
type Map struct {
	Nodes []MapNode // ordered by group and name
	Edges []MapEdge // ordered by source and destination
	// NodesLeftOut are those for which there was no room: they said least.
	NodesLeftOut  int
	CompleteSince time.Time // history is complete from then on
}

// MapDelta is a map, or what changed of the one before.
type MapDelta struct {
	Whole                      bool
	Nodes                      []MapNode
	Edges                      []MapEdge
	RemovedNodes, RemovedEdges []string
	NodesLeftOut               int
}

// MapNodeKind says what a node of a map stands for.
type MapNodeKind string

// The kinds of nodes.
const (
	MapWorkload MapNodeKind = "workload"
	MapProcess  MapNodeKind = "process"
	MapExternal MapNodeKind = "external"
)

// MapNode is a workload, a process or a place outside.
type MapNode struct {
	ID        string // the same in every map of one host
	Kind      MapNodeKind
	Name      string
	Group     string // Kubernetes namespace, systemd slice or "external"
	Workload  *Workload
	Process   *Process
	Parent    string // of a process: the node of its workload
	Processes int
	Addresses []string // of an external node, at most 16
}

// MapEdge is what one node said to another on one destination port.
type MapEdge struct {
	ID                  string
	Source, Destination string // ids of nodes
	Protocol            string
	Port                uint16
	Application         string // protocol of its requests

	Flows, Open             uint64
	Denied, Audited, Failed uint64

	BytesSent, BytesReceived uint64
	Retransmits              uint64
	RTT                      time.Duration // mean of what flows reported

	Requests, RequestErrors uint64
	LatencyP50, LatencyP99  time.Duration

	FirstSeen, LastSeen time.Time
	Change              MapChange // of a comparison
}

// MapChange says how an edge differs from a time before.
type MapChange string

// The changes of an edge.
const (
	MapSame     MapChange = ""
	MapNew      MapChange = "new"
	MapVanished MapChange = "vanished"
)
