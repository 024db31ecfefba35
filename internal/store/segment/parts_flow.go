// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"net/netip"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/vigie-io/vigie/internal/model"
)

func flowPart(e *model.Event, make bool) *model.Flow { return ensure(&e.Flow, make) }

func servicePart(e *model.Event, make bool) *model.Service {
	if f := flowPart(e, make); f != nil {
		return ensure(&f.Service, make)
	}
	return nil
}

// sub is a part of a part.
func sub[P, Q any](in part[P], at func(*P) *Q) part[Q] {
	return func(e *model.Event, make bool) *Q {
		if p := in(e, make); p != nil {
			return at(p)
		}
		return nil
	}
}

func flowColumns() []Column {
	return slices.Concat([]Column{
		number("flow_id", flowPart, func(f *model.Flow) *uint64 { return &f.ID }, "The same in all reports of one flow, within a run"),
		number("report", flowPart, func(f *model.Flow) *uint32 { return &f.Report }, "Number of the report, from 1"),
		text("state", flowPart, func(f *model.Flow) *model.FlowState { return &f.State }, "open or closed"),
		text("protocol", flowPart, func(f *model.Flow) *string { return &f.Protocol }, "tcp, udp, icmp or icmpv6"),
		text("family", flowPart, func(f *model.Flow) *string { return &f.Family }, "ipv4 or ipv6"),
		text("direction", flowPart, func(f *model.Flow) *model.FlowDirection { return &f.Direction }, "outbound, inbound or local"),
	},
		endColumns("source", sub(flowPart, func(f *model.Flow) *model.Endpoint { return &f.Source }), "who began"),
		endColumns("destination", sub(flowPart, func(f *model.Flow) *model.Endpoint { return &f.Destination }), "the other"),
		[]Column{
			text("service_name", servicePart, func(s *model.Service) *string { return &s.Name }, "What the source asked for, where that was translated"),
			text("service_namespace", servicePart, func(s *model.Service) *string { return &s.Namespace }, "Kubernetes namespace of the service"),
		},
		endpoint("service", servicePart, func(s *model.Service) *netip.AddrPort { return &s.Address }, "the service"),
		[]Column{
			text("verdict", flowPart, func(f *model.Flow) *model.FlowVerdict { return &f.Verdict }, "allowed, denied, audited or failed"),
			text("reason", flowPart, func(f *model.Flow) *string { return &f.Reason }, "Why it is not simply allowed"),
			text("policy", flowPart, func(f *model.Flow) *string { return &f.Policy }, "The policy that decided"),
			text("rule", flowPart, func(f *model.Flow) *string { return &f.Rule }, "Its rule"),
			packed(moment("flow_start", flowPart, func(f *model.Flow) *time.Time { return &f.Start }, "When it began")),
			packed(moment("flow_end", flowPart, func(f *model.Flow) *time.Time { return &f.End }, "When it ended; NULL while it is open")),
		},
		counterColumns("total_", sub(flowPart, func(f *model.Flow) *model.FlowCounters { return &f.Total }), "since the flow began"),
		counterColumns("interval_", sub(flowPart, func(f *model.Flow) *model.FlowCounters { return &f.Interval }), "since the report before"),
		[]Column{
			duration("srtt_ns", flowPart, func(f *model.Flow) *time.Duration { return &f.SRTT }, "Smoothed round-trip time of TCP"),
			duration("latency_ns", flowPart, func(f *model.Flow) *time.Duration { return &f.Latency }, "Of TCP: until established or failed"),
			text("close", flowPart, func(f *model.Flow) *model.CloseReason { return &f.Close }, "How it ended"),
			errno("error", flowPart, func(f *model.Flow) *model.Errno { return &f.Error }, "Symbolic error name of what failed"),
			number("icmp_type", flowPart, func(f *model.Flow) *uint8 { return &f.ICMPType }, "Of the source's first message"),
			number("icmp_code", flowPart, func(f *model.Flow) *uint8 { return &f.ICMPCode }, "Of the source's first message"),
			number("cookie", flowPart, func(f *model.Flow) *uint64 { return &f.Cookie }, "Socket cookie of the local end"),
			number("net_ns", flowPart, func(f *model.Flow) *uint32 { return &f.NetNS }, "Network namespace"),
		})
}

// endColumns are one end of a flow, what its process and workload are included.
func endColumns(name string, in part[model.Endpoint], who string) []Column {
	process := func(e *model.Event, make bool) *model.Process {
		if p := in(e, make); p != nil {
			return ensure(&p.Process, make)
		}
		return nil
	}
	workload := func(e *model.Event, make bool) *model.Workload {
		if p := in(e, make); p != nil {
			return ensure(&p.Workload, make)
		}
		return nil
	}
	return slices.Concat(
		endpoint(name, in, func(p *model.Endpoint) *netip.AddrPort { return &p.Address }, who),
		[]Column{
			text(name+"_name", in, func(p *model.Endpoint) *string { return &p.Name }, "The DNS name by which the other end asked for it"),
			{Name: name + "_exec_id", Doc: "The process that holds this end", kind: kindText,
				write: func(r *row) parquet.Value {
					if p := process(r.Event, false); p != nil {
						return textValue(p.ExecID)
					}
					return parquet.Value{}
				},
				read: func(e *model.Event, v *value) {
					p := process(e, true)
					p.ExecID = v.text
					p.Key, _, _ = model.ParseExecID(v.text)
				}},
			derived(number(name+"_pid", process, func(p *model.Process) *uint32 { return &p.Key.PID }, "Its pid")),
			text(name+"_binary", process, func(p *model.Process) *string { return &p.Binary }, "Its executable file"),
			object(name+"_args", func(r *row) string { return r.texts.args(process(r.Event, false)) }, decodeTexts,
				func(e *model.Event, list any) { process(e, true).Args = list.([]string) }, "Its argv, a list"),
			object(name+"_workload", func(r *row) string { return r.texts.workload(workload(r.Event, false)) }, decodeWorkload,
				func(e *model.Event, w any) { in(e, true).Workload = w.(*model.Workload) }, "Its workload whole, as in docs/events.md"),
			derived(text(name+"_workload_kind", workload, func(w *model.Workload) *model.WorkloadKind { return &w.Kind }, "Kind of its workload")),
			derived(text(name+"_workload_name", workload, func(w *model.Workload) *string { return &w.Name }, "Name of its workload")),
			derived(text(name+"_workload_namespace", workload, func(w *model.Workload) *string { return &w.Namespace }, "Kubernetes namespace of its workload")),
		})
}

