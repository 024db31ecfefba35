// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func defaults(t *testing.T) []*Control {
	t.Helper()
	all, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestControlsOfOneLibraryAgreeOnNames(t *testing.T) {
	ids, variables := map[string]bool{}, map[string]string{}
	for _, c := range defaults(t) {
		if ids[c.ID] {
			t.Errorf("%s is there twice", c.ID)
		}
		ids[c.ID] = true
		for _, v := range c.Policy.Spec.Variables {
			if have, ok := variables[v.Name]; ok && have != v.Expression {
				t.Errorf("%s: variable %s means something else in another control", c.Source, v.Name)
			}
			variables[v.Name] = v.Expression
		}
		if examples, err := c.Examples(); err != nil || len(examples) == 0 {
			t.Errorf("%s has no tests: %v", c.Source, err)
		}
	}
}

func TestEveryControlIsInTheDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../../docs/controls.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range defaults(t) {
		if !strings.Contains(string(text), "| `"+c.ID+"` | "+string(c.Severity)+" | ") {
			t.Errorf("docs/controls.md has no line for %s, %s", c.ID, c.Severity)
		}
	}
}

func TestSelect(t *testing.T) {
	all := defaults(t)
	for name, want := range map[string]string{"privileged": "privileged", "framework:pss-restricted": "run-as-non-root", "severity:critical": "role-escalate"} {
		picked, err := Select(all, []string{name})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, c := range picked {
			found = found || c.ID == want
		}
		if !found || len(picked) == len(all) {
			t.Errorf("%s: %d controls, %s among them: %v", name, len(picked), want, found)
		}
	}
	for _, name := range []string{"none", "framework:none", "severity:none"} {
		if _, err := Select(all, []string{name}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestFilesThatAreNoControls(t *testing.T) {
	const head = "apiVersion: vigie.io/v1alpha1\nkind: Control\nmetadata: {name: mine}\nspec: {title: t, why: w, remediation: r, severity: low, match: pods}\n"
	const policy = "---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: mine}\nspec: {validations: [{expression: variables.podSpec == null}]}\n"
	c, err := Parse("mine.yaml", []byte(head+policy))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Policy.Spec.Variables) != 1 || c.Policy.Spec.MatchConstraints == nil {
		t.Errorf("the policy is not whole: %+v", c.Policy.Spec)
	}
	if _, err := c.Examples(); err == nil {
		t.Error("a control without tests has examples")
	}
	for name, tt := range map[string]struct{ text, want string }{
		"one document":     {head, "two documents"},
		"broken":           {head + "---\na: [\n", "mine.yaml:6:"},
		"unknown field":    {strings.Replace(head, "why:", "whi:", 1) + policy, "whi"},
		"no severity":      {strings.Replace(head, "severity: low", "severity: odd", 1) + policy, "severity"},
		"another name":     {strings.Replace(head, "name: mine", "name: other", 1) + policy, "same name"},
		"unknown match":    {strings.Replace(head, "match: pods", "match: all", 1) + policy, "match"},
		"nothing to match": {strings.Replace(head, ", match: pods", "", 1) + policy, "matchConstraints"},
		"no framework":     {strings.Replace(head, "match:", "frameworks: {none: [x]}, match:", 1) + policy, "framework"},
		"related to what":  {strings.Replace(head, "match:", "related: {a: {kinds: [pods], scope: moon}}, match:", 1) + policy, "scope"},
		"wrong policy":     {head + strings.Replace(policy, "validations", "validation", 1), "validation"},
	} {
		if _, err := Parse("mine.yaml", []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.want)
		}
	}
}

func TestTheBundleIsWhatTheFilesSay(t *testing.T) {
	want, err := Bundle()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bundle, want) {
		t.Error("controls.json is not up to date: run go generate ./internal/posture/control")
	}
}
