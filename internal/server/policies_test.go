// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

// policyBackend is the part of a backend that is about policies: it notes what it was asked.
type policyBackend struct {
	mu     sync.Mutex
	asked  []string
	refuse error
}

func (b *policyBackend) ask(format string, args ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, fmt.Sprintf(format, args...))
	return b.refuse
}

func (b *policyBackend) last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) == 0 {
		return ""
	}
	return b.asked[len(b.asked)-1]
}

func testPolicy(name, mode string) Policy {
	return Policy{Name: name, Kind: "WorkloadPolicy", Mode: mode, Source: "api", YAML: "kind: WorkloadPolicy\n", State: PolicyInForce,
		Selector: "unit nginx.service", Applied: time.Unix(1_700_000_000, 0), Processes: 3, Workloads: []string{"nginx.service"},
		Rules: []PolicyRule{{Field: "files.deny[0]", Text: "read /etc/\xff", Rung: "fanotify OPEN_PERM", Guarantee: model.DeniedBefore, Hits: 7,
			Limits: []string{"bind mounts made later"}}}}
}

func (b *policyBackend) Policies() []Policy {
	return []Policy{testPolicy("db", "audit"), testPolicy("web", "enforce")}
}
func (b *policyBackend) ApplyPolicies(_ context.Context, t PolicyText) ([]Policy, error) {
	return []Policy{testPolicy("web", "enforce")}, b.ask("apply %q of %s, dry run %v", t.YAML, t.Source, t.DryRun)
}
func (b *policyBackend) SetPolicyMode(_ context.Context, name, mode string) (Policy, error) {
	return testPolicy(name, mode), b.ask("mode %s %s", name, mode)
}
func (b *policyBackend) DeletePolicy(_ context.Context, name string) error {
	return b.ask("delete %s", name)
}
func (b *policyBackend) SimulatePolicies(_ context.Context, q SimulationQuery) (Simulation, error) {
	return Simulation{Denials: []SimulatedDenial{{Policy: "web", Rule: "files.deny[0]", Workload: "nginx.service", Binary: "/usr/bin/cat",
			Operation: model.OpRead, Object: "/etc/shadow", Count: 4, Example: modeltest.Exec()}}, Judged: 99, CompleteSince: q.Since, Limits: []string{"a limit"}},
		b.ask("simulate %q of %s since %d until %d", q.YAML, q.Source, q.Since.Unix(), q.Until.Unix())
}
func (b *policyBackend) LearnPolicy(_ context.Context, q LearnQuery) (LearnedPolicy, error) {
	return LearnedPolicy{YAML: "learned", Events: 12, Notes: []string{"look at it"}}, b.ask("learn %s of %s, all: %v", q.Name, q.Workload, q.Since.IsZero())
}
func (b *policyBackend) ExplainEvent(_ context.Context, seq uint64) (ExplainedEvent, error) {
	return ExplainedEvent{Event: modeltest.Exec(), Explanations: []Explanation{{Policy: "web", Rule: "processes.allow", Text: "exec", Action: "denied",
		Rung: "lsm bprm_check", Guarantee: model.DeniedBefore, Reason: "the list does not have it"}}}, b.ask("explain %d", seq)
}

