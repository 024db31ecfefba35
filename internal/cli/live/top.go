// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

// sortKey is a column by which the table can be ordered, most first.
type sortKey struct {
	title, short string
	of           func(counts) uint64
}

var sortKeys = []sortKey{
	{"EVENTS/S", "EVT", func(c counts) uint64 { return c.events }},
	{"EXECS/S", "EXEC", func(c counts) uint64 { return c.execs }},
	{"OPENS/S", "OPEN", func(c counts) uint64 { return c.opens }},
	{"WRITES/S", "WRITE", func(c counts) uint64 { return c.writes }},
	{"CONNS/S", "CONN", func(c counts) uint64 { return c.connects }},
	{"DNS/S", "DNS", func(c counts) uint64 { return c.dns }},
	{"FAILED/S", "FAIL", func(c counts) uint64 { return c.failed }},
}

// ranking orders workloads or processes by what they did in the last seconds, then in all.
func (m *Model) ranking() []*entity {
	if m.paused && m.held != nil {
		return m.held
	}
	words := m.words()
	var list []*entity
	if m.byProcess {
		for _, e := range m.meter.processes {
			if matchAll(words, e.name, show.Workload(e.workload), show.Command(e.process)) {
				list = append(list, e)
			}
		}
	} else {
		seen := make(map[string]bool, len(m.meter.workloads))
		for name, e := range m.meter.workloads {
			seen[name] = true
			if matchAll(words, name, kind(e.workload)) {
				list = append(list, e)
			}
		}
		for _, p := range m.processes { // workloads that did nothing yet
			name := show.Workload(p.Workload)
			if !seen[name] && matchAll(words, name, kind(p.Workload)) {
				list = append(list, &entity{name: name, workload: p.Workload})
			}
			seen[name] = true
		}
	}
	by := sortKeys[m.sort].of
	rate := make(map[*entity]uint64, len(list))
	for _, e := range list {
		rate[e] = by(e.last(m.meter.now))
	}
	slices.SortFunc(list, func(a, b *entity) int {
		c := cmp.Or(cmp.Compare(rate[b], rate[a]), cmp.Compare(by(b.total), by(a.total)), cmp.Compare(a.name, b.name))
		if c == 0 && a.process != nil && b.process != nil {
			return cmp.Compare(a.process.Key.PID, b.process.Key.PID)
		}
		return c
	})
	if m.paused {
		m.held = list
	}
	return list
}

func (m *Model) topRows(height int) []string {
	list := m.ranking()
	perWorkload := make(map[string]int)
	for _, p := range m.processes {
		perWorkload[show.Workload(p.Workload)]++
	}
	start := scroll(m.cursor, len(list), height)
	var out []string
	for i := start; i < min(start+height, len(list)); i++ {
		e := list[i]
		name := term.Fit(e.name, m.nameWidth())
		what := term.FitLeft(fmt.Sprint(perWorkload[e.name]), 7)
		if m.byProcess {
			what = term.FitLeft(fmt.Sprint(e.process.Key.PID), 7)
		}
		last := e.last(m.meter.now)
		var cells strings.Builder
		for k, key := range sortKeys {
			cell := term.FitLeft(rate(key.of(last), m.meter.seconds()), m.numberWidth())
			switch {
			case key.of(last) == 0:
				cell = m.style.Dim(cell)
			case key.title == "FAILED/S":
				cell = m.style.Red(cell)
			case k == m.sort:
				cell = m.style.Bold(cell)
			}
			cells.WriteString(cell)
		}
		tail := kind(e.workload)
		if m.byProcess {
			tail = show.Workload(e.workload) + "  " + m.style.Dim(show.Command(e.process))
		} else if e.workload != nil && e.workload.Image != "" {
			tail += "  " + m.style.Dim(term.Escape(e.workload.Image))
		}
		marker := " "
		if i == m.cursor {
			marker, name = m.style.Cyan("▌"), m.style.Bold(name)
		}
		if e.ended {
			name = m.style.Dim(name)
		}
		out = append(out, marker+name+what+cells.String()+term.FitLeft(show.Count(e.total.events), 9)+"  "+tail)
	}
	return out
}

func (m *Model) topTitle() string {
	name, what := "WORKLOAD", "PROCS"
	if m.byProcess {
		name, what = "PROCESS", "PID"
	}
	title := " " + term.Fit(name, m.nameWidth()) + term.FitLeft(what, 7)
	for k, key := range sortKeys {
		t := key.title
		if m.numberWidth() < 9 {
			t = key.short
		}
		if k == m.sort {
			t = "▼" + t
		}
		title += term.FitLeft(t, m.numberWidth())
	}
	tail := "KIND"
	if m.byProcess {
		tail = "WORKLOAD  COMMAND"
	}
	return title + term.FitLeft("TOTAL", 9) + "  " + tail
}

