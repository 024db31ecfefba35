// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/process"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/store"
)

// fakeEnforcer carries execs and reads; capabilities only when that is accepted.
type fakeEnforcer struct {
	mu      sync.Mutex
	fail    error // of the next Apply
	inForce []*policy.Table
	planned int
	message string
}

func (e *fakeEnforcer) Plan(t *policy.Table) ([]*enforce.Carried, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.planned++
	carried := make([]*enforce.Carried, len(t.Rules))
	for i, r := range t.Rules {
		carried[i] = new(enforce.Carried)
		switch {
		case i == 0 || r.Allows:
		case slices.Contains(slices.Collect(r.Operations.All()), model.OpCapability):
			if !r.Weaker {
				return nil, fmt.Errorf("%s: the best there is here is the audit of capable: %s; accept it with weaker: accept", r.Field(), model.SeenOnly)
			}
			carried[i] = &enforce.Carried{Rung: "tp capable", Guarantee: model.SeenOnly}
		default:
			carried[i] = &enforce.Carried{Rung: "fanotify", Guarantee: model.DeniedBefore, Limits: []string{"mounts made later"}}
		}
	}
	return carried, nil
}

func (e *fakeEnforcer) Apply(_ context.Context, tables []*policy.Table) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail; err != nil {
		e.fail = nil
		return err
	}
	e.inForce = slices.Clone(tables)
	return nil
}

func (e *fakeEnforcer) Status() map[string]enforce.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]enforce.Status)
	for _, t := range e.inForce {
		hits := make([]uint64, len(t.Rules))
		for i := range hits {
			hits[i] = uint64(i)
		}
		out[t.Policy.Name] = enforce.Status{Hits: hits, Processes: 3, Message: e.message}
	}
	return out
}

func (e *fakeEnforcer) names() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for _, t := range e.inForce {
		names = append(names, t.Policy.Name+" "+string(t.Mode))
	}
	return strings.Join(names, ", ")
}

// enforcing is an agent without a kernel, whose policies e carries.
func enforcing(t *testing.T, e enforcer) *Agent {
	t.Helper()
	losses := new(pipeline.Losses)
	memory := store.NewMemory(store.Config{}, time.Unix(1_700_000_000, 0))
	a := &Agent{log: slog.New(slog.DiscardHandler), started: time.Now(), losses: losses,
		config: Config{StateDir: t.TempDir(), PolicyDir: filepath.Join(t.TempDir(), "policies")},
		memory: memory,
		store:  store.NewStore(memory, nil, time.Unix(1_700_000_000, 0)),
		table:  process.New(process.Options{Boot: "01234567", Losses: losses, Wall: func(uint64) time.Time { return time.Now() }})}
	a.policies = a.newPolicies(e)
	a.policies.start(t.Context())
	return a
}

const webYAML = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: web}
spec:
  selector: {unit: nginx.service}
  mode: enforce
  processes: {allow: [{path: /usr/sbin/nginx}]}
  files: {deny: [{path: /etc/shadow, access: [read]}]}
`

const capYAML = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: caps}
spec:
  selector: {}
  mode: enforce
  capabilities: {deny: [{caps: [CAP_NET_RAW]%s}]}
`

func TestWorkloadPoliciesAreCompiledPlannedAndCarried(t *testing.T) {
	e := new(fakeEnforcer)
	a := enforcing(t, e)
	list, err := a.ApplyPolicies(t.Context(), server.PolicyText{Source: "web.yaml", YAML: webYAML})
	if err != nil || e.names() != "web enforce" {
		t.Fatalf("%v: %s", err, e.names())
	}
	p := list[0]
	if p.Name != "web" || p.Kind != "WorkloadPolicy" || p.Mode != "enforce" || p.State != server.PolicyInForce || p.Selector != "unit nginx.service" || p.Processes != 3 {
		t.Errorf("%+v", p)
	}
	i := slices.IndexFunc(p.Rules, func(r server.PolicyRule) bool { return r.Field == "files.deny[0]" })
	if i < 0 || p.Rules[i].Rung != "fanotify" || p.Rules[i].Guarantee != model.DeniedBefore || p.Rules[i].Hits == 0 || p.Rules[i].Limits[0] != "mounts made later" ||
		!strings.Contains(p.Rules[i].Text, "/etc/shadow") {
		t.Errorf("%+v", p.Rules)
	}
	if _, err := a.SetPolicyMode(t.Context(), "web", "audit"); err != nil || e.names() != "web audit" {
		t.Errorf("%v: %s", err, e.names())
	}
	if _, err := a.ApplyPolicies(t.Context(), server.PolicyText{Source: "caps.yaml", YAML: fmt.Sprintf(capYAML, ", weaker: accept")}); err != nil {
		t.Fatal(err)
	}
	if e.names() != "caps enforce, web audit" || e.planned != 3 { // web is not planned again
		t.Errorf("%s, planned %d times", e.names(), e.planned)
	}
	p = a.Policies()[0]
	if p.State != server.PolicyDegraded || !strings.Contains(p.Message, "capabilities.deny[0] is carried by less than it asks for: seen only") {
		t.Errorf("%+v", p)
	}
	e.message = "the watchdog answered"
	if p := a.Policies()[1]; p.State != server.PolicyDegraded || !strings.HasPrefix(p.Message, "the watchdog answered") {
		t.Errorf("%+v", p)
	}
	if err := a.DeletePolicy(t.Context(), "web"); err != nil || e.names() != "caps enforce" {
		t.Errorf("%v: %s", err, e.names())
	}
}

