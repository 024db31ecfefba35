// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"slices"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// ListPods implements the API. What the agent of a pod's own node knows of it is more than what others do.
func (a *api) ListPods(ctx context.Context, q *connect.Request[pb.ListPodsRequest]) (*connect.Response[pb.ListPodsResponse], error) {
	r := a.relay
	answers, errs, err := ask(ctx, r.all(), "ListPods", r.o.AskTimeout, same(q.Msg), vigiev1connect.VigieClient.ListPods)
	if err != nil {
		return nil, err
	}
	byUID := make(map[string]*pb.Pod)
	for _, x := range answers {
		for _, p := range x.R.GetPods() {
			if byUID[p.GetUid()] == nil || p.GetNode() == x.node.called() {
				byUID[p.GetUid()] = p
			}
		}
	}
	out := &pb.ListPodsResponse{Pods: values(byUID), NodeErrors: errs}
	slices.SortFunc(out.GetPods(), func(a, b *pb.Pod) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(a.GetUid(), b.GetUid()))
	})
	return connect.NewResponse(out), nil
}
