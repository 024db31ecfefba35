// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"maps"
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

// String names what is grouped.
func (g Grouping) String() string { return [...]string{"workloads", "processes", "nodes"}[g] }

// nextGrouping is what w changes to.
func (m *Model) nextGrouping() Grouping {
	if m.several {
		return (m.by + 1) % (ByNode + 1)
	}
	return (m.by + 1) % ByNode
}

// ranking orders workloads, processes or nodes by what they did in the last seconds, then in all.
func (m *Model) ranking() []*entity {
	if m.paused && m.held != nil {
		return m.held
	}
	words := m.words()
	list := slices.DeleteFunc(m.entities(), func(e *entity) bool {
		switch m.by {
		case ByProcess:
			return !matchAll(words, e.node, e.name, show.Workload(e.workload), show.Command(e.process))
		case ByNode:
			return !matchAll(words, e.node, m.stateOf(e.node))
		}
		return !matchAll(words, e.node, e.name, kind(e.workload))
	})
	by := sortKeys[m.sort].of
	rate := make(map[*entity]uint64, len(list))
	for _, e := range list {
		rate[e] = by(e.last(m.meter.now))
	}
	slices.SortFunc(list, func(a, b *entity) int {
		c := cmp.Or(cmp.Compare(rate[b], rate[a]), cmp.Compare(by(b.total), by(a.total)), cmp.Compare(a.name, b.name), cmp.Compare(a.node, b.node))
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

// entities are all that there are of what is grouped, also those that did nothing yet.
func (m *Model) entities() (list []*entity) {
	switch m.by {
	case ByProcess:
		return slices.Collect(maps.Values(m.meter.processes))
	case ByNode:
		list = slices.Collect(maps.Values(m.meter.nodes))
		for _, n := range m.status.GetNodes() {
			if name := n.GetName(); m.meter.nodes[name] == nil {
				list = append(list, &entity{node: name, name: name})
			}
		}
		return list
	}
	list = slices.Collect(maps.Values(m.meter.workloads))
	idle := make(map[workloadName]bool)
	for _, h := range m.hosts {
		for _, p := range h.Processes {
			name := workloadName{h.Node, show.Workload(p.Workload)}
			if m.meter.workloads[name] == nil && !idle[name] {
				list = append(list, &entity{node: h.Node, name: name.name, workload: p.Workload})
			}
			idle[name] = true
		}
	}
	return list
}

// workloads counts the running processes of each workload.
func (m *Model) workloads() map[workloadName]int {
	count := make(map[workloadName]int)
	for _, h := range m.hosts {
		for _, p := range h.Processes {
			count[workloadName{h.Node, show.Workload(p.Workload)}]++
		}
	}
	return count
}

// stateOf says how a relay gets on with a node.
func (m *Model) stateOf(node string) string {
	for _, n := range m.status.GetNodes() {
		if n.GetName() == node {
			return term.Escape(n.GetState())
		}
	}
	return ""
}

// nodeCell is a node's name in its column; of one host there is none.
func (m *Model) nodeCell(name string) string {
	if !m.several {
		return ""
	}
	return term.Fit(name, m.nodeWidth()) + " "
}

// nodeWidth is room for the names of nodes, but not all of it.
func (m *Model) nodeWidth() int {
	return min(max(m.widest, len("NODE")), max(m.width/10, 8))
}

func (m *Model) groupingHelp() string {
	if m.several {
		return "Top: by workload, by process or by node"
	}
	return "Top: by workload or by process"
}

func (m *Model) topRows(height int) []string {
	list := m.ranking()
	perWorkload, perNode := m.workloads(), make(map[string]int)
	for w, n := range perWorkload {
		perNode[w.node] += n
	}
	start := scroll(m.cursor, len(list), height)
	var out []string
	for i := start; i < min(start+height, len(list)); i++ {
		e := list[i]
		name, tail := term.Fit(e.name, m.nameWidth()), kind(e.workload)
		node := m.nodeCell(term.Escape(e.node))
		var n int
		switch m.by {
		case ByProcess:
			n, tail = int(e.process.Key.PID), show.Workload(e.workload)+"  "+m.style.Dim(show.Command(e.process))
		case ByNode:
			name, node, n, tail = term.Fit(term.Escape(e.node), m.nameWidth()), "", perNode[e.node], m.stateOf(e.node)
			if tail != "connected" {
				tail = m.style.Red(tail)
			}
		default:
			n = perWorkload[workloadName{e.node, e.name}]
			if e.workload != nil && e.workload.Image != "" {
				tail += "  " + m.style.Dim(term.Escape(e.workload.Image))
			}
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
		marker := " "
		if i == m.cursor {
			marker, name = m.style.Cyan("▌"), m.style.Bold(name)
		}
		if e.ended {
			name = m.style.Dim(name)
		}
		out = append(out, marker+node+name+term.FitLeft(fmt.Sprint(n), 7)+cells.String()+term.FitLeft(show.Count(e.total.events), 9)+"  "+tail)
	}
	return out
}

func (m *Model) topTitle() string {
	node, name, what, tail := m.nodeCell("NODE"), "WORKLOAD", "PROCS", "KIND"
	switch m.by {
	case ByProcess:
		name, what, tail = "PROCESS", "PID", "WORKLOAD  COMMAND"
	case ByNode:
		node, name, tail = "", "NODE", "STATE"
	}
	title := " " + node + term.Fit(name, m.nameWidth()) + term.FitLeft(what, 7)
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
	return title + term.FitLeft("TOTAL", 9) + "  " + tail
}

// nameWidth is what the numbers leave for names.
func (m *Model) nameWidth() int {
	widest, node := 36, 0
	if m.by == ByProcess { // the command line needs room too
		widest = 18
	}
	if m.by != ByNode {
		node = term.Width(m.nodeCell(""))
	}
	return max(min(m.width-1-node-7-m.numberWidth()*len(sortKeys)-9-12, widest), 12)
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

// drill shows the processes of the workload or the node under the cursor.
func (m *Model) drill() {
	list := m.ranking()
	if m.by == ByProcess || m.cursor >= len(list) {
		return
	}
	m.filter = strings.ToLower(list[m.cursor].name)
	if node := list[m.cursor].node; m.by == ByWorkload && node != "" {
		m.filter = strings.ToLower(node) + " " + m.filter
	}
	m.open(TabTree)
	m.held, m.tree = nil, nil
}

// treeNode is a line of the process tree.
type treeNode struct {
	host string
	show.Node
}

func (n *treeNode) group() threadGroup { return groupOf(n.host, n.Key) }

// nodes is the process tree of what matches the filter, host by host.
func (m *Model) nodes() []treeNode {
	if m.tree == nil {
		m.tree = m.makeTree()
	}
	return m.tree
}

func (m *Model) makeTree() []treeNode {
	words, out := m.words(), []treeNode{}
	for _, h := range m.hosts {
		procs := slices.DeleteFunc(slices.Clone(h.Processes), func(p *model.Process) bool {
			if len(words) == 0 {
				return p.KernelThread
			}
			return !matchAll(words, h.Node, show.Process(p), show.Workload(p.Workload), show.Command(p), fmt.Sprint(p.Key.PID))
		})
		for _, n := range show.TreeFolded(procs, func(p *model.Process) bool { return m.folded[groupOf(h.Node, p.Key)] }) {
			out = append(out, treeNode{h.Node, n})
		}
	}
	return out
}

func (m *Model) treeRows(height int) []string {
	nodes := m.nodes()
	start := scroll(m.cursor, len(nodes), height)
	workload := max(min(m.width/4, 30), 12)
	var out []string
	for i := start; i < min(start+height, len(nodes)); i++ {
		n := nodes[i]
		rates := ""
		if e := m.meter.processes[n.group()]; e != nil {
			rates = rate(e.last(m.meter.now).events, m.meter.seconds())
		}
		if rates == "0" {
			rates = ""
		}
		sign := ""
		if n.Children > 0 && m.folded[n.group()] {
			sign = m.style.Yellow(fmt.Sprintf(" [+%d]", n.Children))
		}
		name, args, _ := strings.Cut(show.Short(show.Command(n.Process)), " ")
		marker := " "
		if i == m.cursor {
			marker, name = m.style.Cyan("▌"), m.style.Bold(name)
		}
		out = append(out, marker+m.nodeCell(term.Escape(n.host))+term.FitLeft(fmt.Sprint(n.Key.PID), 8)+"  "+term.Fit(show.Workload(n.Workload), workload)+
			term.FitLeft(rates, 7)+"  "+m.style.Dim(n.Branch)+name+sign+" "+m.style.Dim(args))
	}
	return out
}

func (m *Model) treeTitle() string {
	workload := max(min(m.width/4, 30), 12)
	return " " + m.nodeCell("NODE") + term.FitLeft("PID", 8) + "  " + term.Fit("WORKLOAD", workload) + term.FitLeft("EVT/S", 7) + "  PROCESS"
}

func (m *Model) toggle() {
	if n := m.nodes(); m.cursor < len(n) {
		g := n[m.cursor].group()
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
			m.folded[n[m.cursor].group()] = true
		} else {
			delete(m.folded, n[m.cursor].group())
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
			m.folded[n.group()] = true
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
