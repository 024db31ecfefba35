// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"net/netip"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// conversation is what the two schemas want to know of an event on the network: who began, and what went over it.
type conversation struct {
	protocol, family string
	direction        string // outbound, inbound, local; empty when unknown
	source           model.Endpoint
	destination      model.Endpoint
	counters         model.FlowCounters // sent is from source to destination
}

// talk is the conversation of an event; ok is false when it is about none.
func talk(e *model.Event) (c conversation, ok bool) {
	self := model.Endpoint{Process: e.Process}
	if e.Process != nil {
		self.Workload = e.Process.Workload
	}
	between := func(local, remote netip.AddrPort, name string, inbound bool) {
		self.Address = local
		peer := model.Endpoint{Address: remote, Name: name}
		if c.source, c.destination, c.direction = self, peer, "outbound"; inbound {
			c.source, c.destination, c.direction = peer, self, "inbound"
		}
	}
	switch {
	case e.Flow != nil:
		f := e.Flow
		return conversation{f.Protocol, f.Family, string(f.Direction), f.Source, f.Destination, f.Total}, true
	case e.Socket != nil:
		s := e.Socket
		if s.Family == "unix" {
			return c, false
		}
		inbound := s.Direction == "inbound" || s.Direction == "listener" || e.Type == model.TypeAccept || e.Type == model.TypeListen
		c.protocol, c.family = s.Protocol, s.Family
		between(s.Local, s.Remote, s.RemoteName, inbound)
		c.counters = model.FlowCounters{BytesSent: s.BytesSent, BytesReceived: s.BytesReceived, PacketsSent: s.PacketsSent, PacketsReceived: s.PacketsReceived,
			Retransmits: s.Retransmits}
		if inbound {
			c.counters.BytesSent, c.counters.BytesReceived = s.BytesReceived, s.BytesSent
			c.counters.PacketsSent, c.counters.PacketsReceived = s.PacketsReceived, s.PacketsSent
		}
	case e.DNS != nil:
		c.protocol, c.family = e.DNS.Protocol, family(e.DNS.Server)
		between(netip.AddrPort{}, e.DNS.Server, "", false)
	case e.Request != nil:
		r := e.Request
		c.protocol, c.family = "tcp", family(r.Remote)
		c.counters = model.FlowCounters{BytesSent: r.RequestBytes, BytesReceived: r.ResponseBytes}
		between(r.Local, r.Remote, r.RemoteName, r.Role == "server")
	case e.Verdict != nil && (e.Verdict.Remote.IsValid() || e.Verdict.Local.IsValid()):
		v := e.Verdict
		c.protocol, c.family = v.Protocol, family(v.Remote)
		between(v.Local, v.Remote, v.RemoteName, v.Operation == model.OpAccept || v.Operation == model.OpListen || v.Operation == model.OpBind)
	default:
		return c, false
	}
	return c, true
}

func family(at netip.AddrPort) string {
	switch a := at.Addr(); {
	case a.Unmap().Is4():
		return "ipv4"
	case a.Is6():
		return "ipv6"
	}
	return ""
}

func ip(at netip.AddrPort) string {
	if !at.Addr().IsValid() {
		return ""
	}
	return at.Addr().Unmap().WithZone("").String()
}

// hostOf is an authority of HTTP without its port.
func hostOf(authority string) string {
	if at, err := netip.ParseAddrPort(authority); err == nil {
		return at.Addr().String()
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") && strings.Count(authority, ":") == 1 {
		return authority[:i]
	}
	return strings.Trim(authority, "[]")
}
