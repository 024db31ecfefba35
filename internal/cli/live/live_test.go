// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func process(pid, parent uint32, workload, binary string, args ...string) *model.Process {
	k := model.ProcessKey{PID: pid, Start: uint64(pid) * 100, Exec: 1}
	return &model.Process{Key: k, Binary: binary, Args: append([]string{binary}, args...),
		ParentKey: model.ProcessKey{PID: parent, Start: uint64(parent) * 100, Exec: 1}, Workload: &model.Workload{Kind: model.WorkloadUnit, Name: workload}}
}

// running is the list of a host's processes.
func running(node string, list ...*model.Process) processesMsg {
	return processesMsg{{Node: node, Processes: list}}
}

func event(typ model.Type, p *model.Process) *model.Event {
	e := &model.Event{Type: typ, Time: start, Seq: 1, Key: p.Key, Process: p, Count: 1}
	if typ == model.TypeExec {
		e.Exec = &model.Exec{}
	}
	return e
}

func file(p *model.Process, op model.FileOp, path string) *model.Event {
	e := event(model.TypeFile, p)
	e.File = &model.File{Op: op, Path: path}
	return e
}

func exitEvent(p *model.Process, code int32) *model.Event {
	e := event(model.TypeExit, p)
	e.Exit = &model.Exit{Code: code, RunTime: 12 * time.Millisecond}
	return e
}

func press(m *Model, keys ...string) {
	for _, k := range keys {
		switch k {
		case "tab":
			m.Update(tea.KeyPressMsg{Code: tea.KeyTab})
		case "enter":
			m.Update(tea.KeyPressMsg{Code: tea.KeyEnter})
		case "esc":
			m.Update(tea.KeyPressMsg{Code: tea.KeyEscape})
		case "up":
			m.Update(tea.KeyPressMsg{Code: tea.KeyUp})
		case "down":
			m.Update(tea.KeyPressMsg{Code: tea.KeyDown})
		case "home":
			m.Update(tea.KeyPressMsg{Code: tea.KeyHome})
		case "backspace":
			m.Update(tea.KeyPressMsg{Code: tea.KeyBackspace})
		default:
			for _, r := range k {
				m.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
			}
		}
	}
}

// screenOf checks that the picture has the terminal's size, and returns it.
func screenOf(t *testing.T, m *Model) string {
	t.Helper()
	s := m.View().Content
	lines := strings.Split(s, "\n")
	if len(lines) > m.height {
		t.Errorf("%d lines on a terminal of %d", len(lines), m.height)
	}
	for _, l := range lines {
		if w := term.Width(l); w > m.width {
			t.Errorf("line of %d cells on a terminal of %d: %q", w, m.width, l)
		}
	}
	return ansi.Strip(s)
}

func mustShow(t *testing.T, m *Model, want ...string) {
	t.Helper()
	s := screenOf(t, m)
	for _, w := range want {
		if !strings.Contains(s, w) {
			t.Errorf("the screen lacks %q:\n%s", w, s)
		}
	}
}

func mustHide(t *testing.T, m *Model, unwanted ...string) {
	t.Helper()
	s := screenOf(t, m)
	for _, u := range unwanted {
		if strings.Contains(s, u) {
			t.Errorf("the screen holds %q:\n%s", u, s)
		}
	}
}

func newModel(tab Tab) *Model {
	m := New(tab, term.Style{Color: true}, start)
	m.Update(tea.WindowSizeMsg{Width: 140, Height: 40})
	m.Update(connectionMsg{})
	return m
}

