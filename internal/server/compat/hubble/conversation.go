// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"fmt"
	"path"
	"strings"

	fl "github.com/cilium/cilium/api/v1/flow"

	"github.com/vigie-io/vigie/internal/model"
)

// conversation is a report of a flow.
func (c *converter) conversation(e *model.Event) *fl.Flow {
	x := e.Flow
	f := c.base(e, 0)
	f.Type = fl.FlowType_L3_L4
	f.IP = ip(x.Source.Address.Addr(), x.Destination.Address.Addr())
	f.L4 = layer4(x)
	f.Source = endpoint(x.Source.Workload, x.Direction != model.FlowInbound || isLocal(x.Source.Address.Addr()))
	f.Destination = endpoint(x.Destination.Workload, x.Direction != model.FlowOutbound || isLocal(x.Destination.Address.Addr()))
	f.SourceNames, f.DestinationNames = names(x.Source.Name), names(x.Destination.Name)
	if s := x.Service; s != nil && s.Name != "" {
		f.DestinationService = &fl.Service{Name: valid(s.Name), Namespace: valid(s.Namespace)}
	}
	f.SocketCookie = x.Cookie
	f.TrafficDirection = direction(x)
	decide(f, x)
	f.Summary = summary(e) //nolint:staticcheck // `hubble observe` prints it
	return f
}

// direction is how the flow passed the end that was looked at: the source's where both are here.
func direction(x *model.Flow) fl.TrafficDirection {
	if x.Direction == model.FlowInbound || strings.HasPrefix(x.Rule, "ingress") {
		return fl.TrafficDirection_INGRESS
	}
	return fl.TrafficDirection_EGRESS
}

// decide fills in what became of the flow, and by which policy.
func decide(f *fl.Flow, x *model.Flow) {
	f.EventType = &fl.CiliumEventType{Type: eventTrace, SubType: traceToEndpoint}
	f.TraceObservationPoint = fl.TraceObservationPoint_TO_ENDPOINT
	if x.Direction == model.FlowOutbound {
		f.EventType.SubType = traceToNetwork
		f.TraceObservationPoint = fl.TraceObservationPoint_TO_NETWORK
	}
	if f.TraceReason = fl.TraceReason_ESTABLISHED; x.Report <= 1 {
		f.TraceReason = fl.TraceReason_NEW
	}
	var policies []*fl.Policy
	if x.Policy != "" {
		policies = []*fl.Policy{{Name: valid(x.Policy), Kind: "WorkloadPolicy"}}
	}
	allowed, denied := &f.EgressAllowedBy, &f.EgressDeniedBy
	if f.GetTrafficDirection() == fl.TrafficDirection_INGRESS {
		allowed, denied = &f.IngressAllowedBy, &f.IngressDeniedBy
	}
	untraced := func(typ, subType int32) {
		f.EventType = &fl.CiliumEventType{Type: typ, SubType: subType}
		f.TraceObservationPoint, f.TraceReason = fl.TraceObservationPoint_UNKNOWN_POINT, fl.TraceReason_TRACE_REASON_UNKNOWN
	}
	switch x.Verdict {
	case model.FlowDenied:
		f.Verdict = fl.Verdict_DROPPED
		f.DropReasonDesc = fl.DropReason_POLICY_DENIED
		f.DropReason = uint32(fl.DropReason_POLICY_DENIED) //nolint:staticcheck // old clients read it
		untraced(eventDrop, int32(fl.DropReason_POLICY_DENIED))
		*denied = policies
	case model.FlowAudited:
		f.Verdict = fl.Verdict_AUDIT
		untraced(eventPolicyVerdict, 0)
		*denied = policies
	case model.FlowFailed:
		f.Verdict = fl.Verdict_ERROR
	default:
		f.Verdict = fl.Verdict_FORWARDED
		*allowed = policies
	}
}

func layer4(x *model.Flow) *fl.Layer4 {
	switch x.Protocol {
	case "icmp":
		return &fl.Layer4{Protocol: &fl.Layer4_ICMPv4{ICMPv4: &fl.ICMPv4{Type: uint32(x.ICMPType), Code: uint32(x.ICMPCode)}}}
	case "icmpv6":
		return &fl.Layer4{Protocol: &fl.Layer4_ICMPv6{ICMPv6: &fl.ICMPv6{Type: uint32(x.ICMPType), Code: uint32(x.ICMPCode)}}}
	}
	m := transport(x.Protocol, x.Source.Address.Port(), x.Destination.Address.Port())
	if tcp := m.GetTCP(); tcp != nil {
		tcp.Flags = tcpFlags(x)
	}
	return m
}