func counterColumns(prefix string, in part[model.FlowCounters], since string) []Column {
	return []Column{
		number(prefix+"bytes_sent", in, func(c *model.FlowCounters) *uint64 { return &c.BytesSent }, "Payload from source to destination "+since),
		number(prefix+"bytes_received", in, func(c *model.FlowCounters) *uint64 { return &c.BytesReceived }, "Payload from destination to source "+since),
		number(prefix+"packets_sent", in, func(c *model.FlowCounters) *uint64 { return &c.PacketsSent }, "Packets from source to destination "+since),
		number(prefix+"packets_received", in, func(c *model.FlowCounters) *uint64 { return &c.PacketsReceived }, "Packets from destination to source "+since),
		number(prefix+"retransmits", in, func(c *model.FlowCounters) *uint32 { return &c.Retransmits }, "TCP segments sent again "+since),
	}
}

func requestColumns() []Column {
	return slices.Concat([]Column{
		text("protocol", requestPart, func(r *model.Request) *string { return &r.Protocol }, "http, grpc, postgresql, mysql, redis or kafka"),
		text("version", requestPart, func(r *model.Request) *string { return &r.Version }, "HTTP/1.1, HTTP/2, …"),
		text("role", requestPart, func(r *model.Request) *string { return &r.Role }, "What the process is in it: client or server"),
		text("method", requestPart, func(r *model.Request) *string { return &r.Method }, "GET; kind of an SQL statement; Redis command; Kafka API"),
		text("path", requestPart, func(r *model.Request) *string { return &r.Path }, "Template of the path"),
		text("host", requestPart, func(r *model.Request) *string { return &r.Host }, "HTTP's authority"),
		text("resource", requestPart, func(r *model.Request) *string { return &r.Resource }, "A table, a topic, a database"),
		number("status", requestPart, func(r *model.Request) *int32 { return &r.Status }, "HTTP or gRPC status"),
		text("status_text", requestPart, func(r *model.Request) *string { return &r.StatusText }, "How the protocol names the result"),
		boolean("failed", requestPart, func(r *model.Request) *bool { return &r.Failed }, "The answer says that the server failed or refused"),
		boolean("no_answer", requestPart, func(r *model.Request) *bool { return &r.NoAnswer }, "The connection ended before the answer"),
		duration("latency_ns", requestPart, func(r *model.Request) *time.Duration { return &r.Latency }, "To the answer's first byte"),
		duration("duration_ns", requestPart, func(r *model.Request) *time.Duration { return &r.Duration }, "To the answer's last byte"),
		number("request_bytes", requestPart, func(r *model.Request) *uint64 { return &r.RequestBytes }, "Size of the request's body"),
		number("response_bytes", requestPart, func(r *model.Request) *uint64 { return &r.ResponseBytes }, "Size of the answer's body"),
		text("tls", requestPart, func(r *model.Request) *string { return &r.TLS }, "By which library's calls it was read; NULL for traffic in the clear"),
		text("trace_id", requestPart, func(r *model.Request) *string { return &r.TraceID }, "Of the request's traceparent"),
		text("parent_span_id", requestPart, func(r *model.Request) *string { return &r.ParentSpanID }, "Of the request's traceparent"),
		boolean("sampled", requestPart, func(r *model.Request) *bool { return &r.Sampled }, "Of the request's traceparent"),
	},
		endpoint("local", requestPart, func(r *model.Request) *netip.AddrPort { return &r.Local }, "this end"),
		endpoint("remote", requestPart, func(r *model.Request) *netip.AddrPort { return &r.Remote }, "the other end"),
		[]Column{
			text("remote_name", requestPart, func(r *model.Request) *string { return &r.RemoteName }, "The DNS name by which the process asked for the other end"),
			number("cookie", requestPart, func(r *model.Request) *uint64 { return &r.Cookie }, "Socket cookie, as in network and flow"),
			number("net_ns", requestPart, func(r *model.Request) *uint32 { return &r.NetNS }, "Network namespace"),
		})
}

// settleEnds gives the end of a flow that is the event's own process all that is known of it.
func settleEnds(e *model.Event) {
	if e.Flow == nil || e.Process == nil {
		return
	}
	for _, end := range []*model.Endpoint{&e.Flow.Source, &e.Flow.Destination} {
		if end.Process != nil && end.Process.ExecID == e.Process.ExecID {
			end.Process = e.Process
		}
	}
}
