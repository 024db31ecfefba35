// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"github.com/vigie-io/vigie/internal/model"
)

// closed takes in the end of one end.
func (t *Table) closed(ev *model.Event, k key, at side) {
	s := ev.Socket
	c, at := t.find(k, at, s)
	if c == nil {
		if k.protocol != tcp {
			return // what was counted of it, the kernel side tells
		}
		// Its beginning was lost, or there was no room: all that is known of it is in the close.
		c = t.make(k, ev.BootTime-min(uint64(s.Duration), ev.BootTime))
		c.attach(at, ev.Process, s.Cookie, s.NetNS)
		c.name = s.RemoteName
	}
	if at == source {
		c = t.reach(c)
	}
	c.take(at, countsOf(s))
	if c.flags&unread != 0 {
		c.told, c.flags = c.total, c.flags&^unread
	}
	if s.Error != 0 && c.err == 0 {
		c.err = s.Error
	}
	t.end(c, at, ev.BootTime, closeReason(c.protocol, s.Error))
	t.await(c, ev.BootTime)
}

// await has a conversation of which an end was closed wait for what is still to be said of it.
func (t *Table) await(c *conversation, now uint64) {
	both := c.ends[source].known && c.ends[destination].known
	switch {
	case c.open():
	case c.flags&indexed == 0, both && c.protocol == tcp:
		t.finish(c, now)
	case c.protocol != tcp:
		t.mute.put(c, now+uint64(muteGrace))
	case t.isLocal(c.source) && t.isLocal(c.destination):
		t.ended.put(c, now+uint64(localGrace))
	default:
		t.ending.put(c, now+uint64(grace))
	}
}

func (c *conversation) placeOf(s side) place {
	if s == source {
		return c.source
	}
	return c.destination
}

// end closes one end. What says more about why stays: a policy, then an error, then an orderly end.
func (t *Table) end(c *conversation, at side, now uint64, why model.CloseReason) {
	c.ends[at].closed = true
	c.ended = max(c.ended, now)
	if c.close == "" || c.close != model.CloseCut && why != model.CloseFin && why != model.CloseUnknown {
		c.close = why
	}
}

// forget takes a conversation out of the index.
func (t *Table) forget(c *conversation) {
	c.leave()
	if c.flags&indexed == 0 {
		return
	}
	c.flags &^= indexed
	t.open--
	if c.more != nil && t.translated[c.more.asked] == c {
		delete(t.translated, c.more.asked)
	}
	t.unindex(c)
}

func (t *Table) unindex(c *conversation) {
	first := t.index[c.key]
	if first == c {
		if c.next == nil {
			delete(t.index, c.key)
		} else {
			t.index[c.key] = c.next
		}
		return
	}
	for p := first; p != nil; p = p.next {
		if p.next == c {
			p.next = c.next
			return
		}
	}
}

// finish makes the last report.
func (t *Table) finish(c *conversation, now uint64) {
	t.forget(c)
	t.done = append(t.done, t.event(c, now, model.FlowClosed))
}

// closeReason is what an errno says about the end of a connection that there was, or of an attempt.
func closeReason(p protocol, e model.Errno) model.CloseReason {
	switch e.String() {
	case "":
		if p == tcp {
			return model.CloseFin
		}
		return model.CloseSocket
	case "ECONNRESET", "EPIPE":
		return model.CloseReset
	case "ECONNREFUSED":
		return model.CloseRefused
	case "ETIMEDOUT":
		return model.CloseTimeout
	case "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN", "EADDRNOTAVAIL":
		return model.CloseUnreachable
	}
	return model.CloseUnknown
}
