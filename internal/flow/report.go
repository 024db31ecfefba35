// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"math"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Wants reports whether reports are due that need counters of now (Count) first.
func (t *Table) Wants(now uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.young.ready(now) || t.older.ready(now)
}

func (q *queue) ready(now uint64) bool { return q.first != nil && q.first.due <= now }

// Flush gives out the reports that are due: of what has ended, and of what goes on when its counters were just read. With
// final, all are told as they stand.
func (t *Table) Flush(now uint64, counted, final bool, emit func(*model.Event)) {
	t.mu.Lock()
	due := now
	if final {
		due = math.MaxUint64
	}
	t.endings(now, due)
	if counted {
		t.reports(now, due)
	}
	done := t.done
	t.done = nil
	t.mu.Unlock()
	for _, ev := range done {
		emit(ev)
	}
}

// endings makes the last reports of what has waited long enough.
func (t *Table) endings(now, due uint64) {
	for cookie, at := range t.closing {
		if at+uint64(2*muteGrace) < now {
			delete(t.closing, cookie)
		}
	}
	for _, q := range []*queue{&t.ending, &t.ended, &t.mute, &t.audits} {
		for c := q.take(due); c != nil; c = q.take(due) {
			t.unask(c)
			t.finish(c, c.ended)
		}
	}
}

// reports makes the reports of what goes on and is due until a moment, as of now.
func (t *Table) reports(now, due uint64) {
	for _, q := range []*queue{&t.older, &t.young} { // what is young grows older
		last := q.last
		for c := q.take(due); c != nil; c = q.take(due) {
			t.done = append(t.done, t.event(c, now, model.FlowOpen))
			t.older.put(c, now+uint64(t.options.Interval))
			if c == last {
				break
			}
		}
	}
}

// event makes a report of a conversation.
func (t *Table) event(c *conversation, now uint64, state model.FlowState) *model.Event {
	if c.report == 0 && c.protocol == tcp && c.ends[source].known && c.flags&failed == 0 && (c.more == nil || c.more.service == nil) {
		// What connect was given is noted when it returns, which can be after the connection was told.
		if n, ok := t.options.Translated(c.ends[source].cookie, "tcp", c.source.addrPort(), c.destination.addrPort()); ok && n.Asked.IsValid() {
			c.rare().service = &model.Service{Address: n.Asked}
		}
	}
	c.report++
	f := t.flow(c, state)
	f.Report = c.report
	f.Interval = c.interval()
	return t.wrap(c, f, now)
}

// wrap makes an event of a flow, at a moment.
func (t *Table) wrap(c *conversation, f *model.Flow, now uint64) *model.Event {
	ev := &model.Event{Type: model.TypeFlow, BootTime: now, Time: t.options.Wall(now), Count: max(c.count, 1),
		PreExisting: c.flags&preExisting != 0, Flow: f, Process: f.Source.Process}
	if ev.Process == nil {
		ev.Process = f.Destination.Process
	}
	if ev.Process != nil {
		ev.Key = ev.Process.Key
	}
	return ev
}

func (t *Table) flow(c *conversation, state model.FlowState) *model.Flow {
	speaker := c.speaker()
	f := &model.Flow{ID: c.id, State: state, Protocol: c.protocol.String(), Family: c.family(), Direction: c.direction(),
		Source: t.endpoint(c, source), Destination: t.endpoint(c, destination), Verdict: model.FlowAllowed,
		Start: t.options.Wall(c.start), Total: c.total, SRTT: time.Duration(c.srtt) * time.Microsecond,
		Latency: time.Duration(c.latency) * time.Microsecond, Close: c.close, Error: c.err, ICMPType: c.icmp[0], ICMPCode: c.icmp[1],
		Cookie: speaker.cookie, NetNS: speaker.netns}
	f.Destination.Name = c.name
	if state == model.FlowOpen {
		f.Close = ""
	} else {
		f.End = t.options.Wall(c.ended)
	}
	if c.flags&failed != 0 {
		f.Verdict, f.Reason = model.FlowFailed, c.err.String()
	}
	if m := c.more; m != nil {
		f.Service = m.service
		if m.shown != (place{}) {
			f.Source.Address = m.shown.addrPort()
		}
		if m.verdict != "" && (m.verdict != model.FlowAudited || c.flags&failed == 0) {
			f.Verdict, f.Policy, f.Rule = m.verdict, m.policy, m.rule
			f.Reason = "policy " + m.policy + ", " + m.rule
		}
	}
	return f
}

func (t *Table) endpoint(c *conversation, s side) model.Endpoint {
	e := model.Endpoint{Address: c.placeOf(s).addrPort(), Process: c.ends[s].process}
	if p := e.Process; p != nil {
		if now := t.options.Current(p.Key); now != nil && now.Key == p.Key {
			e.Process = now
			c.ends[s].process = now
		}
		e.Workload = e.Process.Workload
	} else if c.more != nil {
		e.Workload = c.more.workloads[s]
	}
	return e
}

func (c *conversation) direction() model.FlowDirection {
	switch {
	case c.ends[source].known && c.ends[destination].known:
		return model.FlowLocal
	case c.ends[source].known:
		return model.FlowOutbound
	}
	return model.FlowInbound
}
