// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/server/compat/tetragon"
	"github.com/vigie-io/vigie/internal/tracing"
)

// fakeTracer carries every TracingPolicy.
type fakeTracer struct {
	mu      sync.Mutex
	fail    error // of Check and Replace
	inForce map[tracing.Key]tracing.Desired
}

func (f *fakeTracer) Check(context.Context, *tracing.Policy) error { return f.fail }

func (f *fakeTracer) Replace(_ context.Context, want []tracing.Desired) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.inForce = make(map[tracing.Key]tracing.Desired)
	for _, d := range want {
		f.inForce[d.Policy.Key()] = d
	}
	return nil
}

func (f *fakeTracer) Status(k tracing.Key) (tracing.Status, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.inForce[k]
	return tracing.Status{Key: k, Mode: d.Mode, Enabled: true, Posts: 5, Enforced: map[string]uint64{"sigkill": 2, "override": 0}, Monitored: map[string]uint64{"sigkill": 1},
		Hooks: []tracing.HookStatus{{Field: "spec.tracepoints[0]", Kind: "tracepoint", Hook: "sched/sched_process_exit", Carrier: "tp_btf"}}}, ok
}

const tracingYAML = `apiVersion: cilium.io/v1alpha1
kind: %s
metadata: {name: exits%s}
spec:
  tracepoints:
  - subsystem: sched
    event: sched_process_exit
    selectors: [{matchActions: [{action: %s}]}]
`

func TestTracingPoliciesAreHeldBesideTheOthers(t *testing.T) {
	e, f := new(fakeEnforcer), new(fakeTracer)
	a := enforcing(t, e)
	a.policies = a.newPolicies(e, tracingKind{f})
	a.policies.start(t.Context())
	both := webYAML + "---\n" + fmt.Sprintf(tracingYAML, "TracingPolicy", "", "Sigkill") + "---\n" + fmt.Sprintf(tracingYAML, "TracingPolicyNamespaced", ", namespace: prod", "Post")
	list, err := a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: both})
	if err != nil || len(list) != 3 || len(f.inForce) != 2 || e.names() != "web enforce" {
		t.Fatalf("%v: %+v", err, list)
	}
	if p := list[1]; p.Name != "exits" || p.Kind != "TracingPolicy" || p.Mode != "enforce" || p.Rules[0].Rung != "tp_btf" || p.Rules[1].Text != "sigkill" || p.Rules[1].Hits != 3 ||
		!strings.Contains(p.Rules[2].Text, "5 times") {
		t.Errorf("%+v", p)
	}
	if list[2].Name != "prod/exits" {
		t.Errorf("%+v", list[2])
	}
	if p, err := a.SetPolicyMode(t.Context(), "exits", "audit"); err != nil || p.Mode != "audit" || f.inForce[tracing.Key{Name: "exits"}].Mode != tracing.ModeMonitor {
		t.Errorf("%v: %+v", err, p)
	}
	st := &storeTest{t: t, policyStore: a.policies}
	_, err = a.SetPolicyMode(t.Context(), "prod/exits", "enforce")
	st.wantRefused(err, server.Precondition, "it only monitors")
	f.fail = errors.New("f:4:1: spec.kprobes[0]: not on this kernel")
	_, err = a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: strings.Replace(both, "Sigkill", "Post", 1)})
	st.wantRefused(err, server.Precondition, "not on this kernel")
	if e.names() != "web enforce" {
		t.Errorf("in force: %s", e.names())
	}
	f.fail = nil
	if err := a.DeletePolicy(t.Context(), "prod/exits"); err != nil || len(f.inForce) != 1 {
		t.Errorf("%v: %v", err, f.inForce)
	}
	_, err = a.ApplyPolicies(t.Context(), server.PolicyText{Source: "f", YAML: fmt.Sprintf(tracingYAML, "TracingPolicy", "", "Fly")})
	st.wantRefused(err, server.Invalid, "f:8:", "Fly")
}

func (f *fakeTracer) List() (out []tracing.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, d := range f.inForce {
		out = append(out, tracing.Status{ID: 1, Key: k, Mode: d.Mode, Enabled: true})
	}
	return out
}

func (f *fakeTracer) SetEnabled(k tracing.Key, _ bool) error {
	if _, ok := f.Status(k); !ok {
		return tracing.ErrNotFound
	}
	return nil
}

// What came by Tetragon's API is a policy like others.
func TestTetragonsPoliciesAreInTheStore(t *testing.T) {
	f := new(fakeTracer)
	a := enforcing(t, new(fakeEnforcer))
	a.policies = a.newPolicies(nil, tracingKind{f})
	a.policies.start(t.Context())
	api := tetragonPolicies{f, a.policies}
	text := fmt.Sprintf(tracingYAML, "TracingPolicyNamespaced", ", namespace: prod", "Sigkill")
	if err := api.Add(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if list := a.Policies(); len(list) != 1 || list[0].Name != "prod/exits" || list[0].Mode != "enforce" {
		t.Errorf("%+v", list)
	}
	if err := api.Add(t.Context(), text); err == nil || !strings.Contains(err.Error(), "there is a policy prod/exits already") {
		t.Errorf("added twice: %v", err)
	}
	if err := api.Add(t.Context(), webYAML); err == nil {
		t.Error("a policy of another kind was taken")
	}
	if err := api.SetMode(t.Context(), "exits", "prod", tetragon.ModeMonitor); err != nil || a.Policies()[0].Mode != "audit" {
		t.Errorf("%v: %+v", err, a.Policies())
	}
	if list, err := api.List(t.Context()); err != nil || len(list) != 1 || list[0].Mode != tetragon.ModeMonitor {
		t.Errorf("%v: %+v", err, list)
	}
	for _, err := range []error{api.Delete(t.Context(), "exits", ""), api.SetMode(t.Context(), "x", "", tetragon.ModeMonitor), api.SetEnabled(t.Context(), "x", "", true)} {
		if !errors.Is(err, tetragon.ErrNoPolicy) {
			t.Errorf("an unknown name: %v", err)
		}
	}
	if err := api.Delete(t.Context(), "exits", "prod"); err != nil || len(a.Policies()) != 0 || len(f.inForce) != 0 {
		t.Errorf("%v: %+v", err, a.Policies())
	}
}
