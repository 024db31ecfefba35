// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"errors"

	"github.com/cilium/ebpf/btf"
)

// changes keeps what processes began with, while policies ask for it (matchNamespaceChanges, matchCapabilityChanges).
type changes struct {
	users    int
	programs []*followProgram
}

// useChanges starts that for one more policy. The first one has all processes looked at.
func (m *Manager) useChanges(types *btf.Cache) error {
	m.changes.users++
	if m.changes.users > 1 {
		return nil
	}
	// At exec and fork first: what begins during the pass is not missed.
	for _, name := range []string{"vg_change_fork", "vg_change_exec"} {
		p, err := m.followProgram(m.copyOf(name), name, types)
		if err != nil {
			return err
		}
		m.changes.programs = append(m.changes.programs, p)
	}
	_, err := m.iterate(m.copyOf("vg_change_iter"), "vg_change_iter", types)
	return err
}

func (m *Manager) releaseChanges() error {
	if m.changes.users == 0 {
		return nil
	}
	if m.changes.users--; m.changes.users > 0 {
		return nil
	}
	var errs []error
	for _, p := range m.changes.programs {
		errs = append(errs, p.Close())
	}
	m.changes.programs = nil
	return errors.Join(errs...)
}
