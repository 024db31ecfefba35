// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// ListPolicies implements the API: a policy that several nodes have is one, with how it is doing on each.
func (a *api) ListPolicies(ctx context.Context, q *connect.Request[pb.ListPoliciesRequest]) (*connect.Response[pb.ListPoliciesResponse], error) {
	r := a.relay
	answers, errs, err := ask(ctx, r.all(), "ListPolicies", r.o.AskTimeout, same(q.Msg), vigiev1connect.VigieClient.ListPolicies)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ListPoliciesResponse{Policies: joinPolicies(answers, (*pb.ListPoliciesResponse).GetPolicies), NodeErrors: errs}), nil
}

// ApplyPolicies implements the API. Every node that answers checks them before any has them: a node that refuses is the
// answer for all. What is away when they come is told.
func (a *api) ApplyPolicies(ctx context.Context, q *connect.Request[pb.ApplyPoliciesRequest]) (*connect.Response[pb.ApplyPoliciesResponse], error) {
	r, m := a.relay, q.Msg
	if !m.GetDryRun() {
		if err := r.mayChange(ctx); err != nil {
			return nil, err
		}
	}
	r.unhurried(ctx, 2*r.o.StudyTimeout)
	apply := func(nodes []*node, dry bool) ([]answer[pb.ApplyPoliciesResponse], []*pb.NodeError, error) {
		return ask(ctx, nodes, "ApplyPolicies", r.o.StudyTimeout, same(&pb.ApplyPoliciesRequest{Yaml: m.GetYaml(), DryRun: dry, Source: m.GetSource()}),
			vigiev1connect.VigieClient.ApplyPolicies)
	}
	answers, errs, err := apply(r.all(), true)
	if err != nil {
		return nil, err
	}
	for _, e := range errs {
		if code := codeOf(e); code == connect.CodeInvalidArgument || code == connect.CodeFailedPrecondition {
			return nil, connect.NewError(code, fmt.Errorf("node %s refuses, and nothing was changed anywhere: %s", e.GetNode(), e.GetMessage()))
		}
	}
	if !m.GetDryRun() {
		var nodes []*node
		for _, x := range answers {
			nodes = append(nodes, x.node)
		}
		var more []*pb.NodeError
		if answers, more, err = apply(nodes, false); err != nil {
			return nil, err
		}
		errs = append(errs, more...)
	}
	return connect.NewResponse(&pb.ApplyPoliciesResponse{Policies: joinPolicies(answers, (*pb.ApplyPoliciesResponse).GetPolicies), NodeErrors: errs}), nil
}

// SetPolicyMode implements the API.
func (a *api) SetPolicyMode(ctx context.Context, q *connect.Request[pb.SetPolicyModeRequest]) (*connect.Response[pb.SetPolicyModeResponse], error) {
	r := a.relay
	if err := r.mayChange(ctx); err != nil {
		return nil, err
	}
	r.unhurried(ctx, r.o.StudyTimeout)
	answers, errs, err := ask(ctx, r.all(), "SetPolicyMode", r.o.StudyTimeout, same(q.Msg), vigiev1connect.VigieClient.SetPolicyMode)
	if err != nil {
		return nil, err
	}
	list := joinPolicies(answers, func(m *pb.SetPolicyModeResponse) []*pb.Policy { return []*pb.Policy{m.GetPolicy()} })
	return connect.NewResponse(&pb.SetPolicyModeResponse{Policy: list[0], NodeErrors: without(errs, connect.CodeNotFound)}), nil
}

// DeletePolicy implements the API.
func (a *api) DeletePolicy(ctx context.Context, q *connect.Request[pb.DeletePolicyRequest]) (*connect.Response[pb.DeletePolicyResponse], error) {
	r := a.relay
	if err := r.mayChange(ctx); err != nil {
		return nil, err
	}
	r.unhurried(ctx, r.o.StudyTimeout)
	_, errs, err := ask(ctx, r.all(), "DeletePolicy", r.o.StudyTimeout, same(q.Msg), vigiev1connect.VigieClient.DeletePolicy)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeletePolicyResponse{NodeErrors: without(errs, connect.CodeNotFound)}), nil
}

// without leaves out errors of a kind: a node that does not have a policy is not missing from its deletion.
func without(errs []*pb.NodeError, code connect.Code) []*pb.NodeError {
	return slices.DeleteFunc(errs, func(e *pb.NodeError) bool { return e.GetCode() == code.String() })
}

func codeOf(e *pb.NodeError) connect.Code {
	var c connect.Code
	if c.UnmarshalText([]byte(e.GetCode())) != nil {
		return connect.CodeUnknown
	}
	return c
}

