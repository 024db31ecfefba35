// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// GetStatus implements the API.
func (s *service) GetStatus(context.Context, *connect.Request[pb.GetStatusRequest]) (*connect.Response[pb.GetStatusResponse], error) {
	st := s.backend.Status()
	st.Subscribers = append(st.Subscribers, s.streams.subscribers()...)
	m := &pb.Status{Version: st.Version, Commit: st.Commit, Host: st.Host, Node: st.Node, Kernel: st.Kernel, Arch: st.Arch, BootId: st.BootID,
		Pid: uint32(os.Getpid()), StartTime: timestamppb.New(st.Started), UptimeNs: int64(time.Since(st.Started)),
		Replay: st.Replay, Config: st.Config, Events: make(map[string]uint64, len(st.Events)),
		ProcessTable: &pb.ProcessTableStatus{Live: st.ProcessTable.Live, Ended: st.ProcessTable.Ended,
			Capacity: st.ProcessTable.Capacity, Evictions: st.ProcessTable.Evictions},
		History: historyToProto(st.History),
		Store: &pb.StoreStatus{Events: st.Store.Events, MaxEvents: st.Store.MaxEvents, Bytes: st.Store.Bytes,
			MaxBytes: st.Store.MaxBytes},
		Memory: &pb.MemoryStatus{Rss: residentSet(), Heap: heapInUse(), Maps: st.MapBytes}, CpuTimeNs: int64(cpuTime())}
	if !st.Store.CompleteSince.IsZero() {
		m.Store.CompleteSince = timestamppb.New(st.Store.CompleteSince)
	}
	m.Kubernetes = kubernetesToProto(st.Kubernetes)
	for t, n := range st.Events {
		m.Events[string(t)] = n
	}
	for _, x := range st.Sensors {
		sensor := &pb.SensorStatus{Name: x.Name, State: x.State, Rung: x.Rung, Message: x.Message}
		for _, p := range x.Programs {
			sensor.Programs = append(sensor.Programs, &pb.ProgramStatus{Name: p.Name, Id: p.ID, RunCount: p.RunCount, RunTimeNs: uint64(p.RunTime)})
		}
		m.Sensors = append(m.Sensors, sensor)
	}
	for _, q := range st.Queues {
		m.Queues = append(m.Queues, &pb.QueueStatus{Name: q.Name, Length: q.Length, Capacity: q.Capacity, Unit: q.Unit})
	}
	for _, l := range st.Losses {
		m.Losses = append(m.Losses, &pb.LossStatus{Stage: l.Stage, Reason: l.Reason, Count: l.Count})
	}
	for _, x := range st.Subscribers {
		m.Subscribers = append(m.Subscribers, &pb.SubscriberStatus{Name: x.Name, Peer: x.Peer, Queued: x.Queued, Lost: x.Lost, Exporter: x.Exporter, Sent: x.Sent, Retried: x.Retried,
			Trouble: x.Trouble, QueuedBytes: x.QueuedBytes, QueueBytes: x.QueueBytes})
	}
	return connect.NewResponse(&pb.GetStatusResponse{Status: m}), nil
}

// Health implements the API.
func (s *service) Health(context.Context, *connect.Request[pb.HealthRequest]) (*connect.Response[pb.HealthResponse], error) {
	problems := s.backend.Problems()
	_, started := s.identity()
	return connect.NewResponse(&pb.HealthResponse{Ready: len(problems) == 0, Problems: problems, Time: timestamppb.New(s.config.Now()), StartTime: timestamppb.New(started)}), nil
}

// residentSet is the RSS of this process in bytes; 0 when /proc does not tell.
func residentSet() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

func heapInUse() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// cpuTime is the user and system time of this process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func historyToProto(h *History) *pb.HistoryStatus {
	if h == nil {
		return nil
	}
	m := &pb.HistoryStatus{Directory: clean(h.Directory), Events: h.Events, Segments: h.Segments, Bytes: h.Bytes, MaxBytes: h.MaxBytes,
		MaxAgeNs: int64(h.MaxAge), IntervalNs: int64(h.WriteInterval)}
	if !h.Oldest.IsZero() {
		m.Oldest = timestamppb.New(h.Oldest)
	}
	return m
}
