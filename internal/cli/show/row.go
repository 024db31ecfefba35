// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

// Widths of the columns of a row, in cells.
const (
	nodeWidth     = 12
	workloadWidth = 20
	processWidth  = 20
)

// Row is an event as one line of a list: time, node where there are several, workload, process, verb, object. Wide has the
// date and the exec_id, and cuts nothing.
func Row(e *model.Event, zone *time.Location, st term.Style, wide bool) string {
	l := Event(e)
	layout := "15:04:05.000"
	if wide {
		layout = "2006-01-02T15:04:05.000000Z07:00"
	}
	at := st.Dim(e.Time.In(zone).Format(layout))
	if e.Node != "" {
		node := term.Escape(e.Node)
		if !wide {
			node = term.Cut(node, nodeWidth)
		}
		at += " " + st.Dim(pad(node, nodeWidth))
	}
	if l.Kind == Loss {
		return at + " " + st.Alarm(" LOST ") + " " + st.Red(l.Text())
	}
	workload, process := Who(e)
	if !wide {
		workload, process = term.Cut(workload, workloadWidth), term.Cut(process, processWidth)
	}
	times := ""
	if e.Count > 1 {
		times = st.Bold(fmt.Sprintf("×%d ", e.Count))
	}
	row := fmt.Sprintf("%s %s %s %s %s%s", at, pad(workload, workloadWidth), pad(process, processWidth),
		l.Colour(st, pad(l.Verb, VerbWidth)), times, l.Coloured(st))
	if wide && e.Process != nil {
		row += "  " + st.Dim(term.Escape(e.Process.ExecID))
	}
	return row
}

// Who names the workload and the process of an event: "nginx.service", "nginx(1234)".
func Who(e *model.Event) (workload, process string) {
	if e.Process == nil {
		return "-", fmt.Sprintf("?(%d)", e.Key.PID)
	}
	return Workload(e.Process.Workload), fmt.Sprintf("%s(%d)", Process(e.Process), e.Process.Key.PID)
}

// pad fills with spaces; unlike term.Fit it cuts nothing.
func pad(s string, width int) string { return term.Fit(s, max(width, term.Width(s))) }

// Colour gives s, a verb, the colour of its kind.
func (l Line) Colour(st term.Style, s string) string {
	switch {
	case l.Alarm || l.Kind == Loss:
		return st.Alarm(s)
	case l.Failed:
		return st.Red(s)
	}
	switch l.Kind {
	case Program:
		return st.Green(s)
	case File:
		return st.Yellow(s)
	case Network:
		return st.Cyan(s)
	case Name:
		return st.Blue(s)
	case Decision:
		return st.Bold(s)
	}
	return st.Magenta(s)
}

// Coloured is Text with its detail receding, or red where it says what failed.
func (l Line) Coloured(st term.Style) string {
	if l.Detail == "" {
		return l.Object
	}
	detail := st.Dim(l.Detail)
	if l.Failed || l.Alarm {
		detail = st.Red(l.Detail)
	}
	if l.Object == "" {
		return detail
	}
	return l.Object + "  " + detail
}