// severity orders the states of policies, the worst last. What is not known stands before it.
func severity(state string) int {
	return slices.Index([]string{"in force", "disabled", "degraded", "failed"}, state)
}

// joinPolicies makes one of the policies of one kind and name, ordered by name.
func joinPolicies[R any](answers []answer[R], get func(*R) []*pb.Policy) []*pb.Policy {
	type key struct{ kind, name string }
	joined := make(map[key]*pb.Policy)
	for _, x := range answers {
		for _, p := range get(x.R) {
			part := &pb.PolicyNode{Node: x.node.called(), State: p.GetState(), Message: p.GetMessage(), Mode: p.GetMode(), Processes: p.GetProcesses()}
			for _, rule := range p.GetRules() {
				part.Hits += rule.GetHits()
			}
			k := key{p.GetKind(), p.GetName()}
			to := joined[k]
			if to == nil {
				joined[k] = p
				p.Nodes = []*pb.PolicyNode{part}
				continue
			}
			to.Nodes = append(to.Nodes, part)
			joinPolicy(to, p)
		}
	}
	out := values(joined)
	slices.SortFunc(out, func(a, b *pb.Policy) int {
		return cmp.Or(strings.Compare(a.GetName(), b.GetName()), strings.Compare(a.GetKind(), b.GetKind()))
	})
	return out
}

// joinPolicy adds what another node says of a policy.
func joinPolicy(to, p *pb.Policy) {
	if severity(p.GetState()) > severity(to.GetState()) {
		to.State, to.Message = p.GetState(), p.GetMessage()
	}
	if p.GetMode() != to.GetMode() {
		to.Mode = "mixed"
	}
	if t := p.GetApplied(); t != nil && (to.GetApplied() == nil || t.AsTime().After(to.GetApplied().AsTime())) {
		to.Applied = t
	}
	to.Processes += p.GetProcesses()
	for _, w := range p.GetWorkloads() {
		if !slices.Contains(to.GetWorkloads(), w) && len(to.GetWorkloads()) < 100 {
			to.Workloads = append(to.Workloads, w)
		}
	}
	for i, rule := range p.GetRules() {
		if i >= len(to.GetRules()) || to.GetRules()[i].GetField() != rule.GetField() {
			continue // the node has another version of it: its state there says so
		}
		r := to.GetRules()[i]
		r.Hits += rule.GetHits()
		if !slices.Contains(strings.Split(r.GetRung(), ", "), rule.GetRung()) {
			r.Rung += ", " + rule.GetRung()
		}
		if weaker(rule.GetGuarantee(), r.GetGuarantee()) {
			r.Guarantee = rule.GetGuarantee()
		}
		for _, l := range rule.GetLimits() {
			if !slices.Contains(r.GetLimits(), l) {
				r.Limits = append(r.Limits, l)
			}
		}
	}
}

// weaker compares guarantees in the words of the API.
func weaker(a, b string) bool {
	order := []string{"denied before it happens", "killed before the first instruction", "killed after the fact", "seen only"}
	return slices.Index(order, a) > slices.Index(order, b)
}

// SimulatePolicies implements the API.
func (a *api) SimulatePolicies(ctx context.Context, q *connect.Request[pb.SimulatePoliciesRequest]) (*connect.Response[pb.SimulatePoliciesResponse], error) {
	r, m := a.relay, q.Msg
	r.unhurried(ctx, r.o.StudyTimeout)
	answers, errs, err := ask(ctx, r.all(), "SimulatePolicies", r.o.StudyTimeout, func(n *node) *pb.SimulatePoliciesRequest {
		return &pb.SimulatePoliciesRequest{Yaml: m.GetYaml(), Source: m.GetSource(), Since: r.there(n, m.GetSince()), Until: r.there(n, m.GetUntil())}
	}, vigiev1connect.VigieClient.SimulatePolicies)
	if err != nil {
		return nil, err
	}
	out := &pb.SimulatePoliciesResponse{NodeErrors: errs}
	groups := make(map[[6]string]*pb.SimulatedDenial)
	for _, x := range answers {
		out.Judged += x.R.GetJudged()
		if t := x.R.GetCompleteSince(); t != nil && (out.GetCompleteSince() == nil || t.AsTime().After(out.GetCompleteSince().AsTime())) {
			out.CompleteSince = t
		}
		for _, l := range x.R.GetLimits() {
			if !slices.Contains(out.GetLimits(), l) {
				out.Limits = append(out.Limits, l)
			}
		}
		for _, d := range x.R.GetDenials() {
			if e := d.GetExample(); e != nil {
				e.Node = x.node.called()
			}
			k := [6]string{d.GetPolicy(), d.GetRule(), d.GetWorkload(), d.GetBinary(), d.GetOperation(), d.GetObject()}
			had := groups[k]
			if had == nil {
				groups[k] = d
				continue
			}
			had.Count += d.GetCount()
			if d.GetExample().GetTime().AsTime().After(had.GetExample().GetTime().AsTime()) {
				had.Example = d.GetExample()
			}
		}
	}
	out.Denials = values(groups)
	slices.SortFunc(out.GetDenials(), func(a, b *pb.SimulatedDenial) int {
		return cmp.Or(cmp.Compare(b.GetCount(), a.GetCount()), strings.Compare(a.GetPolicy(), b.GetPolicy()), strings.Compare(a.GetObject(), b.GetObject()),
			strings.Compare(a.GetBinary(), b.GetBinary()))
	})
	return connect.NewResponse(out), nil
}

