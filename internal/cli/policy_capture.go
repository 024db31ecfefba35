// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/wire"
)

// simulateCapture is what an agent answers, of a recording.
func simulateCapture(ctx context.Context, path string, req *vigiev1.SimulatePoliciesRequest) (*vigiev1.SimulatePoliciesResponse, error) {
	tables, notes, err := agent.CompilePolicies(req.GetSource(), req.GetYaml())
	if err != nil {
		return nil, Cannot(err)
	}
	r, err := capture.Open(path)
	if err != nil {
		return nil, Cannot(fmt.Errorf("read the recording: %w", err))
	}
	defer r.Close()
	in := func(ev *model.Event) bool {
		return (req.Since == nil || !ev.Time.Before(req.Since.AsTime())) && (req.Until == nil || ev.Time.Before(req.Until.AsTime()))
	}
	var broken error
	var first time.Time
	var lost uint64
	events := func(yield func(*model.Event) bool) {
		for {
			batch, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				broken = err
				return
			}
			for _, ev := range batch {
				if !in(ev) {
					continue
				}
				if first.IsZero() {
					first = ev.Time
				}
				if ev.Loss != nil {
					lost += ev.Loss.Count
				}
				if !yield(ev) {
					return
				}
			}
		}
	}
	s := policy.Simulate(tables, events, nil)
	m := &vigiev1.SimulatePoliciesResponse{Judged: s.Judged, Limits: append(notes, s.Limits...)}
	var damaged *capture.Error
	switch {
	case errors.As(broken, &damaged):
		m.Limits = append(m.Limits, fmt.Sprintf("the recording is damaged at byte %d (%s): what is before that was judged", damaged.Offset, damaged.Reason))
	case broken != nil:
		return nil, fmt.Errorf("read the recording: %w", broken)
	}
	if lost > 0 {
		m.Limits = append(m.Limits, fmt.Sprintf("%d events were lost when it was recorded: they were not judged", lost))
	}
	if !first.IsZero() {
		m.CompleteSince = timestamppb.New(first)
	}
	boot := r.Header().BootID
	for _, d := range s.Denials {
		m.Denials = append(m.Denials, &vigiev1.SimulatedDenial{Policy: d.Policy, Rule: d.Rule, Workload: d.Workload, Binary: d.Binary,
			Operation: string(d.Operation), Object: d.Object, Count: d.Count, Example: wire.ToProto(d.Example, boot[:min(len(boot), 8)])})
	}
	return m, nil
}
