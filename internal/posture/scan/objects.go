// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/manifest"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// Item is an object that stands in no file: one of a cluster, or a host.
type Item struct {
	Fields map[string]any
	Where  string // it stands for the file in findings
	Known  bool   // others may look at it, and it is not judged itself
}

// RunObjects judges what feed gives. An error is one of feed, or the end of ctx.
func (j *Judge) RunObjects(ctx context.Context, feed func(ctx context.Context, give func(Item) error) error) (*Report, error) {
	s := &state{judge: j, report: newReport(j.Controls), inventory: NewInventory()}
	group, inGroup := errgroup.WithContext(ctx)
	items := make(chan Item, 64)
	group.Go(func() error {
		defer close(items)
		return feed(inGroup, func(i Item) error {
			select {
			case items <- i:
				return nil
			case <-inGroup.Done():
				return fmt.Errorf("scan: %w", inGroup.Err())
			}
		})
	})
	workers := make([]*worker, runtime.GOMAXPROCS(0))
	for n := range workers {
		w := s.newWorker()
		workers[n] = w
		group.Go(func() error {
			for i := range items {
				w.item(inGroup, i)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, w := range workers {
		s.report.add(w.report)
		s.kept = append(s.kept, w.kept...)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	if err := s.judgeOthers(ctx); err != nil {
		return nil, err
	}
	for _, page := range s.report.pages {
		for n := range page {
			page[n].Line, page[n].Column = 1, 1
		}
	}
	s.report.Live = true
	s.finish()
	return s.report, nil
}

func (w *worker) item(ctx context.Context, i Item) {
	doc := &manifest.Document{File: i.Where, Line: 1}
	o, err := w.scan.judge.decoder.Decode(i.Fields)
	switch {
	case errors.Is(err, object.ErrNotObject):
		w.report.Ignored++
		return
	case err != nil:
		w.report.Problems = append(w.report.Problems, undecodable(doc, err))
		return
	}
	if !i.Known {
		w.review(ctx, entry{doc, o})
	}
	w.remember(o)
}

// described gives an object without a document one, so that a finding has the value that it is about. It is made only of what
// has findings.
func (e entry) described() entry {
	if e.doc.Written() {
		return e
	}
	text, err := json.Marshal(e.object.API)
	if err != nil {
		return e
	}
	d, err := manifest.Unwritten(e.doc.File, text)
	if err != nil {
		return e
	}
	return entry{d, e.object}
}

// Verdicts puts one object before all controls, with what is known of others: for who keeps objects and judges those that
// change. Findings have no place.
func (j *Judge) Verdicts(ctx context.Context, o *object.Object, inv *Inventory) []engine.Verdict {
	return j.engine.Review(ctx, j.request(o, newWorld(inv)))
}

// Decode is an object as controls see it.
func (j *Judge) Decode(fields map[string]any) (*object.Object, error) {
	return j.decoder.Decode(fields)
}

// Inventory is one of these objects, for Verdicts. What is asked of it is kept in it, so that it serves one goroutine.
func (j *Judge) Inventory(objects []*object.Object) *Inventory {
	inv := NewInventory()
	for _, o := range objects {
		inv.Add(o, j.related)
	}
	return inv
}

// Reach is how far a change of an object can change what is said of others.
type Reach int

// The reaches.
const (
	Itself    Reach = iota // nobody looks at it
	Namespace              // those in its namespace may
	Cluster                // any may
)

// ReachOf tells who may look at an object.
func (j *Judge) ReachOf(o *object.Object) Reach {
	if o.Served.Kind == "Namespace" {
		return Namespace // its labels
	}
	reach := Itself
	for _, c := range j.Controls {
		for _, r := range c.Related {
			for _, kind := range r.Kinds {
				if kind != o.Served.GroupVersion().String()+"/"+o.Served.Kind && (kind != podKinds || podPath(o) == nil) {
					continue
				}
				if r.Scope == "cluster" {
					return Cluster
				}
				reach = Namespace
			}
		}
	}
	return reach
}