func TestWhatCannotBeCarriedIsRefusedWithItsPlace(t *testing.T) {
	e := new(fakeEnforcer)
	a := enforcing(t, e)
	st := &storeTest{t: t, policyStore: a.policies}
	_, err := a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: webYAML + "---\n" + fmt.Sprintf(capYAML, "")})
	st.wantRefused(err, server.Precondition, "f:12:18: policy caps: capabilities.deny[0]", "seen only", "weaker: accept")
	_, err = a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: webYAML + "---\n" + strings.Replace(webYAML, "read", "gaze", 1)})
	st.wantRefused(err, server.Invalid, "f:17:", "spec.files.deny[0].access")
	_, err = a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: strings.Replace(webYAML, "unit: nginx.service", "user: nobody-of-this-name", 1)})
	st.wantRefused(err, server.Invalid, "f:3:18", "nobody-of-this-name")
	e.fail = errors.New("map full")
	if _, err = a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: webYAML}); err == nil || !strings.Contains(err.Error(), "map full") {
		t.Errorf("error %v", err)
	}
	if e.names() != "" || len(a.Policies()) != 0 {
		t.Errorf("in force: %s", e.names())
	}
}

func TestAnAgentThatCannotEnforceSaysSo(t *testing.T) {
	a := enforcing(t, nil)
	st := &storeTest{t: t, policyStore: a.policies}
	for _, dry := range []bool{true, false} {
		_, err := a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: webYAML, DryRun: dry})
		st.wantRefused(err, server.Precondition, "f:3:18: policy web: this agent cannot bring policies in force", "vigie doctor")
	}
	_, err := a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: "kind: WorkloadPolicy\n"})
	st.wantRefused(err, server.Invalid, "f:1:1")

	a.config.Replay = "x.vigie"
	_, err = a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: webYAML})
	st.wantRefused(err, server.Precondition, "plays a capture")
	_, err = a.SetPolicyMode(t.Context(), "web", "audit")
	st.wantRefused(err, server.Precondition, "plays a capture")
	st.wantRefused(a.DeletePolicy(t.Context(), "web"), server.Precondition, "plays a capture")
}

// remember puts events into the memory of an agent: of a unit of nginx, which reads path n times.
func remember(a *Agent, path string, n int) {
	for i := range n {
		p := &model.Process{Key: model.ProcessKey{PID: 7, Start: 9, Exec: 1}, ExecID: "01234567-7-9-1", Binary: "/usr/sbin/nginx", Args: []string{"nginx"},
			Workload: &model.Workload{Kind: model.WorkloadUnit, Name: "nginx.service"}}
		a.memory.Append([]*model.Event{{Type: model.TypeFile, Seq: uint64(i + 1), Time: time.Unix(1_700_000_000+int64(i), 0), Key: p.Key, Process: p, Count: 2,
			File: &model.File{Op: model.FileRead, Path: path, PathFrom: "object", FileType: "regular"}}})
	}
}