func TestHeaderSaysWhereAndHowMuch(t *testing.T) {
	m := New(TabEvents, term.Style{}, start)
	m.Update(connectionMsg{errors.New("no agent")})
	mustShow(t, m, "no agent", "trying again")
	m = New(TabEvents, term.Style{}, start)
	m.starting = "web1  loading"
	m.Update(connectionMsg{errors.New("no agent")})
	mustShow(t, m, "web1  loading", "the first events")
	m.Update(tea.WindowSizeMsg{Width: 140, Height: 40})
	m.Update(statusMsg{&vigiev1.Status{Host: "web1", Kernel: "6.1.0", Arch: "amd64", UptimeNs: int64(time.Minute),
		Losses: []*vigiev1.LossStatus{{Stage: "kernel"}}, Memory: &vigiev1.MemoryStatus{Rss: 40 << 20}}, &vigiev1.HealthResponse{Ready: true}})
	a := process(7, 1, "nginx.service", "/usr/sbin/nginx")
	m.Update(running("", a, process(8, 1, "cron.service", "/usr/sbin/cron")))
	m.Update(eventsMsg{event(model.TypeExec, a), file(a, model.FileRead, "/etc/passwd")})
	m.Update(tickMsg(start.Add(2 * time.Second)))
	mustShow(t, m, "web1  Linux 6.1.0 amd64  up 1m02s", "lost 0", "2 workloads", "2 processes", "1.0 events/s", "exec 0.5", "file 0.5", "agent 40M")

	m.Update(statusMsg{&vigiev1.Status{Losses: []*vigiev1.LossStatus{{Stage: "kernel", Count: 12}}}, &vigiev1.HealthResponse{Problems: []string{"sensor dns failed"}}})
	mustShow(t, m, "LOST 12", "sensor dns failed")
	m.Update(statusMsg{&vigiev1.Status{Losses: []*vigiev1.LossStatus{{Stage: "subscriber", Reason: "client", Count: 12}}}, &vigiev1.HealthResponse{}})
	m.Update(eventsMsg{{Type: model.TypeLoss, Time: start, Loss: &model.Loss{Stage: "subscriber", Reason: "reader too slow", Count: 5}}})
	mustShow(t, m, "lost 0, this view skipped 5")
	m.Update(noticeMsg("warn: disk\x1b[2J full\n"))
	mustShow(t, m, `warn: disk\x1b[2J full`)
	m.Update(connectionMsg{errors.New("gone")})
	mustShow(t, m, "agent gone")
}

func TestRepetitionsAreFoldedAndEndsNoted(t *testing.T) {
	m := newModel(TabEvents)
	for i := range uint32(30) {
		p := process(100+i, 9, "backup.service", "/usr/bin/rsync", fmt.Sprint("file", i))
		m.Update(eventsMsg{event(model.TypeExec, p), exitEvent(p, int32(i%10/9))})
	}
	one := process(7, 1, "cron.service", "/usr/sbin/logrotate")
	m.Update(eventsMsg{event(model.TypeExec, one), exitEvent(one, 0)})
	mustShow(t, m, "×30 rsync file29", "3 of 30 failed, last exit 1 after 12ms", "logrotate  ← exit 0 after 12ms")
	if n := m.visible(); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	for i := range 9 {
		m.Update(eventsMsg{file(one, model.FileCreate, fmt.Sprint("/tmp/build/o", i)), file(one, model.FileWrite, fmt.Sprint("/etc/conf", i%2))})
	}
	for i := range 4 {
		m.Update(eventsMsg{file(one, model.FileWrite, fmt.Sprintf("/home/me/work/%d/x%d", i, i)), file(one, model.FileWrite, fmt.Sprint("/home/me/.ssh/key", i))})
	}
	mustShow(t, m, "create    ×9 /tmp/build/…  last o8", "write     ×4 /home/me/work/…  last x3", "write     /home/me/.ssh/key0", "write     /home/me/.ssh/key3",
		"write     ×5 /etc/conf0", "write     ×4 /etc/conf1")
	conn := event(model.TypeConnect, one)
	conn.Socket = &model.Socket{Protocol: "tcp", Remote: netip.MustParseAddrPort("192.0.2.1:443"), Cookie: 77}
	end := event(model.TypeClose, one)
	end.Socket = &model.Socket{Protocol: "tcp", Cookie: 77, BytesSent: 2048, BytesReceived: 10}
	m.Update(eventsMsg{conn, end})
	mustShow(t, m, "connect   tcp 192.0.2.1:443  ← ↑ 2.0K ↓ 10")
}

