// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/store"
)

// CompilePolicies reads the policies of a text that can be judged without a kernel, the WorkloadPolicies. The notes say
// what of the text is left out. The error lists all problems, each with its place.
func CompilePolicies(source, text string) (tables []*policy.Table, notes []string, err error) {
	docs, err := Documents(source, text)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, d := range docs {
		if d.Kind != policy.Kind {
			if d.Kind != testKind && !slices.Contains(netpol.Kinds(), netpol.Kind(d.Kind)) {
				notes = append(notes, fmt.Sprintf("%s %s is not judged: only %s can be without a kernel", d.Kind, d.Name, policy.Kind))
			}
			continue
		}
		p, err := d.Policy()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t, err := policy.Compile(p, policy.Env{UserID: userID})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.NameAt, err))
		}
		tables = append(tables, t)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	if len(tables) == 0 {
		return nil, nil, fmt.Errorf("%s:1:1: there is no %s in it", source, policy.Kind)
	}
	return tables, notes, nil
}

// SimulatePolicies implements server.Backend.
func (a *Agent) SimulatePolicies(ctx context.Context, q server.SimulationQuery) (server.Simulation, error) {
	network, onlyNetwork, err := networkPoliciesIn(q.Source, q.YAML)
	if err != nil {
		return server.Simulation{}, server.Refuse(server.Invalid, err)
	}
	if len(network) > 0 && a.netpol == nil {
		return server.Simulation{}, server.Refuse(server.Precondition, errNoCluster)
	}
	var tables []*policy.Table
	var notes []string
	if !onlyNetwork {
		if tables, notes, err = CompilePolicies(q.Source, q.YAML); err != nil {
			return server.Simulation{}, server.Refuse(server.Invalid, err)
		}
	}
	h := a.past(ctx, q.Since, q.Until)
	out := server.Simulation{CompleteSince: h.completeSince}
	add := func(s *policy.Simulation, notes []string) {
		out.Judged += s.Judged
		out.Limits = append(append(out.Limits, notes...), s.Limits...)
		for _, d := range s.Denials {
			out.Denials = append(out.Denials, server.SimulatedDenial(d))
		}
	}
	if len(tables) > 0 {
		add(policy.Simulate(tables, h.events, h.image), notes)
	}
	if len(network) > 0 && h.err == nil {
		add(netpol.Simulate(network, a.netpol.cluster(), h.events, a.netpol.view.PodByUID), nil)
	}
	return out, h.err
}

// networkPoliciesIn are the policies of whole pods in a text; only: there is nothing else in it.
func networkPoliciesIn(source, text string) (list []*netpol.Policy, only bool, err error) {
	docs, err := Documents(source, text)
	if err != nil {
		return nil, false, err
	}
	var errs []error
	only = len(docs) > 0
	for _, d := range docs {
		if !slices.Contains(netpol.Kinds(), netpol.Kind(d.Kind)) {
			only = only && d.Kind == testKind
			continue
		}
		p, err := netpol.ParseNode(d.Source, d.Line, d.Text, d.root)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, p)
	}
	return list, only && len(list) > 0, errors.Join(errs...)
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
