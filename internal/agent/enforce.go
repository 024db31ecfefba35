// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/enforce"
	enforcers "github.com/vigie-io/vigie/internal/enforce/all"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/kernel/probe"
	"github.com/vigie-io/vigie/internal/model"
)

// How soon policies follow what changes around them.
const (
	workloadsSettle = 5 * time.Millisecond // a container that starts makes several cgroups
	refreshFiles    = 5 * time.Second      // files that policies deny, by their inodes
)

// newEnforcer makes what puts policies in force. Nothing is loaded before the first policy is. workloads tells, without ever
// blocking, that cgroups or their workloads changed.
func (a *Agent) newEnforcer() {
	a.workloadsChanged = make(chan struct{}, 1)
	a.resolver.OnChange(func(_, _ *model.Workload) { a.noticeWorkloads() })
	backends := enforcers.Backends(enforcers.Options{Prober: probe.New(probe.Options{Logger: a.log})})
	if len(a.config.EnforceBackends) > 0 {
		backends = slices.DeleteFunc(backends, func(b enforce.Backend) bool { return !slices.Contains(a.config.EnforceBackends, b.Name()) })
	}
	a.enforcer = enforce.New(enforce.Options{Log: a.log, Losses: a.losses, Host: a.host, Backends: backends, Cgroups: a.resolver,
		MaxPolicies: a.config.MaxPolicies, PinDir: a.handoverDir() + "-policies"})
	a.river.decoders[kernel.RecordVerdict] = a.enforcer.Decode
	a.river.sources = append(a.river.sources, a.enforcer.Drain)
}

// noticeWorkloads has the policies follow what is known of workloads.
func (a *Agent) noticeWorkloads() {
	select {
	case a.workloadsChanged <- struct{}{}:
	default:
	}
}

// followWorkloads keeps policies on the right cgroups and files until ctx ends.
func (a *Agent) followWorkloads(ctx context.Context) {
	refresh := time.NewTicker(refreshFiles)
	defer refresh.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
			err = a.enforcer.Refresh()
		case <-a.workloadsChanged:
			timer := time.NewTimer(workloadsSettle)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			err = a.enforcer.WorkloadsChanged()
		}
		if err != nil {
			a.log.Error("policies do not follow the workloads", "error", err)
		}
	}
}

func backendNames() []string {
	var names []string
	for _, b := range enforcers.Backends(enforcers.Options{}) {
		names = append(names, b.Name())
	}
	return names
}

// checkEnforcement says what is wrong with the options of enforcement.
func (c *Config) checkEnforcement(bad func(field, format string, args ...any)) {
	if c.MaxPolicies < 1 || c.MaxPolicies > 32767 {
		bad("max-policies", "%d is outside 1 to 32767", c.MaxPolicies)
	}
	known := backendNames()
	for _, b := range c.EnforceBackends {
		if !slices.Contains(known, b) {
			bad("enforce-backends", "there is no back-end %q; known are %s", b, fmt.Sprint(known))
		}
	}
}
