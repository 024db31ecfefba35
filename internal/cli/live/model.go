// SPDX-License-Identifier: Apache-2.0

package live

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

// Tab is one of the pages of the view.
type Tab uint8

// The pages.
const (
	TabEvents Tab = iota
	TabTop
	TabTree
	tabs = 3
)

// Grouping is whose figures the page Top has.
type Grouping uint8

// The groupings. Only a relay has nodes.
const (
	ByWorkload Grouping = iota
	ByProcess
	ByNode
)

// What the model is told, besides keys and sizes.
type (
	eventsMsg    []*model.Event
	processesMsg []Host
	statusMsg    struct {
		status *vigiev1.Status
		health *vigiev1.HealthResponse
	}
	connectionMsg struct{ err error } // nil: events arrive
	noticeMsg     string              // a line of the agent's log
	tickMsg       time.Time
)

// Model is the state of the view. It implements tea.Model; only Update changes it.
type Model struct {
	style  term.Style
	zone   *time.Location
	width  int
	height int
	now    time.Time

	status     *vigiev1.Status
	health     *vigiev1.HealthResponse
	statusAt   time.Time
	connection error
	connected  bool
	starting   string // what to say until the agent answers for the first time
	lostHere   uint64 // events that this view itself was too slow for
	notice     string
	hosts      []Host
	several    bool // what is seen names its nodes: it is a relay's
	widest     int  // cells of the longest name of a node

	feed  *feed
	meter *meter

	tab       Tab
	showReads bool
	showAll   bool
	paused    bool
	frozen    []*row // what the list held when it was paused
	missed    uint64 // events since then
	filter    string
	typing    bool
	offset    int // rows between the bottom of the list and the bottom of the screen

	by     Grouping
	sort   int
	held   []*entity // what the table held when it was paused
	cursor int
	folded map[threadGroup]bool
	tree   []treeNode // of hosts, filter and folded; nil: to be made again
	help   bool
}

// New is a model that starts on a page.
func New(start Tab, style term.Style, now time.Time) *Model {
	m := &Model{style: style, zone: now.Location(), width: 80, height: 24, now: now, tab: start,
		feed: newFeed(), meter: newMeter(), folded: make(map[threadGroup]bool)}
	m.meter.tick(now)
	return m
}

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = max(msg.Width, 1), max(msg.Height, 1)
	case tea.KeyPressMsg:
		m.tree = nil
		return m, m.key(msg)
	case tea.PasteMsg:
		if m.typing {
			m.filter += strings.ToLower(strings.Join(strings.Fields(msg.Content), " "))
			m.tree = nil
		}
	case tea.MouseWheelMsg:
		switch msg.Button {
		case tea.MouseWheelUp:
			m.move(-3)
		case tea.MouseWheelDown:
			m.move(3)
		}
	case eventsMsg:
		m.events(msg)
	case processesMsg:
		m.hosts, m.tree = msg, nil
		for _, h := range m.hosts {
			m.sees(h.Node)
		}
	case statusMsg:
		m.status, m.health, m.statusAt = msg.status, msg.health, m.now
		m.connected, m.connection, m.starting = true, nil, ""
		for _, n := range m.status.GetNodes() {
			m.sees(n.GetName())
		}
	case connectionMsg:
		if msg.err != nil && m.starting != "" {
			break
		}
		m.connection, m.connected, m.starting = msg.err, msg.err == nil, ""
	case noticeMsg:
		m.notice = term.Escape(strings.TrimSpace(string(msg)))
	case tickMsg:
		m.now = time.Time(msg)
		m.meter.tick(m.now)
	}
	m.clamp()
	return m, nil
}

// sees takes in the name of a node; that of one host is empty.
func (m *Model) sees(node string) {
	if node != "" && (!m.several || len(node) > m.widest) {
		m.several, m.widest = true, max(m.widest, term.Width(term.Escape(node)))
	}
}

