// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/internal/server/compat/tetragon"
	"github.com/vigie-io/vigie/internal/tracing"
)

// newTracer makes what carries TracingPolicies out. Nothing is loaded before there is one.
func (a *Agent) newTracer() error {
	var err error
	a.tracer, err = tracing.New(tracing.Options{Host: a.host, Log: a.log, Losses: a.losses, Workloads: a.resolver})
	if err != nil {
		return fmt.Errorf("prepare for TracingPolicies: %w", err)
	}
	a.resolver.OnChange(func(_, _ *model.Workload) { a.tracer.NoticeWorkloads() })
	a.river.decoders[kernel.RecordProbe] = a.tracer.Decode
	return nil
}

// tetragonPolicies are the TracingPolicies as Tetragon's API wants them. They live where all policies do: `vigie policy list`
// has them, and they survive a restart.
type tetragonPolicies struct {
	tracer lister
	store  *policyStore
}

// lister is what Tetragon's API needs of *tracing.Manager beside the store.
type lister interface {
	List() []tracing.Status
	SetEnabled(tracing.Key, bool) error
}

// Add implements tetragon.Policies.
func (t tetragonPolicies) Add(ctx context.Context, yaml string) error {
	policies, err := tracing.Parse("the request", []byte(yaml))
	if err != nil {
		return err
	}
	if len(policies) != 1 {
		return fmt.Errorf("the request has %d policies: send them one by one", len(policies))
	}
	_, err = t.store.add(ctx, server.PolicyText{Source: "Tetragon's API", YAML: yaml})
	return err
}

// Delete implements tetragon.Policies.
func (t tetragonPolicies) Delete(ctx context.Context, name, namespace string) error {
	return notFound(t.store.delete(ctx, tracing.Key{Namespace: namespace, Name: name}.String()))
}

// SetEnabled implements tetragon.Policies. It does not survive a restart.
func (t tetragonPolicies) SetEnabled(_ context.Context, name, namespace string, enabled bool) error {
	return notFound(t.tracer.SetEnabled(tracing.Key{Namespace: namespace, Name: name}, enabled))
}

// SetMode implements tetragon.Policies.
func (t tetragonPolicies) SetMode(ctx context.Context, name, namespace string, mode tetragon.PolicyMode) error {
	_, err := t.store.setMode(ctx, tracing.Key{Namespace: namespace, Name: name}.String(), modeWord(tracing.Mode(mode)))
	return notFound(err)
}

func notFound(err error) error {
	var refused *server.RefusedError
	if errors.Is(err, tracing.ErrNotFound) || errors.As(err, &refused) && refused.Kind == server.NotFound {
		return fmt.Errorf("%w: %w", tetragon.ErrNoPolicy, err)
	}
	return err
}

// List implements tetragon.Policies.
func (t tetragonPolicies) List(context.Context) ([]tetragon.PolicyStatus, error) {
	var out []tetragon.PolicyStatus
	for _, s := range t.tracer.List() {
		status := tetragon.PolicyStatus{ID: s.ID, Name: s.Name, Namespace: s.Namespace, State: tetragon.StateDisabled,
			Mode: tetragon.PolicyMode(s.Mode), KernelBytes: s.KernelBytes, Counters: tetragon.PolicyCounters{Post: s.Posts,
				Signal: s.Enforced["signal"] + s.Enforced["sigkill"], MonitorSignal: s.Monitored["signal"] + s.Monitored["sigkill"],
				Override: s.Enforced["override"], MonitorOverride: s.Monitored["override"],
				NotifyEnforcer: s.Enforced["notify_enforcer"], MonitorNotifyEnforcer: s.Monitored["notify_enforcer"]}}
		if s.Enabled {
			status.State = tetragon.StateEnabled
		}
		if s.Selects {
			status.FilterID = s.ID
		}
		sensors := make(map[string]bool)
		for _, h := range s.Hooks {
			sensors[h.Kind+" "+h.Hook+" by "+h.Carrier] = true
		}
		status.Sensors = slices.Sorted(maps.Keys(sensors))
		out = append(out, status)
	}
	return out, nil
}
