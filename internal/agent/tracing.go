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

// tracingPolicies is the tracer as Tetragon's API wants it.
type tracingPolicies struct{ *tracing.Manager }

// Add implements tetragon.Policies.
func (t tracingPolicies) Add(ctx context.Context, yaml string) error {
	policies, err := tracing.Parse("the request", []byte(yaml))
	if err != nil {
		return err
	}
	if len(policies) != 1 {
		return fmt.Errorf("the request has %d policies: send them one by one", len(policies))
	}
	return t.Manager.Add(ctx, policies[0], "")
}

// Delete implements tetragon.Policies.
func (t tracingPolicies) Delete(_ context.Context, name, namespace string) error {
	return notFound(t.Manager.Delete(tracing.Key{Namespace: namespace, Name: name}))
}

// SetEnabled implements tetragon.Policies.
func (t tracingPolicies) SetEnabled(_ context.Context, name, namespace string, enabled bool) error {
	return notFound(t.Manager.SetEnabled(tracing.Key{Namespace: namespace, Name: name}, enabled))
}

// SetMode implements tetragon.Policies.
func (t tracingPolicies) SetMode(_ context.Context, name, namespace string, mode tetragon.PolicyMode) error {
	return notFound(t.Manager.SetMode(tracing.Key{Namespace: namespace, Name: name}, tracing.Mode(mode)))
}

func notFound(err error) error {
	if errors.Is(err, tracing.ErrNotFound) {
		return fmt.Errorf("%w: %w", tetragon.ErrNoPolicy, err)
	}
	return err
}

// List implements tetragon.Policies.
func (t tracingPolicies) List(context.Context) ([]tetragon.PolicyStatus, error) {
	var out []tetragon.PolicyStatus
	for _, s := range t.Manager.List() {
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
