// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"net/netip"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

func flowFields() map[string]field {
	return map[string]field{
		"id":          number(func(f *model.Flow) uint64 { return f.ID }),
		"report":      number(func(f *model.Flow) uint32 { return f.Report }),
		"state":       text(func(f *model.Flow) model.FlowState { return f.State }),
		"protocol":    text(func(f *model.Flow) string { return f.Protocol }),
		"family":      text(func(f *model.Flow) string { return f.Family }),
		"direction":   text(func(f *model.Flow) model.FlowDirection { return f.Direction }),
		"source":      inside("Endpoint", true, func(f *model.Flow) *model.Endpoint { return &f.Source }),
		"destination": inside("Endpoint", true, func(f *model.Flow) *model.Endpoint { return &f.Destination }),
		"service":     part("Service", func(f *model.Flow) *model.Service { return f.Service }),
		"verdict":     text(func(f *model.Flow) model.FlowVerdict { return f.Verdict }),
		"reason":      text(func(f *model.Flow) string { return f.Reason }),
		"policy":      text(func(f *model.Flow) string { return f.Policy }),
		"rule":        text(func(f *model.Flow) string { return f.Rule }),
		"start":       moment(func(f *model.Flow) time.Time { return f.Start }),
		"end":         moment(func(f *model.Flow) time.Time { return f.End }),
		"total":       inside("FlowCounters", true, func(f *model.Flow) *model.FlowCounters { return &f.Total }),
		"interval":    inside("FlowCounters", true, func(f *model.Flow) *model.FlowCounters { return &f.Interval }),
		"srtt_ns":     signed(func(f *model.Flow) time.Duration { return f.SRTT }),
		"latency_ns":  signed(func(f *model.Flow) time.Duration { return f.Latency }),
		"close":       text(func(f *model.Flow) model.CloseReason { return f.Close }),
		"error":       errno(func(f *model.Flow) model.Errno { return f.Error }),
		"icmp_type":   number(func(f *model.Flow) uint8 { return f.ICMPType }),
		"icmp_code":   number(func(f *model.Flow) uint8 { return f.ICMPCode }),
		"cookie":      number(func(f *model.Flow) uint64 { return f.Cookie }),
		"net_ns":      number(func(f *model.Flow) uint32 { return f.NetNS }),
	}
}

func counterFields() map[string]field {
	return map[string]field{
		"bytes_sent":       number(func(c *model.FlowCounters) uint64 { return c.BytesSent }),
		"bytes_received":   number(func(c *model.FlowCounters) uint64 { return c.BytesReceived }),
		"packets_sent":     number(func(c *model.FlowCounters) uint64 { return c.PacketsSent }),
		"packets_received": number(func(c *model.FlowCounters) uint64 { return c.PacketsReceived }),
		"retransmits":      number(func(c *model.FlowCounters) uint32 { return c.Retransmits }),
	}
}

func endpointFields() map[string]field {
	at := func(e *model.Endpoint) netip.AddrPort { return e.Address }
	return map[string]field{
		"address":  address(at),
		"port":     port(at),
		"name":     text(func(e *model.Endpoint) string { return e.Name }),
		"process":  part("ProcessRef", func(e *model.Endpoint) *model.Process { return e.Process }),
		"workload": part("Workload", func(e *model.Endpoint) *model.Workload { return e.Workload }),
	}
}

func serviceFields() map[string]field {
	at := func(s *model.Service) netip.AddrPort { return s.Address }
	return map[string]field{
		"name":      text(func(s *model.Service) string { return s.Name }),
		"namespace": text(func(s *model.Service) string { return s.Namespace }),
		"address":   address(at),
		"port":      port(at),
	}
}

func requestFields() map[string]field {
	local := func(r *model.Request) netip.AddrPort { return r.Local }
	remote := func(r *model.Request) netip.AddrPort { return r.Remote }
	return map[string]field{
		"protocol":       text(func(r *model.Request) string { return r.Protocol }),
		"version":        text(func(r *model.Request) string { return r.Version }),
		"role":           text(func(r *model.Request) string { return r.Role }),
		"method":         text(func(r *model.Request) string { return r.Method }),
		"path":           text(func(r *model.Request) string { return r.Path }),
		"host":           text(func(r *model.Request) string { return r.Host }),
		"resource":       text(func(r *model.Request) string { return r.Resource }),
		"status":         signed(func(r *model.Request) int32 { return r.Status }),
		"status_text":    text(func(r *model.Request) string { return r.StatusText }),
		"failed":         flag(func(r *model.Request) bool { return r.Failed }),
		"no_answer":      flag(func(r *model.Request) bool { return r.NoAnswer }),
		"latency_ns":     signed(func(r *model.Request) time.Duration { return r.Latency }),
		"duration_ns":    signed(func(r *model.Request) time.Duration { return r.Duration }),
		"request_bytes":  number(func(r *model.Request) uint64 { return r.RequestBytes }),
		"response_bytes": number(func(r *model.Request) uint64 { return r.ResponseBytes }),
		"tls":            text(func(r *model.Request) string { return r.TLS }),
		"trace_id":       text(func(r *model.Request) string { return r.TraceID }),
		"parent_span_id": text(func(r *model.Request) string { return r.ParentSpanID }),
		"sampled":        flag(func(r *model.Request) bool { return r.Sampled }),
		"local_address":  address(local),
		"local_port":     port(local),
		"remote_address": address(remote),
		"remote_port":    port(remote),
		"remote_name":    text(func(r *model.Request) string { return r.RemoteName }),
		"cookie":         number(func(r *model.Request) uint64 { return r.Cookie }),
		"net_ns":         number(func(r *model.Request) uint32 { return r.NetNS }),
	}
}
