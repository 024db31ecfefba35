// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// GetStatus implements the API: the sums of all nodes that answer, and how each of them is; or the status of one.
func (a *api) GetStatus(ctx context.Context, q *connect.Request[pb.GetStatusRequest]) (*connect.Response[pb.GetStatusResponse], error) {
	r := a.relay
	if name := q.Msg.GetNode(); name != "" {
		n, err := r.one(name)
		if err != nil {
			return nil, err
		}
		m, err := askOne(ctx, n, "GetStatus", r.o.AskTimeout, new(pb.GetStatusRequest), vigiev1connect.VigieClient.GetStatus)
		if err != nil {
			return nil, asked(n, err)
		}
		return connect.NewResponse(m), nil
	}
	nodes := r.all()
	answers, _, err := ask(ctx, nodes, "GetStatus", r.o.AskTimeout, same(new(pb.GetStatusRequest)), vigiev1connect.VigieClient.GetStatus)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	now := r.o.Now()
	s := &pb.Status{Version: r.o.Version, Host: r.o.Host, Node: r.o.Host, Arch: runtime.GOARCH, Pid: uint32(os.Getpid()),
		StartTime: timestamppb.New(r.started), UptimeNs: int64(now.Sub(r.started)), Events: make(map[string]uint64),
		ProcessTable: new(pb.ProcessTableStatus), Store: new(pb.StoreStatus), Memory: new(pb.MemoryStatus), Subscribers: r.viewers()}
	sensors := make(map[string]*pb.SensorStatus)
	losses := make(map[[2]string]*pb.LossStatus)
	for _, x := range answers {
		addStatus(s, x.R.GetStatus())
		for _, l := range x.R.GetStatus().GetLosses() {
			k := [2]string{l.GetStage(), l.GetReason()}
			if losses[k] == nil {
				losses[k] = &pb.LossStatus{Stage: l.GetStage(), Reason: l.GetReason()}
				s.Losses = append(s.Losses, losses[k])
			}
			losses[k].Count += l.GetCount()
		}
		for _, sensor := range x.R.GetStatus().GetSensors() {
			to := sensors[sensor.GetName()]
			if to == nil {
				to = &pb.SensorStatus{Name: sensor.GetName(), State: sensor.GetState(), Rung: sensor.GetRung()}
				sensors[sensor.GetName()] = to
				s.Sensors = append(s.Sensors, to)
			}
			joinSensor(to, sensor, x.node.called())
		}
	}
	slices.SortFunc(s.GetLosses(), func(a, b *pb.LossStatus) int {
		return cmp.Or(strings.Compare(a.GetStage(), b.GetStage()), strings.Compare(a.GetReason(), b.GetReason()))
	})
	s.Nodes = r.Nodes() // last: what they did not know is known now
	return connect.NewResponse(&pb.GetStatusResponse{Status: s}), nil
}

// addStatus adds the figures of a node.
func addStatus(s, o *pb.Status) {
	s.Replay = s.GetReplay() || o.GetReplay()
	for t, n := range o.GetEvents() {
		s.Events[t] += n
	}
	p, q := s.GetProcessTable(), o.GetProcessTable()
	p.Live += q.GetLive()
	p.Ended += q.GetEnded()
	p.Capacity += q.GetCapacity()
	p.Evictions += q.GetEvictions()
	st, t := s.GetStore(), o.GetStore()
	st.Events += t.GetEvents()
	st.MaxEvents += t.GetMaxEvents()
	st.Bytes += t.GetBytes()
	st.MaxBytes += t.GetMaxBytes()
	if c := t.GetCompleteSince(); c != nil && (st.GetCompleteSince() == nil || c.AsTime().After(st.GetCompleteSince().AsTime())) {
		st.CompleteSince = c
	}
	m, n := s.GetMemory(), o.GetMemory()
	m.Rss += n.GetRss()
	m.Heap += n.GetHeap()
	m.Maps += n.GetMaps()
	s.CpuTimeNs += o.GetCpuTimeNs()
	h := o.GetHistory()
	if h == nil {
		return
	}
	if s.GetHistory() == nil {
		s.History = &pb.HistoryStatus{Directory: h.GetDirectory(), MaxAgeNs: h.GetMaxAgeNs(), IntervalNs: h.GetIntervalNs()}
	}
	s.History.Events += h.GetEvents()
	s.History.Segments += h.GetSegments()
	s.History.Bytes += h.GetBytes()
	s.History.MaxBytes += h.GetMaxBytes()
	if h.GetOldest() != nil && (s.History.GetOldest() == nil || h.GetOldest().AsTime().Before(s.History.GetOldest().AsTime())) {
		s.History.Oldest = h.GetOldest()
	}
}

// joinSensor adds how a sensor is on a node. Off and failed are told with the node; what all have in common once.
func joinSensor(to, s *pb.SensorStatus, node string) {
	worse := func(state string) int { return slices.Index([]string{"on", "off", "failed"}, state) }
	if worse(s.GetState()) > worse(to.GetState()) {
		to.State = s.GetState()
	}
	if s.GetRung() != "" && !slices.Contains(strings.Split(to.GetRung(), ", "), s.GetRung()) {
		to.Rung = strings.TrimPrefix(to.GetRung()+", "+s.GetRung(), ", ")
	}
	if s.GetMessage() != "" && len(to.GetMessage()) < 1000 {
		to.Message = strings.TrimPrefix(to.GetMessage()+"; "+node+": "+s.GetMessage(), "; ")
	}
}

// Health implements the API: ready when every node is.
func (a *api) Health(context.Context, *connect.Request[pb.HealthRequest]) (*connect.Response[pb.HealthResponse], error) {
	r := a.relay
	problems := r.Problems()
	nodes := r.Nodes()
	if len(problems) == 0 && len(nodes) == 0 {
		problems = []string{"the list of agents is empty: see --agents, --agents-file or what the agents' service selects"}
	}
	for _, n := range nodes {
		switch {
		case n.GetState() == stateConnecting:
			problems = append(problems, fmt.Sprintf("node %s has not answered yet", n.GetName()))
		case n.GetState() != stateConnected:
			problems = append(problems, fmt.Sprintf("node %s is %s: %s", n.GetName(), n.GetState(), n.GetMessage()))
		}
		for _, p := range n.GetProblems() {
			problems = append(problems, fmt.Sprintf("node %s: %s", n.GetName(), p))
		}
	}
	return connect.NewResponse(&pb.HealthResponse{Ready: len(problems) == 0, Problems: problems, Time: timestamppb.New(r.o.Now()),
		StartTime: timestamppb.New(r.started)}), nil
}