func TestPoliciesAreSimulatedOnWhatIsRemembered(t *testing.T) {
	a := enforcing(t, nil) // it takes no kernel
	remember(a, "/etc/shadow", 2500)
	s, err := a.SimulatePolicies(t.Context(), server.SimulationQuery{PolicyText: server.PolicyText{Source: "f", YAML: webYAML}})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Denials) != 1 || s.Judged != 5000 || s.CompleteSince.Unix() != 1_700_000_000 {
		t.Fatalf("%+v", s)
	}
	d := s.Denials[0]
	if d.Policy != "web" || d.Rule != "files.deny[0]" || d.Workload != "nginx.service" || d.Binary != "/usr/sbin/nginx" || d.Operation != model.OpRead ||
		d.Object != "/etc/shadow" || d.Count != 5000 || d.Example.Seq != 2500 {
		t.Errorf("%+v", d)
	}
	s, err = a.SimulatePolicies(t.Context(), server.SimulationQuery{Since: time.Unix(1_700_000_010, 0), Until: time.Unix(1_700_000_020, 0), PolicyText: server.PolicyText{
		Source: "f", YAML: strings.Replace(webYAML, "enforce", "audit", 1) + "---\nkind: TracingPolicy\nmetadata: {name: t}\n"}})
	if err != nil || s.Judged != 20 || s.Denials[0].Count != 20 || !strings.Contains(strings.Join(s.Limits, "\n"), "TracingPolicy t is not judged") {
		t.Errorf("%v: %+v", err, s)
	}
	st := &storeTest{t: t}
	for text, says := range map[string]string{"x: [": "f:1:1", "kind: PolicyTest\n": "f:1:1: there is no WorkloadPolicy in it", strings.Replace(webYAML, "read", "gaze", 1): "f:8:"} {
		_, err := a.SimulatePolicies(t.Context(), server.SimulationQuery{PolicyText: server.PolicyText{Source: "f", YAML: text}})
		st.wantRefused(err, server.Invalid, says)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.SimulatePolicies(ctx, server.SimulationQuery{PolicyText: server.PolicyText{Source: "f", YAML: webYAML}}); !errors.Is(err, context.Canceled) {
		t.Errorf("who went away is answered: %v", err)
	}
}

func TestAnEventIsExplained(t *testing.T) {
	a := enforcing(t, new(fakeEnforcer))
	remember(a, "/etc/shadow", 3)
	x, err := a.ExplainEvent(t.Context(), 2)
	if err != nil || x.Event.Seq != 2 || len(x.Explanations) != 0 {
		t.Fatalf("%v: %+v", err, x)
	}
	if _, err := a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: webYAML + "---\n" + fmt.Sprintf(capYAML, ", weaker: accept")}); err != nil {
		t.Fatal(err)
	}
	x, err = a.ExplainEvent(t.Context(), 2)
	if err != nil || len(x.Explanations) != 2 {
		t.Fatalf("%v: %+v", err, x)
	}
	e := x.Explanations[1]
	if e.Policy != "web" || e.Rule != "files.deny[0]" || e.Action != "denied" || e.Rung != "fanotify" || e.Guarantee != model.DeniedBefore || e.Reason == "" {
		t.Errorf("%+v", e)
	}
	_, err = a.ExplainEvent(t.Context(), 99)
	(&storeTest{t: t}).wantRefused(err, server.NotFound, "event 99 is not remembered")
}

func TestAPolicyIsLearnedFromWhatIsRemembered(t *testing.T) {
	a := enforcing(t, new(fakeEnforcer))
	remember(a, "/etc/nginx/nginx.conf", 3)
	p := &model.Process{Key: model.ProcessKey{PID: 7, Start: 9, Exec: 1}, ExecID: "01234567-7-9-1", Binary: "/usr/sbin/nginx",
		Workload: &model.Workload{Kind: model.WorkloadUnit, Name: "nginx.service"}}
	a.memory.Append([]*model.Event{
		{Type: model.TypeCapability, Seq: 4, Time: time.Unix(1_700_000_010, 0), Key: p.Key, Process: p, Count: 1, Capability: &model.Capability{Cap: 13, Granted: true}},
		{Type: model.TypeLoss, Seq: 5, Time: time.Unix(1_700_000_011, 0), Count: 1, Loss: &model.Loss{Stage: "kernel", Reason: "ring full", Count: 9}}})
	l, err := a.LearnPolicy(t.Context(), server.LearnQuery{Workload: "nginx.service", Name: "learned", Since: time.Unix(1_600_000_000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(l.YAML, "name: learned") || !strings.Contains(l.YAML, "/etc/nginx/nginx.conf") || strings.Contains(l.YAML, "CAP_NET_RAW") || l.Events == 0 {
		t.Errorf("%d events:\n%s", l.Events, l.YAML)
	}
	notes := strings.Join(l.Notes, "\n")
	for _, says := range []string{"remembers everything only since", "9 events were lost", "accept it with weaker: accept"} {
		if !strings.Contains(notes, says) {
			t.Errorf("not told: %s in\n%s", says, notes)
		}
	}
	if _, err := a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: strings.Replace(l.YAML, "mode: audit", "mode: enforce", 1)}); err != nil {
		t.Errorf("what was learned cannot be in force: %v", err)
	}
	_, err = a.LearnPolicy(t.Context(), server.LearnQuery{Workload: "none.service"})
	(&storeTest{t: t}).wantRefused(err, server.NotFound, "nothing to learn from", "vigie ps")
}
