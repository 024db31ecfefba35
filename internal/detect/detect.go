// SPDX-License-Identifier: Apache-2.0

// Package detect finds in events what somebody should know of. In: files of rules, which are checked as a whole; events, one
// after the other, enriched. Out: alerts, which are events too, and where a rule says so the end of the process.
//
// A rule is filed under the kinds of event for which its expression can hold (internal/expression), with a guard for each, so
// that an event costs what the rules for its kind cost: nanoseconds each, until a guard lets it through. docs/detections.md is
// the language.
package detect

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/expression"
	"github.com/vigie-io/vigie/internal/model"
)

// Options are what an engine needs from around it. All of it may be left out.
type Options struct {
	Log *slog.Logger
	// Boot is the beginning of the boot id.
	Boot string
	// Ancestors are the images that led to a process, the parent first.
	Ancestors func(*model.Process) []*model.Process
	// Current is the image that the process with a pid runs now, as far as is known.
	Current func(pid uint32) *model.Process
	// Kill ends a process, for rules whose action that is: the package's own Kill. Without it nothing is ended.
	Kill func(model.ProcessKey) error
}

// Engine runs a set of rules. Detect is called from one goroutine, everything else from any.
type Engine struct {
	options Options
	using   sync.Mutex // Use
	set     atomic.Pointer[Set]
	subject expression.Subject
}

// New returns an engine without rules.
func New(o Options) *Engine {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{options: o, subject: expression.Subject{Boot: o.Boot, Ancestors: o.Ancestors}}
	e.set.Store(new(Set))
	return e
}

// Use puts a set in force in place of the one before. Counts of rules that both have go on; what limits and thresholds
// remember begins anew.
func (e *Engine) Use(set *Set) {
	e.using.Lock()
	defer e.using.Unlock()
	before := make(map[string]*counts)
	for _, r := range e.set.Load().Rules {
		before[r.ID] = r.counts
	}
	for _, r := range set.Rules {
		if c := before[r.ID]; c != nil {
			r.counts = c
		}
	}
	inForce := *set
	inForce.Examples = nil // for those who check files
	e.set.Store(&inForce)
}

// Status lists the rules in force by id, also the disabled ones.
func (e *Engine) Status() []Status {
	set := e.set.Load()
	out := make([]Status, len(set.Rules))
	for i, r := range set.Rules {
		out[i] = Status{r, r.counts.alerts.Load(), r.counts.suppressed.Load(), r.counts.errors.Load()}
	}
	return out
}

// Detect returns the alerts that an event raises, in the order of the rules' ids; they follow the event in its stream. What the
// start-up inventory found raises none: it did not happen now, and was told of before if an agent ran.
func (e *Engine) Detect(ev *model.Event) []*model.Event {
	if ev.PreExisting {
		return nil
	}
	entries := e.set.Load().entries(ev)
	if len(entries) == 0 {
		return nil
	}
	var alerts []*model.Event
	e.subject.Set(ev)
	for i := range entries {
		x := &entries[i]
		if !x.guard.May(&e.subject) {
			continue
		}
		if a := e.match(x); a != nil {
			alerts = append(alerts, a)
		}
	}
	return alerts
}

// match looks closer at an event that a guard let through.
func (e *Engine) match(x *entry) *model.Event {
	r, s := x.rule, &e.subject
	if !x.guard.Exact {
		if holds, err := r.when.Evaluate(s); err != nil || !holds {
			e.failed(r, err)
			return nil
		}
	}
	for _, exception := range r.exceptions {
		holds, err := exception.Holds(s)
		e.failed(r, err)
		if holds {
			return nil
		}
	}
	now := instant(s.Event)
	if r.threshold != nil && !e.reached(r, now) {
		return nil
	}
	killed, why := e.kill(r, s.Event)
	heldBack := uint64(0)
	if r.rate != nil {
		key, err := r.rate.key(s)
		e.failed(r, err)
		var allowed bool
		if allowed, heldBack = r.rate.allow(key, now); !allowed {
			r.counts.suppressed.Add(1)
			return nil
		}
	}
	r.counts.alerts.Add(1)
	a := &model.Alert{Rule: r.ID, Title: r.Title, Severity: r.Severity, Tags: r.Tags, Message: r.output.fill(s) + why,
		Action: string(ActionAlert), EventType: s.Event.Type, EventSeq: s.Event.Seq, Suppressed: heldBack}
	if killed {
		a.Action = string(ActionKill)
	}
	ev := s.Event
	return &model.Event{Type: model.TypeAlert, Time: ev.Time, BootTime: ev.BootTime, Key: ev.Key, TID: ev.TID, Process: ev.Process,
		Parent: ev.Parent, Count: 1, Alert: a}
}

// instant is when an event was, for limits: only differences matter.
func instant(ev *model.Event) time.Duration {
	if ev.BootTime != 0 {
		return time.Duration(ev.BootTime)
	}
	return time.Duration(ev.Time.UnixNano())
}

// reached counts an event towards the rule's threshold.
func (e *Engine) reached(r *Rule, now time.Duration) bool {
	t := r.threshold
	key, err := t.key(&e.subject)
	e.failed(r, err)
	value := ""
	if t.different != nil {
		value, err = t.different.Of(&e.subject)
		e.failed(r, err)
	}
	return t.reached(key, value, uint64(e.subject.Event.Count), now)
}

// failed counts an evaluation that had an error. The first of a rule is logged.
func (e *Engine) failed(r *Rule, err error) {
	if err == nil {
		return
	}
	if r.counts.errors.Add(1) == 1 {
		e.options.Log.Warn("a detection could not be evaluated; it is counted from now on", "rule", r.ID, "source", r.Source, "line", r.Line, "error", err)
	}
	text := err.Error()
	r.counts.latest.Store(&text)
}

// kill ends the event's process when the rule says so. why is what the message adds when it could not be.
func (e *Engine) kill(r *Rule, ev *model.Event) (killed bool, why string) {
	if r.Action != ActionKill {
		return false, ""
	}
	if err := e.end(ev); err != nil {
		e.options.Log.Warn("a detection could not end its process", "rule", r.ID, "error", err)
		return false, fmt.Sprintf(" (not killed: %v)", err)
	}
	return true, ""
}

func (e *Engine) end(ev *model.Event) error {
	p := ev.Process
	switch {
	case e.options.Kill == nil:
		return errors.New("nothing is ended here")
	case p == nil || p.KernelThread:
		return errors.New("there is no process that could be ended")
	case e.options.Current != nil:
		if now := e.options.Current(p.Key.PID); now != nil && now.Key != p.Key {
			return fmt.Errorf("process %d runs another program by now", p.Key.PID)
		}
	}
	return e.options.Kill(p.Key)
}
