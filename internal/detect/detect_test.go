// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// rules makes an engine of one file.
func rules(t testing.TB, o Options, text string) *Engine {
	t.Helper()
	set, err := Compile([]File{{"test.yaml", []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	e := New(o)
	e.Use(set)
	return e
}

// happened makes an event of /usr/bin/bash, second by second.
func happened(second int, typ model.Type, change func(*model.Event)) *model.Event {
	p := &model.Process{Key: model.ProcessKey{PID: 70, Start: 5, Exec: 2}, ExecID: "0-46-5-2", Binary: "/usr/bin/bash", Args: []string{"bash", "-i"},
		Creds: model.Creds{UID: 33}}
	ev := &model.Event{Type: typ, BootTime: uint64(time.Hour) + uint64(second)*uint64(time.Second), Seq: uint64(second), Key: p.Key, Process: p, Count: 1}
	if typ == model.TypeFile {
		ev.File = &model.File{Op: model.FileRead, Path: "/etc/shadow", FileType: "regular"}
	}
	if change != nil {
		change(ev)
	}
	return ev
}

func messages(alerts []*model.Event) string {
	var out []string
	for _, a := range alerts {
		out = append(out, a.Alert.Message)
	}
	return strings.Join(out, "; ")
}

const oneRule = `
lists: {secrets: [/etc/shadow, /etc/gshadow]}
macros: {reads: 'file.op == "read" && file.error == ""'}
rules:
- id: secret_read
  title: a secret was read
  severity: high
  tags: [T1003.008]
  when: reads && file.path in secrets
  output: "{process.binary.base()} ({process.uid}) reads {file.path} {{{process.args}}}"
  exceptions:
  - {name: su, reason: it asks for passwords, when: process.binary == "/usr/bin/su"}
`

func TestAnAlertSaysWhatHappened(t *testing.T) {
	e := rules(t, Options{}, oneRule)
	ev := happened(9, model.TypeFile, nil)
	got := e.Detect(ev)
	if len(got) != 1 {
		t.Fatalf("got %d alerts", len(got))
	}
	a := got[0]
	if a.Type != model.TypeAlert || a.Process != ev.Process || a.Key != ev.Key || a.BootTime != ev.BootTime || a.Count != 1 {
		t.Errorf("event %+v", a)
	}
	want := model.Alert{Rule: "secret_read", Title: "a secret was read", Severity: model.SeverityHigh, Tags: []string{"T1003.008"},
		Message: "bash (33) reads /etc/shadow {bash -i}", Action: "alert", EventType: model.TypeFile, EventSeq: 9}
	if fmt.Sprint(*a.Alert) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", *a.Alert, want)
	}
	if s := e.Status()[0]; s.Alerts != 1 || s.Suppressed != 0 || s.Errors != 0 || s.Source != "test.yaml" || s.Line != 5 || fmt.Sprint(s.Types) != "[file]" {
		t.Errorf("status %+v", s)
	}
}

func TestNearMissesRaiseNothing(t *testing.T) {
	e := rules(t, Options{}, oneRule)
	for name, change := range map[string]func(*model.Event){
		"another file":   func(ev *model.Event) { ev.File.Path = "/etc/passwd" },
		"a write":        func(ev *model.Event) { ev.File.Op = model.FileWrite },
		"refused":        func(ev *model.Event) { ev.File.Error = 13 },
		"the exception":  func(ev *model.Event) { ev.Process.Binary = "/usr/bin/su" },
		"the inventory":  func(ev *model.Event) { ev.PreExisting = true },
		"another type":   func(ev *model.Event) { ev.Type, ev.File = model.TypeExec, nil },
		"an unknown op":  func(ev *model.Event) { ev.File.Op = "" },
		"a file of exec": func(ev *model.Event) { ev.File = nil },
	} {
		if got := e.Detect(happened(1, model.TypeFile, change)); got != nil {
			t.Errorf("%s: %s", name, messages(got))
		}
	}
}

func TestARateHoldsBackAndCounts(t *testing.T) {
	e := rules(t, Options{}, strings.Replace(oneRule, "  output", "  rate: 2/10s by process.binary\n  output", 1))
	raised, last := 0, uint64(0)
	for second := range 25 {
		for _, a := range e.Detect(happened(second, model.TypeFile, nil)) {
			raised, last = raised+1, a.Alert.Suppressed
			if second > 1 && second < 10 {
				t.Errorf("raised at second %d", second)
			}
		}
	}
	if s := e.Status()[0]; raised != 6 || s.Alerts != 6 || s.Suppressed != 19 || last != 0 {
		t.Errorf("raised %d, status %+v", raised, s)
	}
	got := e.Detect(happened(40, model.TypeFile, nil))
	if len(got) != 1 || got[0].Alert.Suppressed != 3 {
		t.Errorf("the next says %s, suppressed %d", messages(got), got[0].Alert.Suppressed)
	}
	if got := e.Detect(happened(22, model.TypeFile, func(ev *model.Event) { ev.Process.Binary = "/bin/other" })); len(got) != 1 {
		t.Error("another key is held back too")
	}
}

func TestWithoutARateAProcessIsToldOfFiveTimesAMinute(t *testing.T) {
	e := rules(t, Options{}, oneRule)
	n := 0
	for range 100 {
		n += len(e.Detect(happened(1, model.TypeFile, nil)))
	}
	if n != 5 {
		t.Errorf("%d alerts", n)
	}
}

const manyDeletes = `
rules:
- id: many
  title: many
  severity: medium
  when: file.op == "unlink"
  threshold: 50/10s by process.exec_id
  rate: unlimited
  output: many
`

func TestAThreshold(t *testing.T) {
	deletes := func(e *Engine, second, n int, count uint32) (alerts int) {
		for i := range n {
			alerts += len(e.Detect(happened(second, model.TypeFile, func(ev *model.Event) {
				ev.File.Op, ev.File.Path, ev.Count = model.FileUnlink, fmt.Sprint("/tmp/", i), count
			})))
		}
		return alerts
	}
	e := rules(t, Options{}, manyDeletes)
	if n := deletes(e, 0, 49, 1); n != 0 {
		t.Errorf("%d alerts below the threshold", n)
	}
	if n := deletes(e, 1, 1, 1); n != 1 {
		t.Errorf("%d alerts at the threshold", n)
	}
	if n := deletes(e, 20, 40, 1) + deletes(e, 31, 40, 1); n != 0 {
		t.Errorf("%d alerts of what is further apart than the window", n)
	}
	if n := deletes(e, 55, 30, 1) + deletes(e, 54, 19, 1); n != 0 {
		t.Errorf("%d alerts of 49, the later ones older", n)
	}
	if n := deletes(e, 54, 1, 1); n != 1 {
		t.Errorf("%d alerts: an older event began the count anew", n)
	}
	if n := deletes(e, 80, 1, 50); n != 1 {
		t.Errorf("%d alerts of one folded event", n)
	}
	e = rules(t, Options{}, strings.Replace(manyDeletes, "  rate", "  different: file.path\n  rate", 1))
	if n := deletes(e, 0, 49, 1) + deletes(e, 1, 49, 1); n != 0 {
		t.Errorf("%d alerts of 49 different files", n)
	}
	if n := deletes(e, 2, 50, 1); n != 1 {
		t.Errorf("%d alerts of 50 different files", n)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	var k keyed[int]
	for i := range 10 * maxKeys {
		*k.of(fmt.Sprint(i))++
		*k.of("held")++
	}
	if len(k.entries) != maxKeys || k.order.Len() != maxKeys {
		t.Errorf("%d keys, %d in order", len(k.entries), k.order.Len())
	}
	if *k.of("held") != 10*maxKeys {
		t.Error("a key that is in use was forgotten")
	}
}

func TestErrorsOfEvaluationAreCounted(t *testing.T) {
	e := rules(t, Options{}, `
rules:
- {id: bad, title: bad, severity: low, types: [exec], when: 'process.args[7] == "x"', output: x}
`)
	for range 3 {
		if got := e.Detect(happened(1, model.TypeExec, nil)); got != nil {
			t.Error("an error is an alert")
		}
	}
	if s := e.Status()[0]; s.Errors != 3 {
		t.Errorf("%d errors", s.Errors)
	}
}

func TestAncestors(t *testing.T) {
	e := rules(t, Options{Ancestors: func(p *model.Process) []*model.Process {
		return []*model.Process{{Binary: "/usr/bin/perl"}, {Binary: "/usr/sbin/nginx"}}
	}}, `
rules:
- {id: web, title: t, severity: high, when: 'type == "exec" && ancestors.exists(a, a.binary.base() == "nginx")', output: "from {ancestors.map(a, a.binary)}"}
- {id: ftp, title: t, severity: high, when: 'type == "exec" && ancestors.exists(a, a.binary.base() == "ftpd")', output: x}
`)
	if got := messages(e.Detect(happened(1, model.TypeExec, nil))); got != "from /usr/bin/perl /usr/sbin/nginx" {
		t.Errorf("got %q", got)
	}
}

func TestKill(t *testing.T) {
	var killed []uint32
	var refuse error
	now := happened(1, model.TypeFile, nil).Process
	o := Options{Kill: func(k model.ProcessKey) error {
		if refuse == nil {
			killed = append(killed, k.PID)
		}
		return refuse
	}, Current: func(uint32) *model.Process { return now }}
	e := rules(t, o, strings.Replace(oneRule, "  output", "  action: kill\n  rate: 1/1m\n  output", 1))
	got := e.Detect(happened(1, model.TypeFile, nil))
	if len(got) != 1 || got[0].Alert.Action != "kill" || len(killed) != 1 || killed[0] != 70 {
		t.Fatalf("alerts %s, killed %v", messages(got), killed)
	}
	e.Detect(happened(2, model.TypeFile, nil))
	if len(killed) != 2 {
		t.Error("a rate limit spared the process")
	}
	now = &model.Process{Key: model.ProcessKey{PID: 70, Start: 5, Exec: 3}}
	got = e.Detect(happened(100, model.TypeFile, nil))
	if len(killed) != 2 || got[0].Alert.Action != "alert" || !strings.Contains(got[0].Alert.Message, "not killed: process 70 runs another program by now") {
		t.Errorf("killed %v, says %q", killed, messages(got))
	}
	now, refuse = nil, errors.New("gone")
	if got = e.Detect(happened(200, model.TypeFile, nil)); got[0].Alert.Action != "alert" || !strings.Contains(got[0].Alert.Message, "(not killed: gone)") {
		t.Errorf("says %q", messages(got))
	}
	if got := rules(t, o, oneRule).Detect(happened(1, model.TypeFile, nil)); got[0].Alert.Action != "alert" || len(killed) != 2 {
		t.Error("a rule without an action kills")
	}
}

func TestCountsOutliveAReload(t *testing.T) {
	e := rules(t, Options{}, oneRule)
	e.Detect(happened(1, model.TypeFile, nil))
	set, err := Compile([]File{{"test.yaml", []byte(oneRule)}})
	if err != nil {
		t.Fatal(err)
	}
	e.Use(set)
	e.Detect(happened(2, model.TypeFile, nil))
	if n := e.Status()[0].Alerts; n != 2 {
		t.Errorf("%d alerts", n)
	}
}
