// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// Example is events of which a file says whether a rule finds something in them.
type Example struct {
	Rule         string
	Name         string
	Alert        bool // what the file says
	Path         string
	Line, Column int

	events    []*model.Event
	ancestors []*model.Process
}

// Result is an example that was tried.
type Result struct {
	*Example
	OK     bool
	Reason string // why not
	Alerts []*model.Event
}

type exampleSource struct {
	rule, name scalar
	times      scalar
	alert      *bool
	events     []*yaml.Node
	ancestors  []*yaml.Node
	node       *yaml.Node
	from       *reader
}

func (r *reader) example(n *yaml.Node, outside bool) exampleSource {
	s := exampleSource{node: n, from: r}
	nodes := func(into *[]*yaml.Node) func(*yaml.Node) {
		return func(n *yaml.Node) { *into = append(*into, n) }
	}
	fields := map[string]func(*yaml.Node){"name": r.text(&s.name), "alert": r.flag(&s.alert), "event": nodes(&s.events), "times": r.text(&s.times),
		"events": r.list("events", nodes(&s.events)), "ancestors": r.list("ancestors", nodes(&s.ancestors))}
	if outside {
		fields["rule"] = r.text(&s.rule)
	}
	r.mapping(n, "a test", fields)
	return s
}

// examples checks the tests of a file, those inside of its rules and the others.
func (c *compiler) examples(d *document) []*Example {
	var out []*Example
	for _, rule := range d.rules {
		if c.rules[rule.id.text] == nil {
			continue
		}
		for _, s := range rule.tests {
			out = append(out, s.make(rule.id.text))
		}
	}
	for _, s := range d.tests {
		if r := c.named(s.rule, s.node, s.from); r != nil {
			out = append(out, s.make(r.ID))
		}
	}
	return out
}

func (s exampleSource) make(rule string) *Example {
	e := &Example{Rule: rule, Name: s.name.text, Alert: s.alert == nil || *s.alert, Path: s.from.path, Line: s.node.Line, Column: s.node.Column}
	if s.name.node == nil {
		s.from.bad(s.node, "a test has no name")
	}
	if len(s.events) == 0 {
		s.from.bad(s.node, "a test has no event")
	}
	for i := range s.repetitions() {
		for _, n := range s.events {
			if ev := s.event(n, i+1); ev != nil {
				e.events = append(e.events, ev)
			}
		}
	}
	for _, n := range s.ancestors {
		m := new(pb.Process)
		if s.message(n, "ancestor", 1, m) {
			e.ancestors = append(e.ancestors, wire.ProcessFromProto(m))
		}
	}
	return e
}

// maxTimes bounds how often an example has its events happen.
const maxTimes = 1000

func (s exampleSource) repetitions() int {
	if s.times.node == nil {
		return 1
	}
	n, err := strconv.Atoi(s.times.text)
	if err != nil || n < 1 || n > maxTimes {
		s.times.bad("times: %q is no number from 1 to %d", s.times.text, maxTimes)
		return 0
	}
	return n
}

// event makes the event of one repetition; nil when there is something wrong with it.
func (s exampleSource) event(n *yaml.Node, time int) *model.Event {
	m := new(pb.Event)
	if !s.message(n, "event", time, m) {
		return nil
	}
	ev := wire.FromProto(m)
	if !contains(model.Types(), ev.Type) {
		s.from.bad(n, "event: %q is no event type: use %s", ev.Type, join(model.Types()))
		return nil
	}
	ev.Count = max(ev.Count, 1)
	return ev
}

// message reads YAML as the JSON of the API. #n in a text becomes the number of the repetition.
func (s exampleSource) message(n *yaml.Node, what string, time int, into proto.Message) bool {
	var value any
	err := n.Decode(&value)
	var data []byte
	if err == nil {
		data, err = json.Marshal(value)
	}
	if err == nil {
		err = protojson.Unmarshal(bytes.ReplaceAll(data, []byte("#n"), strconv.AppendInt(nil, int64(time), 10)), into)
	}
	if err != nil {
		reason := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ")
		s.from.bad(n, "%s: not in the form of `vigie events -o json`: %s", what, reason)
	}
	return err == nil
}

// Try runs the examples of a set, each by itself.
func (s *Set) Try() []Result {
	results := make([]Result, len(s.Examples))
	for i, e := range s.Examples {
		results[i] = s.try(e)
	}
	return results
}

func (s *Set) try(x *Example) Result {
	var rule *Rule
	for _, r := range s.Rules {
		if r.ID == x.Rule {
			rule = r
		}
	}
	out := Result{Example: x}
	if rule.Disabled {
		out.OK, out.Reason = !x.Alert, "the rule is disabled"
		return out
	}
	fresh := *rule
	fresh.counts = new(counts)
	if rule.rate != nil {
		fresh.rate = &rate{limit: rule.rate.limit}
	}
	if rule.threshold != nil {
		fresh.threshold = &threshold{limit: rule.threshold.limit, different: rule.threshold.different, seed: rule.threshold.seed}
	}
	one := &Set{Rules: []*Rule{&fresh}, language: s.language}
	one.index()
	engine := New(Options{Ancestors: func(*model.Process) []*model.Process { return x.ancestors }})
	engine.Use(one)
	for i, ev := range x.events {
		copied := *ev
		if copied.BootTime == 0 {
			copied.BootTime = uint64(time.Duration(i+1) * time.Millisecond)
		}
		out.Alerts = append(out.Alerts, engine.Detect(&copied)...)
	}
	switch failures := fresh.counts.errors.Load(); {
	case failures > 0:
		out.Reason = fmt.Sprintf("an expression of the rule could not be evaluated: %v", *fresh.counts.latest.Load())
	case x.Alert && len(out.Alerts) == 0:
		out.Reason = "no alert"
	case !x.Alert && len(out.Alerts) > 0:
		out.Reason = "an alert: " + out.Alerts[0].Alert.Message
	default:
		out.OK = true
	}
	return out
}
