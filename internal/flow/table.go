// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
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
	DefaultEchoIdle    = 10 * time.Second
)

// How long what has ended waits for what is still to be said of it: the other end's accept and close, the policy that denied
// it. Records of different processors come in a different order than they happened, by milliseconds.
const (
	grace      = 300 * time.Millisecond
	localGrace = 2 * time.Second     // where the other end is on this host: its process may be slow to accept
	muteGrace  = 5 * time.Second / 2 // longer than from one reading of the kernel side (Talk) to the next
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
	// Idle is after how long of silence a conversation without connection has ended; EchoIdle the same of ICMP.
	Idle, EchoIdle time.Duration
	Losses         *pipeline.Losses
	// Wall converts nanoseconds since boot to wall-clock time.
	Wall func(boot uint64) time.Time
	// Current is the process image of a key as it is known now, or nil: its workload may have got its name meanwhile.
	Current func(model.ProcessKey) *model.Process
	// Translated tells how the addresses of an outbound connection were translated; may be nil. An answer is given once.
	Translated func(cookie uint64) (Translation, bool)
}

// Translation is what stands behind the address of a connection. Either Asked is set or the other two.
type Translation struct {
	Asked               netip.AddrPort // as connect was given it, where the socket got another one
	Source, Destination netip.AddrPort // of the packets that leave
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
	mute   queue // the same of those without connection, of which the kernel side may have more to say
	audits queue // what a policy would have denied, and that is not decided yet
	asked  map[attempt]*conversation
	// translated are open connections by the cookie of their source, where its socket has other addresses than the key.
	translated map[uint64]*conversation
	// closing are cookies of UDP sockets that were closed, and when: what the kernel side still counts of them has ended.
	closing map[uint64]uint64
	done    []*model.Event // to be given out by the next Flush
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
	if o.EchoIdle <= 0 {
		o.EchoIdle = DefaultEchoIdle
	}
	if o.Translated == nil {
		o.Translated = func(uint64) (Translation, bool) { return Translation{}, false }
	}
	if o.Current == nil {
		o.Current = func(model.ProcessKey) *model.Process { return nil }
	}
	return &Table{options: o, full: o.Losses.Counter("flow", "table full"), index: make(map[key]*conversation),
		local: make(map[[16]byte]struct{}), asked: make(map[attempt]*conversation),
		translated: make(map[uint64]*conversation), closing: make(map[uint64]uint64)}
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
	if ev.Type == model.TypeClose && s.Protocol == "udp" && s.Cookie != 0 {
		t.closing[s.Cookie] = ev.BootTime
	}
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
	if k.protocol == udp && k.source.any() {
		// A datagram without connection, whose address is known when the kernel side tells of it. Perhaps it did not leave.
		t.undelivered(ev, k)
		return
	}
	if old, at := t.find(k, at, s); old != nil {
		if old.protocol != tcp || s.Cookie != 0 && old.ends[at].cookie == s.Cookie {
			return // told twice: the inventory saw it, too
		}
		// The same two ports again: the end of the last conversation was not seen.
		t.end(old, at, ev.BootTime, model.CloseUnknown)
		t.finish(old, ev.BootTime)
	}
	translation, translated := Translation{}, false
	if at == source {
		if translation, translated = t.options.Translated(s.Cookie); translation.Destination.IsValid() {
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
		t.translate(c, s, translation)
	}
	if len(t.asked) > 0 {
		t.decide(c, at, ev.Key.PID, ev.BootTime)
	}
}

// translate notes what the source asked for, and which addresses its socket has.
func (t *Table) translate(c *conversation, s *model.Socket, n Translation) {
	m := c.rare()
	if n.Asked.IsValid() {
		m.service = &model.Service{Address: n.Asked}
		return
	}
	if n.Destination != s.Remote {
		m.service = &model.Service{Address: s.Remote}
	}
	m.shown = placeOf(s.Local)
	t.translated[s.Cookie] = c
}

// find is the conversation whose end at a side is this socket, and which side it is of it: where both began at once, the one
// that was seen later is the destination.
func (t *Table) find(k key, at side, s *model.Socket) (*conversation, side) {
	if at == source {
		if c := t.translated[s.Cookie]; c != nil {
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
	if c.more != nil && c.more.shown != (place{}) {
		delete(t.translated, c.ends[source].cookie)
	}
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
