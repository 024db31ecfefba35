// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// The defaults of Options.
const (
	DefaultMaxFlows    = 1 << 18 // as many as the kernel side remembers of accepted connections; about 350 bytes each
	DefaultFirstReport = 2 * time.Second
	DefaultInterval    = 30 * time.Second
	DefaultIdle        = 60 * time.Second
)

// How long what has ended waits for what is still to be said of it: the other end's accept and close, the policy that denied
// it. Records of different processors come in a different order than they happened, by milliseconds.
const (
	grace      = 300 * time.Millisecond
	localGrace = 2 * time.Second // where the other end is on this host: its process may be slow to accept
	// An audited connect is decided when it is established or given up, which the kernel's retries can put off this long.
	auditGrace = 150 * time.Second
)

// Options configure a Table. Zero durations and sizes take the defaults.
type Options struct {
	// MaxFlows is how many conversations are followed at once. Beyond it they are reported at their end alone, each end for
	// itself, and counted as lost.
	MaxFlows int
	// FirstReport is after how long a conversation is reported that still goes on, Interval how often from then on.
	FirstReport, Interval time.Duration
	// Idle is after how long of silence a conversation without connection (udp, icmp) has ended.
	Idle   time.Duration
	Losses *pipeline.Losses
	// Wall converts nanoseconds since boot to wall-clock time.
	Wall func(boot uint64) time.Time
	// Current is the process image of a key as it is known now, or nil: its workload may have got its name meanwhile.
	Current func(model.ProcessKey) *model.Process
}

// Table follows conversations. See, Talk and Flush are called from one goroutine; everything else from any.
type Table struct {
	options Options
	full    *pipeline.Counter

	mu     sync.Mutex
	ids    uint64
	open   int
	index  map[key]*conversation
	local  map[[16]byte]struct{} // addresses that sockets of this host had
	young  queue                 // not reported yet
	older  queue
	ending queue // ended, waiting out the grace
	ended  queue // the same of those whose other end is on this host
	audits queue // what a policy would have denied, and that is not decided yet
	idle   queue // udp and icmp, by when they fall silent
	asked  map[attempt]*conversation
	done   []*model.Event // to be given out by the next Flush
}

// maxLocal bounds the addresses of this host that are remembered. One that is not costs a shorter wait for the other end.
const maxLocal = 4096

// New returns an empty table.
func New(o Options) *Table {
	if o.MaxFlows <= 0 {
		o.MaxFlows = DefaultMaxFlows
	}
	if o.FirstReport <= 0 {
		o.FirstReport = DefaultFirstReport
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Idle <= 0 {
		o.Idle = DefaultIdle
	}
	if o.Current == nil {
		o.Current = func(model.ProcessKey) *model.Process { return nil }
	}
	return &Table{options: o, full: o.Losses.Counter("flow", "table full"), index: make(map[key]*conversation),
		local: make(map[[16]byte]struct{}), asked: make(map[attempt]*conversation)}
}

// See takes in an enriched event. Those that are not about conversations pass.
func (t *Table) See(ev *model.Event) {
	switch ev.Type {
	case model.TypeConnect, model.TypeAccept, model.TypeClose, model.TypeListen:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.socket(ev)
	case model.TypeVerdict:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.judged(ev)
	}
}

func (t *Table) socket(ev *model.Event) {
	s := ev.Socket
	if s.Protocol == "unix" {
		return
	}
	t.learn(placeOf(s.Local))
	k, at, ok := keyOf(s)
	if !ok {
		return
	}
	switch {
	case ev.Type == model.TypeClose:
		t.closed(ev, k, at)
	case ev.Type == model.TypeConnect && s.Error != 0:
		t.failed(ev, k)
	default:
		t.begun(ev, k, at)
	}
}

// learn remembers an address of this host.
func (t *Table) learn(p place) {
	if p.any() || p.loopback() || len(t.local) >= maxLocal {
		return
	}
	t.local[p.addr] = struct{}{}
}

func (t *Table) isLocal(p place) bool {
	_, ok := t.local[p.addr]
	return ok || p.loopback()
}

// begun takes in one end of a conversation that has come about.
func (t *Table) begun(ev *model.Event, k key, at side) {
	s := ev.Socket
	if old := t.find(k, at, s); old != nil {
		if old.protocol != tcp || s.Cookie != 0 && old.ends[at].cookie == s.Cookie {
			return // told twice: the inventory saw it, too
		}
		// The same two ports again: the end of the last conversation was not seen.
		t.end(old, at, ev.BootTime, model.CloseUnknown)
		t.finish(old, ev.BootTime)
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
		c.latency = uint32(s.Latency / time.Microsecond)
		c.name = s.RemoteName
	}
	t.decide(c, ev)
}

// find is the conversation whose end at a side is this socket.
func (t *Table) find(k key, at side, s *model.Socket) *conversation {
	for c := t.index[k]; c != nil; c = c.next {
		e := &c.ends[at]
		if e.known && !e.closed && e.netns == s.NetNS && (e.cookie == s.Cookie || e.cookie == 0 || s.Cookie == 0) {
			return c
		}
	}
	// Both began at once, and this is the one that became the destination.
	for c := t.index[k.reversed()]; c != nil && at == source; c = c.next {
		e := &c.ends[destination]
		if e.known && !e.closed && e.netns == s.NetNS && e.cookie == s.Cookie && s.Cookie != 0 {
			return c
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
		case c.ends[at].known || !e.known:
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
	c.next = t.index[k]
	t.index[k] = c
	t.open++
	t.young.put(c, start+uint64(t.options.FirstReport))
	return c
}

// make makes a conversation that is in no list.
func (t *Table) make(k key, start uint64) *conversation {
	t.ids++
	return &conversation{key: k, id: t.ids, start: start}
}

// closed takes in the end of one end.
func (t *Table) closed(ev *model.Event, k key, at side) {
	s := ev.Socket
	c := t.find(k, at, s)
	if c == nil {
		// Its beginning was lost, or there was no room: all that is known of it is in the close.
		c = t.make(k, ev.BootTime-min(uint64(s.Duration), ev.BootTime))
		c.attach(at, ev.Process, s.Cookie, s.NetNS)
		c.name = s.RemoteName
	} else if c.key != k {
		at = at.other()
	}
	c.take(at, countsOf(s))
	if c.flags&unread != 0 {
		c.told, c.flags = c.total, c.flags&^unread
	}
	if s.Error != 0 && c.err == 0 {
		c.err = s.Error
	}
	t.end(c, at, ev.BootTime, closeReason(c.protocol, s.Error))
	switch {
	case c.open():
	case c.ends[at.other()].known || c.flags&indexed == 0:
		t.finish(c, ev.BootTime)
	case t.isLocal(c.placeOf(at.other())):
		t.ended.put(c, ev.BootTime+uint64(localGrace))
	default:
		t.ending.put(c, ev.BootTime+uint64(grace))
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
