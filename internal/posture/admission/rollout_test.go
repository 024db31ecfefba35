// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
)

// rolledOut is a plan of three controls: privileged at warn, the others at audit, all for two days.
func rolledOut(t *testing.T) (*Settings, Plan) {
	t.Helper()
	s := &Settings{Controls: []string{"privileged", "host-pid", "service-selects-nothing", "image-digest"}, Step: Audit, Steps: map[string]Step{"privileged": Warn}}
	p, errs, err := s.Plan(nil, noon())
	if err != nil || len(errs) > 0 {
		t.Fatal(err, errs)
	}
	s.Arrived(p, noon().Add(-48*time.Hour))
	return s, p
}

func TestTheNextStep(t *testing.T) {
	for name, c := range map[string]struct {
		rollout  Rollout
		evidence Evidence
		want     []string // control: to, or why not
	}{
		"nothing in the way": {Rollout{To: Deny}, Evidence{}, []string{"host-pid: warn", "image-digest: warn", "privileged: deny"}},
		"no further":         {Rollout{To: Warn}, Evidence{}, []string{"host-pid: warn", "image-digest: warn"}},
		"only one":           {Rollout{To: Deny, Only: map[string]bool{"privileged": true}}, Evidence{}, []string{"privileged: deny"}},
		"something runs": {Rollout{To: Deny}, Evidence{Failing: map[string][]string{"privileged": {"Pod a", "Pod b"}, "host-pid": {"Pod c"}}},
			[]string{"host-pid: warn", "image-digest: warn", "privileged: 2 objects that are there would be denied when they are changed"}},
		"accepted": {Rollout{To: Deny, Accept: map[string]bool{"privileged": true}}, Evidence{Failing: map[string][]string{"privileged": {"Pod a"}}},
			[]string{"host-pid: warn", "image-digest: warn", "privileged: deny"}},
		"the audit log": {Rollout{To: Deny}, Evidence{Audited: map[string]int{"privileged": 3}},
			[]string{"host-pid: warn", "image-digest: warn", "privileged: 3 requests would have been denied since it came to warn"}},
		"not evaluated": {Rollout{To: Deny}, Evidence{Unevaluated: map[string]int{"privileged": 1}}, []string{"host-pid: warn", "image-digest: warn", "privileged: of 1 objects it could not say"}},
		"too soon":      {Rollout{To: Deny, Soak: 72 * time.Hour, Only: map[string]bool{"host-pid": true}}, Evidence{}, []string{"host-pid: it is at audit for 48h0m0s, want 72h0m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := rolledOut(t)
			moves := c.rollout.Moves(s, p, c.evidence, noon())
			var got []string
			for _, m := range moves {
				what := string(m.To)
				if len(m.Refused) > 0 {
					what = strings.Join(m.Refused, "; ")
				}
				got = append(got, m.Control+": "+what)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			taken := s.Take(moves)
			for _, m := range moves {
				want := m.From
				if len(m.Refused) == 0 {
					want = m.To
					taken--
				}
				if got := s.StepOf(m.Control); got != want {
					t.Errorf("%s is at %s, want %s", m.Control, got, want)
				}
			}
			if taken != 0 {
				t.Errorf("%d steps too many were counted", taken)
			}
		})
	}
}

func TestArrivedKeepsTheTimeOfWhatStays(t *testing.T) {
	s, p := rolledOut(t)
	p.Steps = map[string]Step{"privileged": Deny}
	s.Arrived(p, noon())
	if got := s.Reached["privileged"]; got.Step != Deny || !got.Since.Equal(noon()) {
		t.Errorf("privileged: %+v", got)
	}
	if got := s.Reached["host-pid"]; got.Step != Audit || !got.Since.Equal(noon().Add(-48*time.Hour)) {
		t.Errorf("host-pid: %+v", got)
	}
}

func TestBack(t *testing.T) {
	s, p := rolledOut(t)
	moves := s.Back(p, nil)
	if fmt.Sprint(moves) != "[{privileged warn audit []}]" {
		t.Errorf("%v", moves)
	}
	if s.Take(moves); s.StepOf("privileged") != Audit {
		t.Errorf("privileged is at %s", s.StepOf("privileged"))
	}
}

func policyOf(name, expression string, edit func(spec map[string]any)) map[string]any {
	spec := map[string]any{"matchConstraints": map[string]any{"resourceRules": []any{map[string]any{"apiGroups": []any{"policy"}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"},
		"resources": []any{"poddisruptionbudgets"}}}}, "validations": []any{map[string]any{"expression": expression}}}
	if edit != nil {
		edit(spec)
	}
	return map[string]any{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": map[string]any{"name": name}, "spec": spec}
}

func TestCheckAgainstAVersion(t *testing.T) {
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	mutation := func(expression string) map[string]any {
		return map[string]any{"apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicy", "metadata": map[string]any{"name": "mutates"},
			"spec": map[string]any{"mutations": []any{map[string]any{"patchType": "JSONPatch", "jsonPatch": map[string]any{"expression": expression}}}}}
	}
	for name, c := range map[string]struct {
		document map[string]any
		target   uint
		want     string // a part of the only doubt; empty: none
		dead     bool
	}{
		"good":                  {policyOf("p", "object.spec.minAvailable > 0", nil), 36, "", false},
		"no such function":      {policyOf("p", "object.spec.isWell()", nil), 36, "isWell", false},
		"a string":              {policyOf("p", "'x'", nil), 36, "must evaluate to bool", false},
		"newer than the target": {policyOf("p", "semver('1.0.0').major() == 1", nil), 31, "semver", false},
		"as new as the target":  {policyOf("p", "semver('1.0.0').major() == 1", nil), 36, "", false},
		"with parameters":       {policyOf("p", "params.x == 1", func(s map[string]any) { s["paramKind"] = map[string]any{"apiVersion": "v1", "kind": "ConfigMap"} }), 36, "", false},
		"without":               {policyOf("p", "params.x == 1", nil), 36, "params", false},
		"a removed version": {policyOf("p", "true", func(s map[string]any) {
			s["matchConstraints"] = map[string]any{"resourceRules": []any{map[string]any{"apiGroups": []any{"policy"}, "apiVersions": []any{"v1beta1"}, "operations": []any{"CREATE"}, "resources": []any{"poddisruptionbudgets"}}}}
		}), 36, "which Kubernetes 1.25 removed", true},
		"a mutation":       {mutation("[JSONPatch{op: 'add', path: '/a', value: 1}]"), 36, "", false},
		"a bad mutation":   {mutation("[JSONPatch{op: 'add', route: '/a'}]"), 36, "route", false},
		"of another group": {map[string]any{"apiVersion": "v1", "kind": "Pod"}, 36, "", false},
	} {
		doubts, _, err := Check([]map[string]any{c.document}, engine.Version{Major: 1, Minor: c.target}, all, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.want == "" && len(doubts) > 0, c.want != "" && (len(doubts) != 1 || !strings.Contains(doubts[0].Message, c.want) || doubts[0].Dead != c.dead):
			t.Errorf("%s: %+v, want %q", name, doubts, c.want)
		}
	}
	if used, exact := Known(engine.Version{Major: 1, Minor: 99}); exact || used.Minor != 37 {
		t.Errorf("1.99 is answered with %s, exact %v", used, exact)
	}
}