func (m *Model) events(batch []*model.Event) {
	follow := m.offset == 0 || m.paused
	before := 0
	if !follow {
		before = m.visible()
	}
	for _, e := range batch {
		if e.Type == model.TypeLoss && e.Loss != nil && e.Loss.Stage == "subscriber" && e.Seq == 0 {
			m.lostHere += e.Loss.Count
		}
		m.sees(e.Node)
		m.meter.add(e)
		m.feed.add(e)
	}
	if m.paused {
		m.missed += uint64(len(batch))
	} else if !follow { // scrolled up: what is on the screen stays there
		m.offset += max(m.visible()-before, 0)
	}
}

// key does what a key asks for.
func (m *Model) key(k tea.KeyPressMsg) tea.Cmd {
	defer m.clamp()
	if m.typing {
		m.edit(k)
		return nil
	}
	switch k.String() {
	case "q", "ctrl+c":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	case "?", "h":
		m.help = !m.help
	case "tab":
		m.open((m.tab + 1) % tabs)
	case "shift+tab":
		m.open((m.tab + tabs - 1) % tabs)
	case "1", "2", "3":
		m.open(Tab(k.Code - '1'))
	case "p", "space":
		if k.String() == "space" && m.tab == TabTree {
			m.toggle()
			return nil
		}
		m.pause()
	case "f", "/":
		m.typing = true
	case "esc":
		m.filter, m.help = "", false
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup", "ctrl+b":
		m.move(-m.body())
	case "pgdown", "ctrl+f":
		m.move(m.body())
	case "home", "g":
		m.move(-1 << 20)
	case "end", "G":
		m.move(1 << 20)
	default:
		m.pageKey(k)
	}
	return nil
}

// pageKey does what a key means on the page that is open.
func (m *Model) pageKey(k tea.KeyPressMsg) {
	switch s := k.String(); m.tab {
	case TabEvents:
		switch s {
		case "r":
			m.showReads = !m.showReads
		case "a":
			m.showAll = !m.showAll
		}
	case TabTop:
		switch s {
		case "w":
			m.by, m.held = m.nextGrouping(), nil
		case "s", "right", "l", ">":
			m.sort = (m.sort + 1) % len(sortKeys)
			m.held = nil
		case "S", "left", "<":
			m.sort = (m.sort + len(sortKeys) - 1) % len(sortKeys)
			m.held = nil
		case "enter":
			m.drill()
		}
	case TabTree:
		switch s {
		case "enter":
			m.toggle()
		case "left":
			m.setFolded(true)
		case "right", "l":
			m.setFolded(false)
		case "c":
			m.foldAll()
		}
	}
}

// edit changes the filter.
func (m *Model) edit(k tea.KeyPressMsg) {
	m.offset, m.cursor = 0, 0
	switch s := k.String(); s {
	case "enter":
		m.typing = false
	case "esc", "ctrl+c":
		m.typing, m.filter = false, ""
	case "backspace":
		if r := []rune(m.filter); len(r) > 0 {
			m.filter = string(r[:len(r)-1])
		}
	case "ctrl+u":
		m.filter = ""
	case "ctrl+w":
		words := strings.Fields(m.filter)
		m.filter = strings.Join(words[:max(len(words)-1, 0)], " ")
	default:
		if k.Text != "" && len(m.filter) < 200 {
			m.filter += strings.ToLower(k.Text)
		}
	}
}

func (m *Model) open(t Tab) {
	m.tab, m.offset, m.cursor = t, 0, 0
}

func (m *Model) pause() {
	m.paused = !m.paused
	m.missed, m.held, m.frozen = 0, nil, nil
	if m.paused {
		m.frozen = append([]*row(nil), m.feed.rows...)
		for i, r := range m.frozen {
			held := *r
			m.frozen[i] = &held
		}
	}
}

// move goes down by n rows, or up.
func (m *Model) move(n int) {
	if m.tab == TabEvents {
		m.offset -= n
	} else {
		m.cursor += n
	}
	m.clamp()
}

// clamp keeps positions inside of what there is.
func (m *Model) clamp() {
	switch m.tab {
	case TabEvents:
		if m.offset != 0 {
			m.offset = max(min(m.offset, m.visible()-m.body()), 0)
		}
	case TabTop:
		m.cursor = max(min(m.cursor, len(m.ranking())-1), 0)
	case TabTree:
		m.cursor = max(min(m.cursor, len(m.nodes())-1), 0)
	}
}

func (m *Model) words() []string { return strings.Fields(m.filter) }
