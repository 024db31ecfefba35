// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// ListPolicies implements the API.
func (s *service) ListPolicies(_ context.Context, r *connect.Request[pb.ListPoliciesRequest]) (*connect.Response[pb.ListPoliciesResponse], error) {
	m := new(pb.ListPoliciesResponse)
	for _, p := range s.backend.Policies() {
		if name := r.Msg.GetName(); name == "" || name == p.Name {
			m.Policies = append(m.Policies, policyToProto(p))
		}
	}
	return connect.NewResponse(m), nil
}

// ApplyPolicies implements the API.
func (s *service) ApplyPolicies(ctx context.Context, r *connect.Request[pb.ApplyPoliciesRequest]) (*connect.Response[pb.ApplyPoliciesResponse], error) {
	dry := r.Msg.GetDryRun()
	if err := s.mayChange(ctx); err != nil && !dry {
		return nil, err
	}
	defer unhurried(ctx)()
	list, err := s.backend.ApplyPolicies(ctx, PolicyText{YAML: r.Msg.GetYaml(), Source: sourceOf(r.Msg.GetSource()), DryRun: dry})
	if err != nil {
		return nil, refused(err)
	}
	m := new(pb.ApplyPoliciesResponse)
	for _, p := range list {
		m.Policies = append(m.Policies, policyToProto(p))
		if !dry {
			s.log.Info("policy applied", "policy", p.Name, "kind", p.Kind, "mode", p.Mode, "by", peerFrom(ctx).String())
		}
	}
	return connect.NewResponse(m), nil
}

// SetPolicyMode implements the API.
func (s *service) SetPolicyMode(ctx context.Context, r *connect.Request[pb.SetPolicyModeRequest]) (*connect.Response[pb.SetPolicyModeResponse], error) {
	if err := s.mayChange(ctx); err != nil {
		return nil, err
	}
	if r.Msg.GetName() == "" {
		return nil, missing("name", "of a policy that ListPolicies lists")
	}
	defer unhurried(ctx)()
	p, err := s.backend.SetPolicyMode(ctx, r.Msg.GetName(), r.Msg.GetMode())
	if err != nil {
		return nil, refused(err)
	}
	s.log.Info("policy switched", "policy", p.Name, "mode", p.Mode, "by", peerFrom(ctx).String())
	return connect.NewResponse(&pb.SetPolicyModeResponse{Policy: policyToProto(p)}), nil
}

// DeletePolicy implements the API.
func (s *service) DeletePolicy(ctx context.Context, r *connect.Request[pb.DeletePolicyRequest]) (*connect.Response[pb.DeletePolicyResponse], error) {
	if err := s.mayChange(ctx); err != nil {
		return nil, err
	}
	if r.Msg.GetName() == "" {
		return nil, missing("name", "of a policy that ListPolicies lists")
	}
	defer unhurried(ctx)()
	if err := s.backend.DeletePolicy(ctx, r.Msg.GetName()); err != nil {
		return nil, refused(err)
	}
	s.log.Info("policy deleted", "policy", r.Msg.GetName(), "by", peerFrom(ctx).String())
	return connect.NewResponse(new(pb.DeletePolicyResponse)), nil
}

// SimulatePolicies implements the API.
func (s *service) SimulatePolicies(ctx context.Context, r *connect.Request[pb.SimulatePoliciesRequest]) (*connect.Response[pb.SimulatePoliciesResponse], error) {
	q := SimulationQuery{PolicyText: PolicyText{YAML: r.Msg.GetYaml(), Source: sourceOf(r.Msg.GetSource()), DryRun: true},
		Since: moment(r.Msg.GetSince()), Until: moment(r.Msg.GetUntil())}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("since is not before until: exchange them"))
	}
	defer unhurried(ctx)()
	leave, err := s.study(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	got, err := s.backend.SimulatePolicies(ctx, q)
	if err != nil {
		return nil, refused(err)
	}
	boot, _ := s.identity()
	m := &pb.SimulatePoliciesResponse{Judged: got.Judged, Limits: got.Limits, CompleteSince: timestamp(got.CompleteSince)}
	for _, d := range got.Denials {
		x := &pb.SimulatedDenial{Policy: clean(d.Policy), Rule: clean(d.Rule), Workload: clean(d.Workload), Binary: clean(d.Binary),
			Operation: clean(string(d.Operation)), Object: clean(d.Object), Count: d.Count}
		if d.Example != nil {
			x.Example = wire.ToProto(d.Example, boot)
		}
		m.Denials = append(m.Denials, x)
	}
	return connect.NewResponse(m), nil
}

