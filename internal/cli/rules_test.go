// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
)

func TestRulesList(t *testing.T) {
	a := &fakeAgent{rules: []*vigiev1.Detection{
		{Id: "quiet", Title: "nothing yet", Severity: "low", Types: []string{"exec"}, Action: "alert", Source: "default"},
		{Id: "noisy", Title: "a lot\x1b[2J", Severity: "high", Types: []string{"file", "exec"}, Tags: []string{"T1059"}, Action: "kill", Source: "/etc/x.yaml", Alerts: 12345, Suppressed: 7, Errors: 2},
		{Id: "off", Title: "none", Severity: "info", Disabled: true, Action: "alert"},
	}}
	socket := a.start(t)
	code, out, errs := vigie(t, "rules", "list", "--socket", socket)
	if code != 0 || errs != "" {
		t.Fatalf("code %d: %s", code, errs)
	}
	for _, want := range []string{"ID     SEVERITY  ALERTS  HELD BACK  ERRORS  FINDS", "quiet  low            -          -       -  nothing yet",
		`kill  a lot\x1b[2J`, "12k", "disabled  none"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if _, out, _ = vigie(t, "rules", "list", "--socket", socket, "-o", "wide"); !strings.Contains(out, "file,exec") || !strings.Contains(out, "/etc/x.yaml") {
		t.Errorf("wide:\n%s", out)
	}
	if _, out, _ = vigie(t, "rules", "list", "--socket", socket, "-o", "json"); strings.Count(out, "\n") != 3 || !strings.Contains(out, `"id":"quiet"`) {
		t.Errorf("json:\n%s", out)
	}
	if code, out, _ = vigie(t, "rules", "list", "--local", "--rules-dir", t.TempDir()); code != 0 || !strings.Contains(out, "shell_from_server") || strings.Contains(out, "ALERTS") {
		t.Errorf("local: code %d\n%s", code, out)
	}
}

func TestRulesLintAndTest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const rule = "rules:\n- {id: mine, title: t, severity: low, output: x, when: 'process.binary in servers && type == \"exec\"', tests: [{name: one, event: {type: exec, process: {binary: nginx}}}]}\n" +
		"exceptions:\n- {rule: cron_written, name: n, reason: r, when: process.uid == 7u}\n"
	good := write("good.yaml", strings.Replace(rule, "process.binary in", "process.binary.base() in", 1))
	fails := write("fails.yml", strings.NewReplacer("nginx", "cat", "mine", "ours", "name: n,", "name: m,").Replace(rule))
	bad := write("bad.txt", strings.Replace(rule, "binary", "bnary", 1))
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"lint", good}, 0, "good: 1 file, 1 rule, 1 exception\n"},
		{[]string{"lint", bad}, 1, bad + ":2:64: undefined field 'bnary'\nbad: 1 problem\n"},
		{[]string{"lint", "--alone", good}, 1, "undeclared reference to 'servers'"},
		{[]string{"lint", filepath.Join(dir, "none")}, 2, "no such file"},
		{[]string{"lint"}, 2, "write `vigie rules lint FILE...`"},
		{[]string{"test", good}, 0, "good: 1 test of 1 rule\n"},
		{[]string{"test", "-v", good}, 0, "ok   mine alerts: one\n"},
		{[]string{"test", fails}, 1, "FAIL ours alerts: one: no alert\n     " + fails + ":2:"},
		{[]string{"test", bad}, 1, "undefined field"},
		{[]string{"test", write("empty.yaml", "")}, 1, "the files hold no tests"},
		{[]string{"test"}, 0, " rules\n"},
		{[]string{"nonsense"}, 2, "unknown command"},
	} {
		code, out, errs := vigie(t, append([]string{"rules"}, c.args...)...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("rules %v: code %d, want %d and %q:\n%s%s", c.args, code, c.code, c.says, out, errs)
		}
	}
	if err := os.Remove(filepath.Join(dir, "empty.yaml")); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := vigie(t, "rules", "test", dir); code != 1 || !strings.Contains(out, "failed: 1 of 2 tests of 2 rules") {
		t.Errorf("of a directory: code %d\n%s", code, out)
	}
}
