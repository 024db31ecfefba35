// SPDX-License-Identifier: Apache-2.0

// Package fix makes manifests good. In: the text of a file. Out: the text with what controls know how to fix fixed in place, what
// was done and why it may be, and what was left and why. A fix that could break a workload is made only when it was asked for by
// name, or when what an agent saw at run time proves it safe.
package fix

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/edit"
	"github.com/vigie-io/vigie/internal/posture/facts"
	"github.com/vigie-io/vigie/internal/posture/manifest"
	"github.com/vigie-io/vigie/internal/posture/scan"
	"github.com/vigie-io/vigie/internal/posture/schema"
)

// Watched is for how long a workload must have been watched for a proof, unless somebody says otherwise.
const Watched = 14 * 24 * time.Hour

// Fixer fixes what its judge finds.
type Fixer struct {
	Judge *scan.Judge
	Risky bool            // also what could break a workload
	Named map[string]bool // controls that the user named: their risk was accepted
	Facts facts.Source    // nil: nothing was seen at run time
	Least time.Duration   // for how long a container must have been watched for a proof; 0: Watched
}

// Result is what became of one file.
type Result struct {
	File          string
	Before, After []byte
	Fixed         []Outcome
	Left          []Outcome
	Problems      []scan.Problem // what could not be read: nothing was done there
}

// Outcome is a finding and why it was fixed, or left.
type Outcome struct {
	scan.Finding
	Why string
}

// rounds bounds how often a file is scanned anew: a fix may uncover another finding, and of the elements of a list one is found at a time.
const rounds = 20

