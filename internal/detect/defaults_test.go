// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"regexp"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func defaults(t testing.TB) *Set {
	t.Helper()
	files, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	set, err := Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Every rule that comes with vigie has an example that raises it and a near miss that does not, and they hold.
func TestDefaultRules(t *testing.T) {
	set := defaults(t)
	technique := regexp.MustCompile(`^T1\d{3}(\.\d{3})?$`)
	for _, r := range set.Rules {
		if len(r.Tags) == 0 || slices.ContainsFunc(r.Tags, func(tag string) bool { return !technique.MatchString(tag) }) {
			t.Errorf("%s: tags %v are no techniques of MITRE ATT&CK", r.ID, r.Tags)
		}
		for _, alert := range []bool{true, false} {
			if !slices.ContainsFunc(set.Examples, func(e *Example) bool { return e.Rule == r.ID && e.Alert == alert }) {
				t.Errorf("%s has no example with alert: %v", r.ID, alert)
			}
		}
		if r.Action != ActionAlert {
			t.Errorf("%s: a rule that comes with vigie ends processes", r.ID)
		}
	}
	for _, result := range set.Try() {
		if !result.OK {
			t.Errorf("%s:%d: %s, %s: %s", result.Path, result.Line, result.Rule, result.Name, result.Reason)
		}
	}
}

// The guards of nearly all rules are exact: CEL itself is for the few.
func TestDefaultRulesArePlain(t *testing.T) {
	set := defaults(t)
	slow := make(map[string]bool)
	check := func(entries []entry) {
		for i := range entries {
			if !entries[i].guard.Exact {
				slow[entries[i].rule.ID] = true
			}
		}
	}
	for _, entries := range set.byType {
		check(entries)
	}
	for _, entries := range set.byOp {
		check(entries)
	}
	if len(slow) > 3 {
		t.Errorf("%d rules need CEL: %v", len(slow), slow)
	}
	if len(set.byType[model.TypeFork])+len(set.byType[model.TypeClose]) > 0 {
		t.Error("a rule looks at forks or at the ends of connections, of which there are many")
	}
}
