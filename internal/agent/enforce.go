// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"

	"github.com/vigie-io/vigie/internal/enforce"
	enforcers "github.com/vigie-io/vigie/internal/enforce/all"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/kernel/probe"
	"github.com/vigie-io/vigie/internal/model"
)

// newEnforcer makes what puts policies in force. Nothing is loaded before the first policy is.
func (a *Agent) newEnforcer() {
	backends := enforcers.Backends(enforcers.Options{Log: a.log, Losses: a.losses, Prober: probe.NewCache(probe.Options{Logger: a.log}),
		Watchdog: WatchdogCommand(), FanotifyMounts: a.config.FanotifyMounts})
	if len(a.config.EnforceBackends) > 0 {
		backends = slices.DeleteFunc(backends, func(b enforce.Backend) bool { return !slices.Contains(a.config.EnforceBackends, b.Name()) })
	}
	listeners := enforce.NewListeners(new(addressCache).of)
	a.enforcer = enforce.New(enforce.Options{Log: a.log, Losses: a.losses, Host: a.host, Backends: backends, Cgroups: a.resolver,
		Listeners: listeners, MaxPolicies: a.config.MaxPolicies, PinDir: a.handoverDir() + "-policies"})
	a.resolver.OnChange(func(old, new *model.Workload) {
		listeners.Replace(old, new)
		a.enforcer.NoticeWorkloads()
		a.enforcer.NoticeListeners()
	})
	a.river.observers = append(a.river.observers, func(ev *model.Event) {
		a.enforcer.Learn(ev)
		if listeners.Observe(ev) {
			a.enforcer.NoticeListeners()
		}
	})
	a.river.decoders[kernel.RecordVerdict] = a.enforcer.Decode
	a.river.sources = append(a.river.sources, a.enforcer.Drain)
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
