// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	fl "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	events "github.com/vigie-io/vigie/internal/filter"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
)

// The types of event from which a flow comes, and where in Cilium's datapath it was seen: pkg/monitor/api of Cilium
// 1.20, by whose numbers `hubble observe` names them.
const (
	eventDrop          = 1
	eventTrace         = 4
	eventPolicyVerdict = 5
	eventL7            = 129

	traceToEndpoint = 0
	traceToNetwork  = 11
)

// converter makes Hubble's flows of the model's events.
type converter struct {
	agent   func() agentInfo
	holders *holders
}

// agentInfo is what every flow says of the agent.
type agentInfo struct {
	node    string // the host's name
	version string
	boot    string // the beginning of the boot id
}

func newConverter(b server.Backend) *converter {
	return &converter{holders: newHolders(), agent: sync.OnceValue(func() agentInfo {
		st := b.Status()
		return agentInfo{node: cmp.Or(st.Node, st.Host), version: strings.TrimPrefix(st.Version, "v"), boot: st.BootID[:min(len(st.BootID), 8)]}
	})}
}

// concerns reports whether an event becomes a flow.
func concerns(t model.Type) bool {
	return t == model.TypeFlow || t == model.TypeRequest || t == model.TypeDNS
}

// past is a filter for what history has to say to Hubble's clients, of any time.
func past() *events.Filter {
	return events.OfTypes(model.TypeFlow, model.TypeRequest, model.TypeDNS, model.TypeLoss)
}

// flows are e in Hubble's form: a report of a conversation is one flow, a request and its answer are one each. They are the
// caller's. The process is in none yet: see extend.
func (c *converter) flows(e *model.Event) []*fl.Flow {
	switch e.Type {
	case model.TypeFlow:
		return []*fl.Flow{c.conversation(e)}
	case model.TypeRequest:
		return c.pair(e, c.request(e), !e.Request.NoAnswer)
	case model.TypeDNS:
		return c.pair(e, c.question(e), !e.DNS.Timeout)
	}
	return nil
}

// base is what all flows of an event have. part tells the flows of one event apart.
func (c *converter) base(e *model.Event, part byte) *fl.Flow {
	a := c.agent()
	f := &fl.Flow{Time: timestamppb.New(e.Time), Uuid: uuid(a.node, e, part), NodeName: a.node,
		Emitter: &fl.Emitter{Name: "vigie", Version: a.version}, IsReply: wrapperspb.Bool(false)}
	if p := e.Process; p != nil && p.CgroupHierarchy == 0 {
		f.CgroupId = p.CgroupID
	}
	return f
}

// uuid names a flow: the same whenever it is asked for. Its form is RFC 9562's version 8, for which whoever makes it decides
// what the bits mean: the time in nanoseconds, and a hash of the host and of the event's number.
func uuid(node string, e *model.Event, part byte) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(e.Time.UnixNano()))
	binary.BigEndian.PutUint64(b[8:], hash(node, strconv.FormatUint(e.Seq, 10), string(part)))
	b[6] = 0x80 | b[6]&0x0f
	b[8] = 0x80 | b[8]&0x3f
	var out [36]byte
	hex.Encode(out[:8], b[:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:], b[10:])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// ip is the network layer of a flow; an address that is not known is left out.
func ip(source, destination netip.Addr) *fl.IP {
	m := &fl.IP{}
	for _, end := range []struct {
		addr netip.Addr
		text *string
	}{{source, &m.Source}, {destination, &m.Destination}} {
		addr := end.addr.Unmap().WithZone("")
		if !addr.IsValid() {
			continue
		}
		*end.text = addr.String()
		if m.IpVersion = fl.IPVersion_IPv4; addr.Is6() {
			m.IpVersion = fl.IPVersion_IPv6
		}
	}
	return m
}

// transport is the layer above, without TCP's flags.
func transport(protocol string, source, destination uint16) *fl.Layer4 {
	switch protocol {
	case "tcp":
		return &fl.Layer4{Protocol: &fl.Layer4_TCP{TCP: &fl.TCP{SourcePort: uint32(source), DestinationPort: uint32(destination)}}}
	case "udp":
		return &fl.Layer4{Protocol: &fl.Layer4_UDP{UDP: &fl.UDP{SourcePort: uint32(source), DestinationPort: uint32(destination)}}}
	}
	return nil
}

// pair makes the two flows of a question and its answer. What is question in half was seen by the event's process; the
// answer is the same from the other end.
func (c *converter) pair(e *model.Event, half *half, answered bool) []*fl.Flow {
	ask := c.base(e, 0)
	ask.Time = timestamppb.New(e.Time.Add(-half.took))
	half.fill(ask, fl.L7FlowType_REQUEST)
	if !answered {
		return []*fl.Flow{ask}
	}
	answer := c.base(e, 1)
	half.fill(answer, fl.L7FlowType_RESPONSE)
	answer.IsReply = wrapperspb.Bool(true)
	answer.Reply = true //nolint:staticcheck // old clients read it
	answer.IP.Source, answer.IP.Destination = answer.GetIP().GetDestination(), answer.GetIP().GetSource()
	answer.L4 = half.transport(true)
	answer.Source, answer.Destination = answer.GetDestination(), answer.GetSource()
	answer.SourceNames, answer.DestinationNames = answer.GetDestinationNames(), answer.GetSourceNames()
	return []*fl.Flow{ask, answer}
}

// valid is s without what protobuf does not carry.
func valid(s string) string { return strings.ToValidUTF8(s, "�") }
