// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/policy"
)

// tableSet is the tables that Load was told of, by their numbers. It is immutable.
type tableSet map[uint16]*policy.Table

// judgement is what the tables of a process say about one file, for every operation.
type judgement struct {
	n     int
	cells [subject.Slots * (1 + maxNames)]struct {
		table uint16
		cell  policy.Cell
	}
}

// maxNames is how many other names of a file are judged beside the one that it was opened by.
const maxNames = 3

// answer is a decision and the table that it comes from.
type answer struct {
	decision policy.Decision
	table    uint16
}

// judge looks a file up in the tables of a process: by the path that it was opened by, and by the names under which it
// was marked. Those count where a rule denies by name (a hard link to a file that nobody may read); a list of what is
// allowed speaks of the path only. False: a table of the entry is not in set.
func (j *judgement) judge(set tableSet, e *subject.Entry, path string, names []string) bool {
	for i := range min(e.Count, subject.Slots) {
		s := &e.Slots[i]
		if s.Table == 0 {
			continue
		}
		t := set[s.Table]
		if t == nil {
			return false
		}
		j.add(s.Table, cellOf(t, path, s.Subject))
		for _, name := range names[:min(len(names), maxNames)] {
			if name != path {
				j.add(s.Table, denials(t, cellOf(t, name, s.Subject)))
			}
		}
	}
	return true
}

func (j *judgement) add(table uint16, c policy.Cell) {
	if c != (policy.Cell{}) {
		j.cells[j.n].table, j.cells[j.n].cell = table, c
		j.n++
	}
}

func cellOf(t *policy.Table, path string, subject uint16) policy.Cell {
	at := uint32(t.Paths.Class(path))*t.Subjects + uint32(subject)
	if at >= uint32(len(t.Cells)) {
		return policy.Cell{} // an entry that is not of this table
	}
	return t.Cells[at]
}

// denials leaves of a cell what rules of a deny list say.
func denials(t *policy.Table, c policy.Cell) policy.Cell {
	for op, d := range c {
		if r := d.Rule(); d.Action() == policy.ActAllow || r >= len(t.Rules) || !t.Rules[r].Denies() {
			c[op] = 0
		}
	}
	return c
}

// of is the strongest answer about an operation.
func (j *judgement) of(op policy.FileOp) answer {
	var a answer
	for i := range j.n {
		if d := j.cells[i].cell[op]; d.Action() > a.decision.Action() {
			a = answer{decision: d, table: j.cells[i].table}
		}
	}
	return a
}

// silent: nothing that fanotify sees of the file is denied or reported.
func (j *judgement) silent() bool {
	for i := range j.n {
		c := &j.cells[i].cell
		if c[policy.Exec].Action()|c[policy.Read].Action()|c[policy.Write].Action() != policy.ActAllow {
			return false
		}
	}
	return true
}
