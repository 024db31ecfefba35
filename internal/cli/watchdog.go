// SPDX-License-Identifier: Apache-2.0

package cli

import "github.com/spf13/cobra"

// NewWatchdog is the command by which the agent starts its own watchdog; it is in no list.
func NewWatchdog(watch func() error) *cobra.Command {
	return &cobra.Command{
		Use:    "watchdog",
		Short:  "Answer in the agent's place where that is late (started by the agent)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return watch() },
	}
}
