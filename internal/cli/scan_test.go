// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestScanExitCodes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: b, securityContext: {privileged: %}}]}\n"
	bad := write("bad.yaml", strings.Replace(pod, "%", "true", 1))
	good := write("good.yaml", strings.Replace(pod, "%", "false", 1))
	broken := write("broken.yaml", "a: [\n")
	known := filepath.Join(dir, "known.json")
	only := []string{"scan", "--control", "privileged"}
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"nothing found", []string{good}, 0, "nothing found in 1 object of 1 file, by 1 control"},
		{"found", []string{bad}, 1, "bad.yaml:4:71  Pod default/p  privileged container: a (privileged: true)"},
		{"never fails", []string{bad, "--fail-on", "none"}, 0, "1 critical"},
		{"written", []string{bad, "--write-baseline", known}, 1, "1 critical"},
		{"known", []string{bad, "--baseline", known}, 0, "nothing found, 1 known"},
		{"broken", []string{bad, broken}, 2, "not scanned"},
		{"sarif", []string{bad, "-o", "sarif"}, 1, `"ruleId": "privileged"`},
		{"json", []string{bad, "-o", "json"}, 1, `"severity": "critical"`},
		{"junit", []string{bad, "-o", "junit"}, 1, `failures="1"`},
		{"html", []string{bad, "-o", "html"}, 1, "<title>vigie scan</title>"},
		{"no such control", []string{bad, "--control", "none"}, 2, ""},
		{"no such file", []string{filepath.Join(dir, "none")}, 2, ""},
		{"no such format", []string{bad, "-o", "csv"}, 2, ""},
		{"no such severity", []string{bad, "--fail-on", "bad"}, 2, ""},
		{"no such version", []string{bad, "--target", "1.2"}, 2, ""},
		{"no such parameter", []string{bad, "--set", "privileged.x=1"}, 2, ""},
		{"a baseline of something else", []string{bad, "--baseline", good}, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := vigie(t, append(only, c.args...)...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("code %d, want %d with %q:\n%s%s", code, c.code, c.says, out, errs)
			}
			if c.says == "" && errs == "" {
				t.Error("nothing is said")
			}
		})
	}
}

func TestControlsCommands(t *testing.T) {
	mine := filepath.Join(t.TempDir(), "mine.yaml")
	text := "apiVersion: vigie.io/v1alpha1\nkind: Control\nmetadata: {name: mine}\nspec: {title: t, why: w, remediation: r, severity: low, match: pods}\n---\n" +
		"apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: mine}\nspec:\n  validations: [{expression: 'false'}]\n---\n" +
		"apiVersion: vigie.io/v1alpha1\nkind: ControlTests\npod: {bad: [{}], good: [{}]}\n"
	if err := os.WriteFile(mine, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"list"}, 0, "Privileged container"},
		{[]string{"list", "--control", "framework:pss-restricted", "-o", "wide"}, 0, "pss-restricted Volume Types"},
		{[]string{"list", "-o", "json", "--control", "privileged"}, 0, `"id":"privileged"`},
		{[]string{"explain", "image-registry"}, 0, "--set image-registry.registries="},
		{[]string{"explain", "read-only-root"}, 0, "vigie fix --only read-only-root: what writes outside of its volumes stops (safe when"},
		{[]string{"explain", "privileged", "--policy"}, 0, "kind: ValidatingAdmissionPolicy"},
		{[]string{"explain", "service-selects-nothing", "--policy"}, 2, ""},
		{[]string{"explain", "none"}, 2, ""},
		{[]string{"test", "--control", "privileged"}, 0, "good: "},
		{[]string{"test", "--controls", mine, "--control", "mine"}, 1, "it failed: failed expression: false"},
	} {
		code, out, errs := vigie(t, append([]string{"controls"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v: code %d, want %d with %q:\n%s%s", c.args, code, c.code, c.says, out, errs)
		}
	}
}
