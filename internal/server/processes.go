// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

const (
	defaultProcessPage = 1000
	maxProcessPage     = 10_000
)

// ListProcesses implements the API. A page token is the exec_id of the last process of the page before:
// processes that come and go meanwhile move no other to another page.
func (s *service) ListProcesses(ctx context.Context, r *connect.Request[pb.ListProcessesRequest]) (*connect.Response[pb.ListProcessesResponse], error) {
	f, _, err := s.compile(r.Msg.GetFilter())
	if err != nil {
		return nil, err
	}
	if err := f.ForProcesses(); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	var after model.ProcessKey
	if token := r.Msg.GetPageToken(); token != "" {
		var ok bool
		if after, _, ok = model.ParseExecID(token); !ok {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("page_token is not one of ListProcesses: begin again without it"))
		}
	}
	list := s.backend.Processes(r.Msg.GetIncludeEnded())
	slices.SortFunc(list, func(a, b *model.Process) int { return compareKeys(a.Key, b.Key) })
	limit := pageSize(r.Msg.GetPageSize(), defaultProcessPage, maxProcessPage)
	m := new(pb.ListProcessesResponse)
	for _, p := range list {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if compareKeys(p.Key, after) <= 0 || !f.KeepProcess(p) {
			continue
		}
		if len(m.Processes) == limit {
			m.NextPageToken = m.Processes[limit-1].GetExecId()
			break
		}
		m.Processes = append(m.Processes, wire.ProcessToProto(p))
	}
	return connect.NewResponse(m), nil
}

func compareKeys(a, b model.ProcessKey) int {
	return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Exec, b.Exec))
}

// GetProcess implements the API.
func (s *service) GetProcess(_ context.Context, r *connect.Request[pb.GetProcessRequest]) (*connect.Response[pb.GetProcessResponse], error) {
	id, pid := r.Msg.GetExecId(), r.Msg.GetPid()
	var p *model.Process
	switch {
	case (id == "") == (pid == 0):
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("give exec_id or pid, one of the two"))
	case id != "":
		if p = s.backend.Process(id); p == nil {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("exec_id %q is not known, or not any more", id))
		}
	default:
		if p = s.backend.ProcessByPID(pid); p == nil {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no process with pid %d", pid))
		}
	}
	m := &pb.GetProcessResponse{Process: wire.ProcessToProto(p)}
	for _, a := range s.backend.Ancestors(p) {
		m.Ancestors = append(m.Ancestors, wire.ProcessToProto(a))
	}
	children := s.backend.Children(p)
	slices.SortFunc(children, func(a, b *model.Process) int { return compareKeys(a.Key, b.Key) })
	for _, c := range children {
		m.Children = append(m.Children, wire.ProcessToProto(c))
	}
	return connect.NewResponse(m), nil
}
