// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/render"
)

const badPod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}\n"

// repeated is a text many times over, without the memory for it.
type repeated struct {
	text []byte
	left int
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.text[r.at:])
	if r.at += n; r.at == len(r.text) {
		r.at = 0
		r.left--
	}
	return n, nil
}

func TestAFileOfAHundredMebibytes(t *testing.T) {
	data := "  text: |\n" + strings.Repeat("    "+strings.Repeat("x", 95)+"\n", 10_000)
	document := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n" + data + "---\n" + badPod
	n := 100 << 20 / len(document)
	r, err := judgeOf(t, "privileged").Run(t.Context(), []string{Stdin}, &repeated{text: []byte(document), left: n})
	if err != nil {
		t.Fatal(err)
	}
	if r.Objects != 2*n || len(r.Findings) != n || r.Incomplete() {
		t.Errorf("%d objects, %d findings, problems %v", r.Objects, len(r.Findings), r.Problems)
	}
	if last := r.Findings[n-1]; last.Line != n*bytes.Count([]byte(document), []byte("\n")) {
		t.Errorf("the last finding is in line %d", last.Line)
	}
}

func TestADocumentThatIsTooLargeIsNamed(t *testing.T) {
	large := &repeated{text: []byte("# " + strings.Repeat("x", 1<<20) + "\na: b\n"), left: 100}
	r, err := judgeOf(t, "privileged").Run(t.Context(), []string{Stdin}, io.MultiReader(strings.NewReader(badPod+"---\n"), large, strings.NewReader("---\n"+badPod)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 2 || len(r.Problems) != 1 || !r.Incomplete() || r.Problems[0].Line != 6 || !strings.Contains(r.Problems[0].Message, "at most") {
		t.Errorf("%d findings, problems %+v", len(r.Findings), r.Problems)
	}
}

func TestBombsAndEncodings(t *testing.T) {
	bomb := "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("  %c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 8), c-1)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"bomb":            {bomb, "aliases"},
		"alias of itself": {"a: &a [*a]\n", ""},
		"latin-1":         {"a: \xe9\n", "UTF-8"},
		"zeros":           {"a: b\x00\n", "zero byte"},
		"half a utf-16":   {"a: \xff\xfe\n", "UTF-8"},
		"deep":            {strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n", ""},
		"binary":          {"\x7fELF\x02\x01\x01\x00\n", "zero byte"},
		"a control byte":  {"a: \x07\n", ""},
	} {
		r := scanText(t, judgeOf(t, "privileged"), badPod+"---\n"+tt.text+"---\n"+badPod)
		if len(r.Findings) != 2 || len(r.Problems) != 1 || r.Problems[0].Line < 6 || !strings.Contains(r.Problems[0].Message, tt.want) {
			t.Errorf("%s: %d findings, problems %+v", name, len(r.Findings), r.Problems)
		}
	}
}

func TestControlsThatCannotBeEvaluatedAreNamed(t *testing.T) {
	deep := "[1,2,3,4,5,6,7,8,9,10]"
	dear := "true"
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		dear = deep + ".all(" + name + ", " + dear + ")"
	}
	for name, tt := range map[string]struct{ expression, want string }{
		"does not compile": {"object.spec.(", "compil"},
		"of a wrong type":  {"'text'", "must evaluate to bool"},
		"fails":            {"object.spec.nothing == 1", "no such key"},
		"too dear":         {dear, "cost"},
	} {
		c, err := control.Parse("mine.yaml", []byte("apiVersion: vigie.io/v1alpha1\nkind: Control\nmetadata: {name: mine}\nspec: {title: t, why: w, remediation: r, severity: low, match: pods}\n---\n"+
			"apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: mine}\nspec:\n  validations:\n  - expression: >-\n      "+tt.expression+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		_, newest := engine.Supported()
		j, err := NewJudge([]*control.Control{c}, newest, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := scanText(t, j, "\n"+badPod)
		if r.Tallies[0] != (Tally{Control: "mine", Unevaluated: 1}) || len(r.Problems) != 1 || r.Problems[0].Line != 2 || r.Problems[0].Control != "mine" || !strings.Contains(r.Problems[0].Message, tt.want) {
			t.Errorf("%s: tally %+v, problems %+v", name, r.Tallies, r.Problems)
		}
	}
}

func TestChartsAndOverlaysAreRenderedOnce(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"plain.yaml":                     badPod,
		"chart/Chart.yaml":               "apiVersion: v2\nname: c\nversion: 1.0.0\n",
		"chart/values.yaml":              "privileged: true\n",
		"chart/templates/pod.yaml":       strings.Replace(badPod, "true", "{{ .Values.privileged }}", 1),
		"chart/templates/broken.yaml":    "\n\na: {{ fail \"no\" }}\n",
		"chart/ci/values-test.yaml":      "privileged: false\n",
		"chart/examples/pod.yaml":        badPod,
		"app/base/kustomization.yaml":    "resources: [pod.yaml, sub/shared.yaml]\n",
		"app/base/pod.yaml":              badPod,
		"app/base/sub/shared.yaml":       "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n",
		"app/prod/kustomization.yaml":    "resources: [../base]\npatches: [{path: patch.yaml}]\n",
		"app/prod/patch.yaml":            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {hostPID: true}\n",
		"app/test/kustomization.yaml":    "resources: [../base, https://example.org/x]\n",
		"app/unused/kustomization.yaml":  "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\n",
		"app/base/other/not-a-base.yaml": badPod,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := judgeOf(t, "privileged", "host-pid").Scan(t.Context(), Input{Paths: []string{dir}, Values: render.Values{Version: "1.36"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Findings {
		relative, err := filepath.Rel(dir, f.File)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s:%d", f.Control, relative, f.Line))
	}
	for _, p := range r.Problems {
		relative, err := filepath.Rel(dir, p.File)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%v %s:%d", p.Note, relative, p.Line))
	}
	slices.Sort(got)
	want := []string{
		"false app/test/kustomization.yaml:1",
		"false chart/templates/broken.yaml:3",
		"host-pid app/prod/patch.yaml:4",
		"privileged app/base/other/not-a-base.yaml:4",
		"privileged app/base/pod.yaml:4",
		"privileged chart/templates/pod.yaml:4",
		"privileged plain.yaml:4",
		"true app/unused/kustomization.yaml:1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.Charts != 1 {
		t.Errorf("%d charts", r.Charts)
	}
	r, err = judgeOf(t, "privileged").Scan(t.Context(), Input{Paths: []string{filepath.Join(dir, "chart")}, Values: render.Values{Set: []string{"privileged=false"}}})
	if err != nil || len(r.Findings) != 0 {
		t.Errorf("the value was not taken: %v %+v", err, r.Findings)
	}
	if _, err = judgeOf(t, "privileged").Scan(t.Context(), Input{Paths: []string{filepath.Join(dir, "chart")}, Values: render.Values{Set: []string{"privileged"}}}); err == nil {
		t.Error("a value without a value was taken")
	}
}