func TestPolicyCalls(t *testing.T) {
	r := start(t, nil)
	c := r.client()
	list, err := c.ListPolicies(t.Context(), connect.NewRequest(&pb.ListPoliciesRequest{}))
	if err != nil || len(list.Msg.GetPolicies()) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	list, err = c.ListPolicies(t.Context(), connect.NewRequest(&pb.ListPoliciesRequest{Name: "web"}))
	if err != nil || len(list.Msg.GetPolicies()) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	p := list.Msg.GetPolicies()[0]
	rule := p.GetRules()[0]
	got := fmt.Sprintln(p.GetName(), p.GetKind(), p.GetMode(), p.GetSource(), p.GetState(), p.GetSelector(), p.GetApplied().GetSeconds(), p.GetProcesses(),
		p.GetWorkloads(), rule.GetField(), rule.GetText(), rule.GetRung(), rule.GetGuarantee(), rule.GetHits(), rule.GetLimits())
	want := "web WorkloadPolicy enforce api in force unit nginx.service 1700000000 3 [nginx.service] files.deny[0] read /etc/\\xff fanotify OPEN_PERM " +
		"denied before it happens 7 [bind mounts made later]\n"
	if got != want {
		t.Errorf("got  %swant %s", got, want)
	}

	applied, err := c.ApplyPolicies(t.Context(), connect.NewRequest(&pb.ApplyPoliciesRequest{Yaml: "y", Source: "web.yaml"}))
	if err != nil || applied.Msg.GetPolicies()[0].GetName() != "web" || r.agent.last() != `apply "y" of web.yaml, dry run false` {
		t.Errorf("%v, %v: %s", applied, err, r.agent.last())
	}
	if _, err := c.ApplyPolicies(t.Context(), connect.NewRequest(&pb.ApplyPoliciesRequest{Yaml: "y", DryRun: true})); err != nil ||
		r.agent.last() != `apply "y" of request, dry run true` {
		t.Errorf("%v: %s", err, r.agent.last())
	}
	mode, err := c.SetPolicyMode(t.Context(), connect.NewRequest(&pb.SetPolicyModeRequest{Name: "db", Mode: "enforce"}))
	if err != nil || mode.Msg.GetPolicy().GetMode() != "enforce" || r.agent.last() != "mode db enforce" {
		t.Errorf("%v, %v: %s", mode, err, r.agent.last())
	}
	if _, err := c.DeletePolicy(t.Context(), connect.NewRequest(&pb.DeletePolicyRequest{Name: "db"})); err != nil || r.agent.last() != "delete db" {
		t.Errorf("%v: %s", err, r.agent.last())
	}
	sim, err := c.SimulatePolicies(t.Context(), connect.NewRequest(&pb.SimulatePoliciesRequest{Yaml: "y", Source: "f", Since: timestamppb.New(time.Unix(5, 0)),
		Until: timestamppb.New(time.Unix(9, 0))}))
	if err != nil || r.agent.last() != `simulate "y" of f since 5 until 9` {
		t.Fatalf("%v: %s", err, r.agent.last())
	}
	d := sim.Msg.GetDenials()[0]
	if d.GetObject() != "/etc/shadow" || d.GetCount() != 4 || d.GetExample().GetType() != "exec" || sim.Msg.GetJudged() != 99 ||
		sim.Msg.GetCompleteSince().GetSeconds() != 5 || sim.Msg.GetLimits()[0] != "a limit" {
		t.Errorf("%v", sim.Msg)
	}
	learned, err := c.LearnPolicy(t.Context(), connect.NewRequest(&pb.LearnPolicyRequest{Workload: "w", Name: "n"}))
	if err != nil || learned.Msg.GetYaml() != "learned" || learned.Msg.GetEvents() != 12 || len(learned.Msg.GetNotes()) != 1 ||
		r.agent.last() != "learn n of w, all: true" {
		t.Errorf("%v, %v: %s", learned, err, r.agent.last())
	}
	x, err := c.ExplainEvent(t.Context(), connect.NewRequest(&pb.ExplainEventRequest{Seq: 3}))
	if err != nil || x.Msg.GetEvent().GetType() != "exec" || x.Msg.GetExplanations()[0].GetRule() != "processes.allow" ||
		x.Msg.GetExplanations()[0].GetGuarantee() != "denied before it happens" || r.agent.last() != "explain 3" {
		t.Errorf("%v, %v: %s", x, err, r.agent.last())
	}
}

