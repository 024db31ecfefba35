// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"

	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
)

func (m *Model) source() []*row {
	if m.paused {
		return m.frozen
	}
	return m.feed.rows
}

// wanted reports whether the user asked to see rows like r.
func (m *Model) wanted(r *row, words []string) bool {
	if !m.showAll && m.status != nil && len(m.status.GetNodes()) == 0 && r.event.Key.PID == m.status.GetPid() && !r.line.Alarm {
		return false // the agent looks at others
	}
	switch r.class {
	case classRead:
		if !m.showReads {
			return false
		}
	case classNoise, classInventory:
		if !m.showAll {
			return false
		}
	}
	return r.matches(words)
}

// visible is how many rows pass the filter.
func (m *Model) visible() int {
	words, n := m.words(), 0
	for _, r := range m.source() {
		if m.wanted(r, words) {
			n++
		}
	}
	return n
}

// columns are the widths of the workload and the process.
func (m *Model) columns() (workload, process int) {
	switch {
	case m.width < 100:
		return 16, 16
	case m.width < 160:
		return 24, 20
	}
	return 32, 24
}

func (m *Model) eventTitle() string {
	workload, process := m.columns()
	return " " + term.Fit("TIME", 9) + m.nodeCell("NODE") + term.Fit("WORKLOAD", workload+1) + term.Fit("PROCESS", process+1) + term.Fit("", show.VerbWidth+1) + "WHAT"
}

// eventRows are the last rows of the list, oldest first, offset rows above its end.
func (m *Model) eventRows(height int) []string {
	words := m.words()
	rows := m.source()
	skip := m.offset
	var picked []*row
	for i := len(rows) - 1; i >= 0 && len(picked) < height; i-- {
		if !m.wanted(rows[i], words) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		picked = append(picked, rows[i])
	}
	out := make([]string, 0, len(picked))
	var previous *row
	for i := len(picked) - 1; i >= 0; i-- {
		out = append(out, m.eventRow(picked[i], previous))
		previous = picked[i]
	}
	return out
}

// eventRow draws one row. The names of node and workload recede where the row above has them too; nil is no row.
func (m *Model) eventRow(r, above *row) string {
	st := m.style
	at := st.Dim(r.first.In(m.zone).Format("15:04:05"))
	node := m.nodeCell(r.node)
	if above != nil && r.node == above.node {
		node = st.Dim(node)
	}
	if r.line.Kind == show.Loss {
		return " " + at + " " + node + st.Alarm(" LOST ") + " " + st.Red(r.line.Text())
	}
	workloadWidth, processWidth := m.columns()
	workload := term.Fit(r.workload, workloadWidth)
	if above != nil && r.node == above.node && r.workload == above.workload {
		workload = st.Dim(workload)
	}
	times := ""
	if r.count > 1 {
		times = st.Bold("×"+show.Count(r.count)) + " "
	}
	verb := r.line.Colour(st, term.Fit(r.line.Verb, show.VerbWidth))
	text := r.line.Coloured(st)
	if notes, bad := r.notes(); notes != "" {
		colour := st.Dim
		if bad {
			colour = st.Red
		}
		// What followed must be seen: a long command line gives way to it.
		notes = fmt.Sprintf("  ← %s", notes)
		room := m.width - 10 - term.Width(node) - workloadWidth - 1 - processWidth - 1 - show.VerbWidth - 1 - term.Width(times) - term.Width(notes)
		if room >= 16 {
			text = term.Cut(text, room)
		}
		text += colour(notes)
	}
	return " " + at + " " + node + workload + " " + processCell(r, processWidth) + " " + verb + " " + times + text
}

// processCell keeps the pid visible where a name is long.
func processCell(r *row, width int) string {
	if term.Width(r.process) <= width || r.event.Process == nil {
		return term.Fit(r.process, width)
	}
	pid := fmt.Sprintf("(%d)", r.event.Process.Key.PID)
	return term.Fit(term.Cut(show.Process(r.event.Process), width-len(pid))+pid, width)
}
