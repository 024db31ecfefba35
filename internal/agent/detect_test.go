// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/server"
)

// withRules is an agent that runs detections and has no kernel below it.
func withRules(t *testing.T, change func(*Config)) *Agent {
	t.Helper()
	h := newRiver()
	c := Default()
	c.RulesDir = t.TempDir()
	if change != nil {
		change(&c)
	}
	a := &Agent{config: c, log: slog.New(slog.DiscardHandler), boot: "01234567", table: h.table, river: h.river}
	if err := a.startDetections(); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *Agent) rule(id string) *server.Detection {
	for _, d := range a.Detections() {
		if d.ID == id {
			return &d
		}
	}
	return nil
}

func TestRulesComeFromTheDirectory(t *testing.T) {
	a := withRules(t, nil)
	if a.rule("shell_from_server") == nil || a.rule("mine") != nil || a.rules.problems() != nil {
		t.Fatalf("problems %v", a.rules.problems())
	}
	file := filepath.Join(a.config.RulesDir, "mine.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a.rules.look(false)
	}
	write("rules: [{id: mine, title: t, severity: low, when: type == \"exec\", output: x}]")
	if d := a.rule("mine"); d == nil || d.Source != file {
		t.Errorf("the new rule is %+v", d)
	}
	write("rules: [{id: mine, titel: t}]")
	if p := strings.Join(a.rules.problems(), ""); a.rule("mine") == nil || !strings.Contains(p, file+":1:20: ") {
		t.Errorf("problems %v", p)
	}
	write("changes: [{rule: shell_from_server, disabled: true}]")
	if a.rule("mine") != nil || !a.rule("shell_from_server").Disabled || a.rules.problems() != nil {
		t.Errorf("problems %v", a.rules.problems())
	}
}

func TestAnAgentStartsInSpiteOfWrongRules(t *testing.T) {
	a := withRules(t, func(c *Config) {
		if err := os.WriteFile(filepath.Join(c.RulesDir, "x.yaml"), []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if a.rule("shell_from_server") == nil || a.river.detect == nil || len(a.rules.problems()) != 1 {
		t.Errorf("problems %v", a.rules.problems())
	}
}

func TestRulesOff(t *testing.T) {
	a := withRules(t, func(c *Config) { c.Rules = Off })
	a.rules.look(true)
	if a.Detections() != nil || a.river.detect != nil {
		t.Error("rules run")
	}
}
