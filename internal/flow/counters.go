// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"

	"github.com/vigie-io/vigie/internal/model"
)

// Count takes in the counters of a socket that is open, as a close event would have them. Safe for concurrent use.
func (t *Table) Count(s *model.Socket) {
	k, at, ok := keyOf(s)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c, at := t.find(k, at, s)
	if c == nil {
		return
	}
	if at == source {
		c = t.reach(c)
	}
	c.take(at, countsOf(s))
	if s.Error != 0 {
		c.err = s.Error
	}
	if c.flags&unread != 0 && at == c.side() {
		c.told, c.flags = c.total, c.flags&^unread
	}
}

// side is the end whose counters are the conversation's.
func (c *conversation) side() side {
	if c.ends[source].known {
		return source
	}
	return destination
}

// Talk is what the kernel side counted of a conversation without connection.
type Talk struct {
	Owner              *model.Process // nil where the kernel itself speaks
	Workload           *model.Workload
	Protocol           string
	Local, Remote      netip.AddrPort
	Name               string // by which the owner asked for Remote
	Inbound            bool
	Cookie             uint64
	NetNS              uint32
	First, Last        uint64
	Counters           model.FlowCounters // sent and received by the local end
	ICMPType, ICMPCode uint8
	Closed             bool
}

// Talk takes in how far a conversation has come, and says whether the kernel side may forget it: it has ended, and will be
// reported.
func (t *Table) Talk(now uint64, k *Talk) (forget bool) {
	proto, ok := protocolOf(k.Protocol)
	if !ok {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	local, remote := placeOf(k.Local), placeOf(k.Remote)
	id, at := key{local, remote, proto}, source
	if k.Inbound {
		id, at = id.reversed(), destination
	}
	t.learn(local)
	_, closed := t.closing[k.Cookie]
	closed = closed || k.Closed
	idle := t.options.Idle
	if proto != udp {
		idle = t.options.EchoIdle
	}
	silent := k.Last+uint64(idle) < now
	c, at := t.talk(id, at, k)
	if c == nil {
		return closed || silent // no room
	}
	n := k.Counters
	c.take(at, counts{bytesSent: n.BytesSent, bytesReceived: n.BytesReceived, packetsSent: n.PacketsSent, packetsReceived: n.PacketsReceived})
	if other := &c.ends[at.other()]; other.known && other.closed && c.close == model.CloseSocket {
		closed = true // there is nobody to talk to
	}
	switch {
	case closed:
		t.end(c, at, k.Last, model.CloseSocket)
	case silent:
		t.end(c, at, k.Last, model.CloseIdle)
	default:
		return false
	}
	t.await(c, now)
	return true
}

// talk is the conversation that the kernel side counts, made when it is new, and which end of it counts.
func (t *Table) talk(id key, at side, k *Talk) (*conversation, side) {
	own := asked{k.Cookie, placeOf(k.Remote)}
	if c := t.translated[own]; c != nil && at == source {
		return c, at
	}
	c := t.holding(id, at, k.NetNS, k.Cookie)
	if c != nil {
		if c.source != id.source {
			at = at.other()
		}
		return c, at
	}
	id, translation := t.translatedTalk(id, k)
	if c = t.other(id, at, k.NetNS); c == nil {
		if c = t.admit(id, k.First); c == nil {
			return nil, at
		}
		c.icmp = [2]uint8{k.ICMPType, k.ICMPCode}
	}
	if c.source != id.source {
		at = at.other()
	}
	c.attach(at, k.Owner, k.Cookie, k.NetNS)
	if k.Owner == nil && k.Workload != nil {
		c.rare().workloads[at] = k.Workload
	}
	if at == source {
		c.name = k.Name
	}
	if at == source && translation.Destination.IsValid() {
		t.translate(c, own, placeOf(k.Local), translation)
	}
	if len(t.asked) > 0 && k.Owner != nil {
		t.decide(c, at, k.Owner.Key.PID, k.Last)
	}
	return c, at
}
