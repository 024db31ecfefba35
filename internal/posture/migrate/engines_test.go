// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// command is a command of a source engine, which `make test-import` builds.
func command(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("needs %s: run make test-import", variable)
	}
	return path
}

func written(t *testing.T, texts ...string) (names []string) {
	t.Helper()
	for i, text := range texts {
		name := filepath.Join(t.TempDir(), "f"+string(rune('0'+i))+".yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// ran is what a command printed. That objects fail is no error.
func ran(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, out, &errs)
	}
	return out
}

// skipped is what Kyverno says when the condition of a pattern does not hold. A control has passed then: nothing is wrong.
const skipped = "skipped"

// byKyverno is Kyverno's own verdict of an object.
func byKyverno(t *testing.T, tool, policy, object string) string {
	t.Helper()
	names := written(t, policy, object)
	out := ran(t, tool, "apply", names[0], "--resource", names[1], "--policy-report")
	verdict := "nothing"
	_, report, ok := bytes.Cut(out, []byte("\napiVersion:"))
	if !ok {
		return verdict
	}
	for d := yaml.NewDecoder(io.MultiReader(strings.NewReader("apiVersion:"), bytes.NewReader(report))); ; {
		var r struct {
			Results []struct{ Result, Message string }
		}
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return verdict
		} else if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, one := range r.Results {
			switch {
			case one.Result == "error":
				t.Errorf("Kyverno: %s", one.Message)
			case one.Result == "fail":
				verdict = "failed"
			case one.Result == "pass" && verdict != "failed":
				verdict = "passed"
			case one.Result == "skip" && verdict == "nothing":
				verdict = skipped
			}
		}
	}
}

// TestKyvernoJudgesTheSame puts each sample before Kyverno's own command, and requires the verdicts of what it was translated into.
func TestKyvernoJudgesTheSame(t *testing.T) {
	tool := command(t, "VIGIE_KYVERNO")
	compare := func(t *testing.T, policy string, objects ...string) {
		t.Helper()
		taken := read(t, Kyverno, policy)
		for _, object := range objects {
			theirs, ours := byKyverno(t, tool, policy, object), verdict(t, taken, object)
			if theirs != ours && (theirs != skipped || ours != "passed") {
				t.Errorf("Kyverno: %s, ours: %s, of\n%s\nby\n%s", theirs, ours, object, policy)
			}
		}
	}
	for _, s := range patternSamples() {
		t.Run(s.name, func(t *testing.T) {
			compare(t, kyverno(s.kinds, patternRule(s.policy)), pod(s.bad), pod(s.good), deployment(s.bad), deployment(s.good))
		})
	}
	for _, s := range ruleSamples() {
		t.Run(s.name, func(t *testing.T) { compare(t, kyverno(s.kinds, s.policy), s.bad, s.good) })
	}
}

// byGatekeeper is gator's verdict: it tells violations alone, so that what passed and what it is not about are the same.
func byGatekeeper(t *testing.T, tool, template, constraint, object string) string {
	t.Helper()
	args := []string{"test", "--output", "json"}
	for _, name := range written(t, template, constraint, object) {
		args = append(args, "--filename", name)
	}
	var violations []any
	out := ran(t, tool, args...)
	if len(bytes.TrimSpace(out)) > 0 {
		if err := json.Unmarshal(out, &violations); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if len(violations) > 0 {
		return "failed"
	}
	return "not failed"
}

// TestGatekeeperJudgesTheSame puts the samples before gator, with the templates that stand in Gatekeeper's own module. Those of its library that do not
// stand there are passed over: they are no part of a module.
func TestGatekeeperJudgesTheSame(t *testing.T) {
	tool, there := command(t, "VIGIE_GATOR"), shipped(t, command(t, "VIGIE_GATEKEEPER_MODULE"))
	there["Mine"] = native
	all := append(templateSamples(), sample{"Mine", "", "{hosts: [n1, n2], strict: true}", pod("{nodeName: n2}"), pod("{nodeName: n3}")})
	compared := 0
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			template, ok := there[s.name]
			if !ok {
				t.Skip("its template is not in Gatekeeper's module")
			}
			compared++
			if s.name == "K8sPSPPrivilegedContainer" { // the one of the module's tests is older than the library's, and has no exemptImages
				s.policy, s.good = "{}", pod("{containers: [{name: a, image: sys.example/a}]}")
			}
			c := constraint(s.name, s.policy)
			text := c
			if s.name == "Mine" {
				text = native + c
			}
			taken := read(t, Gatekeeper, text)
			for _, object := range []string{s.bad, s.good, strings.Replace(s.bad, "namespace: shop", "namespace: kube-system", 1)} {
				theirs, ours := byGatekeeper(t, tool, template, c, object), verdict(t, taken, object)
				if (theirs == "failed") != (ours == "failed") {
					t.Errorf("gator: %s, ours: %s, of\n%s\nby\n%s", theirs, ours, object, c)
				}
			}
		})
	}
	if compared < 4 {
		t.Errorf("only %d templates were compared", compared)
	}
}

// shipped are the templates in a module, by the kind of their constraints.
func shipped(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, folder := range []string{"demo/agilebank/templates", "pkg/webhook/testdata/psp-all-violations/psp-templates", "example/templates"} {
		files, err := filepath.Glob(filepath.Join(dir, folder, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var template struct {
				Spec struct {
					CRD struct {
						Spec struct{ Names struct{ Kind string } }
					} `yaml:"crd"`
				}
			}
			if err := yaml.Unmarshal(text, &template); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if kind := template.Spec.CRD.Spec.Names.Kind; kind != "" && out[kind] == "" {
				out[kind] = string(text)
			}
		}
	}
	return out
}
