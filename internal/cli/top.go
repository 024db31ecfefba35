// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/live"
)

// NewTop is `vigie top`.
func NewTop(env Env) *cobra.Command {
	var to target
	var byEvents, byTree bool
	var by string
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch live which workloads and processes do most",
		Long: "Watch live which workloads and processes do most: programs started, files opened, connections made, names asked for.\n\n" +
			"Three pages: what happens, who does most, the process tree; tab goes to the next one, ? shows all keys. Of a relay every line\n" +
			"names its node, and --by node adds up whole nodes.",
		Example: "  vigie top\n  vigie top --cluster --by node",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			screen := env.screen()
			if !screen.Terminal {
				return Cannot(errors.New("standard output is no terminal: use `vigie events` or `vigie status -o json` in scripts"))
			}
			grouping, ok := map[string]live.Grouping{"workload": live.ByWorkload, "process": live.ByProcess, "node": live.ByNode}[by]
			if !ok {
				return Cannot(fmt.Errorf("--by %s: it is workload, process or node", by))
			}
			client, err := to.dial()
			if err != nil {
				return err
			}
			// Ask once before the screen changes: an agent that is not there is an error, not a picture.
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			status, _, err := askStatus(ctx, client)
			cancel()
			if err != nil {
				return to.explain(err)
			}
			if grouping == live.ByNode && len(status.GetNodes()) == 0 {
				return Cannot(fmt.Errorf("--by node: %s is one agent, not a relay of several", &to))
			}
			start := live.TabTop
			switch {
			case byEvents:
				start = live.TabEvents
			case byTree:
				start = live.TabTree
			}
			return live.Run(cmd.Context(), liveSource{client}, live.Options{Start: start, By: grouping, Style: screen.Style, In: env.In, Out: env.Out,
				Environ: env.Environ, Now: env.Now, Explain: to.explain})
		},
	}
	to.flags(cmd.Flags())
	cmd.Flags().BoolVar(&byEvents, "events", false, "begin with what happens")
	cmd.Flags().BoolVar(&byTree, "tree", false, "begin with the process tree")
	cmd.Flags().StringVar(&by, "by", "workload", "whose figures: workload, process, or of a relay node")
	cmd.MarkFlagsMutuallyExclusive("events", "tree")
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"workload", "process", "node"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a missing flag
	return cmd
}
