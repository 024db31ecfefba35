// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// begun takes in one end of a conversation that has come about.
func (t *Table) begun(ev *model.Event, k key, at side) {
	s := ev.Socket
	if k.protocol == udp && k.source.any() {
		// A datagram without connection, whose address is known when the kernel side tells of it. Perhaps it did not leave.
		t.undelivered(ev, k)
		return
	}
	if old, _ := t.find(k, at, s); old != nil {
		return // told twice: the inventory saw it, too
	}
	if old := t.stale(k, at, s.NetNS); old != nil {
		// The same two ports again: the end of the last conversation was not seen.
		t.end(old, at, ev.BootTime, model.CloseUnknown)
		t.finish(old, ev.BootTime)
	}
	translation, translated := Translation{}, false
	if at == source {
		if translation, translated = t.options.Translated(s.Cookie, s.Protocol, s.Local, s.Remote); translation.Destination.IsValid() {
			k.source, k.destination = placeOf(translation.Source), placeOf(translation.Destination)
		}
	}
	c := t.other(k, at, s.NetNS)
	if c == nil {
		if c = t.admit(k, ev.BootTime-min(uint64(s.Latency), ev.BootTime)); c == nil {
			return
		}
		if ev.PreExisting {
			c.flags |= preExisting | unread
		}
	} else if c.key != k {
		at = at.other() // both began at once: who was seen first is the source
	}
	c.attach(at, ev.Process, s.Cookie, s.NetNS)
	if at == source {
		c.start = ev.BootTime - min(uint64(s.Latency), ev.BootTime)
		c.latency = uint32(s.Latency / time.Microsecond)
		c.name = s.RemoteName
	}
	if translated {
		t.translate(c, asked{s.Cookie, placeOf(s.Remote)}, placeOf(s.Local), translation)
	}
	if len(t.asked) > 0 {
		t.decide(c, at, ev.Key.PID, ev.BootTime)
	}
}

// find is the conversation whose end at a side is this socket, and which side it is of it: where both began at once, the one
// that was seen later is the destination.
func (t *Table) find(k key, at side, s *model.Socket) (*conversation, side) {
	if at == source {
		if c := t.translated[asked{s.Cookie, placeOf(s.Remote)}]; c != nil {
			return c, at
		}
	}
	for c := t.index[k]; c != nil; c = c.next {
		e := &c.ends[at]
		if e.known && !e.closed && e.netns == s.NetNS && (e.cookie == s.Cookie || e.cookie == 0 || s.Cookie == 0) {
			return c, at
		}
	}
	for c := t.index[k.reversed()]; c != nil && at == source; c = c.next {
		e := &c.ends[destination]
		if e.known && !e.closed && e.netns == s.NetNS && e.cookie == s.Cookie && s.Cookie != 0 {
			return c, destination
		}
	}
	return nil, at
}

// stale is a connection whose end at a side had the same two ports in the same network namespace as a new one.
func (t *Table) stale(k key, at side, netns uint32) *conversation {
	for c := t.index[k]; c != nil && k.protocol == tcp; c = c.next {
		if e := &c.ends[at]; e.known && !e.closed && e.netns == netns {
			return c
		}
	}
	return nil
}

// holding is the conversation of which a socket without connection is an end, also when it was closed.
func (t *Table) holding(k key, at side, netns uint32, cookie uint64) *conversation {
	for _, way := range []struct {
		key
		at side
	}{{k, at}, {k.reversed(), at.other()}} {
		for c := t.index[way.key]; c != nil; c = c.next {
			if e := &c.ends[way.at]; e.known && e.netns == netns && e.cookie == cookie {
				return c
			}
		}
	}
	return nil
}

// other is the conversation that waits for its end at a side: in the same network namespace, or in another one when the
// addresses leave no doubt. Addresses of the loopback device do not leave their namespace.
func (t *Table) other(k key, at side, netns uint32) *conversation {
	if c := candidate(t.index[k], at, netns, k.source.loopback()); c != nil {
		return c
	}
	if at == source && k.source != k.destination {
		return candidate(t.index[k.reversed()], destination, netns, k.source.loopback())
	}
	return nil
}

func candidate(first *conversation, at side, netns uint32, sameOnly bool) *conversation {
	var found *conversation
	for c := first; c != nil; c = c.next {
		e := &c.ends[at.other()]
		switch {
		case !e.known, c.ends[at].known && (c.protocol == tcp || !c.ends[at].closed):
		case e.netns == netns:
			return c
		case sameOnly:
		case found != nil:
			return nil
		default:
			found = c
		}
	}
	return found
}

// admit makes a conversation, or counts that there is no room.
func (t *Table) admit(k key, start uint64) *conversation {
	if t.open >= t.options.MaxFlows {
		t.full.Add(1)
		return nil
	}
	c := t.make(k, start)
	c.flags |= indexed
	t.enter(c)
	t.open++
	t.young.put(c, start+uint64(t.options.FirstReport))
	return c
}

// enter puts a conversation into the index by its key.
func (t *Table) enter(c *conversation) {
	c.next = t.index[c.key]
	t.index[c.key] = c
}

// make makes a conversation that is in no list.
func (t *Table) make(k key, start uint64) *conversation {
	t.ids++
	return &conversation{key: k, id: t.ids, start: start}
}
