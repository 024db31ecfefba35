// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// attempt finds what a policy said about an attempt, for the event that tells what became of it. It has the source's pid and no
// address of the source where the attempt goes out, for there may be none yet.
type attempt struct {
	key
	pid uint32
}

// cutHook is what carries out that an open conversation is cut (enforce/network).
const cutHook = "cut"

// judged takes in what a policy decided about a conversation. Other verdicts pass.
func (t *Table) judged(ev *model.Event) {
	v := ev.Verdict
	proto, ok := protocolOf(v.Protocol)
	if !ok || !v.Remote.IsValid() {
		return
	}
	k, at := key{placeOf(v.Local), placeOf(v.Remote), proto}, source
	a := attempt{key{destination: k.destination, protocol: proto}, ev.Key.PID}
	switch v.Operation {
	case model.OpConnect, model.OpSend:
	case model.OpAccept:
		k, at = k.reversed(), destination
		a = attempt{key: k}
	default:
		return
	}
	if v.Hook == cutHook {
		t.cut(ev, k, at)
		return
	}
	if c := t.asked[a]; c != nil && c.flags&failed != 0 && c.more == nil {
		c.judge(v) // its failure was told first
		return
	}
	if c := t.recent(k, at, ev); c != nil && v.Action == model.VerdictAudited {
		c.judge(v)
		return
	}
	c := t.make(k, ev.BootTime)
	c.attach(at, ev.Process, 0, 0)
	if at == source {
		c.name = v.RemoteName
	}
	c.flags |= awaited
	c.ended, c.ends[at].closed = ev.BootTime, true
	c.judge(v)
	c.count = ev.Count
	t.ask(a, c)
	if v.Action == model.VerdictAudited {
		t.audits.put(c, ev.BootTime+uint64(auditGrace))
	} else {
		t.ending.put(c, ev.BootTime+uint64(grace))
	}
}

// maxRecent bounds the search for a conversation that was told before what a policy said of it.
const maxRecent = 1024

// recent is the conversation that came about just before its verdict was read: the two come in different rings.
func (t *Table) recent(k key, at side, ev *model.Event) *conversation {
	c := t.young.last
	for n := 0; c != nil && n < maxRecent && c.start+uint64(time.Second) > ev.BootTime; c, n = c.before, n+1 {
		e := &c.ends[at]
		if c.protocol == k.protocol && c.destination == k.destination && (at == source || c.source == k.source) &&
			e.process != nil && e.process.Key.PID == ev.Key.PID && (c.more == nil || c.more.verdict == "") {
			return c
		}
	}
	return nil
}

// maxAsked bounds what waits for an event that tells more. What comes beyond it is told as it is.
const maxAsked = 1 << 16

func (t *Table) ask(a attempt, c *conversation) {
	if len(t.asked) < maxAsked {
		t.asked[a] = c
	}
}

// judge notes a policy's decision.
func (c *conversation) judge(v *model.Verdict) {
	m := c.rare()
	m.policy, m.rule = v.Policy, v.Rule
	m.verdict = model.FlowDenied
	if v.Action == model.VerdictAudited {
		m.verdict = model.FlowAudited
		return
	}
	c.close = model.CloseDenied
}

// cut takes in that a policy ended what was open. Its sockets' ends follow.
func (t *Table) cut(ev *model.Event, k key, at side) {
	for c := t.index[k]; c != nil; c = c.next {
		if e := &c.ends[at]; e.known && e.process != nil && e.process.Key.PID == ev.Key.PID {
			c.judge(ev.Verdict)
			if ev.Verdict.Action != model.VerdictAudited {
				c.close = model.CloseCut
			}
			return
		}
	}
}

// failed takes in an attempt that did not come about.
func (t *Table) failed(ev *model.Event, k key) {
	s := ev.Socket
	a := attempt{key{destination: k.destination, protocol: k.protocol}, ev.Key.PID}
	c := t.asked[a]
	refusal := s.Error.String() == "EPERM" || s.Error.String() == "EACCES"
	switch {
	case c != nil && c.more != nil && c.more.verdict == model.FlowAudited:
		// The policy let it pass, and it failed for another reason.
		delete(t.asked, a)
	case c != nil && refusal && c.more != nil:
		delete(t.asked, a) // what the policy denied, now with its socket
	default:
		c = t.make(k, 0)
	}
	c.key = k
	c.start = ev.BootTime - min(uint64(s.Latency), ev.BootTime)
	c.attach(source, ev.Process, s.Cookie, s.NetNS)
	c.latency, c.name, c.err = uint32(s.Latency/time.Microsecond), s.RemoteName, s.Error
	c.flags |= failed
	c.ended, c.ends[source].closed = ev.BootTime, true
	if c.close == "" {
		c.close = closeReason(k.protocol, s.Error)
	}
	c.count = ev.Count
	if refusal && c.more == nil {
		t.ask(a, c) // perhaps a policy says that it was it
		t.ending.put(c, ev.BootTime+uint64(grace))
		return
	}
	t.finish(c, ev.BootTime)
}

// decide moves what a policy said of an attempt to the conversation that came of it.
func (t *Table) decide(c *conversation, at side, pid uint32, now uint64) {
	a := attempt{key{destination: c.destination, protocol: c.protocol}, pid}
	if at == destination {
		a = attempt{key: c.key}
	}
	said := t.asked[a]
	if said == nil || said.more == nil || said.more.verdict != model.FlowAudited && c.protocol == tcp {
		return
	}
	delete(t.asked, a)
	said.leave()
	m := c.rare()
	m.verdict, m.policy, m.rule = said.more.verdict, said.more.policy, said.more.rule
	if m.verdict == model.FlowDenied { // a datagram that did not leave its socket
		t.end(c, at, now, model.CloseDenied)
		t.finish(c, now)
	}
}

// undelivered takes in that a datagram was sent without connection: where a policy denied it, that is told already.
func (t *Table) undelivered(ev *model.Event, k key) {
	a := attempt{key{destination: k.destination, protocol: k.protocol}, ev.Key.PID}
	if c := t.asked[a]; c != nil && c.more != nil && c.more.verdict == model.FlowDenied {
		c.attach(source, ev.Process, ev.Socket.Cookie, ev.Socket.NetNS)
		c.ends[source].closed = true
		c.name = ev.Socket.RemoteName
	}
}

// unask forgets that a conversation waits for an event.
func (t *Table) unask(c *conversation) {
	for _, a := range []attempt{{key: c.key}, {key{destination: c.destination, protocol: c.protocol}, c.pid()}} {
		if t.asked[a] == c {
			delete(t.asked, a)
		}
	}
}

func (c *conversation) pid() uint32 {
	if p := c.ends[source].process; p != nil {
		return p.Key.PID
	}
	return 0
}
