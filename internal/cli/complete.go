// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// completeTimeout is how long a shell waits for an agent before it offers nothing.
const completeTimeout = 2 * time.Second

// completeFilter adds the completion of values to the filter flags that cmd has.
func completeFilter(cmd *cobra.Command, to *target) {
	fixed := func(values []string) cobra.CompletionFunc {
		return func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
			return listCompletion(begun, values), cobra.ShellCompDirectiveNoFileComp
		}
	}
	asked := func(of func(*model.Process) string) cobra.CompletionFunc {
		return func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
			return listCompletion(begun, fromAgent(cmd.Context(), to, of)), cobra.ShellCompDirectiveNoFileComp
		}
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"type": fixed(typeNames()),
		"kind": fixed(workloadKinds()),
		"workload": asked(func(p *model.Process) string {
			if p.Workload == nil {
				return ""
			}
			return p.Workload.Name
		}),
		"binary": asked(func(p *model.Process) string { return p.Binary }),
	} {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, complete) // fails only for a missing flag
		}
	}
}

// listCompletion completes the last element of a list with commas.
func listCompletion(begun string, values []string) []string {
	done := begun[:strings.LastIndexByte(begun, ',')+1]
	var out []string
	for _, v := range values {
		if v = done + v; strings.HasPrefix(v, begun) {
			out = append(out, v)
		}
	}
	return out
}

// fromAgent collects what the running processes have; nothing when no agent answers. What a shell
// could take for more than one word or a description is left out.
func fromAgent(ctx context.Context, to *target, of func(*model.Process) string) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	client, err := to.dial()
	if err != nil {
		return nil
	}
	procs, err := listProcesses(ctx, client, &vigiev1.Filter{}, false)
	if err != nil {
		return nil
	}
	values := make(map[string]bool)
	for _, p := range procs {
		if v := of(p); v != "" && plainASCII(v) && !strings.ContainsAny(v, ", ") {
			values[v] = true
		}
	}
	return slices.Sorted(maps.Keys(values))
}
