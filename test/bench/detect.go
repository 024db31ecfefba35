// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/detect"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

const (
	detectRules = 200     // of the bar
	detectRate  = 200_000 // events a second on one core
	// recorded is what the events are: nginx, an application, Redis and curl on a real host.
	recorded = "docs/captures/web.vigie"
)

// detected is one sample of the detection engine.
type detected struct {
	Events string `json:"events"` // all, or of one type
	Rules  int    `json:"rules"`
	Round  int    `json:"round"`
	done
}

// perEvent is the CPU time of an event, in nanoseconds.
func (d detected) perEvent() float64 { return float64(d.CPU) / float64(d.Count) }

// detections measures the engine by itself, in a process of its own, over recorded events: without rules, with those that
// come with vigie, and with as many as the bar says. Then by type of event, with as many.
func (b *bench) detections(ctx context.Context) error {
	events, err := recordedEvents(recorded)
	if err != nil {
		return err
	}
	b.results.Mix = mixOf(events)
	set, err := rulesOf(-1)
	if err != nil {
		return err
	}
	b.results.DefaultRules = len(set.Rules)
	type arm struct {
		events string
		rules  int
	}
	arms := []arm{{"all", 0}, {"all", len(set.Rules)}, {"all", detectRules}}
	for _, m := range b.results.Mix {
		if m.Events >= minOfType {
			arms = append(arms, arm{m.Type, detectRules})
		}
	}
	for round, places := range measure.Order(b.n, len(arms), b.rng) {
		for _, i := range places {
			x := detected{Events: arms[i].events, Rules: arms[i].rules, Round: round}
			j := job{kind: "detect", target: recorded + " " + x.Events, rules: x.Rules, duration: b.sample}
			if x.Events != "all" {
				j.duration /= 4 // there are many types, and no bar for one
			}
			if x.done, err = b.workers(ctx, j, 1); err != nil {
				return err
			}
			b.results.Detected = append(b.results.Detected, x)
			b.say("  detect round %d: %s events, %d rules: %.0f ns an event", round+1, x.Events, x.Rules, x.perEvent())
		}
	}
	return nil
}

// minOfType is how many events of a type there must be to measure it alone.
const minOfType = 20

// portion is how many events of a type there are.
type portion struct {
	Type   string `json:"type"`
	Events int    `json:"events"`
}

// mixOf says what the events are, the most frequent type first.
func mixOf(events []*model.Event) []portion {
	n := make(map[string]int)
	for _, ev := range events {
		n[string(ev.Type)]++
	}
	out := make([]portion, 0, len(n))
	for _, t := range slices.Sorted(maps.Keys(n)) {
		out = append(out, portion{t, n[t]})
	}
	slices.SortStableFunc(out, func(a, b portion) int { return b.Events - a.Events })
	return out
}

// recordedEvents are the events of a capture that detections look at.
func recordedEvents(path string) ([]*model.Event, error) {
	r, err := capture.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var events []*model.Event
	for {
		batch, err := r.Next()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		for _, ev := range batch {
			if !ev.PreExisting && ev.Type != model.TypeLoss && ev.Type != model.TypeAlert {
				events = append(events, ev)
			}
		}
	}
}

// rulesOf is a set of n rules: those that come with vigie, and then, as often as it takes, each of them again for other
// binaries. Of -1 the former alone.
func rulesOf(n int) (*detect.Set, error) {
	if n == 0 {
		return detect.Compile(nil)
	}
	files, err := detect.Default()
	if err != nil {
		return nil, err
	}
	set, err := detect.Compile(files)
	if err != nil || n < 0 || n == len(set.Rules) {
		return set, err
	}
	enabled := slices.DeleteFunc(slices.Clone(set.Rules), func(r *detect.Rule) bool { return r.Disabled })
	if len(enabled) == 0 || len(set.Rules) > n {
		return nil, fmt.Errorf("of the %d rules that come with vigie no set of %d can be made", len(set.Rules), n)
	}
	var more []any
	for i := range n - len(set.Rules) {
		more = append(more, variation(enabled[i%len(enabled)], i/len(enabled)+1))
	}
	data, err := json.Marshal(map[string]any{"rules": more}) // which is YAML too
	if err != nil {
		return nil, err
	}
	return detect.Compile(append(files, detect.File{Path: "variations.yaml", Data: data}))
}

// variation is a rule once more: it asks all that the rule asks, and one thing beyond.
func variation(r *detect.Rule, number int) map[string]any {
	v := map[string]any{"id": fmt.Sprintf("%s_%d", r.ID, number), "title": r.Title, "severity": r.Severity, "types": r.Types,
		"when": fmt.Sprintf("(%s) && process.binary != %q", r.When, fmt.Sprintf("/opt/variation-%d/bin/tool", number)), "output": "{process.binary}"}
	var exceptions []any
	for _, e := range r.Exceptions {
		exceptions = append(exceptions, map[string]any{"name": e.Name, "reason": e.Reason, "when": e.When})
	}
	if exceptions != nil {
		v["exceptions"] = exceptions
	}
	return v
}

// detectStep has the engine look at one event after the other of a capture, again and again; each time they are later.
// target is "CAPTURE TYPE", or all types.
func (j *job) detectStep() (func() error, func(), error) {
	path, only, _ := strings.Cut(j.target, " ")
	events, err := recordedEvents(path)
	if err != nil {
		return nil, nil, err
	}
	lineage := lineageOf(events)
	if only != "all" {
		events = slices.DeleteFunc(events, func(ev *model.Event) bool { return string(ev.Type) != only })
	}
	if len(events) == 0 {
		return nil, nil, fmt.Errorf("%s has no %s events", path, only)
	}
	set, err := rulesOf(j.rules)
	if err != nil {
		return nil, nil, err
	}
	engine := detect.New(detect.Options{Ancestors: lineage})
	engine.Use(set)
	debug.SetGCPercent(100) // garbage is a part of what it costs
	span := uint64(time.Minute)
	for _, ev := range events {
		span = max(span, ev.BootTime-events[0].BootTime)
	}
	next := 0
	return func() error {
		ev := events[next]
		engine.Detect(ev)
		ev.BootTime += span
		if next++; next == len(events) {
			next = 0
		}
		return nil
	}, func() {}, nil
}

// lineageOf finds the images that led to a process among those that the events name. The capture begins in the middle of
// things: where it knows no parent, the line goes on as one of a session does, so that it is as long as on a real host.
func lineageOf(events []*model.Event) func(*model.Process) []*model.Process {
	session := []*model.Process{{Binary: "/usr/bin/bash"}, {Binary: "/usr/sbin/sshd"}, {Binary: "/usr/sbin/sshd"}, {Binary: "/usr/lib/systemd/systemd"}}
	images := make(map[string]*model.Process)
	for _, ev := range events {
		for _, p := range []*model.Process{ev.Parent, ev.Process} {
			if p != nil {
				images[p.ExecID] = p
			}
		}
	}
	lines := make(map[string][]*model.Process)
	for id, p := range images {
		var line []*model.Process
		for at := images[p.ParentExecID]; at != nil && len(line) < 64; at = images[at.ParentExecID] {
			line = append(line, at)
		}
		lines[id] = append(line, session...)
	}
	return func(p *model.Process) []*model.Process { return lines[p.ExecID] }
}