// File fixes the text of a file.
func (f *Fixer) File(ctx context.Context, name string, text []byte) (*Result, error) {
	mark := []byte("\ufeff") // a byte order mark stays where it is
	if rest, ok := bytes.CutPrefix(text, mark); ok {
		r, err := f.File(ctx, name, rest)
		if err != nil {
			return nil, err
		}
		r.Before, r.After = text, append(mark, r.After...)
		return r, nil
	}
	r := &Result{File: name, Before: text, After: text}
	first, err := f.scan(ctx, name, text)
	if err != nil {
		return nil, err
	}
	r.Problems = first.Problems
	report := first
	refused := map[string]string{} // fingerprint → why
	for range rounds {
		after, done := f.round(r.After, report, refused)
		if len(done) == 0 {
			break
		}
		r.After, r.Fixed = after, append(r.Fixed, done...)
		if report, err = f.scan(ctx, name, r.After); err != nil {
			return nil, err
		}
	}
	for _, finding := range report.Findings {
		if f.fixOf(finding) != nil {
			r.Left = append(r.Left, Outcome{finding, refused[finding.Fingerprint]})
		}
	}
	if err := worse(first, report); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func (f *Fixer) scan(ctx context.Context, name string, text []byte) (*scan.Report, error) {
	r, err := f.Judge.Run(ctx, []string{scan.Stdin}, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for i := range r.Findings {
		r.Findings[i].File = name
	}
	for i := range r.Problems {
		r.Problems[i].File = name
	}
	return r, nil
}

// worse reports what the new text has and the old one had not: a fix must not make anything else fail, nor leave the schema.
func worse(before, after *scan.Report) error {
	if len(after.Problems) > len(before.Problems) {
		p := after.Problems[len(after.Problems)-1]
		return fmt.Errorf("a fix would make it wrong: line %d: %s: nothing was changed, please report this", p.Line, p.Message)
	}
	type key struct {
		control string
		object  scan.Ref
	}
	had := map[key]int{}
	version := func(r scan.Ref) scan.Ref { // a fix may raise it
		r.APIVersion = ""
		return r
	}
	for _, f := range before.Findings {
		had[key{f.Control, version(f.Object)}]++
	}
	for _, f := range after.Findings {
		k := key{f.Control, version(f.Object)}
		had[k]--
		if had[k] < 0 && f.Severity.Rank() <= control.Medium.Rank() {
			return fmt.Errorf("a fix would make %s fail in line %d: nothing was changed, please report this", f.Control, f.Line)
		}
	}
	return nil
}

func (f *Fixer) fixOf(finding scan.Finding) *control.Fix {
	i := slices.IndexFunc(f.Judge.Controls, func(c *control.Control) bool { return c.ID == finding.Control })
	if i < 0 {
		return nil
	}
	return f.Judge.Controls[i].Fix
}

// allowed says why a fix may be made, or why not.
func (f *Fixer) allowed(fix *control.Fix, finding scan.Finding) (why string, ok bool) {
	if fix.Risk == "" {
		return "", true
	}
	if fix.Proof != "" && f.Facts != nil {
		w := facts.Workload{Kind: finding.Object.Kind, Namespace: finding.Object.Namespace, Name: finding.Object.Name}
		if seen, known := f.Facts.Container(w, finding.Container); known {
			proof, proven := seen.Proof(fix.Proof, cmp.Or(f.Least, Watched), finding.Mounts)
			if proven {
				return proof, true
			}
			why = "; " + proof
		}
	}
	if f.Risky || f.Named[finding.Control] {
		return "asked for, though " + fix.Risk, true
	}
	return fix.Risk + why + ": ask for it with --only " + finding.Control, false
}

// round makes what can be made without a scan between.
func (f *Fixer) round(text []byte, report *scan.Report, refused map[string]string) ([]byte, []Outcome) {
	docs := split(text)
	var done []Outcome
	shifted := map[int]bool{} // documents in which the places of elements are not those of the scan any more
	for _, finding := range report.Findings {
		fix := f.fixOf(finding)
		if fix == nil || refused[finding.Fingerprint] != "" {
			continue
		}
		why, ok := f.allowed(fix, finding)
		if !ok {
			refused[finding.Fingerprint] = why
			continue
		}
		i := docs.of(finding.Line)
		if i < 0 {
			refused[finding.Fingerprint] = "the document begins on the line of its separator: move it to a line of its own"
			continue
		}
		if shifted[i] {
			continue // in the next round
		}
		changed, moved, err := apply(docs[i].text, fix, finding)
		if err == nil {
			err = valid(docs[i].text, changed)
		}
		switch {
		case err != nil:
			refused[finding.Fingerprint] = err.Error()
		case bytes.Equal(changed, docs[i].text):
			if !slices.ContainsFunc(done, func(o Outcome) bool { return docs.of(o.Line) == i }) { // else another fix of this round did it
				refused[finding.Fingerprint] = "its fix is not for this object: " + f.remediation(finding)
			}
		default:
			docs[i].text, shifted[i] = changed, moved
			done = append(done, Outcome{finding, why})
		}
	}
	return docs.join(), done
}

func (f *Fixer) remediation(finding scan.Finding) string {
	i := slices.IndexFunc(f.Judge.Controls, func(c *control.Control) bool { return c.ID == finding.Control })
	return f.Judge.Controls[i].Remediation
}

// apply makes the edits of one fix in a document; moved: an element of a list went away.
func apply(text []byte, fix *control.Fix, finding scan.Finding) (out []byte, moved bool, err error) {
	t := target{finding: finding, text: text}
	if t.value, err = parseValue(text); err != nil {
		return nil, false, err
	}
	for _, path := range slices.Sorted(maps.Keys(fix.Unless)) {
		for _, value := range fix.Without(path) {
			if at, ok := t.resolve(path); ok && t.holds(at, value) {
				return nil, false, fmt.Errorf("not while %s is %v", path, value)
			}
		}
	}
	out = text
	for _, e := range fix.Edits {
		ops, err := t.ops(e)
		if err != nil {
			return nil, false, err
		}
		for _, op := range ops {
			if out, err = edit.Apply(out, op); err != nil {
				return nil, false, err
			}
			moved = moved || op.Remove && isIndex(op.Path[len(op.Path)-1])
		}
		if t.value, err = parseValue(out); err != nil { // the next edit sees what this one did
			return nil, false, err
		}
	}
	return out, moved, nil
}

// valid reports what the schema of a document's kinds does not allow of the changed text, and the text before did not have. What no schema
// is known for is valid.
func valid(before, after []byte) error {
	if bytes.Equal(before, after) {
		return nil
	}
	had, err := faults(before)
	if err != nil {
		return err
	}
	has, err := faults(after)
	if err != nil {
		return err
	}
	for _, fault := range has {
		if !slices.Contains(had, fault) {
			schemas, _ := schema.Builtin() // it was read above
			return fmt.Errorf("the result would not be valid by the schema of Kubernetes %s: %s", schemas.Kubernetes, fault)
		}
	}
	return nil
}

// faults are what the schema does not allow in a document, and in the items of a list.
func faults(text []byte) ([]string, error) {
	d := manifest.Text{Line: 1, Bytes: text}.Parse()
	if d.Err != nil {
		return nil, fmt.Errorf("line %d: %s", d.Err.Line, d.Err.Message)
	}
	schemas, err := schema.Builtin()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, item := range d.Items() {
		if item.Err != nil {
			continue // it is as it was
		}
		found, _, err := schemas.Validate(item.Value)
		if err != nil {
			return nil, err
		}
		for _, fault := range found {
			out = append(out, strings.Join(append(item.Item(), fault), "."))
		}
	}
	return out, nil
}

var errNoSuchPlace = errors.New("there is no such place in this object")

func isIndex(step string) bool { return step != "" && strings.Trim(step, "0123456789") == "" }
