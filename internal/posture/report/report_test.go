// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/xeipuuv/gojsonschema"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// example is a report of a pod with a hostile name, beside a document that is broken.
func example(t *testing.T) *scan.Report {
	t.Helper()
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	picked, err := control.Select(all, []string{"privileged", "host-network"})
	if err != nil {
		t.Fatal(err)
	}
	j, err := scan.NewJudge(picked, engine.Version{Major: 1, Minor: 36}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: v1\nkind: Pod\nmetadata: {name: '<script>alert(1)</script>'}\nspec:\n  containers:\n  - name: \"a\\u0007\"\n    image: b\n    securityContext: {privileged: true}\n---\nbroken: [\n"
	r, err := j.Run(t.Context(), []string{scan.Stdin}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSARIF(t *testing.T) {
	var b bytes.Buffer
	if err := SARIF(&b, example(t), "1.2.3"); err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	dec := json.NewDecoder(&b)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	if log.Version != "2.1.0" || len(run.Results) != 1 || len(run.Tool.Driver.Rules) != 2 {
		t.Fatalf("%+v", log)
	}
	result := run.Results[0]
	if rule := run.Tool.Driver.Rules[result.RuleIndex]; rule.ID != result.RuleID || rule.ID != "privileged" || result.Level != "error" {
		t.Errorf("%+v by %+v", result, rule)
	}
	if at := result.Locations[0].Physical; at.Artifact.URI != "stdin" || at.Region != (sarifRegion{8, 35}) {
		t.Errorf("place: %+v", at)
	}
	if i := run.Invocations[0]; i.ExecutionSuccessful || len(i.Notifications) != 1 {
		t.Errorf("a broken document is not told: %+v", i)
	}
}

func TestJSONIsTheReport(t *testing.T) {
	for _, empty := range []bool{false, true} {
		r := example(t)
		if empty {
			r.Findings = []scan.Finding{}
		}
		var b, want bytes.Buffer
		if err := JSON(&b, r); err != nil {
			t.Fatal(err)
		}
		enc := json.NewEncoder(&want)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
		if b.String() != want.String() {
			t.Errorf("got\n%s\nwant\n%s", b.String(), want.String())
		}
	}
}

// TestSARIFHasItsSchema holds a log against the schema of OASIS.
func TestSARIFHasItsSchema(t *testing.T) {
	schema := sarifSchema(t)
	for _, empty := range []bool{false, true} {
		r := example(t)
		if empty {
			r.Findings, r.Problems = []scan.Finding{}, []scan.Problem{}
		}
		var b bytes.Buffer
		if err := SARIF(&b, r, "1.2.3"); err != nil {
			t.Fatal(err)
		}
		result, err := gojsonschema.Validate(gojsonschema.NewStringLoader(schema), gojsonschema.NewBytesLoader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range result.Errors() {
			t.Error(e)
		}
		if _, err := sarif.FromBytes(b.Bytes()); err != nil { // and a reader of others takes it
			t.Error(err)
		}
	}
}

// sarifSchema is the schema of OASIS, as it stands in the sources of a module that has it for itself.
func sarifSchema(t *testing.T) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/owenrumney/go-sarif/v3").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "pkg/report/v210/sarif/schema.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	schema := ""
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			schema, err = strconv.Unquote(literal.Value)
		}
		return err == nil
	})
	if err != nil || !strings.Contains(schema, "SARIF") {
		t.Fatalf("no schema was found: %v", err)
	}
	return schema
}

func TestURIs(t *testing.T) {
	for path, want := range map[string]string{"deploy/a b.yaml": "deploy/a%20b.yaml", "/etc/a#1.yaml": "file:///etc/a%231.yaml"} {
		if got := physical(path, 0, 0); got.Artifact.URI != want || got.Region != (sarifRegion{1, 1}) {
			t.Errorf("%s: %+v, want %s", path, got, want)
		}
	}
}

func TestJUnit(t *testing.T) {
	var b bytes.Buffer
	if err := JUnit(&b, example(t)); err != nil {
		t.Fatal(err)
	}
	var all junitSuites
	if err := xml.Unmarshal(b.Bytes(), &all); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if all.Tests != 3 || all.Failures != 1 || all.Errors != 1 || len(all.Suites) != 3 {
		t.Errorf("%d tests, %d failures, %d errors in %d suites", all.Tests, all.Failures, all.Errors, len(all.Suites))
	}
}

func TestPrometheus(t *testing.T) {
	var b bytes.Buffer
	if err := Prometheus(&b, example(t)); err != nil {
		t.Fatal(err)
	}
	text := expfmt.NewTextParser(model.UTF8Validation)
	families, err := text.TextToMetricFamilies(&b)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"vigie_scan_findings": 1, "vigie_scan_objects": 1, "vigie_scan_problems": 1, "vigie_scan_control_objects": 2} {
		sum := 0.0
		for _, m := range families[name].GetMetric() {
			sum += m.GetGauge().GetValue()
		}
		if sum != want {
			t.Errorf("%s: %v, want %v", name, sum, want)
		}
	}
}

func TestHTMLIsOnePageWithoutScripts(t *testing.T) {
	var b bytes.Buffer
	if err := HTML(&b, example(t), "1.2.3", time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, never := range []string{"<script", "http://", "https://", "src="} {
		if strings.Contains(page, never) {
			t.Errorf("the page has %q", never)
		}
	}
	for _, want := range []string{"&lt;script&gt;alert(1)", "stdin:8:35", "Privileged container", "not YAML", "1970-01-01T00:00:00Z"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAWriteThatFailsIsTold(t *testing.T) {
	r := example(t)
	for name, write := range map[string]func(io.Writer) error{
		"json":       func(w io.Writer) error { return JSON(w, r) },
		"sarif":      func(w io.Writer) error { return SARIF(w, r, "") },
		"junit":      func(w io.Writer) error { return JUnit(w, r) },
		"prometheus": func(w io.Writer) error { return Prometheus(w, r) },
		"html":       func(w io.Writer) error { return HTML(w, r, "", time.Time{}) },
	} {
		if err := write(full{}); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
