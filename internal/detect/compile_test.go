// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"errors"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

// Each problem is told with file, line and column.
func TestProblemsNameTheirPlace(t *testing.T) {
	rule := func(lines string) string {
		return "rules:\n- id: a\n  title: t\n  severity: low\n  output: x\n" + lines
	}
	for _, c := range []struct{ text, want string }{
		{"rules:\n  - {id: a", "f.yaml:1:1: is no YAML"},
		{"a: 1\n---\nb: 2\n", "f.yaml:2:1: a second YAML document"},
		{"[1]", "f.yaml:1:1: a file of rules: want `name: value` lines, got a list"},
		{"rulez: []", `f.yaml:1:1: a file of rules has no field "rulez": known are add_to_lists, changes,`},
		{"rules: {}", "f.yaml:1:8: rules: want a list, got a mapping"},
		{"rules:\n- 7\n", `f.yaml:2:3: a rule: want`},
		{"rules:\n- title: x\n", "f.yaml:2:3: a rule has no id"},
		{rule("  when: type == \"exec\"\n  wen: x\n"), `f.yaml:7:3: a rule has no field "wen"`},
		{rule("  when: type == \"exec\"\n  when: x\n"), `f.yaml:7:3: field "when" was given on line 6 already`},
		{rule("  tags: [a]\n"), "f.yaml:2:7: rule a has no when"},
		{rule("  when: process.uid == 0 && type == \"exec\"\n"), "f.yaml:6:21: found no matching overload for '_==_' applied to '(uint, int)'"},
		{rule("  when: 'proces.uid == 0u'\n"), "f.yaml:6:10: undeclared reference to 'proces'"},
		{rule("  when: |\n    type == \"exec\" &&\n      proces.uid == 0u\n"), "f.yaml:8:7: undeclared reference to 'proces'"},
		{rule("  when: >-\n    type == \"exec\" &&\n    proces.uid == 0u\n"), "f.yaml:8:5: undeclared reference to 'proces'"},
		{rule("  when: type == \"exec\" &&\n      proces.uid == 0u\n"), "f.yaml:7:7: undeclared reference to 'proces'"},
		{rule("  when: process.uid\n"), "f.yaml:6:9: is a uint, not true or false"},
		{rule("  when: process.uid == 0u\n"), "f.yaml:6:9: the expression could hold for events of"},
		{rule("  when: type == \"exec\" && file.path == \"/x\"\n"), "f.yaml:6:9: the expression holds for no event"},
		{rule("  when: type == \"alert\"\n"), "f.yaml:6:9: the expression holds for no event"},
		{rule("  when: file.path == \"/x\"\n  types: [exec]\n"), "f.yaml:7:11: the expression holds for no exec event"},
		{rule("  when: file.path == \"/x\"\n  types: [exce]\n"), `f.yaml:7:11: "exce" is no event type: use exec,`},
		{rule("  when: type == \"exec\"\n  action: shoot\n"), `f.yaml:7:11: "shoot" is no action: use alert or kill`},
		{rule("  when: type == \"exec\"\n  rate: often\n"), `f.yaml:7:9: rate: "often": write it as 1/1m by process.binary`},
		{rule("  when: type == \"exec\"\n  rate: 1/1m by process.binary, process.nme\n"), `f.yaml:7:40: rate: undefined field 'nme'`},
		{rule("  when: type == \"exec\"\n  rate: 0/1m\n"), `f.yaml:7:9: rate: "0" is no count`},
		{rule("  when: type == \"exec\"\n  rate: 1/soon\n"), `f.yaml:7:9: rate: "1soon" is no time`},
		{rule("  when: type == \"exec\"\n  different: file.path\n"), `f.yaml:7:14: different says what threshold counts`},
		{rule("  when: type == \"exec\"\n  disabled: maybe\n"), `f.yaml:7:13: want true or false, got "maybe"`},
		{"rules:\n- id: a\n  title: t\n  severity: bad\n  output: \"{process.binary} {process.nme}\"\n  when: type == \"exec\"\n", `f.yaml:4:13: "bad" is no severity: use info,`},
		{"rules:\n- id: a\n  title: t\n  severity: low\n  output: \"{process.binary} {process.nme}\"\n  when: type == \"exec\"\n", `f.yaml:5:37: output: undefined field 'nme'`},
		{"rules:\n- id: a\n  title: t\n  severity: low\n  output: \"open {process.binary\"\n  when: type == \"exec\"\n", `f.yaml:5:17: output: a { without its }`},
		{"rules:\n- id: a\n  title: t\n  severity: low\n  output: \"{process}\"\n  when: type == \"exec\"\n", `f.yaml:5:13: output: is a vigie.v1.Process`},
		{"lists: {File: [a]}", `f.yaml:1:9: "File" is no name`},
		{"lists: {file: [a]}", `f.yaml:1:9: "file" is a field of events`},
		{"lists: {a: [b]}\nmacros: {a: 'true'}", `f.yaml:2:10: "a" is defined on line 1 already`},
		{"add_to_lists: {a: [b]}", `f.yaml:1:16: there is no list "a" to add to`},
		{"macros:\n  m: file.pth == \"\"\n", `f.yaml:2:10: macro m: undefined field 'pth'`},
		{"macros: {m: n, n: m}", `f.yaml:1:13: macro m: uses itself: m → n → m`},
		{"exceptions:\n- {rule: nothing, name: n, reason: r, when: 'true'}\n", `f.yaml:2:10: there is no rule "nothing"`},
		{"exceptions:\n- {name: n, reason: r, when: 'true'}\n", `f.yaml:2:3: which rule? write rule: ID`},
		{"changes:\n- {rule: nothing, disabled: true}\n", `f.yaml:2:10: there is no rule "nothing"`},
		{rule("  when: type == \"exec\"\n  exceptions:\n  - {name: n, when: proces.pid == 1u}\n"), "f.yaml:8:5: an exception of rule a has no reason"},
		{rule("  when: type == \"exec\"\n  exceptions:\n  - {name: n, reason: r, when: proces.pid == 1u}\n"), "f.yaml:8:32: undeclared reference to 'proces'"},
		{rule("  when: type == \"exec\"\n  tests:\n  - {name: n, event: {type: exec, process: {bin: x}}}\n"), "f.yaml:8:22: event: not in the form of"},
		{rule("  when: type == \"exec\"\n  tests:\n  - {name: n, event: {type: exce}}\n"), `f.yaml:8:22: event: "exce" is no event type`},
		{rule("  when: type == \"exec\"\n  tests:\n  - {name: n}\n"), `f.yaml:8:5: a test has no event`},
		{rule("  when: type == \"exec\"\n- id: a\n"), `f.yaml:7:7: rule a is in f.yaml:2 already`},
	} {
		_, err := Compile([]File{{"f.yaml", []byte(c.text)}})
		var problems FileErrors
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got: %v\nwant: %s", c.text, err, c.want)
		}
	}
}

