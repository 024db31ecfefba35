// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// simulateCapture is what an agent answers, of a recording.
func simulateCapture(ctx context.Context, path string, req *vigiev1.SimulatePoliciesRequest) (*vigiev1.SimulatePoliciesResponse, error) {
	r := &recording{path: path, in: func(at time.Time) bool {
		return (req.Since == nil || !at.Before(req.Since.AsTime())) && (req.Until == nil || at.Before(req.Until.AsTime()))
	}}
	s, err := agent.SimulateRecording(req.GetSource(), req.GetYaml(), r.events(ctx))
	if err != nil {
		return nil, Cannot(err)
	}
	m := &vigiev1.SimulatePoliciesResponse{Judged: s.Judged, Limits: s.Limits}
	var damaged *capture.Error
	switch {
	case errors.As(r.broken, &damaged) && r.header != (capture.Header{}):
		m.Limits = append(m.Limits, fmt.Sprintf("the recording is damaged at byte %d (%s): what is before that was judged", damaged.Offset, damaged.Reason))
	case r.broken != nil:
		return nil, Cannot(fmt.Errorf("read the recording: %w", r.broken))
	}
	if r.lost > 0 {
		m.Limits = append(m.Limits, fmt.Sprintf("%d events were lost when it was recorded: they were not judged", r.lost))
	}
	if !r.first.IsZero() {
		m.CompleteSince = timestamppb.New(r.first)
	}
	boot := r.header.BootID
	for _, d := range s.Denials {
		m.Denials = append(m.Denials, &vigiev1.SimulatedDenial{Policy: d.Policy, Rule: d.Rule, Workload: d.Workload, Binary: d.Binary,
			Operation: string(d.Operation), Object: d.Object, Count: d.Count, Example: wire.ToProto(d.Example, boot[:min(len(boot), 8)])})
	}
	return m, nil
}

// recording is a file of `vigie record` that can be read again and again. What it says beside its events is that of the last time.
type recording struct {
	path string
	in   func(time.Time) bool

	header capture.Header
	first  time.Time // of the events
	lost   uint64    // events that were lost when it was recorded
	broken error     // why reading ended early
}

// events are those that are wanted, from the beginning.
func (r *recording) events(ctx context.Context) iter.Seq[*model.Event] {
	return func(yield func(*model.Event) bool) { r.read(ctx, yield) }
}

func (r *recording) read(ctx context.Context, yield func(*model.Event) bool) {
	r.first, r.lost, r.broken = time.Time{}, 0, nil
	file, err := capture.Open(r.path)
	if err != nil {
		r.broken = err
		return
	}
	defer file.Close()
	r.header = file.Header()
	for {
		batch, err := file.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			r.broken = err
			return
		}
		for _, ev := range batch {
			if !r.in(ev.Time) {
				continue
			}
			if r.first.IsZero() {
				r.first = ev.Time
			}
			if ev.Loss != nil {
				r.lost += ev.Loss.Count
			}
			if !yield(ev) {
				return
			}
		}
	}
}
