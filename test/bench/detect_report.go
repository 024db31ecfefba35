// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// detectRows are the bars of detections.
func (r *results) detectRows() []row {
	per := r.perEvent("all", detectRules)
	if per == 0 {
		return nil
	}
	rate := 1e9 / per
	x := row{what: fmt.Sprintf("detections: events a second on one core, %d rules", detectRules), bar: fmt.Sprintf("≥ %d", detectRate),
		measured: fmt.Sprintf("%.0f (%s of CPU an event)", rate, short(time.Duration(per))), verdict: "met"}
	if rate < detectRate {
		x.verdict = fmt.Sprintf("**not met**, %.2f of the bar", rate/detectRate)
	}
	var mix, types []string
	total := 0
	for _, m := range r.Mix {
		total += m.Events
	}
	for _, m := range r.Mix {
		mix = append(mix, fmt.Sprintf("%s %.1f %%", m.Type, 100*float64(m.Events)/float64(total)))
		if one := r.perEvent(m.Type, detectRules); one > 0 {
			types = append(types, fmt.Sprintf("%s %s", m.Type, short(time.Duration(one))))
		}
	}
	x.bound = fmt.Sprintf("The engine alone, with its garbage collection. The events are those of %s, again and again: %s. The rules are the %d that come with vigie, which take %s an event, "+
		"and variations of them. Going through the events without rules takes %s. By type, with %d rules: %s.", recorded, strings.Join(mix, ", "), r.DefaultRules,
		short(time.Duration(r.perEvent("all", r.DefaultRules))), short(time.Duration(r.perEvent("all", 0))), detectRules, strings.Join(types, ", "))
	return []row{x}
}

// perEvent is the median CPU time of an event, in nanoseconds; 0 when it was not measured.
func (r *results) perEvent(events string, rules int) float64 {
	var found []float64
	for _, d := range r.Detected {
		if d.Events == events && d.Rules == rules {
			found = append(found, d.perEvent())
		}
	}
	if len(found) == 0 {
		return 0
	}
	return measure.Median(found)
}