func TestNoiseIsHiddenUntilAskedFor(t *testing.T) {
	m := newModel(TabEvents)
	p := process(7, 1, "web", "/bin/x")
	missing := event(model.TypeExecFailed, p)
	missing.ExecFailed = &model.ExecFailed{Path: "/opt/ls", Error: 2}
	inventory := event(model.TypeExec, process(3, 1, "old", "/sbin/ancient"))
	inventory.PreExisting = true
	listener := event(model.TypeListen, p)
	listener.PreExisting, listener.Socket = true, &model.Socket{Protocol: "tcp", Local: netip.MustParseAddrPort("0.0.0.0:80")}
	m.Update(eventsMsg{file(p, model.FileRead, "/etc/hosts"), file(p, model.FileWrite, "/dev/null"), file(p, model.FileWrite, "/etc/shadow"), event(model.TypeFork, p), missing, inventory, listener})
	mustShow(t, m, "/etc/shadow", "listening tcp 0.0.0.0:80", "hidden")
	mustHide(t, m, "/etc/hosts", "fork ", "/opt/ls", "ancient")
	m.Update(statusMsg{&vigiev1.Status{Pid: 77}, nil})
	m.Update(eventsMsg{file(process(77, 1, "vigie.service", "/bin/vigie"), model.FileWrite, "/var/lib/vigie/own")})
	mustHide(t, m, "/var/lib/vigie/own")
	press(m, "r")
	mustShow(t, m, "/etc/hosts")
	press(m, "a")
	mustShow(t, m, "fork ", "/opt/ls", "ancient")
	mustHide(t, m, "hidden")
}

func TestFilterPauseAndScroll(t *testing.T) {
	m := newModel(TabEvents)
	p := process(7, 1, "web", "/bin/x")
	for i := range 100 {
		m.Update(eventsMsg{file(p, model.FileWrite, fmt.Sprintf("/etc/n%03d", i))})
	}
	mustShow(t, m, "/etc/n099")
	mustHide(t, m, "/etc/n060")
	press(m, "home")
	mustShow(t, m, "/etc/n000", "65 below")
	m.Update(eventsMsg{file(p, model.FileWrite, "/etc/later")})
	mustShow(t, m, "/etc/n000", "66 below")
	press(m, "G")
	mustShow(t, m, "/etc/later")
	press(m, "p")
	m.Update(eventsMsg{file(p, model.FileWrite, "/etc/hidden-while-paused")})
	mustShow(t, m, "PAUSED, 1 new")
	mustHide(t, m, "hidden-while-paused")
	press(m, "p")
	mustShow(t, m, "hidden-while-paused")
	press(m, "f", "N04q", "backspace")
	mustShow(t, m, "filter: n04", "/etc/n040", "/etc/n049")
	mustHide(t, m, "/etc/n050")
	press(m, "enter", "q") // the filter stays; q is no letter any more
	mustShow(t, m, "filter: n04")
	press(m, "esc")
	mustHide(t, m, "filter: n04")
	press(m, "/", "nothing like it")
	mustShow(t, m, "nothing matches")
}

