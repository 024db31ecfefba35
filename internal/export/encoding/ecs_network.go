// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"net/netip"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// network writes a conversation, and what was asked in it.
func (s ecs) network(o *object, e *model.Event) {
	if c, ok := talk(e); ok {
		s.conversation(o, e, c)
	}
	if d := e.DNS; d != nil {
		s.dns(o, d)
	}
	if r := e.Request; r != nil {
		s.request(o, r)
	}
}

func (s ecs) conversation(o *object, e *model.Event, c conversation) {
	o.begin("network")
	o.text("type", c.family)
	if c.protocol == "icmpv6" {
		o.text("transport", "ipv6-icmp")
	} else {
		o.text("transport", c.protocol)
	}
	switch {
	case e.DNS != nil:
		o.text("protocol", "dns")
	case e.Request != nil:
		o.text("protocol", e.Request.Protocol)
	}
	o.text("direction", map[string]string{"outbound": "egress", "inbound": "ingress", "local": "internal"}[c.direction])
	o.some("bytes", c.counters.BytesSent+c.counters.BytesReceived)
	o.some("packets", c.counters.PacketsSent+c.counters.PacketsReceived)
	o.end()
	for _, end := range []struct {
		name           string
		at             *model.Endpoint
		bytes, packets uint64
	}{{"source", &c.source, c.counters.BytesSent, c.counters.PacketsSent}, {"destination", &c.destination, c.counters.BytesReceived, c.counters.PacketsReceived}} {
		address := ip(end.at.Address)
		o.begin(end.name)
		o.text("address", end.at.Name+blank(end.at.Name == "", address))
		o.text("domain", end.at.Name)
		o.text("ip", address)
		o.some("port", uint64(end.at.Address.Port()))
		o.some("bytes", end.bytes)
		o.some("packets", end.packets)
		o.end()
	}
}

func (s ecs) dns(o *object, d *model.DNS) {
	o.begin("dns")
	if d.RCode != "" {
		o.text("type", "answer")
	} else {
		o.text("type", "query")
	}
	o.begin("question")
	o.text("name", d.Name)
	o.text("type", d.QType)
	o.end()
	o.text("response_code", d.RCode)
	o.beginList("answers")
	var addresses []string
	for _, a := range d.Answers {
		o.begin("")
		o.text("data", a.Data)
		o.text("type", a.Type)
		o.number("ttl", int64(a.TTL/time.Second))
		o.end()
		if _, err := netip.ParseAddr(a.Data); err == nil {
			addresses = append(addresses, a.Data)
		}
	}
	o.endList()
	o.texts("resolved_ip", addresses)
	o.end()
}

func (s ecs) request(o *object, r *model.Request) {
	if r.TraceID != "" {
		o.begin("trace")
		o.text("id", r.TraceID)
		o.end()
	}
	if r.Protocol != "http" && r.Protocol != "grpc" {
		return
	}
	o.begin("http")
	o.text("version", strings.TrimPrefix(r.Version, "HTTP/"))
	o.begin("request")
	o.text("method", r.Method)
	o.begin("body")
	o.some("bytes", r.RequestBytes)
	o.end()
	o.end()
	o.begin("response")
	if r.Protocol == "http" {
		o.some("status_code", uint64(max(r.Status, 0)))
	}
	o.begin("body")
	o.some("bytes", r.ResponseBytes)
	o.end()
	o.end()
	o.end()
	o.begin("url")
	o.text("domain", hostOf(r.Host))
	o.text("path", r.Path)
	o.end()
}
