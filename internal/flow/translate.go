// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"

	"github.com/vigie-io/vigie/internal/model"
)

// asked is what a source's socket calls a conversation: one that is not connected has many.
type asked struct {
	cookie uint64
	remote place
}

// translate notes what the source asked for, and which addresses its socket has.
func (t *Table) translate(c *conversation, a asked, local place, n Translation) {
	m := c.rare()
	if n.Asked.IsValid() {
		m.service = &model.Service{Address: n.Asked}
		return
	}
	if c.destination != a.remote {
		m.service = &model.Service{Address: a.remote.addrPort()}
	}
	m.shown, m.asked = local, a
	t.translated[a] = c
}

// arrives says where the packets of a conversation arrive, when they were translated on the way.
func (t *Table) arrives(cookie uint64, protocol string, local, remote netip.AddrPort) (n Translation, ok bool) {
	n, ok = t.options.Translated(cookie, protocol, local, remote)
	return n, ok && n.Destination.IsValid()
}

// reach finds out where the datagrams of a connected socket arrive, when some have been sent: at connect nobody knows. Where
// the other end is known already, the two become one: the result is the conversation that goes on.
func (t *Table) reach(c *conversation) *conversation {
	e := &c.ends[source]
	if c.protocol != udp || !e.known || c.ends[destination].known || c.report > 0 || c.flags&(indexed|failed) != indexed || c.more != nil && c.more.asked != (asked{}) {
		return c
	}
	a, local := asked{e.cookie, c.destination}, c.source
	n, ok := t.arrives(e.cookie, c.protocol.String(), local.addrPort(), c.destination.addrPort())
	if !ok {
		return c
	}
	k := key{placeOf(n.Source), placeOf(n.Destination), c.protocol}
	if d := t.other(k, source, e.netns); d != nil && d.key == k {
		t.forget(c)
		d.join(c)
		c = d
	} else {
		t.unindex(c)
		c.key = k
		t.enter(c)
	}
	t.translate(c, a, local, n)
	return c
}

// join takes over what is known of the source by another conversation, which was not reported.
func (c *conversation) join(from *conversation) {
	c.ends[source] = from.ends[source]
	c.start, c.latency, c.name = min(c.start, from.start), from.latency, from.name
	if c.more == nil {
		c.more = from.more
	}
}

// translatedTalk is a conversation without connection as it arrives.
func (t *Table) translatedTalk(id key, k *Talk) (key, Translation) {
	if k.Inbound || id.protocol != udp {
		return id, Translation{}
	}
	n, ok := t.arrives(k.Cookie, k.Protocol, k.Local, k.Remote)
	if !ok {
		return id, Translation{}
	}
	id.source, id.destination = placeOf(n.Source), placeOf(n.Destination)
	return id, n
}
