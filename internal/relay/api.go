// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// api answers for all nodes. Its calls stand in the files that are named for what they are about.
type api struct {
	vigiev1connect.UnimplementedVigieHandler // of what this relay does not know yet

	relay *Relay
}

// API is the agents' API, of all nodes.
func (r *Relay) API() vigiev1connect.VigieHandler { return &api{relay: r} }

// one is the node of that name.
func (r *Relay) one(name string) (*node, error) {
	var found *node
	for _, n := range r.all() {
		if n.called() != name {
			continue
		}
		if found != nil {
			return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("two agents say that they are node %q: name them apart with --node-name", name))
		}
		found = n
	}
	if found == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no node %q: `vigie status` lists them", name))
	}
	return found, nil
}

// only is the node that a request names, or the only one that there is.
func (r *Relay) only(name, why string) (*node, error) {
	if name != "" {
		return r.one(name)
	}
	if nodes := r.all(); len(nodes) == 1 {
		return nodes[0], nil
	}
	return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("node is missing: "+why))
}

// mayChange is nil when the peer may change what agents do.
func (r *Relay) mayChange(ctx context.Context) error { return r.o.Peer(ctx).MayChange() }

// same makes one request for every node.
func same[Q any](q *Q) func(*node) *Q { return func(*node) *Q { return q } }

// nodesOf are the nodes that a filter chooses.
func (r *Relay) nodesOf(f *pb.Filter) ([]*node, error) { return r.chosen(f.GetNodes()) }
