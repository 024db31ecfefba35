// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/policy"
)

// A policy with onAgentExit: keep outlives its agent in this way: the links of all kernel back-ends are pinned below
// Options.PinDir, in a directory of this agent. When the agent is gone, a program that is pinned too notices its end, and
// from then on the tables of the other policies judge nobody any more (VG_TABLE_RELEASE). The next agent puts its own
// policies in force first and then removes the directories of those before it: there is no moment without a policy.

// keeps reports whether a policy in force outlives the agent.
func keeps(tables map[string]*loaded) bool {
	for _, in := range tables {
		if in.Table.Policy.OnAgentExit == policy.Keep {
			return true
		}
	}
	return false
}

// pin has what carries the policies outlive the agent, when one of them asks for it.
func (e *Enforcer) pin(tables map[string]*loaded) error {
	if e.options.PinDir == "" {
		return nil
	}
	if !keeps(tables) {
		if err := os.RemoveAll(e.ownPins()); err != nil {
			return fmt.Errorf("take back what was to outlive the agent: %w", err)
		}
		return nil
	}
	return e.options.Host.Pin(e.ownPins(), func(sensor string) bool {
		if sensor == subject.Name || strings.HasPrefix(sensor, subject.Name+" ") {
			return true
		}
		for _, b := range e.options.Backends {
			if sensor == b.Name() || strings.HasPrefix(sensor, b.Name()+" ") {
				return true
			}
		}
		return false
	})
}

func (e *Enforcer) ownPins() string {
	return filepath.Join(e.options.PinDir, fmt.Sprintf("agent-%d-%x", os.Getpid(), e.started))
}

// ReleaseEarlier ends what agents before this one left in force. Call it when this one's policies are.
func (e *Enforcer) ReleaseEarlier() error {
	entries, err := os.ReadDir(e.options.PinDir)
	if errors.Is(err, fs.ErrNotExist) || e.options.PinDir == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for policies of an earlier agent: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if dir := filepath.Join(e.options.PinDir, entry.Name()); dir != e.ownPins() {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end the policies of an earlier agent: %w", err)
	}
	return nil
}
