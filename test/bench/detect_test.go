// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/detect"
	"github.com/vigie-io/vigie/internal/model"
)

// capturedEvents is the path of the events from this folder.
func capturedEvents() string { return filepath.Join("..", "..", filepath.FromSlash(recorded)) }

func TestTwoHundredRules(t *testing.T) {
	set, err := rulesOf(detectRules)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Rules) != detectRules {
		t.Errorf("%d rules, want %d", len(set.Rules), detectRules)
	}
	own, err := rulesOf(-1)
	if err != nil {
		t.Fatal(err)
	}
	if len(own.Rules) == 0 || len(own.Rules) >= detectRules {
		t.Errorf("%d rules come with vigie", len(own.Rules))
	}
	// A variation looks at the same events as its rule, and more closely.
	byID := make(map[string]*detect.Rule)
	for _, r := range set.Rules {
		byID[r.ID] = r
	}
	varied := 0
	for _, r := range set.Rules {
		base := byID[strings.TrimSuffix(r.ID, "_1")]
		if base == r || base == nil {
			continue
		}
		varied++
		if !slices.Equal(r.Types, base.Types) || !strings.Contains(r.When, base.When) || len(r.Exceptions) != len(base.Exceptions) {
			t.Errorf("%s is no variation of %s: %+v", r.ID, base.ID, r)
		}
	}
	if want := detectRules - len(own.Rules); varied < min(want, len(own.Rules)/2) {
		t.Errorf("%d variations of the first round, want at least %d", varied, min(want, len(own.Rules)/2))
	}
	if none, err := rulesOf(0); err != nil || len(none.Rules) != 0 {
		t.Errorf("no rules: %v, %v", none, err)
	}
}

func TestDetectStep(t *testing.T) {
	for _, only := range []string{"all", "exec"} {
		j := job{kind: "detect", target: capturedEvents() + " " + only, rules: -1, count: 100}
		step, finish, err := j.prepare(nil)
		if err != nil {
			t.Fatal(err)
		}
		d, err := j.loop(step)
		finish()
		if err != nil || d.Count != j.count {
			t.Errorf("%s: did %+v, %v", only, d, err)
		}
	}
	j := job{kind: "detect", target: capturedEvents() + " dance"}
	if _, _, err := j.prepare(nil); err == nil {
		t.Error("no error for a type of which there are no events")
	}
}

func TestRecordedEvents(t *testing.T) {
	events, err := recordedEvents(capturedEvents())
	if err != nil {
		t.Fatal(err)
	}
	if mix := mixOf(events); len(mix) < 8 || mix[0].Type != string(model.TypeFile) || mix[0].Events < mix[1].Events {
		t.Errorf("mix = %v", mix)
	}
	if slices.ContainsFunc(events, func(ev *model.Event) bool { return ev.PreExisting }) {
		t.Error("the inventory is among the events")
	}
	lineage := lineageOf(events)
	for _, ev := range events {
		line := lineage(ev.Process)
		if len(line) < 4 || line[len(line)-1].Binary != "/usr/lib/systemd/systemd" {
			t.Fatalf("the line of %s has %d ancestors", ev.Process.Binary, len(line))
		}
		if ev.Parent != nil && line[0].ExecID != ev.Process.ParentExecID && len(line) > 4 {
			t.Fatalf("the first ancestor of %s is %s", ev.Process.Binary, line[0].Binary)
		}
	}
}

func TestDetectReport(t *testing.T) {
	r := &results{N: 2, Sample: time.Second, DefaultRules: 120, Mix: []portion{{"file", 3}, {"exec", 1}}}
	for round := range 2 {
		for _, x := range []struct {
			events string
			rules  int
			ns     time.Duration
		}{{"all", 0, 10}, {"all", 120, 1000}, {"all", detectRules, 2000}, {"file", detectRules, 500}} {
			r.Detected = append(r.Detected, detected{Events: x.events, Rules: x.rules, Round: round, done: done{Count: 1000, CPU: 1000 * x.ns}})
		}
	}
	for _, tc := range []struct {
		slower time.Duration
		want   string
	}{
		{1, "| ≥ 200000 | 500000 (2.00 µs of CPU an event) | met |"},
		{4, "| ≥ 200000 | 125000 (8.00 µs of CPU an event) | **not met**, 0.62 of the bar |"},
	} {
		for i := range r.Detected {
			r.Detected[i].CPU *= tc.slower
		}
		var page bytes.Buffer
		r.report(&page, seeded())
		if !strings.Contains(page.String(), tc.want) {
			t.Errorf("the page lacks %q:\n%s", tc.want, page.String())
		}
		if tc.slower == 1 && !strings.Contains(page.String(), "again and again: file 75.0 %, exec 25.0 %. The rules are the 120 that come with vigie, which take 1.00 µs an event, "+
			"and variations of them. Going through the events without rules takes 10 ns. By type, with 200 rules: file 500 ns.") {
			t.Errorf("the page does not say what the figure is of:\n%s", page.String())
		}
	}
}