func TestAllProblemsAreTold(t *testing.T) {
	_, err := Compile([]File{{"b.yaml", []byte("rules:\n- {id: A}\n- {id: x}\n")}, {"a.yaml", []byte("macro: {}")}})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 6 || !strings.HasPrefix(err.Error(), "a.yaml:1:1: ") {
		t.Errorf("got:\n%v", err)
	}
}

func TestAFileAdaptsTheRulesOfAnother(t *testing.T) {
	set, err := Compile([]File{{DefaultSource + "/one.yaml", []byte(oneRule)}, {"/etc/vigie/rules/mine.yaml", []byte(`
add_to_lists: {secrets: [/etc/mine]}
exceptions:
- {rule: secret_read, name: backup, reason: it reads all, when: 'process.binary == "/usr/bin/borg"'}
changes:
- {rule: secret_read, severity: critical, rate: unlimited}
tests:
- {rule: secret_read, name: mine, event: {type: file, file: {op: read, path: /etc/mine}}}
- {rule: secret_read, name: backup, alert: false, event: {type: file, process: {binary: /usr/bin/borg}, file: {op: read, path: /etc/mine}}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	r := set.Rules[0]
	if r.Severity != model.SeverityCritical || r.rate != nil || len(r.Exceptions) != 2 || r.Source != DefaultSource ||
		r.Exceptions[1].Source != "/etc/vigie/rules/mine.yaml" {
		t.Errorf("rule %+v", r)
	}
	for _, result := range set.Try() {
		if !result.OK {
			t.Errorf("%s: %s", result.Name, result.Reason)
		}
	}
}

func TestExamplesThatDoNotHold(t *testing.T) {
	set, err := Compile([]File{{"f.yaml", []byte(oneRule + `
  tests:
  - {name: says too much, event: {type: file, file: {op: read, path: /etc/passwd}}}
  - {name: says too little, alert: false, event: {type: file, file: {op: read, path: /etc/shadow}}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	got := set.Try()
	if len(got) != 2 || got[0].OK || got[0].Reason != "no alert" || got[1].OK || !strings.HasPrefix(got[1].Reason, "an alert: ") || got[1].Line != 16 {
		t.Errorf("got %+v", got)
	}
}

func TestRulesAreFiledUnderTheEventsTheyConcern(t *testing.T) {
	set, err := Compile([]File{{"f.yaml", []byte(oneRule + `
- {id: off, title: t, severity: low, when: reads, output: x, disabled: true}
- {id: run, title: t, severity: low, when: 'type == "exec" || file.op == "chmod"', output: x}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	if r, c, w, x := len(set.byOp["read"]), len(set.byOp["chmod"]), len(set.byOp["write"]), len(set.byType["exec"]); r != 1 || c != 1 || w != 0 || x != 1 {
		t.Errorf("read %d, chmod %d, write %d, exec %d", r, c, w, x)
	}
	if !set.byOp["read"][0].guard.Exact {
		t.Error("a plain rule needs CEL")
	}
}

// Whatever a file holds, there is a set or there are problems with places in that file.
func FuzzCompile(f *testing.F) {
	files, err := Default()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(oneRule)
	f.Add(manyDeletes)
	f.Add(string(files[len(files)-1].Data))
	f.Add("rules: [&a {id: a, when: *a}]")
	f.Add("rules:\n- {id: a, title: t, severity: low, output: \"{x\", when: >\n  a\n\n  b, tests: [{times: 9, event: {type: exec}}]}")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := Compile([]File{{"f.yaml", []byte(text)}})
		if err == nil {
			set.Try()
			return
		}
		var problems FileErrors
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("%v", err)
		}
		for _, p := range problems {
			if p.Line < 0 || p.Line > 0 && p.Column < 1 {
				t.Errorf("%v has no place", p)
			}
		}
	})
}