func TestTopOrdersAndDrillsDown(t *testing.T) {
	m := newModel(TabTop)
	web, db := process(7, 1, "web.service", "/bin/web"), process(8, 7, "db.service", "/bin/db")
	m.Update(running("", web, db, process(9, 1, "idle.service", "/bin/idle")))
	for range 10 {
		m.Update(eventsMsg{file(web, model.FileRead, "/a"), file(web, model.FileRead, "/a")})
	}
	for range 5 {
		m.Update(eventsMsg{event(model.TypeExec, db)})
	}
	m.Update(tickMsg(start.Add(time.Second)))
	inOrder(t, screenOf(t, m), "WORKLOAD", "▼EVENTS/S", "web.service", "db.service", "idle.service")
	press(m, "s")
	inOrder(t, screenOf(t, m), "▼EXECS/S", "db.service", "web.service")
	press(m, "w")
	inOrder(t, screenOf(t, m), "PROCESS", "db ", "web ")
	mustShow(t, m, "PID", "/bin/db")
	press(m, "p")
	m.Update(tickMsg(start.Add(time.Minute)))
	inOrder(t, screenOf(t, m), "PAUSED", "db ", "web ")
	press(m, "p", "w", "home", "enter") // the first workload's processes
	mustShow(t, m, "filter: db.service")
	mustHide(t, m, "/bin/web")
}

func TestTreeFolds(t *testing.T) {
	m := newModel(TabTree)
	m.Update(running("", process(1, 0, "init.scope", "/sbin/init"), process(7, 1, "web.service", "/opt/web"), process(8, 7, "web.service", "/opt/worker", "-n"),
		process(9, 1, "cron.service", "/opt/cron")))
	inOrder(t, screenOf(t, m), "init", "├─ /opt/web", "│ └─ /opt/worker -n", "└─ /opt/cron")
	press(m, "down", "enter")
	mustShow(t, m, "/opt/web [+1]")
	mustHide(t, m, "worker")
	press(m, "enter")
	mustShow(t, m, "worker")
	press(m, "c")
	mustHide(t, m, "worker")
	press(m, "c", "f", "worker")
	mustShow(t, m, "/opt/worker -n")
	mustHide(t, m, "cron")
}

func TestPagesHelpAndQuit(t *testing.T) {
	m := newModel(TabEvents)
	press(m, "tab", "tab")
	if m.tab != TabTree {
		t.Errorf("page %d after two tabs", m.tab)
	}
	press(m, "tab", "?")
	mustShow(t, m, "KEYS", "ctrl-z")
	press(m, "?", "2")
	if m.tab != TabTop {
		t.Errorf("page %d after 2", m.tab)
	}
	for _, k := range []tea.KeyPressMsg{{Code: 'q', Text: "q"}, {Code: 'c', Mod: tea.ModCtrl}} {
		_, cmd := m.Update(k)
		if cmd == nil {
			t.Fatalf("%s does nothing", k)
		}
		if _, ok := cmd().(tea.QuitMsg); !ok {
			t.Errorf("%s does not quit", k)
		}
	}
}

func TestHostileNamesStayInTheirCells(t *testing.T) {
	bad := process(7, 1, "x\x1b[2J\n\u202e日本語日本語日本語日本語日本語", "/tmp/\x1b]0;title\x07\nroot", "\u009b31m", strings.Repeat("長", 500))
	loss := &model.Event{Type: model.TypeLoss, Time: start, Loss: &model.Loss{Stage: "a\nb", Reason: "\x1b[H", Count: 5}}
	for _, size := range [][2]int{{1, 1}, {10, 3}, {40, 8}, {80, 24}, {140, 40}, {250, 60}} {
		m := newModel(TabEvents)
		m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		m.Update(running("\x1b]", bad))
		m.Update(eventsMsg{event(model.TypeExec, bad), file(bad, model.FileWrite, "/\r\x1b[A"), exitEvent(bad, 1), loss})
		m.Update(statusMsg{&vigiev1.Status{Host: "h\x1b[2J"}, &vigiev1.HealthResponse{}})
		for tab := range Tab(tabs) {
			m.open(tab)
			raw := m.View().Content
			if s := screenOf(t, m); strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e }) {
				t.Errorf("%v page %d: %q", size, tab, s)
			}
			if strings.Contains(raw, "\x1b[2J") || strings.Contains(raw, "\x1b]") {
				t.Errorf("%v page %d obeys a name", size, tab)
			}
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newModel(TabEvents)
	now := start
	for i := range uint32(40000) {
		p := process(1000+i, i, fmt.Sprint("w", i), fmt.Sprint("/bin/x", i))
		m.Update(eventsMsg{event(model.TypeExec, p)})
		if i%1000 == 0 {
			now = now.Add(3 * time.Second)
			m.Update(tickMsg(now))
		}
	}
	m.Update(tickMsg(now.Add(time.Hour)))
	if n := len(m.feed.rows); n > feedRows*5/4 {
		t.Errorf("%d rows", n)
	}
	for name, n := range map[string]int{"folds": len(m.feed.folds), "images": len(m.feed.images), "workloads": len(m.meter.workloads),
		"processes": len(m.meter.processes)} {
		if n > openLimit {
			t.Errorf("%d %s", n, name)
		}
	}
	if n := len(m.meter.workloads); n > meterLimit {
		t.Errorf("%d workloads", n)
	}
}

