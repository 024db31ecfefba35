// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/facts"
	"github.com/vigie-io/vigie/internal/posture/scan"
	"github.com/vigie-io/vigie/internal/posture/schema"
)

func judge(t *testing.T, names ...string) *scan.Judge {
	t.Helper()
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	picked, err := control.Select(all, names)
	if err != nil {
		t.Fatal(err)
	}
	_, newest := engine.Supported()
	j, err := scan.NewJudge(picked, newest, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestEveryFixMakesItsBadExamplesGood tries each fix on all bad objects of its control: fixed they are good, fixing again changes nothing, and
// a document beside them stays as it is.
func TestEveryFixMakesItsBadExamplesGood(t *testing.T) {
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	fixes := 0
	for _, c := range all {
		if c.Fix == nil {
			continue
		}
		fixes++
		t.Run(c.ID, func(t *testing.T) {
			f := &Fixer{Judge: judge(t, c.ID), Risky: true}
			examples, err := c.Examples()
			if err != nil {
				t.Fatal(err)
			}
			fixed, bad := 0, 0
			for _, e := range examples {
				if !e.Bad || e.Ephemeral {
					continue
				}
				bad++
				if tryFix(t, f, e) {
					fixed++
				}
			}
			if fixed == 0 || fixed*3 < bad {
				t.Errorf("%d of %d bad examples were fixed", fixed, bad)
			}
		})
	}
	if fixes < 60 {
		t.Errorf("only %d controls have a fix", fixes)
	}
}

const beside = "# about the next one\n---\n# kept\nkind: Nothing   # not an object\na: {b: 1,c: [x,  y]}\n"

func tryFix(t *testing.T, f *Fixer, e control.Example) bool {
	t.Helper()
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(e.Object); err != nil {
		t.Fatal(err)
	}
	before := b.String() + beside
	r, err := f.File(t.Context(), "f.yaml", []byte(before))
	if err != nil {
		t.Errorf("%s: %v\n%s", e.Name, err, before)
		return false
	}
	if len(r.Fixed) == 0 {
		if !bytes.Equal(r.Before, r.After) || len(r.Left) == 0 {
			t.Errorf("%s: nothing was fixed, nothing is left, or it was changed", e.Name)
		}
		return false
	}
	if len(r.Left) > 0 {
		t.Errorf("%s: it is still bad: %+v\n%s", e.Name, r.Left, r.After)
	}
	if !strings.HasSuffix(string(r.After), beside) {
		t.Errorf("%s: what stands beside was changed:\n%s", e.Name, r.After)
	}
	again, err := f.File(t.Context(), "f.yaml", r.After)
	if err != nil || !bytes.Equal(again.After, r.After) {
		t.Errorf("%s: fixing again changes it: %v", e.Name, err)
	}
	if err := valid(b.Bytes(), bytes.TrimSuffix(r.After, []byte(beside))); err != nil {
		t.Errorf("%s: %v\n%s", e.Name, err, r.After)
	}
	if n := changedLines(before, string(r.After)); n > 8 {
		t.Errorf("%s: %d lines were changed:\n%s\n%s", e.Name, n, before, r.After)
	}
	return true
}

// TestEveryFixLeavesAValidObject requires of the examples that are valid themselves that they are so when all of their fixes were made.
func TestEveryFixLeavesAValidObject(t *testing.T) {
	schemas, err := schema.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	f := &Fixer{Judge: judge(t), Risky: true}
	checked := map[string]int{}
	for _, c := range all {
		if c.Fix == nil {
			continue
		}
		examples, err := c.Examples()
		if err != nil {
			t.Fatal(err)
		}
		tried := map[string]bool{} // two kinds are enough: each control's own fix is tried on all examples
		for _, e := range examples {
			kind, _ := e.Object["kind"].(string)
			before, known, err := schemas.Validate(e.Object)
			if err != nil {
				t.Fatal(err)
			}
			if !e.Bad || !known || len(before) > 0 || tried[kind] || len(tried) == 2 {
				continue
			}
			tried[kind] = true
			text, err := yaml.Marshal(e.Object)
			if err != nil {
				t.Fatal(err)
			}
			r, err := f.File(t.Context(), "f.yaml", text)
			if err != nil {
				t.Errorf("%s: %s: %v", c.ID, e.Name, err)
				continue
			}
			after, err := parseValue(r.After)
			if err != nil {
				t.Fatal(err)
			}
			faults, known, err := schemas.Validate(after)
			if err != nil || !known && !strings.HasPrefix(c.ID, "api-") || len(faults) > 0 {
				t.Errorf("%s: %s: known %v, %v, %q\n%s", c.ID, e.Name, known, err, faults, r.After)
			}
			for _, o := range r.Fixed {
				checked[o.Control]++
			}
			for _, o := range r.Left {
				if strings.Contains(o.Why, "schema") {
					t.Errorf("%s: %s: %s", o.Control, e.Name, o.Why)
				}
			}
		}
	}
	if len(checked) < 50 {
		t.Errorf("only %d controls made a fix that was validated", len(checked))
	}
}

// TestAWrongFixIsRefused gives a control fixes that an API server would not take. The others are made.
func TestAWrongFixIsRefused(t *testing.T) {
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, why string
		edits     []control.Edit
	}{
		{"a text for a boolean", "must be of type boolean", []control.Edit{{Set: "container.securityContext.readOnlyRootFilesystem", To: "maybe"}}},
		{"a list for an object", "must be of type object", []control.Edit{{Set: "container.resources", To: []any{}}}},
		{"a fraction", "must be of type integer", []control.Edit{{Set: "container.securityContext.runAsUser", To: 1.5}}},
		{"what must be there goes away", "name in body is required", []control.Edit{{Remove: "container.name"}}},
		{"what is made has not all that it must", "mountPath in body is required", []control.Edit{{Append: "container.volumeMounts", To: map[string]any{"name": "tmp"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var picked []*control.Control
			for _, c := range all {
				switch c.ID {
				case "read-only-root":
					wrong := *c
					wrong.Fix = &control.Fix{Edits: tt.edits}
					picked = append(picked, &wrong)
				case "host-pid":
					picked = append(picked, c)
				}
			}
			_, newest := engine.Supported()
			j, err := scan.NewJudge(picked, newest, nil)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Replace(shop, "*hard", "{}", 1)
			r, err := (&Fixer{Judge: j, Risky: true}).File(t.Context(), "web.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Left) != 2 || !strings.Contains(r.Left[0].Why, tt.why) || !strings.Contains(r.Left[0].Why, "spec.template.spec.containers") {
				t.Errorf("left %+v", r.Left)
			}
			if want := strings.Replace(text, "            hostPID: true\n", "", 1); string(r.After) != want {
				t.Errorf("got\n%s", r.After)
			}
		})
	}
}

// changedLines counts lines that only one of the texts has.
func changedLines(a, b string) int {
	count := map[string]int{}
	for line := range strings.Lines(a) {
		count[line]++
	}
	for line := range strings.Lines(b) {
		count[line]--
	}
	n := 0
	for _, c := range count {
		n += max(c, -c)
	}
	return n
}

const shop = `# The shop's web server.
apiVersion: apps/v1
kind: Deployment
metadata:
    name: web   # do not rename
    namespace: shop
spec:
    selector: {matchLabels: {app: web}}
    template:
        metadata: {labels: {app: web}}
        spec:
            hostPID: true
            containers:
              # the server
              - name: server
                image: "nginx:1.29"
                securityContext: &hard
                    privileged: true # why?
              - name: side
                image: 'b'
                securityContext: *hard
`

func TestOnlyTheFixedLinesChange(t *testing.T) {
	f := &Fixer{Judge: judge(t, "privileged", "host-pid", "read-only-root", "privilege-escalation"), Named: map[string]bool{"privileged": true, "host-pid": true}}
	r, err := f.File(t.Context(), "web.yaml", []byte(strings.ReplaceAll(shop, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.Replace(shop, "            hostPID: true\n", "", 1), "privileged: true # why?", "privileged: false # why?", 1)
	if got := strings.ReplaceAll(string(r.After), "\r\n", "\n"); got != want {
		t.Errorf("got\n%s", got)
	}
	var left []string
	for _, o := range r.Left {
		left = append(left, fmt.Sprintf("%s %s: %s", o.Control, o.Container, o.Why))
	}
	if all := strings.Join(left, "\n"); len(left) != 4 || !strings.Contains(all, "read-only-root server: what writes outside of its volumes stops: ask for it with --only read-only-root") {
		t.Errorf("left:\n%s", all)
	}
	if strings.Count(string(r.After), "\r\n") != strings.Count(string(r.After), "\n") {
		t.Error("a line end was changed")
	}
}

type seen struct{ facts.Seen }

func (s seen) Container(w facts.Workload, container string) (facts.Seen, bool) {
	return s.Seen, w == facts.Workload{Kind: "Deployment", Namespace: "shop", Name: "web"} && container == "server"
}

func TestWhatWasSeenAtRunTimeProvesAFix(t *testing.T) {
	from := time.Unix(0, 0)
	f := &Fixer{Judge: judge(t, "read-only-root"), Facts: seen{facts.Seen{From: from, To: from.Add(14 * 24 * time.Hour)}}}
	text := strings.Replace(shop, "*hard", "{}", 1)
	r, err := f.File(t.Context(), "web.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Fixed) != 1 || r.Fixed[0].Container != "server" || r.Fixed[0].Why != "seen 14 days, no write outside of volumes" || len(r.Left) != 1 {
		t.Errorf("fixed %+v\nleft %+v", r.Fixed, r.Left)
	}
	want := strings.Replace(text, "privileged: true # why?\n", "privileged: true # why?\n                    readOnlyRootFilesystem: true\n", 1)
	if string(r.After) != want {
		t.Errorf("got\n%s", r.After)
	}
	f.Facts = seen{facts.Seen{From: from, To: from.Add(14 * 24 * time.Hour), Writes: []string{"/var/cache/x"}}}
	if r, err = f.File(t.Context(), "web.yaml", []byte(text)); err != nil || len(r.Fixed) != 0 || !strings.Contains(r.Left[0].Why, "/var/cache/x") {
		t.Errorf("%v: fixed %+v, left %+v", err, r.Fixed, r.Left)
	}
}

func TestWhatCannotBeFixedIsLeft(t *testing.T) {
	f := &Fixer{Judge: judge(t, "privileged", "privilege-escalation"), Risky: true}
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}\n"
	for _, tt := range []struct {
		name, text, why string
		fixed           int
	}{
		{"on the separator's line", "--- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}}\n", "separator", 0},
		{"a broken document beside it", pod + "---\nbroken: [\n---\n" + pod, "", 4},
		{"an item of a list", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n  spec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}\n", "", 2},
	} {
		r, err := f.File(t.Context(), "f.yaml", []byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if len(r.Fixed) != tt.fixed || tt.why != "" && (len(r.Left) == 0 || !strings.Contains(r.Left[0].Why, tt.why)) {
			t.Errorf("%s: fixed %d, left %+v\n%s", tt.name, len(r.Fixed), r.Left, r.After)
		}
	}
}
