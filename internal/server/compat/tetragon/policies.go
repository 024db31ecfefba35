// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	tg "github.com/cilium/tetragon/api/v1/tetragon"
)

// ErrNoPolicy says that there is no policy of that name and namespace.
var ErrNoPolicy = errors.New("there is no such TracingPolicy")

// Policies carries out TracingPolicies. All calls may come at any time from any goroutine. Where a policy is named,
// namespace is empty for one that has none, and an unknown name is ErrNoPolicy, wrapped or not.
type Policies interface {
	// Add takes a TracingPolicy or TracingPolicyNamespaced as YAML into force, whole or not at all. A policy of the same
	// name and namespace is an error.
	Add(ctx context.Context, yaml string) error
	Delete(ctx context.Context, name, namespace string) error
	SetEnabled(ctx context.Context, name, namespace string, enabled bool) error
	SetMode(ctx context.Context, name, namespace string, mode PolicyMode) error
	// List is all policies, also those that failed to load.
	List(ctx context.Context) ([]PolicyStatus, error)
}

// PolicyMode says whether a policy acts or only reports.
type PolicyMode string

// The modes of a TracingPolicy.
const (
	ModeEnforce     PolicyMode = "enforce"
	ModeMonitor     PolicyMode = "monitor"
	ModeMonitorOnly PolicyMode = "monitor_only" // it has nothing to enforce
)

// PolicyState says whether a policy is in force.
type PolicyState string

// The states of a TracingPolicy.
const (
	StateEnabled   PolicyState = "enabled"
	StateDisabled  PolicyState = "disabled"
	StateLoadError PolicyState = "load_error" // it was not taken into force
	StateError     PolicyState = "error"      // it stopped working
	StateLoading   PolicyState = "loading"
	StateUnloading PolicyState = "unloading"
)

// PolicyStatus is how one policy is doing.
type PolicyStatus struct {
	ID        uint64 // unique while the agent runs
	Name      string
	Namespace string // empty for a cluster-wide policy
	State     PolicyState
	Mode      PolicyMode
	Error     string   // of StateLoadError and StateError
	Sensors   []string // the hooks that carry it
	// FilterID is the id of its pod or container selector; 0 when it selects all.
	FilterID    uint64
	KernelBytes uint64 // memory of the BPF maps that are its own
	Counters    PolicyCounters
}

// PolicyCounters are how often a policy acted. Those that begin with Monitor would have acted in mode enforce.
type PolicyCounters struct {
	Post                  uint64
	Signal, MonitorSignal uint64
	Override              uint64
	MonitorOverride       uint64
	NotifyEnforcer        uint64
	MonitorNotifyEnforcer uint64
	Set, MonitorSet       uint64
}

func (s *Service) addTracingPolicy(ctx context.Context, q *tg.AddTracingPolicyRequest) (*tg.AddTracingPolicyResponse, error) {
	return &tg.AddTracingPolicyResponse{}, s.withPolicies("add the TracingPolicy", func(p Policies) error { return p.Add(ctx, q.GetYaml()) })
}

func (s *Service) deleteTracingPolicy(ctx context.Context, q *tg.DeleteTracingPolicyRequest) (*tg.DeleteTracingPolicyResponse, error) {
	return &tg.DeleteTracingPolicyResponse{}, s.withPolicies("delete the TracingPolicy", func(p Policies) error {
		return p.Delete(ctx, q.GetName(), q.GetNamespace())
	})
}

// configureTracingPolicy changes the mode before it enables: a policy must not enforce for a moment when it is
// enabled as one that only monitors.
func (s *Service) configureTracingPolicy(ctx context.Context, q *tg.ConfigureTracingPolicyRequest) (*tg.ConfigureTracingPolicyResponse, error) {
	if q.Enable == nil && q.Mode == nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("nothing to change: give enable, mode or both"))
	}
	return &tg.ConfigureTracingPolicyResponse{}, s.withPolicies("configure the TracingPolicy", func(p Policies) error {
		if q.Mode != nil {
			mode, err := modeOf(q.GetMode())
			if err != nil {
				return err
			}
			if err := p.SetMode(ctx, q.GetName(), q.GetNamespace(), mode); err != nil {
				return err
			}
		}
		if q.Enable != nil {
			return p.SetEnabled(ctx, q.GetName(), q.GetNamespace(), q.GetEnable())
		}
		return nil
	})
}

