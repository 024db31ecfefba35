// SPDX-License-Identifier: Apache-2.0

// Package scan puts manifests before controls. In: files, directories and standard input. Out: a Report, in which every
// finding has the file, line, column and value that it is about, and everything that could not be scanned is named.
package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/manifest"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// entry is an object and where it stands.
type entry struct {
	doc    *manifest.Document
	object *object.Object
}

// Run reads paths and judges what is in them. Everything is read before anything is judged, because a control may
// look at several objects. An error is a path that is not there, or the end of ctx.
func (j *Judge) Run(ctx context.Context, paths []string, stdin io.Reader) (*Report, error) {
	report := &Report{Controls: j.Controls, Tallies: make([]Tally, len(j.Controls)), Findings: []Finding{}, Problems: []Problem{}}
	for i, c := range j.Controls {
		report.Tallies[i].Control = c.ID
	}
	inventory := NewInventory()
	var entries []entry
	src := &source{stdin: stdin, visited: map[string]bool{}, problem: func(p Problem) { report.Problems = append(report.Problems, p) }}
	src.take = func(d *manifest.Document) {
		if d.Err != nil {
			src.problem(Problem{File: d.File, Line: d.Err.Line, Column: d.Err.Column, Message: d.Err.Message})
			return
		}
		o, err := j.decoder.Decode(d.Value)
		switch {
		case errors.Is(err, object.ErrNotObject):
			report.Ignored++
		case err != nil:
			src.problem(undecodable(d, err))
		default:
			for _, field := range o.Unknown {
				at := d.At(strings.Split(strings.NewReplacer("[", ".", "]", "").Replace(field), "."))
				src.problem(Problem{File: d.File, Line: at.Line, Column: at.Column, Note: true, Message: "unknown field " + field + ": an API server drops or refuses it"})
			}
			d.Value = nil // the object has it all
			inventory.Add(o)
			entries = append(entries, entry{d, o})
		}
	}
	if err := src.read(paths); err != nil {
		return nil, err
	}
	report.Files, report.Objects = src.files, len(entries)
	if err := j.judgeAll(ctx, entries, world{inventory, inventory.Authorizer()}, report); err != nil {
		return nil, err
	}
	report.finish()
	return report, nil
}

// undecodable is a document that the API server would refuse.
func undecodable(d *manifest.Document, err error) Problem {
	at := d.At(nil)
	var field *object.FieldError
	if errors.As(err, &field) {
		if found := d.At(field.Path); found.Found {
			at = found
		}
	}
	return Problem{File: d.File, Line: at.Line, Column: at.Column, Message: err.Error()}
}

// chunk is how many objects a goroutine takes at a time.
const chunk = 32

func (j *Judge) judgeAll(ctx context.Context, entries []entry, w world, report *Report) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	for start := 0; start < len(entries); start += chunk {
		part := entries[start:min(start+chunk, len(entries))]
		group.Go(func() error {
			own := &Report{Tallies: make([]Tally, len(j.Controls))}
			for _, e := range part {
				if err := ctx.Err(); err != nil {
					return fmt.Errorf("scan: %w", err)
				}
				j.judgeOne(ctx, e, w, own)
			}
			mu.Lock()
			defer mu.Unlock()
			report.add(own)
			return nil
		})
	}
	return group.Wait()
}

func (r *Report) add(other *Report) {
	r.Findings = append(r.Findings, other.Findings...)
	r.Problems = append(r.Problems, other.Problems...)
	for i, t := range other.Tallies {
		r.Tallies[i].Passed += t.Passed
		r.Tallies[i].Failed += t.Failed
		r.Tallies[i].Unevaluated += t.Unevaluated
	}
}

func (j *Judge) judgeOne(ctx context.Context, e entry, w world, report *Report) {
	request := j.request(e.object, w)
	var failed []engine.Verdict
	for _, v := range j.engine.Review(ctx, request) {
		tally := &report.Tallies[v.Policy]
		switch v.State {
		case engine.Passed:
			tally.Passed++
		case engine.Failed:
			tally.Failed++
			failed = append(failed, v)
		case engine.Unevaluated:
			tally.Unevaluated++
			at := e.doc.At(nil)
			report.Problems = append(report.Problems, Problem{File: e.doc.File, Line: at.Line, Column: at.Column, Control: j.Controls[v.Policy].ID,
				Message: "could not be evaluated: " + v.Err})
		}
	}
	if len(failed) > 0 {
		l := &locator{judge: j, ctx: ctx, entry: e, world: w}
		report.Findings = append(report.Findings, l.findings(failed)...)
	}
}