func TestPolicyErrorsHaveTheirCodes(t *testing.T) {
	r := start(t, nil)
	c := r.client()
	apply := func(ctx context.Context, text string) error {
		_, err := c.ApplyPolicies(ctx, connect.NewRequest(&pb.ApplyPoliciesRequest{Yaml: text}))
		return err
	}
	for code, refuse := range map[connect.Code]error{
		connect.CodeInvalidArgument:    Refuse(Invalid, errors.New("f:1:2: x\nf:2:3: y")),
		connect.CodeNotFound:           Refuse(NotFound, errors.New("there is none")),
		connect.CodeFailedPrecondition: fmt.Errorf("outer: %w", Refuse(Precondition, errors.New("not on this kernel"))),
		connect.CodeUnavailable:        Refuse(NotReady, errors.New("starting")),
		connect.CodeInternal:           errors.New("the disk is full"),
	} {
		r.agent.refuse = refuse
		err := apply(t.Context(), "y")
		var ce *connect.Error
		if connect.CodeOf(err) != code || !errors.As(err, &ce) || ce.Message() != refuse.Error() {
			t.Errorf("%v, want code %v and %q", err, code, refuse)
		}
	}
	r.agent.refuse = nil
	for what, call := range map[string]func() error{
		"name": func() error {
			_, err := c.DeletePolicy(t.Context(), connect.NewRequest(&pb.DeletePolicyRequest{}))
			return err
		},
		"workload": func() error {
			_, err := c.LearnPolicy(t.Context(), connect.NewRequest(&pb.LearnPolicyRequest{}))
			return err
		},
		"seq": func() error {
			_, err := c.ExplainEvent(t.Context(), connect.NewRequest(&pb.ExplainEventRequest{}))
			return err
		},
		"since": func() error {
			_, err := c.SimulatePolicies(t.Context(), connect.NewRequest(&pb.SimulatePoliciesRequest{Since: timestamppb.New(time.Unix(9, 0)), Until: timestamppb.New(time.Unix(5, 0))}))
			return err
		},
	} {
		if err := call(); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := apply(t.Context(), strings.Repeat("#", maxRequest)); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a request without bounds: %v", err)
	}
}

// change calls everything that changes something.
func change(ctx context.Context, c vigiev1connect.VigieClient) map[string]error {
	errs := make(map[string]error)
	_, errs["apply"] = c.ApplyPolicies(ctx, connect.NewRequest(&pb.ApplyPoliciesRequest{Yaml: "y"}))
	_, errs["mode"] = c.SetPolicyMode(ctx, connect.NewRequest(&pb.SetPolicyModeRequest{Name: "web", Mode: "audit"}))
	_, errs["delete"] = c.DeletePolicy(ctx, connect.NewRequest(&pb.DeletePolicyRequest{Name: "web"}))
	return errs
}

func TestOverTCPOnlyHoldersOfTheTokenChangePolicies(t *testing.T) {
	r := start(t, nil)
	c := vigiev1connect.NewVigieClient(http.DefaultClient, "http://"+r.tcp())
	for what, err := range change(t.Context(), c) {
		if connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "--token-file") {
			t.Errorf("%s without a token: %v", what, err)
		}
	}
	if r.agent.last() != "" {
		t.Errorf("the backend was asked: %s", r.agent.last())
	}
	if _, err := c.ListPolicies(t.Context(), connect.NewRequest(&pb.ListPoliciesRequest{})); err != nil {
		t.Errorf("looking is allowed: %v", err)
	}
	if _, err := c.ApplyPolicies(t.Context(), connect.NewRequest(&pb.ApplyPoliciesRequest{Yaml: "y", DryRun: true})); err != nil {
		t.Errorf("a dry run changes nothing: %v", err)
	}

	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(strings.Repeat("s3cret", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, func(c *Config) { c.TokenFile = file })
	for what, err := range change(t.Context(), vigiev1connect.NewVigieClient(http.DefaultClient, "http://"+r.tcp())) {
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s without the token: %v", what, err)
		}
	}
	with := connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Authorization", "Bearer "+strings.Repeat("s3cret", 8))
			return next(ctx, req)
		}
	}))
	for what, err := range change(t.Context(), vigiev1connect.NewVigieClient(http.DefaultClient, "http://"+r.tcp(), with)) {
		if err != nil {
			t.Errorf("%s with the token: %v", what, err)
		}
	}
}

func TestMembersOfTheGroupLookAndDoNotChange(t *testing.T) {
	s := &service{Server: start(t, nil).Server}
	for name, c := range map[string]struct {
		peer peer
		says string
	}{
		"root":            {peer{unix: true}, ""},
		"the agent's own": {peer{unix: true, uid: uint32(os.Geteuid())}, ""},
		"a member":        {peer{unix: true, uid: 65533}, "uid 65533 may look at policies and not change them: ask as root"},
		"nobody knows":    {peer{unix: true, err: errors.New("gone")}, "can't tell who asks"},
	} {
		err := s.mayChange(context.WithValue(t.Context(), peerKey{}, c.peer))
		if c.says == "" && err != nil || c.says != "" && (connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
