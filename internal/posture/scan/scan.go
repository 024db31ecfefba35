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
	"slices"
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

// Run is Scan of paths, with the values that charts have themselves.
func (j *Judge) Run(ctx context.Context, paths []string, stdin io.Reader) (*Report, error) {
	return j.Scan(ctx, Input{Paths: paths, Stdin: stdin})
}

// Scan reads what it is given and judges what is in it. An error is a path that is not there, values that cannot be read, or the end of ctx.
func (j *Judge) Scan(ctx context.Context, in Input) (*Report, error) {
	s := &state{judge: j, report: newReport(j.Controls), inventory: NewInventory()}
	if err := s.readAll(ctx, in); err != nil {
		return nil, err
	}
	if err := s.judgeOthers(ctx); err != nil {
		return nil, err
	}
	s.finish()
	return s.report, nil
}

// state is a scan that goes on. Most controls judge an object as soon as it was parsed, and it is dropped. Those that look at
// other objects too wait until all are read, so that only what they need is kept.
type state struct {
	judge *Judge

	mu        sync.Mutex
	report    *Report
	inventory *Inventory
	kept      []entry
}

const (
	batchTexts = 32        // documents that a goroutine takes at a time
	batchBytes = 256 << 10 // and their size, about
)

// readAll reads documents in one goroutine, and parses and judges them in as many as there are processors.
func (s *state) readAll(ctx context.Context, in Input) error {
	group, inGroup := errgroup.WithContext(ctx)
	batches := make(chan []manifest.Text, 1)
	src := &source{Input: in, ctx: ctx, visited: map[string]bool{}, problem: func(p Problem) { s.report.Problems = append(s.report.Problems, p) }}
	src.send = func(batch []manifest.Text) error {
		select {
		case batches <- batch:
			return nil
		case <-inGroup.Done():
			return fmt.Errorf("scan: %w", inGroup.Err())
		}
	}
	group.Go(func() error {
		defer close(batches)
		return src.all()
	})
	owns := make([]*worker, runtime.GOMAXPROCS(0))
	for i := range owns {
		w := s.newWorker()
		owns[i] = w
		group.Go(func() error {
			for batch := range batches {
				for _, text := range batch {
					w.text(inGroup, text)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.report.Files, s.report.Charts = src.files, len(src.charts)
	for _, w := range owns {
		s.report.add(w.report)
		s.kept = append(s.kept, w.kept...)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return nil
}

// worker is one goroutine's part of a scan.
type worker struct {
	scan   *state
	world  world
	report *Report
	kept   []entry
}

func (s *state) newWorker() *worker {
	return &worker{scan: s, world: newWorld(NewInventory()), report: newReport(s.judge.Controls)}
}

func (w *worker) text(ctx context.Context, text manifest.Text) {
	d := text.Parse()
	if d.Err != nil {
		w.broken(d)
		return
	}
	for _, item := range d.Items() {
		w.document(ctx, item)
	}
}

func (w *worker) broken(d *manifest.Document) {
	w.report.Problems = append(w.report.Problems, Problem{File: d.File, Line: d.Err.Line, Column: d.Err.Column, Message: d.Err.Message})
}

func (w *worker) document(ctx context.Context, d *manifest.Document) {
	if d.Err != nil {
		w.broken(d)
		return
	}
	o, err := w.scan.judge.decoder.Decode(d.Value)
	switch {
	case errors.Is(err, object.ErrNotObject):
		w.report.Ignored++
		return
	case err != nil:
		w.report.Problems = append(w.report.Problems, undecodable(d, err))
		return
	}
	for _, field := range o.Unknown {
		at := d.At(strings.Split(strings.NewReplacer("[", ".", "]", "").Replace(field), "."))
		w.report.Problems = append(w.report.Problems, Problem{File: d.File, Line: at.Line, Column: at.Column, Note: true,
			Message: "unknown field " + field + ": an API server drops or refuses it"})
	}
	d.Value = nil // the object has it all
	w.review(ctx, entry{d, o})
	w.remember(o)
}

// review puts an object before the controls that look at it alone, and keeps it for the others.
func (w *worker) review(ctx context.Context, e entry) {
	w.report.Objects++
	j := w.scan.judge
	verdicts, others := j.engine.ReviewAlone(ctx, j.request(e.object, w.world))
	j.note(ctx, e, w.world, verdicts, w.report)
	if others {
		w.kept = append(w.kept, e)
	}
}

// remember takes an object into the inventory, which other objects are judged by.
func (w *worker) remember(o *object.Object) {
	w.scan.mu.Lock()
	defer w.scan.mu.Unlock()
	w.scan.inventory.Add(o, w.scan.judge.related)
}

// judgeOthers puts what was kept before the controls that look at other objects.
func (s *state) judgeOthers(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	n := runtime.GOMAXPROCS(0)
	size := (len(s.kept) + n - 1) / n
	for start := 0; start < len(s.kept); start += size {
		part := s.kept[start:min(start+size, len(s.kept))]
		own, w := newReport(s.judge.Controls), newWorld(s.inventory)
		group.Go(func() error {
			for i, e := range part {
				part[i] = entry{} // nobody needs it any more
				if err := ctx.Err(); err != nil {
					return fmt.Errorf("scan: %w", err)
				}
				s.judge.note(ctx, e, w, s.judge.engine.ReviewOthers(ctx, s.judge.request(e.object, w)), own)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.report.add(own)
			return nil
		})
	}
	return group.Wait()
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

// note writes verdicts into a report, failures with their place.
func (j *Judge) note(ctx context.Context, e entry, w world, verdicts []engine.Verdict, report *Report) {
	var failed []engine.Verdict
	if slices.ContainsFunc(verdicts, func(v engine.Verdict) bool { return v.State == engine.Failed }) {
		e = e.described()
	}
	for _, v := range verdicts {
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
		l.record(failed, report)
	}
}