func (s *Service) enableTracingPolicy(ctx context.Context, q *tg.EnableTracingPolicyRequest) (*tg.EnableTracingPolicyResponse, error) {
	return &tg.EnableTracingPolicyResponse{}, s.withPolicies("enable the TracingPolicy", func(p Policies) error {
		return p.SetEnabled(ctx, q.GetName(), q.GetNamespace(), true)
	})
}

func (s *Service) disableTracingPolicy(ctx context.Context, q *tg.DisableTracingPolicyRequest) (*tg.DisableTracingPolicyResponse, error) {
	return &tg.DisableTracingPolicyResponse{}, s.withPolicies("disable the TracingPolicy", func(p Policies) error {
		return p.SetEnabled(ctx, q.GetName(), q.GetNamespace(), false)
	})
}

func (s *Service) listTracingPolicies(ctx context.Context, _ *tg.ListTracingPoliciesRequest) (*tg.ListTracingPoliciesResponse, error) {
	answer := &tg.ListTracingPoliciesResponse{}
	if s.options.Policies == nil {
		return answer, nil // there are none
	}
	list, err := s.options.Policies.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the TracingPolicies: %w", err)
	}
	for i := range list {
		answer.Policies = append(answer.Policies, policyStatus(&list[i]))
	}
	return answer, nil
}

// withPolicies runs f, and gives its error the code that a client can branch on.
func (s *Service) withPolicies(what string, f func(Policies) error) error {
	if s.options.Policies == nil {
		return connect.NewError(connect.CodeUnimplemented, errors.New("this agent carries out no TracingPolicies: it plays a capture, or has no programs in the kernel"))
	}
	err := f(s.options.Policies)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoPolicy):
		return connect.NewError(connect.CodeNotFound, fmt.Errorf("%s: %w", what, err))
	default:
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s: %w", what, err))
	}
}

func modeOf(m tg.TracingPolicyMode) (PolicyMode, error) {
	switch m {
	case tg.TracingPolicyMode_TP_MODE_ENFORCE:
		return ModeEnforce, nil
	case tg.TracingPolicyMode_TP_MODE_MONITOR:
		return ModeMonitor, nil
	}
	return "", fmt.Errorf("mode %s can't be set: the modes are enforce and monitor", m)
}

func policyStatus(p *PolicyStatus) *tg.TracingPolicyStatus {
	c := &p.Counters
	return &tg.TracingPolicyStatus{Id: p.ID, Name: p.Name, Namespace: p.Namespace, Sensors: p.Sensors,
		Enabled:  p.State == StateEnabled, //nolint:staticcheck // clients from before the states read it
		FilterId: p.FilterID, Error: p.Error, State: policyState(p.State), KernelMemoryBytes: p.KernelBytes, Mode: policyMode(p.Mode),
		Stats: &tg.TracingPolicyStats{ActionCounters: &tg.TracingPolicyActionCounters{Post: c.Post, Signal: c.Signal,
			MonitorSignal: c.MonitorSignal, Override: c.Override, MonitorOverride: c.MonitorOverride, NotifyEnforcer: c.NotifyEnforcer,
			MonitorNotifyEnforcer: c.MonitorNotifyEnforcer, Set: c.Set, MonitorSet: c.MonitorSet}}}
}

func policyState(s PolicyState) tg.TracingPolicyState {
	switch s {
	case StateEnabled:
		return tg.TracingPolicyState_TP_STATE_ENABLED
	case StateDisabled:
		return tg.TracingPolicyState_TP_STATE_DISABLED
	case StateLoadError:
		return tg.TracingPolicyState_TP_STATE_LOAD_ERROR
	case StateError:
		return tg.TracingPolicyState_TP_STATE_ERROR
	case StateLoading:
		return tg.TracingPolicyState_TP_STATE_LOADING
	case StateUnloading:
		return tg.TracingPolicyState_TP_STATE_UNLOADING
	}
	return tg.TracingPolicyState_TP_STATE_UNKNOWN
}

func policyMode(m PolicyMode) tg.TracingPolicyMode {
	switch m {
	case ModeEnforce:
		return tg.TracingPolicyMode_TP_MODE_ENFORCE
	case ModeMonitor:
		return tg.TracingPolicyMode_TP_MODE_MONITOR
	case ModeMonitorOnly:
		return tg.TracingPolicyMode_TP_MODE_MONITOR_ONLY
	}
	return tg.TracingPolicyMode_TP_MODE_UNKNOWN
}