// LearnPolicy implements the API: from the node that has seen most of the workload. That others have seen it too is said.
func (a *api) LearnPolicy(ctx context.Context, q *connect.Request[pb.LearnPolicyRequest]) (*connect.Response[pb.LearnPolicyResponse], error) {
	r, m := a.relay, q.Msg
	r.unhurried(ctx, r.o.StudyTimeout)
	answers, errs, err := ask(ctx, r.all(), "LearnPolicy", r.o.StudyTimeout, func(n *node) *pb.LearnPolicyRequest {
		return &pb.LearnPolicyRequest{Workload: m.GetWorkload(), Since: r.there(n, m.GetSince()), Name: m.GetName()}
	}, vigiev1connect.VigieClient.LearnPolicy)
	if err != nil {
		return nil, err
	}
	best := slices.MaxFunc(answers, func(x, y answer[pb.LearnPolicyResponse]) int { return cmp.Compare(x.R.GetEvents(), y.R.GetEvents()) })
	out := best.R
	out.NodeErrors = without(errs, connect.CodeNotFound)
	for _, x := range answers {
		if x.node != best.node {
			out.Notes = append(out.Notes, fmt.Sprintf("it was learned on node %s: node %s has seen %d events of the workload too, of which nothing is in it; simulate it before enforcing it",
				best.node.called(), x.node.called(), x.R.GetEvents()))
		}
	}
	return connect.NewResponse(out), nil
}

// ExplainEvent implements the API.
func (a *api) ExplainEvent(ctx context.Context, q *connect.Request[pb.ExplainEventRequest]) (*connect.Response[pb.ExplainEventResponse], error) {
	r := a.relay
	n, err := r.only(q.Msg.GetNode(), "the numbers of events are each node's own; give the event's node with it")
	if err != nil {
		return nil, err
	}
	m, err := askOne(ctx, n, "ExplainEvent", r.o.AskTimeout, &pb.ExplainEventRequest{Seq: q.Msg.GetSeq()}, vigiev1connect.VigieClient.ExplainEvent)
	if err != nil {
		return nil, asked(n, err)
	}
	if e := m.GetEvent(); e != nil {
		e.Node = n.called()
	}
	return connect.NewResponse(m), nil
}

// asked says which node an error is from.
func asked(n *node, err error) error {
	code := connect.CodeOf(err)
	if code == connect.CodeUnknown || code == connect.CodeCanceled {
		code = connect.CodeUnavailable
	}
	return connect.NewError(code, errors.New("node "+n.called()+": "+text(err)))
}

// ListDetections implements the API: a rule that several nodes run is one, with what all of them have raised.
func (a *api) ListDetections(ctx context.Context, q *connect.Request[pb.ListDetectionsRequest]) (*connect.Response[pb.ListDetectionsResponse], error) {
	r := a.relay
	answers, errs, err := ask(ctx, r.all(), "ListDetections", r.o.AskTimeout, same(q.Msg), vigiev1connect.VigieClient.ListDetections)
	if err != nil {
		return nil, err
	}
	joined := make(map[string]*pb.Detection)
	for _, x := range answers {
		for _, d := range x.R.GetDetections() {
			to := joined[d.GetId()]
			if to == nil {
				joined[d.GetId()] = d
				continue
			}
			to.Alerts += d.GetAlerts()
			to.Suppressed += d.GetSuppressed()
			to.Errors += d.GetErrors()
			to.Disabled = to.GetDisabled() && d.GetDisabled()
		}
	}
	out := &pb.ListDetectionsResponse{Detections: values(joined), NodeErrors: errs}
	slices.SortFunc(out.GetDetections(), func(a, b *pb.Detection) int { return strings.Compare(a.GetId(), b.GetId()) })
	return connect.NewResponse(out), nil
}