// LearnPolicy implements the API.
func (s *service) LearnPolicy(ctx context.Context, r *connect.Request[pb.LearnPolicyRequest]) (*connect.Response[pb.LearnPolicyResponse], error) {
	if r.Msg.GetWorkload() == "" {
		return nil, missing("workload", "to learn from: ListProcesses names them")
	}
	defer unhurried(ctx)()
	leave, err := s.study(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	got, err := s.backend.LearnPolicy(ctx, LearnQuery{Workload: r.Msg.GetWorkload(), Since: moment(r.Msg.GetSince()), Name: r.Msg.GetName()})
	if err != nil {
		return nil, refused(err)
	}
	return connect.NewResponse(&pb.LearnPolicyResponse{Yaml: clean(got.YAML), Events: got.Events, Notes: got.Notes}), nil
}

// ExplainEvent implements the API.
func (s *service) ExplainEvent(ctx context.Context, r *connect.Request[pb.ExplainEventRequest]) (*connect.Response[pb.ExplainEventResponse], error) {
	if r.Msg.GetSeq() == 0 {
		return nil, missing("seq", "of an event: its number")
	}
	got, err := s.backend.ExplainEvent(ctx, r.Msg.GetSeq())
	if err != nil {
		return nil, refused(err)
	}
	boot, _ := s.identity()
	m := &pb.ExplainEventResponse{Event: wire.ToProto(got.Event, boot)}
	for _, x := range got.Explanations {
		m.Explanations = append(m.Explanations, &pb.Explanation{Policy: clean(x.Policy), Rule: clean(x.Rule), Text: clean(x.Text), Action: clean(x.Action),
			Rung: clean(x.Rung), Guarantee: clean(string(x.Guarantee)), Reason: clean(x.Reason)})
	}
	return connect.NewResponse(m), nil
}

// mayChange is nil when the peer may change what the agent enforces: root and the agent's own user on the socket, on TCP
// those who have shown the token. Who may only look is told how to become one of them.
func (s *service) mayChange(ctx context.Context) error {
	p := peerFrom(ctx)
	switch {
	case p.err != nil:
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("can't tell who asks: %w", p.err))
	case p.unix && (p.uid == 0 || p.uid == uint32(os.Geteuid())):
		return nil
	case p.unix:
		return connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("uid %d may look at policies and not change them: ask as root", p.uid))
	case s.tokens != nil:
		return nil // nobody comes here without it
	}
	return connect.NewError(connect.CodePermissionDenied,
		errors.New("policies are not changed over TCP without a token: ask as root on the unix socket, or start the agent with --token-file"))
}

// study waits for the place of the one request at a time that goes through the whole history.
func (s *service) study(ctx context.Context) (leave func(), err error) {
	select {
	case s.studies <- struct{}{}:
		return func() { <-s.studies }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// refused gives an error of the backend its code.
func refused(err error) error {
	var r *RefusedError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case !errors.As(err, &r):
		return connect.NewError(connect.CodeInternal, err)
	}
	code := map[Refusal]connect.Code{Invalid: connect.CodeInvalidArgument, NotFound: connect.CodeNotFound,
		Precondition: connect.CodeFailedPrecondition, NotReady: connect.CodeUnavailable}[r.Kind]
	return connect.NewError(code, err)
}

func missing(field, what string) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s is missing: give the %s %s", field, field, what))
}

// sourceOf is what errors call a request: what it called itself, cut to what a path can be.
func sourceOf(s string) string {
	if s == "" {
		return "request"
	}
	return clean(s[:min(len(s), 4096)])
}

func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// clean makes s valid UTF-8: one bad path would make the whole message unsendable.
func clean(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return model.CleanString([]byte(s))
}

func policyToProto(p Policy) *pb.Policy {
	m := &pb.Policy{Name: clean(p.Name), Kind: clean(p.Kind), Mode: clean(p.Mode), Source: clean(p.Source), Yaml: clean(p.YAML),
		State: clean(p.State), Message: clean(p.Message), Selector: clean(p.Selector), Applied: timestamp(p.Applied),
		Processes: p.Processes}
	for _, w := range p.Workloads {
		m.Workloads = append(m.Workloads, clean(w))
	}
	for _, r := range p.Rules {
		x := &pb.PolicyRule{Field: clean(r.Field), Text: clean(r.Text), Rung: clean(r.Rung), Guarantee: clean(string(r.Guarantee)), Hits: r.Hits}
		for _, l := range r.Limits {
			x.Limits = append(x.Limits, clean(l))
		}
		m.Rules = append(m.Rules, x)
	}
	return m
}
