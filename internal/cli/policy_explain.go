// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strconv"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

func newPolicyExplain(env Env) *cobra.Command {
	var to target
	var out format
	var node string
	cmd := &cobra.Command{
		Use:   "explain SEQ",
		Short: "Say which policies judge an event, by which rule, and what carries it",
		Long: "Say what the policies in force say of an event that the agent remembers: which of them select its process, by which rule they\n" +
			"decide, and what carries the rule. SEQ is the event's number: the field seq of `vigie events -o json`.",
		Example: "  vigie events -t verdict -n 1 -o json | jq .seq\n  vigie policy explain 4711",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || seq == 0 {
				return Cannot(fmt.Errorf("%q is no number of an event: give the field seq of `vigie events -o json`", args[0]))
			}
			client, err := to.dial()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			resp, err := client.ExplainEvent(ctx, connect.NewRequest(&vigiev1.ExplainEventRequest{Seq: seq, Node: node}))
			if err != nil {
				return to.explain(err)
			}
			return printExplanation(env, out, resp.Msg)
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	cmd.Flags().StringVar(&node, "node", "", "with a relay: the node that saw the event, whose number it is")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

func printExplanation(env Env, out format, m *vigiev1.ExplainEventResponse) error {
	if out == formatJSON || out == formatYAML {
		return printMessage(env.Out, out, m)
	}
	screen := env.screen()
	st := screen.Style
	line := show.Row(wire.FromProto(m.GetEvent()), env.Now().Location(), st, out == formatWide)
	if screen.Width > 0 && out != formatWide {
		line = term.Cut(line, screen.Width)
	}
	fmt.Fprintln(env.Out, line)
	if len(m.GetExplanations()) == 0 {
		_, err := fmt.Fprintln(env.Out, "no policy in force speaks of it: none selects its process, or policies are not about such events")
		return err
	}
	for _, x := range m.GetExplanations() {
		action := term.Escape(x.GetAction())
		switch model.VerdictAction(x.GetAction()) {
		case model.VerdictDenied, model.VerdictKilled:
			action = st.Red(action)
		case model.VerdictAudited:
			action = st.Yellow(action)
		default:
			action = st.Green(action)
		}
		fmt.Fprintf(env.Out, "policy %s: %s", st.Bold(term.Escape(x.GetPolicy())), action)
		if x.GetRule() != "" {
			fmt.Fprintf(env.Out, " by %s", term.Escape(x.GetRule()))
			if x.GetText() != "" {
				fmt.Fprintf(env.Out, ", %s", term.Escape(x.GetText()))
			}
		}
		fmt.Fprintln(env.Out)
		if x.GetRung() != "" {
			fmt.Fprintf(env.Out, "  carried by %s: %s\n", term.Escape(x.GetRung()), guaranteeText(st, x.GetGuarantee()))
		}
		if x.GetReason() != "" {
			fmt.Fprintf(env.Out, "  %s\n", term.Escape(x.GetReason()))
		}
	}
	return nil
}
