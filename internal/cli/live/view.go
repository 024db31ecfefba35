// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
)

// Lines that are not the body: two of header, the pages, the column titles; the keys.
const (
	headerLines = 4
	footerLines = 1
)

// body is how many lines the rows have.
func (m *Model) body() int {
	n := m.height - headerLines - footerLines
	if m.notice != "" {
		n--
	}
	return max(n, 1)
}

// View implements tea.Model.
func (m *Model) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	v.MouseMode = tea.MouseModeCellMotion
	v.WindowTitle = "vigie"
	return v
}

// screen is the whole picture: exactly as many lines as the terminal has, none wider than it.
func (m *Model) screen() string {
	lines := []string{m.hostLine(), m.rateLine(), m.tabLine()}
	body := m.body()
	var rows []string
	switch {
	case m.help:
		lines = append(lines, m.style.Bold(" KEYS"))
		rows = m.helpRows()
	case m.tab == TabTop:
		lines = append(lines, m.style.Bold(m.topTitle()))
		rows = m.topRows(body)
	case m.tab == TabTree:
		lines = append(lines, m.style.Bold(m.treeTitle()))
		rows = m.treeRows(body)
	default:
		lines = append(lines, m.style.Bold(m.eventTitle()))
		rows = m.eventRows(body)
	}
	if len(rows) == 0 {
		rows = []string{"", "  " + m.style.Dim(m.emptyText())}
	}
	for i := range body {
		if i < len(rows) {
			lines = append(lines, rows[i])
		} else {
			lines = append(lines, "")
		}
	}
	if m.notice != "" {
		lines = append(lines, m.style.Dim(" "+m.notice))
	}
	lines = append(lines, m.keyLine())
	lines = lines[:min(len(lines), m.height)]
	for i := range lines {
		lines[i] = term.Cut(lines[i], m.width)
	}
	return strings.Join(lines, "\n")
}

func (m *Model) hostLine() string {
	left := m.style.Reverse(m.style.Bold(" vigie ")) + "  "
	right := ""
	switch s := m.status; {
	case s == nil && m.connection != nil:
		left += m.style.Red(term.EscapeLines(m.connection.Error()))
	case s == nil:
		left += m.starting
	default:
		up := time.Duration(s.GetUptimeNs()) + m.now.Sub(m.statusAt)
		left += m.style.Bold(term.Escape(s.GetHost()))
		if s.GetReplay() {
			left += m.style.Yellow("  replay")
		}
		if len(s.GetNodes()) > 0 {
			left += m.style.Dim(fmt.Sprintf("  relays %s  up %s", show.Nodes(s.GetNodes()), show.Age(up)))
		} else {
			left += m.style.Dim(fmt.Sprintf("  Linux %s %s  up %s", term.Escape(s.GetKernel()), term.Escape(s.GetArch()), show.Age(up)))
		}
		if m.health != nil && !m.health.GetReady() && len(m.health.GetProblems()) > 0 {
			left += "  " + m.style.Red(term.Escape(m.health.GetProblems()[0]))
		}
		right = m.lossMark()
	}
	if m.connection != nil && m.status != nil {
		right = m.style.Alarm(" agent gone ")
		if len(m.status.GetNodes()) > 0 {
			right = m.style.Alarm(" relay gone ")
		}
	}
	return m.justify(left, right)
}

// lossMark says what was lost: by the agent, and by this view alone.
func (m *Model) lossMark() string {
	lost, _ := show.Lost(m.status)
	switch {
	case lost == 0 && m.lostHere == 0:
		return m.style.Green("lost 0") + " "
	case lost == 0:
		return m.style.Yellow(fmt.Sprintf("lost 0, this view skipped %s", show.Count(m.lostHere))) + " "
	}
	return m.style.Alarm(fmt.Sprintf(" LOST %s ", show.Count(lost)))
}

func (m *Model) rateLine() string {
	workloads := m.workloads()
	processes := uint64(0)
	for _, n := range workloads {
		processes += uint64(n)
	}
	if m.status != nil {
		processes = max(m.status.GetProcessTable().GetLive(), processes)
	}
	last, seconds := m.meter.all.last(m.meter.now), m.meter.seconds()
	number := func(n, what string) string { return m.style.Bold(n) + " " + what }
	left := " " + number(fmt.Sprint(len(workloads)), "workloads") + "  " + number(show.Count(processes), "processes") + "  " +
		number(rate(last.events, seconds), "events/s") + "  " + m.style.Cyan(sparkline(m.meter.recent(m.curveWidth())))
	left += m.style.Green("exec "+rate(last.execs, seconds)) + "  " + m.style.Yellow("file "+rate(last.opens, seconds)) + "  " +
		m.style.Cyan("net "+rate(last.connects, seconds)) + "  " + m.style.Blue("dns "+rate(last.dns, seconds))
	right := ""
	if m.status != nil && m.width >= 100 {
		who := "agent "
		if len(m.status.GetNodes()) > 0 {
			who = "agents "
		}
		right = m.style.Dim(who + show.Bytes(m.status.GetMemory().GetRss()) + " ")
	}
	return m.justify(left, right)
}

