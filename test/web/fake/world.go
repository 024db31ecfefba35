// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"google.golang.org/protobuf/proto"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
)

// world is a made-up map, the same on every run.
type world struct {
	nodes []*vigiev1.MapNode
	edges []*vigiev1.MapEdge

	mu     sync.Mutex
	random *rand.Rand
}

// makeWorld makes nodes in groups of 50 and edges of which most stay within a group, as those of real systems do.
func makeWorld(nodes, edges int) *world {
	w := &world{random: rand.New(rand.NewPCG(1, 2))}
	const group = 50
	for i := range nodes {
		name := fmt.Sprintf("service-%03d", i)
		w.nodes = append(w.nodes, &vigiev1.MapNode{Id: fmt.Sprint("n", i), Kind: "workload", Name: name,
			Group: fmt.Sprintf("namespace-%02d", i/group), Processes: uint32(1 + w.random.IntN(8)),
			Workload: &vigiev1.Workload{Kind: "pod", Name: name}})
	}
	for i := range edges {
		from := w.random.IntN(nodes)
		to := w.random.IntN(nodes)
		if w.random.IntN(4) > 0 {
			to = min(from/group*group+w.random.IntN(group), nodes-1)
		}
		e := &vigiev1.MapEdge{Id: fmt.Sprint("e", i), Source: w.nodes[from].Id, Destination: w.nodes[to].Id, Protocol: "tcp", Port: uint32(8000 + i%20)}
		w.count(e)
		if i%100 == 0 {
			e.Denied = 3
		}
		w.edges = append(w.edges, e)
	}
	return w
}

func (w *world) count(e *vigiev1.MapEdge) {
	e.Flows = uint64(1 + w.random.IntN(5000))
	e.BytesSent = e.Flows * uint64(100+w.random.IntN(10000))
	e.BytesReceived = e.Flows * uint64(100+w.random.IntN(100000))
	e.RttNs = int64(50_000 + w.random.IntN(5_000_000))
}

// change gives a twentieth of the edges other figures. Those that were sent stay as they are: they may still be on their way.
func (w *world) change() []*vigiev1.MapEdge {
	w.mu.Lock()
	defer w.mu.Unlock()
	var changed []*vigiev1.MapEdge
	for range len(w.edges) / 20 {
		e := proto.CloneOf(w.edges[w.random.IntN(len(w.edges))])
		w.count(e)
		changed = append(changed, e)
	}
	return changed
}
