// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"time"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

func flowToProto(x *model.Flow) *pb.Flow {
	if x == nil {
		return nil
	}
	m := &pb.Flow{Id: x.ID, Report: x.Report, State: text(string(x.State)), Protocol: text(x.Protocol), Family: text(x.Family),
		Direction: text(string(x.Direction)), Source: endpointToProto(&x.Source), Destination: endpointToProto(&x.Destination),
		Verdict: text(string(x.Verdict)), Reason: text(x.Reason), Policy: text(x.Policy), Rule: text(x.Rule),
		Start: timestamp(x.Start), End: timestamp(x.End), Total: countersToProto(&x.Total), Interval: countersToProto(&x.Interval),
		SrttNs: int64(x.SRTT), LatencyNs: int64(x.Latency), Close: text(string(x.Close)), Error: x.Error.String(),
		IcmpType: uint32(x.ICMPType), IcmpCode: uint32(x.ICMPCode), Cookie: x.Cookie, NetNs: x.NetNS}
	if s := x.Service; s != nil {
		m.Service = &pb.Service{Name: text(s.Name), Namespace: text(s.Namespace)}
		m.Service.Address, m.Service.Port = address(s.Address)
	}
	return m
}

func flowFromProto(m *pb.Flow) *model.Flow {
	if m == nil {
		return nil
	}
	x := &model.Flow{ID: m.GetId(), Report: m.GetReport(), State: model.FlowState(m.GetState()), Protocol: m.GetProtocol(),
		Family: m.GetFamily(), Direction: model.FlowDirection(m.GetDirection()), Source: endpointFromProto(m.GetSource()),
		Destination: endpointFromProto(m.GetDestination()), Verdict: model.FlowVerdict(m.GetVerdict()), Reason: m.GetReason(),
		Policy: m.GetPolicy(), Rule: m.GetRule(), Start: moment(m.GetStart()), End: moment(m.GetEnd()),
		Total: countersFromProto(m.GetTotal()), Interval: countersFromProto(m.GetInterval()), SRTT: time.Duration(m.GetSrttNs()),
		Latency: time.Duration(m.GetLatencyNs()), Close: model.CloseReason(m.GetClose()), Error: model.ParseErrno(m.GetError()),
		ICMPType: uint8(m.GetIcmpType()), ICMPCode: uint8(m.GetIcmpCode()), Cookie: m.GetCookie(), NetNS: m.GetNetNs()}
	if s := m.GetService(); s != nil {
		x.Service = &model.Service{Name: s.GetName(), Namespace: s.GetNamespace(), Address: addrPort(s.GetAddress(), s.GetPort())}
	}
	return x
}

func endpointToProto(e *model.Endpoint) *pb.Endpoint {
	m := &pb.Endpoint{Name: text(e.Name), Process: refToProto(e.Process), Workload: WorkloadToProto(e.Workload)}
	m.Address, m.Port = address(e.Address)
	return m
}

func endpointFromProto(m *pb.Endpoint) model.Endpoint {
	return model.Endpoint{Address: addrPort(m.GetAddress(), m.GetPort()), Name: m.GetName(), Process: refFromProto(m.GetProcess()),
		Workload: WorkloadFromProto(m.GetWorkload())}
}

func countersToProto(c *model.FlowCounters) *pb.FlowCounters {
	return &pb.FlowCounters{BytesSent: c.BytesSent, BytesReceived: c.BytesReceived, PacketsSent: c.PacketsSent,
		PacketsReceived: c.PacketsReceived, Retransmits: c.Retransmits}
}

func countersFromProto(m *pb.FlowCounters) model.FlowCounters {
	return model.FlowCounters{BytesSent: m.GetBytesSent(), BytesReceived: m.GetBytesReceived(), PacketsSent: m.GetPacketsSent(),
		PacketsReceived: m.GetPacketsReceived(), Retransmits: m.GetRetransmits()}
}

func requestToProto(x *model.Request) *pb.Request {
	if x == nil {
		return nil
	}
	m := &pb.Request{Protocol: text(x.Protocol), Version: text(x.Version), Role: text(x.Role), Method: text(x.Method),
		Path: text(x.Path), Host: text(x.Host), Resource: text(x.Resource), Status: x.Status, StatusText: text(x.StatusText),
		Failed: x.Failed, NoAnswer: x.NoAnswer, LatencyNs: int64(x.Latency), DurationNs: int64(x.Duration),
		RequestBytes: x.RequestBytes, ResponseBytes: x.ResponseBytes, Tls: text(x.TLS), TraceId: text(x.TraceID),
		ParentSpanId: text(x.ParentSpanID), Sampled: x.Sampled, RemoteName: text(x.RemoteName), Cookie: x.Cookie, NetNs: x.NetNS}
	m.LocalAddress, m.LocalPort = address(x.Local)
	m.RemoteAddress, m.RemotePort = address(x.Remote)
	return m
}

func requestFromProto(m *pb.Request) *model.Request {
	if m == nil {
		return nil
	}
	return &model.Request{Protocol: m.GetProtocol(), Version: m.GetVersion(), Role: m.GetRole(), Method: m.GetMethod(),
		Path: m.GetPath(), Host: m.GetHost(), Resource: m.GetResource(), Status: m.GetStatus(), StatusText: m.GetStatusText(),
		Failed: m.GetFailed(), NoAnswer: m.GetNoAnswer(), Latency: time.Duration(m.GetLatencyNs()),
		Duration: time.Duration(m.GetDurationNs()), RequestBytes: m.GetRequestBytes(), ResponseBytes: m.GetResponseBytes(),
		TLS: m.GetTls(), TraceID: m.GetTraceId(), ParentSpanID: m.GetParentSpanId(), Sampled: m.GetSampled(),
		Local: addrPort(m.GetLocalAddress(), m.GetLocalPort()), Remote: addrPort(m.GetRemoteAddress(), m.GetRemotePort()),
		RemoteName: m.GetRemoteName(), Cookie: m.GetCookie(), NetNS: m.GetNetNs()}
}
