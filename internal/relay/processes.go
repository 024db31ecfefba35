// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

const (
	defaultProcesses = 1000
	maxProcesses     = 10_000
	nodesAtOnce      = 32 // whose processes are asked for together
)

// ListProcesses implements the API: node by node. A page token is the name of a node and its own token.
func (a *api) ListProcesses(ctx context.Context, q *connect.Request[pb.ListProcessesRequest]) (*connect.Response[pb.ListProcessesResponse], error) {
	r, m := a.relay, q.Msg
	nodes, err := r.nodesOf(m.GetFilter())
	if err != nil {
		return nil, err
	}
	from, token, err := parseNodeToken(m.GetPageToken())
	if err != nil {
		return nil, err
	}
	all := len(nodes)
	nodes = slices.DeleteFunc(nodes, func(n *node) bool { return n.called() < from })
	limit := bounded(m.GetPageSize(), defaultProcesses, maxProcesses)
	out := new(pb.ListProcessesResponse)
	for len(nodes) > 0 || all == 0 {
		now := nodes[:min(nodesAtOnce, len(nodes))]
		nodes = nodes[len(now):]
		answers, errs, err := ask(ctx, now, "ListProcesses", r.o.AskTimeout, func(n *node) *pb.ListProcessesRequest {
			q := &pb.ListProcessesRequest{Filter: r.translate(n, m.GetFilter()), IncludeEnded: m.GetIncludeEnded(), PageSize: uint32(limit)}
			if n.called() == from {
				q.PageToken = token
			}
			return q
		}, vigiev1connect.VigieClient.ListProcesses)
		if err != nil {
			return nil, err
		}
		out.NodeErrors = append(out.NodeErrors, errs...)
		for _, x := range answers {
			name := x.node.called()
			if len(out.GetProcesses()) == limit {
				out.NextPageToken = nodeToken(name, "")
				return connect.NewResponse(out), nil
			}
			list, next := x.R.GetProcesses(), x.R.GetNextPageToken()
			if room := limit - len(out.GetProcesses()); len(list) > room {
				list = list[:room]
				next = list[room-1].GetExecId() // an agent's token is the last process of a page
			}
			for _, p := range list {
				out.Processes, out.Nodes = append(out.Processes, p), append(out.Nodes, name)
			}
			if next != "" {
				out.NextPageToken = nodeToken(name, next)
				return connect.NewResponse(out), nil
			}
		}
	}
	return connect.NewResponse(out), nil
}

func nodeToken(node, token string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(node + "\x00" + token))
}

func parseNodeToken(s string) (node, token string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	node, token, found := strings.Cut(string(b), "\x00")
	if s != "" && (err != nil || !found) {
		return "", "", connect.NewError(connect.CodeInvalidArgument, errors.New("page_token is not one of ListProcesses: begin again without it"))
	}
	return node, token, nil
}

// GetProcess implements the API. An exec_id is asked for where the boot is that it names.
func (a *api) GetProcess(ctx context.Context, q *connect.Request[pb.GetProcessRequest]) (*connect.Response[pb.GetProcessResponse], error) {
	r, m := a.relay, q.Msg
	nodes := r.all()
	switch {
	case m.GetNode() != "" || m.GetExecId() == "":
		n, err := r.only(m.GetNode(), "a pid is a number of one node; give the node's name with it, or an exec_id")
		if err != nil {
			return nil, err
		}
		nodes = []*node{n}
	default:
		boot, _, _ := strings.Cut(m.GetExecId(), "-")
		nodes = slices.DeleteFunc(nodes, func(n *node) bool { b := n.report().GetBoot(); return b != "" && b != boot })
	}
	answers, _, err := ask(ctx, nodes, "GetProcess", r.o.AskTimeout, same(&pb.GetProcessRequest{ExecId: m.GetExecId(), Pid: m.GetPid()}),
		vigiev1connect.VigieClient.GetProcess)
	if err != nil {
		return nil, err
	}
	answers[0].R.Node = answers[0].node.called()
	return connect.NewResponse(answers[0].R), nil
}
