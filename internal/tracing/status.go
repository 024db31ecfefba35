// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"slices"
)

// Mode says whether a policy acts or only reports.
type Mode string

// The modes.
const (
	ModeEnforce     Mode = "enforce"
	ModeMonitor     Mode = "monitor"
	ModeMonitorOnly Mode = "monitor_only" // it has nothing to enforce
)

// ParseMode reads a mode as policies and commands write it.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "enforce", "enforcement":
		return ModeEnforce, nil
	case "monitor", "monitoring":
		return ModeMonitor, nil
	}
	return "", fmt.Errorf("%q is no mode: there are enforce and monitor", s)
}

// modeOf is the mode that a policy begins in: the caller's, else its own, else enforce.
func modeOf(p *Policy, enforces bool, wanted Mode) Mode {
	if !enforces {
		return ModeMonitorOnly
	}
	if wanted == ModeEnforce || wanted == ModeMonitor {
		return wanted
	}
	for _, o := range p.Document.Spec.Options {
		if m, err := ParseMode(o.Value); o.Name == "policy-mode" && err == nil {
			return m
		}
	}
	return ModeEnforce
}

// enforces says whether any action of the hooks does more than report.
func enforces(requests []*request) bool {
	is := func(a Action) bool {
		bit := actionBit(a.Action)
		return bit >= 0 && actions()[bit].enforces
	}
	return slices.ContainsFunc(requests, func(r *request) bool {
		return slices.ContainsFunc(r.selectors, func(s selectorPlan) bool {
			return slices.ContainsFunc(s.MatchActions, is) || slices.ContainsFunc(s.MatchReturnActions, is)
		})
	})
}

// setMode tells the programs.
func (l *loaded) setMode(mode Mode) error {
	l.mode = mode
	m := l.maps["mode"]
	if m == nil {
		return nil // no program asks
	}
	var enforce uint32
	if mode == ModeEnforce {
		enforce = 1
	}
	if err := m.Put(uint32(0), enforce); err != nil {
		return fmt.Errorf("tell the programs of %s their mode: %w", l.policy.Key(), err)
	}
	return nil
}

// Status is how a policy is doing.
type Status struct {
	Key
	ID      uint64 // unique while the agent runs
	Kind    string
	Mode    Mode
	Enabled bool
	Hooks   []HookStatus
	// KernelBytes is the memory of the policy's own maps.
	KernelBytes uint64
	Posts       uint64
	// Enforced is how often each action ("sigkill", "override", …) was carried out, Monitored how often it would have been.
	Enforced, Monitored map[string]uint64
	// Selects says that the policy is for some workloads only.
	Selects bool
	Source  []byte // its YAML
}

// HookStatus is one hook and what carries it.
type HookStatus struct {
	Field   string // of the policy
	Kind    string // as model.Probe.Kind
	Hook    string
	Carrier string
}

func (l *loaded) status() Status {
	s := Status{Key: l.policy.Key(), ID: l.id, Kind: l.policy.Document.Kind, Mode: l.mode, Enabled: l.attached, Source: l.policy.Source,
		Enforced: make(map[string]uint64), Monitored: make(map[string]uint64), Selects: len(l.sets) > 0}
	for _, h := range l.hooks {
		s.Hooks = append(s.Hooks, HookStatus{Field: h.info.path, Kind: h.info.kind, Hook: h.info.hook, Carrier: h.info.carrier})
	}
	for _, m := range l.maps {
		if info, err := m.Info(); err == nil {
			if bytes, ok := info.Memlock(); ok {
				s.KernelBytes += bytes
			}
		}
	}
	counts := l.tallies()
	s.Posts = counts[tallyPosts]
	for bit, a := range actions() {
		if a.enforces {
			s.Enforced[a.event], s.Monitored[a.event] = counts[tallyEnforced(bit)], counts[tallyMonitored(bit)]
		}
	}
	return s
}

// tallies reads the counters; all zero where no program counts.
func (l *loaded) tallies() []uint64 {
	out := make([]uint64, tallies())
	m := l.maps["tally"]
	if m == nil {
		return out
	}
	for i := range out {
		var perCPU []uint64
		if err := m.Lookup(uint32(i), &perCPU); err == nil {
			for _, n := range perCPU {
				out[i] += n
			}
		}
	}
	return out
}
