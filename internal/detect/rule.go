// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"sync/atomic"

	"github.com/vigie-io/vigie/internal/expression"
	"github.com/vigie-io/vigie/internal/model"
)

// Action is what a detection does about what it found.
type Action string

// The actions.
const (
	ActionAlert Action = "alert"
	// ActionKill also ends the process that raised the alert, with SIGKILL.
	ActionKill Action = "kill"
)

// Rule is a detection.
type Rule struct {
	ID          string
	Title       string
	Description string
	Severity    model.Severity
	Tags        []string
	Types       []model.Type // of the events that it looks at
	Action      Action
	Disabled    bool
	Source      string // DefaultSource, or the path of its file
	Line        int    // of that file
	When        string
	Exceptions  []Exception

	when       *expression.Condition
	exceptions []*expression.Condition
	output     *output
	rate       *rate      // nil: no limit
	threshold  *threshold // nil: the first event is enough
	counts     *counts
}

// Exception is what a rule does not mean.
type Exception struct {
	Name, Reason, When string
	Source             string // as of a rule
}

// counts outlive a reload, which makes a rule anew.
type counts struct {
	alerts, suppressed, errors atomic.Uint64
	latest                     atomic.Pointer[string] // error
}

// Status is a rule and how it is doing.
type Status struct {
	*Rule
	Alerts     uint64 // raised
	Suppressed uint64 // held back by its rate limit
	Errors     uint64 // events for which an expression of it could not be evaluated
}

// Set is a checked set of rules. What its rules count changes, all else is immutable.
type Set struct {
	Rules    []*Rule // by id
	Examples []*Example

	language *expression.Language
	byType   map[model.Type][]entry
	byOp     map[model.FileOp][]entry // of file events
}

// entry is a rule for one kind of event.
type entry struct {
	rule  *Rule
	guard expression.Guard
}

// entries are the rules that an event may concern.
func (s *Set) entries(e *model.Event) []entry {
	if e.File != nil {
		return s.byOp[e.File.Op]
	}
	return s.byType[e.Type]
}

// index files each rule under the kinds of event for which it may hold.
func (s *Set) index() {
	s.byType, s.byOp = make(map[model.Type][]entry), make(map[model.FileOp][]entry)
	for _, k := range expression.Kinds() {
		for _, r := range s.Rules {
			if r.Disabled || !contains(r.Types, k.Type) {
				continue
			}
			g := r.when.Guard(k)
			switch {
			case g.Never():
			case k.Op != "":
				s.byOp[k.Op] = append(s.byOp[k.Op], entry{r, g})
			default:
				s.byType[k.Type] = append(s.byType[k.Type], entry{r, g})
			}
		}
	}
}