func TestRatesAreTakenOverWholeSeconds(t *testing.T) {
	m := newMeter()
	m.tick(start)
	p := process(1, 0, "w", "/x")
	for s := range 20 {
		m.tick(start.Add(time.Duration(s) * time.Second))
		for range 10 {
			m.add(event(model.TypeExec, p))
		}
	}
	if got := float64(m.all.last(m.now).execs) / m.seconds(); got != 10 {
		t.Errorf("%v a second, want 10", got)
	}
	m.tick(start.Add(time.Minute))
	if got := m.all.last(m.now).execs; got != 0 {
		t.Errorf("%d after a quiet time, want 0", got)
	}
	if c := m.recent(50); c[len(c)-1] != 0 || sum(c) == 0 {
		t.Errorf("curve %v", c)
	}
}

func sum(v []uint64) (n uint64) {
	for _, x := range v {
		n += x
	}
	return n
}

func inOrder(t *testing.T, s string, words ...string) {
	t.Helper()
	at := 0
	for _, w := range words {
		i := strings.Index(s[at:], w)
		if i < 0 {
			t.Fatalf("%q is missing or out of order:\n%s", w, s)
		}
		at += i + len(w)
	}
}

// fakeSource is an agent that goes away once.
type fakeSource struct {
	mu      sync.Mutex
	follows int
}

func (s *fakeSource) Follow(ctx context.Context, emit func([]*model.Event)) error {
	s.mu.Lock()
	s.follows++
	n := s.follows
	s.mu.Unlock()
	emit([]*model.Event{event(model.TypeExec, process(7, 1, "web.service", fmt.Sprintf("/opt/started-%d", n)))})
	if n == 1 {
		return errors.New("connection lost")
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *fakeSource) Processes(context.Context) ([]Host, error) {
	return []Host{{Processes: []*model.Process{process(7, 1, "web.service", "/opt/web")}}}, nil
}

func (s *fakeSource) Status(context.Context) (*vigiev1.Status, *vigiev1.HealthResponse, error) {
	return &vigiev1.Status{Host: "testhost"}, &vigiev1.HealthResponse{Ready: true}, nil
}

// lockedBuffer is a terminal's output that can be looked at while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestRunConnectsAgainAndQuits(t *testing.T) {
	in, keys := io.Pipe()
	out := &lockedBuffer{}
	ended := make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), &fakeSource{}, Options{Start: TabEvents, In: in, Out: out, Environ: []string{"TERM=xterm"}, Now: time.Now, Width: 100, Height: 30})
	}()
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(out.String(), "started-2") {
		if time.Now().After(deadline) {
			t.Fatalf("the second stream does not show: %q", out.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := keys.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "\x1b[?1049l") || !strings.Contains(s, "\x1b[?25h") {
		t.Errorf("the terminal is not restored: %q", s[max(0, len(s)-200):])
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, _ := io.Pipe()
	if err := Run(ctx, &fakeSource{}, Options{In: in, Out: &lockedBuffer{}, Environ: []string{"TERM=xterm"}, Now: time.Now}); err != nil {
		t.Error(err)
	}
}
