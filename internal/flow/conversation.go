// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// side is one of the two ends of a conversation.
type side uint8

const (
	source side = iota
	destination
)

func (s side) other() side { return 1 - s }

// conversation is a flow that is open, or has ended and waits a moment for what is still to be said of it. Mind its size: there
// can be a million.
type conversation struct {
	key
	next *conversation // another one with the same key, in another network namespace
	list               // its place in the order in which reports are due

	id     uint64
	start  uint64 // all times: ns since boot
	ended  uint64 // when the last of its ends that are known was closed; 0 while it is open
	ends   [2]end
	total  model.FlowCounters // of source to destination
	told   model.FlowCounters // of them, what earlier reports said
	report uint32
	count  uint32 // attempts that this one stands for; 0 is one
	srtt   uint32 // µs

	latency uint32 // µs
	err     model.Errno
	close   model.CloseReason
	flags   flags
	icmp    [2]uint8 // type, code
	name    string   // by which the source asked for the destination
	more    *more    // what few have
}

// end is what is known of an end that is on this host.
type end struct {
	process     *model.Process // nil when the end is not on this host, or not known yet
	cookie      uint64
	netns       uint32
	retransmits uint32
	known       bool // a socket of this host
	closed      bool
}

// flags of a conversation.
type flags uint8

const (
	preExisting flags = 1 << iota // found by the start-up inventory
	unread                        // its counters before the agent are not known yet: nothing to add up
	failed                        // it did not come about
	awaited                       // a policy was asked before it began; what became of it is still to be told
	indexed                       // in the index by key
)

// more is what is rarely known of a conversation.
type more struct {
	verdict      model.FlowVerdict
	policy, rule string
	service      *model.Service
	// The addresses that the source's socket has, where its packets arrive with others.
	shown     place
	asked     asked
	workloads [2]*model.Workload // of ends without a process
}

func (c *conversation) rare() *more {
	if c.more == nil {
		c.more = new(more)
	}
	return c.more
}

// attach makes a socket one end of the conversation.
func (c *conversation) attach(s side, p *model.Process, cookie uint64, netns uint32) {
	e := &c.ends[s]
	e.process, e.cookie, e.netns, e.known, e.closed = p, cookie, netns, true, false
}

// open reports whether an end that is known goes on.
func (c *conversation) open() bool {
	return c.ends[source].known && !c.ends[source].closed || c.ends[destination].known && !c.ends[destination].closed
}

// speaker is the end that the flow's event is about.
func (c *conversation) speaker() *end {
	if c.ends[source].known || c.ends[source].process != nil {
		return &c.ends[source]
	}
	return &c.ends[destination]
}

// take takes in what a socket at side s has counted since it was made. Where both ends are here, the source's figures are
// taken, and the larger: a report can be older than the one before.
func (c *conversation) take(s side, n counts) {
	c.ends[s].retransmits = max(c.ends[s].retransmits, n.retransmits)
	c.total.Retransmits = c.ends[source].retransmits + c.ends[destination].retransmits
	if n.srtt > 0 && (s == source || c.srtt == 0) {
		c.srtt = uint32(n.srtt / time.Microsecond)
	}
	if s == destination {
		if c.ends[source].known {
			return
		}
		n.bytesSent, n.bytesReceived = n.bytesReceived, n.bytesSent
		n.packetsSent, n.packetsReceived = n.packetsReceived, n.packetsSent
	}
	t := &c.total
	t.BytesSent, t.BytesReceived = max(t.BytesSent, n.bytesSent), max(t.BytesReceived, n.bytesReceived)
	t.PacketsSent, t.PacketsReceived = max(t.PacketsSent, n.packetsSent), max(t.PacketsReceived, n.packetsReceived)
}

// counts are the counters of one socket.
type counts struct {
	bytesSent, bytesReceived     uint64
	packetsSent, packetsReceived uint64
	retransmits                  uint32
	srtt                         time.Duration
}

func countsOf(s *model.Socket) counts {
	return counts{s.BytesSent, s.BytesReceived, s.PacketsSent, s.PacketsReceived, s.Retransmits, s.SRTT}
}

// interval is what was counted since the last report, and makes this the last.
func (c *conversation) interval() model.FlowCounters {
	now, before := c.total, c.told
	c.told = now
	return model.FlowCounters{BytesSent: now.BytesSent - before.BytesSent, BytesReceived: now.BytesReceived - before.BytesReceived,
		PacketsSent: now.PacketsSent - before.PacketsSent, PacketsReceived: now.PacketsReceived - before.PacketsReceived,
		Retransmits: now.Retransmits - before.Retransmits}
}
