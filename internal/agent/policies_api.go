// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/vigie-io/vigie/internal/policy/netpol"
	"github.com/vigie-io/vigie/internal/server"
)

// newPolicies makes the store of the policies of this agent. e carries WorkloadPolicies, nil when this agent cannot; further
// kinds carry themselves.
func (a *Agent) newPolicies(e enforcer, further ...policyKind) *policyStore {
	return newPolicyStore(policyOptions{Dir: a.config.PolicyDir, State: filepath.Join(a.config.StateDir, "policies"), Log: a.log, Clock: time.Now,
		Kinds: append([]policyKind{newWorkloadPolicies(e, a.table)}, further...)})
}

// startPolicies brings in force what was and what is written, and follows the policy directory until ctx ends.
func (a *Agent) startPolicies(ctx context.Context) {
	a.policies.start(ctx)
	a.background.Go(func() {
		if err := a.policies.watch(ctx); err != nil {
			a.policies.trouble.other("changes of the policy directory are not seen: " + err.Error())
			a.log.Error("changes of the policy directory are not seen", "error", err)
		}
	})
}

// Policies implements server.Backend.
func (a *Agent) Policies() []server.Policy {
	return append(a.policies.policies(), a.netpol.ofCluster()...)
}

// ApplyPolicies implements server.Backend.
func (a *Agent) ApplyPolicies(ctx context.Context, text server.PolicyText) ([]server.Policy, error) {
	if err := a.enforcesNothing(); err != nil {
		return nil, err
	}
	return a.policies.apply(ctx, text)
}

// SetPolicyMode implements server.Backend.
func (a *Agent) SetPolicyMode(ctx context.Context, name, mode string) (server.Policy, error) {
	if err := a.enforcesNothing(); err != nil {
		return server.Policy{}, err
	}
	if a.netpol.has(name) {
		return server.Policy{}, server.Refuse(server.Precondition, fmt.Errorf("policy %s is an object of the cluster: give it the annotation %s: %s there", name, netpol.ModeAnnotation, mode))
	}
	return a.policies.setMode(ctx, name, mode)
}

// DeletePolicy implements server.Backend.
func (a *Agent) DeletePolicy(ctx context.Context, name string) error {
	if err := a.enforcesNothing(); err != nil {
		return err
	}
	return a.policies.delete(ctx, name)
}

// enforcesNothing is an error when the agent plays a capture.
func (a *Agent) enforcesNothing() error {
	if a.config.Replay == "" {
		return nil
	}
	return server.Refuse(server.Precondition, errors.New("this agent plays a capture and enforces nothing: ask one that looks at a host; "+
		"`vigie policy simulate` tells what a policy would have denied"))
}