// tcpFlags are those of the segments since the report before, as far as the state of the connection tells: SYN when it
// began, ACK when it was established, FIN or RST when it ended. Segments themselves are not looked at.
func tcpFlags(x *model.Flow) *fl.TCPFlags {
	refused := x.Close == model.CloseRefused
	return &fl.TCPFlags{
		SYN: x.Report <= 1,
		ACK: x.Verdict == model.FlowAllowed || x.Verdict == model.FlowAudited || x.Close == model.CloseCut,
		FIN: x.Close == model.CloseFin,
		RST: x.Close == model.CloseReset || refused,
	}
}

// summary is the last column of `hubble observe`: what Hubble says there, and behind it what only vigie knows: who it was,
// how much was said, why it was denied or failed.
func summary(e *model.Event) string {
	x := e.Flow
	var b strings.Builder
	switch x.Protocol {
	case "tcp":
		b.WriteString("TCP Flags: " + flagNames(tcpFlags(x)))
	case "udp":
		b.WriteString("UDP")
	case "icmp":
		b.WriteString("ICMPv4 " + icmpName(x.ICMPType, x.ICMPCode, icmpv4Types))
	case "icmpv6":
		b.WriteString("ICMPv6 " + icmpName(x.ICMPType, x.ICMPCode, icmpv6Types))
	default:
		b.WriteString(strings.ToUpper(x.Protocol))
	}
	source, destination := actor(x.Source.Process), actor(x.Destination.Process)
	if source == "" && destination == "" {
		source = actor(e.Process)
	}
	if destination == "" && x.Destination.Workload == nil {
		destination = x.Destination.Name
	}
	switch {
	case source != "" && destination != "":
		b.WriteString("; " + source + " to " + destination)
	case source != "" || destination != "":
		b.WriteString("; " + source + destination)
	}
	if t := x.Total; t.BytesSent+t.BytesReceived > 0 {
		fmt.Fprintf(&b, "; %s sent, %s received", size(t.BytesSent), size(t.BytesReceived))
	}
	if x.Reason != "" && x.Verdict != model.FlowAllowed {
		b.WriteString("; " + x.Reason)
	}
	return valid(b.String())
}

// actor is a process as a person says it: "curl[1234]"; empty for none.
func actor(p *model.Process) string {
	switch {
	case p == nil || p.Key.IsZero():
		return ""
	case p.Binary == "":
		return fmt.Sprintf("pid %d", p.Key.PID)
	}
	return fmt.Sprintf("%s[%d]", path.Base(p.Binary), p.Key.PID)
}

func size(n uint64) string {
	units := []string{"kB", "MB", "GB", "TB", "PB"}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	x, unit := float64(n)/1000, 0
	for x >= 999.95 && unit < len(units)-1 {
		x, unit = x/1000, unit+1
	}
	return fmt.Sprintf("%.1f %s", x, units[unit])
}

// flagNames lists flags in the order in which Hubble does.
func flagNames(f *fl.TCPFlags) string {
	var out []string
	for _, flag := range []struct {
		set  bool
		name string
	}{{f.GetSYN(), "SYN"}, {f.GetACK(), "ACK"}, {f.GetRST(), "RST"}, {f.GetFIN(), "FIN"}} {
		if flag.set {
			out = append(out, flag.name)
		}
	}
	return strings.Join(out, ", ")
}

// icmpv4Types and icmpv6Types name the types of the IANA registries that are seen in practice.
func icmpv4Types(typ uint8) string {
	switch typ {
	case 0:
		return "EchoReply"
	case 3:
		return "DestinationUnreachable"
	case 5:
		return "Redirect"
	case 8:
		return "EchoRequest"
	case 11:
		return "TimeExceeded"
	case 13:
		return "TimestampRequest"
	}
	return ""
}

func icmpv6Types(typ uint8) string {
	switch typ {
	case 1:
		return "DestinationUnreachable"
	case 2:
		return "PacketTooBig"
	case 3:
		return "TimeExceeded"
	case 128:
		return "EchoRequest"
	case 129:
		return "EchoReply"
	case 133:
		return "RouterSolicitation"
	case 134:
		return "RouterAdvertisement"
	case 135:
		return "NeighborSolicitation"
	case 136:
		return "NeighborAdvertisement"
	}
	return ""
}

// icmpName is "EchoRequest", "DestinationUnreachable(1)", or the numbers of a type without a name.
func icmpName(typ, code uint8, names func(uint8) string) string {
	name := names(typ)
	switch {
	case name == "":
		return fmt.Sprintf("%d(%d)", typ, code)
	case code != 0:
		return fmt.Sprintf("%s(%d)", name, code)
	}
	return name
}