// curveWidth is what the numbers leave, up to a minute.
func (m *Model) curveWidth() int {
	if m.width < 115 {
		return 0
	}
	return min(m.width-103, history-1)
}

// sparkline draws numbers as bars, the largest as the highest, nothing as nothing.
func sparkline(values []uint64) string {
	if len(values) == 0 {
		return ""
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	var top uint64 = 1
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		if v == 0 {
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(bars[v*uint64(len(bars)-1)/top])
	}
	b.WriteString("  ")
	return b.String()
}

func (m *Model) tabLine() string {
	left := " "
	for i, name := range []string{"Events", "Top", "Tree"} {
		if Tab(i) == m.tab {
			left += m.style.Reverse(" "+name+" ") + " "
		} else {
			left += m.style.Dim(" "+name+" ") + " "
		}
	}
	switch {
	case m.typing:
		left += " " + m.style.Bold("filter: ") + term.Escape(m.filter) + m.style.Reverse(" ")
	case m.filter != "":
		left += " " + m.style.Yellow("filter: "+term.Escape(m.filter))
	}
	right := ""
	switch {
	case m.paused:
		right = m.style.Alarm(fmt.Sprintf(" PAUSED, %s new ", show.Count(m.missed)))
	case m.tab == TabEvents && m.offset > 0:
		right = m.style.Yellow(fmt.Sprintf("%d below ", m.offset))
	case m.tab == TabEvents:
		right = m.style.Dim(m.hidden())
	}
	return m.justify(left, right)
}

// hidden says what the list leaves out.
func (m *Model) hidden() string {
	switch {
	case m.showAll && m.showReads:
		return ""
	case m.showAll:
		return "file reads hidden "
	case m.showReads:
		return "forks, exits, closes hidden "
	}
	return "file reads, forks, good exits, closes hidden "
}

func (m *Model) keyLine() string {
	gap := "   "
	if m.width < 100 {
		gap = "  "
	}
	key := func(k, what string) string { return m.style.Bold(k) + " " + m.style.Dim(what) + gap }
	s := " "
	if m.typing {
		return s + key("enter", "keep") + key("esc", "clear") + m.style.Dim("words that must all appear: a workload, a process, a verb, an object")
	}
	s += key("q", "quit") + key("tab", "page") + key("p", "pause") + key("f", "filter")
	switch m.tab {
	case TabEvents:
		s += key("r", onOff("reads", m.showReads)) + key("a", onOff("all", m.showAll))
	case TabTop:
		s += key("w", m.nextGrouping().String()) + key("s", "sort") + key("enter", "tree")
	case TabTree:
		s += key("enter", "fold") + key("c", "fold all")
	}
	return s + key("?", "help")
}

func onOff(what string, on bool) string {
	if on {
		return "hide " + what
	}
	return "show " + what
}

func (m *Model) helpRows() []string {
	var rows []string
	for _, h := range [][2]string{
		{"q, ctrl-c", "quit"}, {"tab, 1 2 3", "next page; Events, Top, Tree"}, {"p, space", "hold the picture; nothing is lost meanwhile"},
		{"f, /", "filter by words; esc clears"}, {"↑ ↓ pgup pgdn home end", "scroll"},
		{"r", "Events: show or hide file reads"}, {"a", "Events: show or hide forks, exits, closes and what ran before the agent"},
		{"w", m.groupingHelp()}, {"s, ← →", "Top: order by another column"}, {"enter", "Top: the processes of a workload; Tree: fold"},
		{"c", "Tree: fold all, unfold all"}, {"ctrl-z", "suspend"},
	} {
		rows = append(rows, "  "+term.Fit(h[0], 26)+m.style.Dim(h[1]))
	}
	return rows
}

func (m *Model) emptyText() string {
	switch {
	case m.connection != nil:
		return "trying again …"
	case m.starting != "":
		return "the first events show within seconds"
	case !m.connected:
		return "waiting for the agent …"
	case m.filter != "":
		return "nothing matches the filter; esc clears it"
	case m.tab == TabEvents:
		if m.several {
			return "nothing has happened yet: run something on one of the nodes"
		}
		return "nothing has happened yet: run something on this host"
	}
	return "nothing yet"
}

// justify puts right at the right edge, over the end of left where both do not fit.
func (m *Model) justify(left, right string) string {
	room := m.width - term.Width(right)
	if room < 0 {
		return term.Cut(right, m.width)
	}
	return term.Fit(left, room) + right
}
