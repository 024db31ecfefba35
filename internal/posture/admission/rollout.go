// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Evidence is what the present steps have shown.
type Evidence struct {
	Failing     map[string][]string // control → objects of the cluster that it would deny
	Unevaluated map[string]int      // control → objects of which it could not say
	Audited     map[string]int      // control → requests that failed it since it came to its step; nil: no audit log was read
}

// Move is one control's next step, or why it is not taken.
type Move struct {
	Control string
	From    Step
	To      Step
	Refused []string // nothing: the step is taken
}

// Rollout says how far controls may go.
type Rollout struct {
	To     Step            // no further than this
	Only   map[string]bool // nil: all
	Soak   time.Duration   // a control stays at each step for at least this long
	Accept map[string]bool // deny although something that runs would be denied when it is changed
}

// Moves decides the next step of each control. To deny goes only what nothing that runs fails.
func (r Rollout) Moves(s *Settings, p Plan, e Evidence, now time.Time) []Move {
	var out []Move
	for _, c := range p.Controls {
		from := p.stepOf(c.ID)
		next, ok := from.Next()
		if !ok || c.ScanOnly() || r.Only != nil && !r.Only[c.ID] || slices.Index(Steps(), next) > slices.Index(Steps(), r.To) {
			continue
		}
		m := Move{Control: c.ID, From: from, To: next}
		since := s.Reached[c.ID]
		if stayed := now.Sub(since.Since); since.Step != from || stayed < r.Soak {
			m.Refused = append(m.Refused, fmt.Sprintf("it is at %s for %s, want %s", from, max(stayed, 0).Round(time.Minute), r.Soak))
		}
		if next == Deny && !r.Accept[c.ID] {
			if n := len(e.Failing[c.ID]); n > 0 {
				m.Refused = append(m.Refused, fmt.Sprintf("%d objects that are there would be denied when they are changed", n))
			}
			if n := e.Unevaluated[c.ID]; n > 0 {
				m.Refused = append(m.Refused, fmt.Sprintf("of %d objects it could not say", n))
			}
			if n := e.Audited[c.ID]; n > 0 {
				m.Refused = append(m.Refused, fmt.Sprintf("%d requests would have been denied since it came to %s", n, from))
			}
		}
		out = append(out, m)
	}
	return out
}

// Take puts the moves that are not refused into settings, and says how many.
func (s *Settings) Take(moves []Move) int {
	steps := maps.Clone(s.Steps)
	if steps == nil {
		steps = map[string]Step{}
	}
	taken := 0
	for _, m := range moves {
		if len(m.Refused) == 0 {
			steps[m.Control] = m.To
			taken++
		}
	}
	s.Steps = steps
	return taken
}

// Back takes controls one step back: deny to warn, warn to audit. It is for when something breaks, and asks for nothing.
func (s *Settings) Back(p Plan, only map[string]bool) []Move {
	var moves []Move
	for _, c := range p.Controls {
		i := slices.Index(Steps(), p.stepOf(c.ID))
		if i > 0 && !c.ScanOnly() && (only == nil || only[c.ID]) {
			moves = append(moves, Move{Control: c.ID, From: Steps()[i], To: Steps()[i-1]})
		}
	}
	return moves
}
