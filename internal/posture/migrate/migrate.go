// SPDX-License-Identifier: Apache-2.0

// Package migrate reads the policies of other engines. In: Kyverno policies, or Gatekeeper's templates and constraints. Out: controls
// with a ValidatingAdmissionPolicy that decides the same, and for each rule what could not be taken over. A rule of which a
// part that decides is missing is not taken over at all: half a rule would say "passed" where the other engine does not.
package migrate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// Rule is what became of one rule, or of one constraint.
type Rule struct {
	Policy, Name string // in the file
	Line         int
	File         string
	Control      string   // the id of the control that it became; empty: none
	Missing      []string // what was left out, and why; of a rule with a Control it does not decide
	Text         []byte   // the control's file
}

// Name is policy and rule.
func (r Rule) String() string {
	if r.Name == "" {
		return r.Policy
	}
	return r.Policy + "/" + r.Name
}

// documents reads a file.
func documents(in io.Reader, file string, each func(*manifest.Document) error) error {
	r := manifest.NewReader(in, file)
	for {
		d, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.Err != nil {
			return fmt.Errorf("%s:%d:%d: %s", file, d.Err.Line, d.Err.Column, d.Err.Message)
		}
		for _, item := range d.Items() {
			if item.Err != nil {
				return fmt.Errorf("%s:%d:%d: %s", file, item.Err.Line, item.Err.Column, item.Err.Message)
			}
			if err := each(item); err != nil {
				return fmt.Errorf("%s:%d: %w", file, item.Line, err)
			}
		}
	}
}

// into decodes the fields of a document; fields that are not asked for are passed over.
func into(d *manifest.Document, to any) error {
	text, err := json.Marshal(d.Value)
	if err != nil {
		return fmt.Errorf("read the policy: %w", err)
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("read the policy: %w", err)
	}
	return nil
}

// draft is a control in the making.
type draft struct {
	id, title, why, remediation string
	severity                    control.Severity
	match                       string // of the library, in place of spec.MatchConstraints
	spec                        admv1.ValidatingAdmissionPolicySpec
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// identifier makes a control's id of names.
func identifier(names ...string) string {
	id := strings.Trim(notInName.ReplaceAllString(strings.ToLower(strings.Join(names, "-")), "-"), "-")
	return strings.TrimRight(id[:min(len(id), 60)], "-")
}

// text is the control's file.
func (d *draft) text(from string) ([]byte, error) {
	head := map[string]any{"title": cmp.Or(d.title, d.id), "severity": cmp.Or(d.severity, control.Medium),
		"why": cmp.Or(d.why, "Taken over from "+from+"."), "remediation": cmp.Or(d.remediation, "See the message.")}
	if d.match != "" {
		head["match"] = d.match
	}
	policy := admv1.ValidatingAdmissionPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: d.id}, Spec: d.spec}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# From %s.\n", from)
	control := map[string]any{"apiVersion": "vigie.io/v1alpha1", "kind": "Control", "metadata": map[string]any{"name": d.id}, "spec": head}
	if err := document(&b, control); err != nil {
		return nil, err
	}
	b.WriteString("---\n")
	if err := document(&b, policy); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// document writes YAML with the fields that JSON has.
func document(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the control: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("write the control: %w", err)
	}
	delete(fields, "status")
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(fields); err != nil {
		return fmt.Errorf("write the control: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("write the control: %w", err)
	}
	return nil
}

// finish makes the file of a draft and reads it back: what vigie itself would refuse is no control.
func finish(r Rule, d *draft, from string) (Rule, error) {
	text, err := d.text(from)
	if err != nil {
		return r, err
	}
	if _, err := control.Parse(d.id+".yaml", text); err != nil {
		return r, fmt.Errorf("%s: %w", r, err)
	}
	r.Control, r.Text = d.id, text
	return r, nil
}

// quote is a string in CEL.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range s {
		switch {
		case r == '\'' || r == '\\':
			b.WriteString("\\" + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + "'"
}

func quoteList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// field is the access to a key in CEL, and the test that it is there.
func field(of, key string) (access, has string) {
	if plainName.MatchString(key) && !reserved(key) {
		return of + "." + key, "has(" + of + "." + key + ")"
	}
	return of + "[" + quote(key) + "]", quote(key) + " in " + of
}

// reserved are the words of CEL that cannot be selected.
func reserved(s string) bool {
	switch s {
	case "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop", "package", "namespace", "null",
		"return", "true", "var", "void", "while":
		return true
	}
	return false
}

// wildcard is a regular expression for * and ?.
func wildcard(pattern string) string {
	var b strings.Builder
	b.WriteByte('^')
	for _, r := range pattern {
		switch r {
		case '*':
			b.WriteString(`(.|\n)*`)
		case '?':
			b.WriteString(`(.|\n)`)
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return b.String() + "$"
}