// nameWidth is what the numbers leave for names.
func (m *Model) nameWidth() int {
	widest := 36
	if m.byProcess { // the command line needs room too
		widest = 18
	}
	return max(min(m.width-1-7-m.numberWidth()*len(sortKeys)-9-12, widest), 12)
}

func (m *Model) numberWidth() int {
	switch {
	case m.width < 90:
		return 6
	case m.width < 130:
		return 7
	}
	return 10
}

// drill shows the processes of the workload under the cursor.
func (m *Model) drill() {
	list := m.ranking()
	if m.byProcess || m.cursor >= len(list) {
		return
	}
	m.filter = strings.ToLower(list[m.cursor].name)
	m.open(TabTree)
	m.held, m.tree = nil, nil
}

// nodes is the process tree of what matches the filter.
func (m *Model) nodes() []show.Node {
	if m.tree == nil {
		m.tree = m.makeTree()
	}
	return m.tree
}

func (m *Model) makeTree() []show.Node {
	words := m.words()
	procs := m.processes
	if len(words) > 0 {
		procs = slices.DeleteFunc(slices.Clone(procs), func(p *model.Process) bool {
			return !matchAll(words, show.Process(p), show.Workload(p.Workload), show.Command(p), fmt.Sprint(p.Key.PID))
		})
	} else {
		procs = slices.DeleteFunc(slices.Clone(procs), func(p *model.Process) bool { return p.KernelThread })
	}
	return show.TreeFolded(procs, func(p *model.Process) bool { return m.folded[groupOf(p.Key)] })
}

func (m *Model) treeRows(height int) []string {
	nodes := m.nodes()
	start := scroll(m.cursor, len(nodes), height)
	workload := max(min(m.width/4, 30), 12)
	var out []string
	for i := start; i < min(start+height, len(nodes)); i++ {
		n := nodes[i]
		rates := ""
		if e := m.meter.processes[groupOf(n.Key)]; e != nil {
			rates = rate(e.last(m.meter.now).events, m.meter.seconds())
		}
		if rates == "0" {
			rates = ""
		}
		sign := ""
		if n.Children > 0 && m.folded[groupOf(n.Key)] {
			sign = m.style.Yellow(fmt.Sprintf(" [+%d]", n.Children))
		}
		name, args, _ := strings.Cut(show.Short(show.Command(n.Process)), " ")
		marker := " "
		if i == m.cursor {
			marker, name = m.style.Cyan("▌"), m.style.Bold(name)
		}
		out = append(out, marker+term.FitLeft(fmt.Sprint(n.Key.PID), 8)+"  "+term.Fit(show.Workload(n.Workload), workload)+
			term.FitLeft(rates, 7)+"  "+m.style.Dim(n.Branch)+name+sign+" "+m.style.Dim(args))
	}
	return out
}

func (m *Model) treeTitle() string {
	workload := max(min(m.width/4, 30), 12)
	return " " + term.FitLeft("PID", 8) + "  " + term.Fit("WORKLOAD", workload) + term.FitLeft("EVT/S", 7) + "  PROCESS"
}

func (m *Model) toggle() {
	if n := m.nodes(); m.cursor < len(n) {
		g := groupOf(n[m.cursor].Key)
		if m.tree = nil; m.folded[g] {
			delete(m.folded, g)
		} else {
			m.folded[g] = true
		}
	}
}

func (m *Model) setFolded(folded bool) {
	if n := m.nodes(); m.cursor < len(n) && n[m.cursor].Children > 0 {
		if m.tree = nil; folded {
			m.folded[groupOf(n[m.cursor].Key)] = true
		} else {
			delete(m.folded, groupOf(n[m.cursor].Key))
		}
	}
}

// foldAll folds everything below the first two levels, or unfolds it again.
func (m *Model) foldAll() {
	defer func() { m.tree = nil }()
	if len(m.folded) > 0 {
		clear(m.folded)
		return
	}
	for _, n := range m.nodes() {
		if n.Depth > 0 && n.Children > 0 {
			m.folded[groupOf(n.Key)] = true
		}
	}
}

// scroll is the first of n rows to show in height lines, so that the cursor is among them.
func scroll(cursor, n, height int) int {
	return max(min(cursor-height/2, n-height), 0)
}

func matchAll(words []string, in ...string) bool {
	if len(words) == 0 {
		return true
	}
	text := strings.ToLower(strings.Join(in, " "))
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func kind(w *model.Workload) string {
	if w == nil {
		return "-"
	}
	return term.Escape(string(w.Kind))
}

// rate is n in seconds as a number with up to four characters.
func rate(n uint64, seconds float64) string {
	r := float64(n) / seconds
	switch {
	case n == 0:
		return "0"
	case r < 9.95:
		return fmt.Sprintf("%.1f", r)
	}
	return show.Count(uint64(r + 0.5))
}
