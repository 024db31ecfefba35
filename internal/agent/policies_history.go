// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/store"
)

// judging are the policies of a text that can be held to what happened, without a kernel.
type judging struct {
	tables  []*policy.Table  // WorkloadPolicies
	network []*netpol.Policy // of whole pods
	notes   []string         // what of the text is left out
}

// judgingOf reads a text. The error lists all problems, each with its place.
func judgingOf(source, text string) (j judging, err error) {
	docs, err := Documents(source, text)
	if err != nil {
		return j, err
	}
	var errs []error
	for _, d := range docs {
		switch {
		case d.Kind == policy.Kind:
			t, err := compileWorkloadPolicy(d)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			j.tables = append(j.tables, t)
		case slices.Contains(netpol.Kinds(), netpol.Kind(d.Kind)):
			p, err := netpol.ParseNode(d.Source, d.Line, d.Text, d.root)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			j.network = append(j.network, p)
		case d.Kind != testKind:
			j.notes = append(j.notes, fmt.Sprintf("%s %s is not judged: its kind is carried by the kernel alone", d.Kind, d.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return j, err
	}
	if len(j.tables)+len(j.network) == 0 {
		return j, fmt.Errorf("%s:1:1: there is no %s in it, nor a network policy", source, policy.Kind)
	}
	return j, nil
}

func compileWorkloadPolicy(d Document) (*policy.Table, error) {
	p, err := d.Policy()
	if err != nil {
		return nil, err
	}
	t, err := policy.Compile(p, policy.Env{UserID: userID})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.NameAt, err)
	}
	return t, nil
}

// SimulateRecording judges a recording, which is read more than once, by the policies of a text. The error lists all problems, each with
// its place.
func SimulateRecording(source, text string, recording iter.Seq[*model.Event]) (*policy.Simulation, error) {
	j, err := judgingOf(source, text)
	if err != nil {
		return nil, err
	}
	out := &policy.Simulation{Limits: j.notes}
	if len(j.network) > 0 {
		s, judged := netpol.SimulateRecording(j.network, recording)
		if judged+len(j.tables) == 0 {
			return nil, fmt.Errorf("none of the policies can be judged by a recording; an agent in the cluster can (without --capture):\n  %s", strings.Join(s.Limits, "\n  "))
		}
		addSimulation(out, s)
	}
	if len(j.tables) > 0 {
		addSimulation(out, policy.Simulate(j.tables, recording, nil))
	}
	slices.SortStableFunc(out.Denials, func(a, b policy.Denial) int { return cmp.Compare(b.Count, a.Count) })
	return out, nil
}

func addSimulation(to, s *policy.Simulation) {
	to.Judged += s.Judged
	to.Denials = append(to.Denials, s.Denials...)
	to.Limits = append(to.Limits, s.Limits...)
}

// SimulatePolicies implements server.Backend.
func (a *Agent) SimulatePolicies(ctx context.Context, q server.SimulationQuery) (server.Simulation, error) {
	j, err := judgingOf(q.Source, q.YAML)
	if err != nil {
		return server.Simulation{}, server.Refuse(server.Invalid, err)
	}
	if len(j.network) > 0 && a.netpol == nil {
		return server.Simulation{}, server.Refuse(server.Precondition, errNoCluster)
	}
	h := a.past(ctx, q.Since, q.Until)
	all := &policy.Simulation{Limits: j.notes}
	if len(j.tables) > 0 {
		addSimulation(all, policy.Simulate(j.tables, h.events, h.image))
	}
	if len(j.network) > 0 && h.err == nil {
		cluster := a.netpol.cluster()
		if cluster.Host, err = a.netpol.own(); err != nil {
			return server.Simulation{}, fmt.Errorf("list this node's addresses: %w", err)
		}
		addSimulation(all, netpol.Simulate(j.network, cluster, h.events, a.netpol.view.PodByUID))
	}
	slices.SortStableFunc(all.Denials, func(a, b policy.Denial) int { return cmp.Compare(b.Count, a.Count) })
	out := server.Simulation{Judged: all.Judged, Limits: all.Limits, CompleteSince: h.completeSince}
	for _, d := range all.Denials {
		out.Denials = append(out.Denials, server.SimulatedDenial(d))
	}
	return out, h.err
}

// ExplainEvent implements server.Backend.
func (a *Agent) ExplainEvent(ctx context.Context, seq uint64) (server.ExplainedEvent, error) {
	event, err := a.store.Event(ctx, seq)
	if err != nil {
		return server.ExplainedEvent{}, err
	}
	if event == nil {
		return server.ExplainedEvent{}, server.Refuse(server.NotFound, fmt.Errorf("event %d is not remembered: the agent has everything since %s",
			seq, a.store.CompleteSince().Local().Format(time.DateTime)))
	}
	out := server.ExplainedEvent{Event: event}
	var tables []*policy.Table
	carried := make(map[string]*compiledPolicy)
	for _, p := range a.policies.now.Load().sorted() {
		if w, ok := p.current.(workloadPolicy); ok {
			tables = append(tables, w.compiled.table)
			carried[p.Name] = w.compiled
		}
	}
	for _, x := range policy.Explain(tables, out.Event, a.table.ByExecID) {
		e := server.Explanation{Policy: x.Policy, Rule: x.Rule, Text: x.Text, Action: x.Action, Reason: x.Reason}
		if c := carried[x.Policy].carried; x.Number < len(c) {
			e.Rung, e.Guarantee = c[x.Number].Rung, c[x.Number].Guarantee
		}
		out.Explanations = append(out.Explanations, e)
	}
	return out, nil
}

// pastEvents are the events that the agent remembers, in their order.
type pastEvents struct {
	events        iter.Seq[*model.Event]
	completeSince time.Time // at the beginning
	err           error     // why events ended early

	table func(execID string) *model.Process
	// The images that events named, by exec_id: the process table has long forgotten those of yesterday. Two generations
	// bound them.
	young, old map[string]*model.Process
}

// imagesRemembered bounds each generation of pastEvents' images.
const imagesRemembered = 16384

// past reads what is remembered from since until until.
func (a *Agent) past(ctx context.Context, since, until time.Time) *pastEvents {
	h := &pastEvents{completeSince: a.store.CompleteSince(), table: a.table.ByExecID, young: make(map[string]*model.Process)}
	h.events = func(yield func(*model.Event) bool) {
		h.err = a.store.Each(ctx, store.Query{Since: since, Until: until}, func(ev *model.Event) bool {
			h.remember(ev.Process)
			return yield(ev)
		})
	}
	return h
}

func (h *pastEvents) remember(p *model.Process) {
	if p == nil || h.young[p.ExecID] != nil {
		return
	}
	if len(h.young) >= imagesRemembered {
		h.old, h.young = h.young, make(map[string]*model.Process, imagesRemembered)
	}
	h.young[p.ExecID] = p
}

// image is the image with that exec_id, as the events so far or the process table know it; nil when neither does.
func (h *pastEvents) image(execID string) *model.Process {
	if p := h.table(execID); p != nil {
		return p
	}
	if p := h.young[execID]; p != nil {
		return p
	}
	return h.old[execID]
}
