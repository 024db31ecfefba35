// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/wire"
)

func newPolicySimulate(env Env) *cobra.Command {
	var to target
	var out format
	var files []string
	var capture, since, until string
	var fail bool
	cmd := &cobra.Command{
		Use:   "simulate -f FILE|DIR",
		Short: "Tell what policies would have denied of what happened",
		Long: "Tell what policies would have denied, were they in force and in mode enforce, of what happened: of the events that the agent\n" +
			"remembers (`vigie run --history`), or with --capture of a recording of `vigie record`, which needs no agent. Nothing is\n" +
			"enforced.\n\n" +
			"What would have been denied is grouped, the most frequent first; -o wide shows the latest of each group.",
		Example: "  vigie policy simulate -f web.yaml --since 24h\n  vigie policy simulate -f web.yaml --capture monday.vigie\n  vigie policy simulate -f web.yaml --fail && sudo vigie policy apply -f web.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given, err := readPolicies(env, files)
			if err != nil {
				return Cannot(err)
			}
			req := &vigiev1.SimulatePoliciesRequest{Yaml: given.text, Source: given.name}
			if req.Since, err = moment("since", since, env.Now()); err != nil {
				return Cannot(err)
			}
			if req.Until, err = moment("until", until, env.Now()); err != nil {
				return Cannot(err)
			}
			if req.Since != nil && req.Until != nil && !req.Since.AsTime().Before(req.Until.AsTime()) {
				return Cannot(fmt.Errorf("--since %s is not before --until %s: exchange them", since, until))
			}
			var resp *vigiev1.SimulatePoliciesResponse
			if capture != "" {
				if resp, err = simulateCapture(cmd.Context(), capture, req); err != nil {
					return given.place(err)
				}
			} else {
				client, err := to.dial()
				if err != nil {
					return err
				}
				answer, err := client.SimulatePolicies(cmd.Context(), connect.NewRequest(req))
				if err != nil {
					return to.explain(given.place(err))
				}
				resp = answer.Msg
				warnMissing(env.Err, resp.GetNodeErrors())
			}
			if err := printSimulation(env, out, req, resp, capture); err != nil {
				return err
			}
			if fail && len(resp.GetDenials()) > 0 {
				return exit(ExitFailed)
			}
			return nil
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	policyFiles(cmd, &files)
	fs := cmd.Flags()
	fs.StringVar(&capture, "capture", "", "judge this recording of `vigie record` and ask no agent")
	fs.StringVar(&since, "since", "", "only from then on: a duration (24h), a time (15:04[:05]) or 2006-01-02T15:04:05Z")
	fs.StringVar(&until, "until", "", "only until then, in the same forms")
	fs.BoolVar(&fail, "fail", false, "end with exit code 1 when anything would have been denied")
	_ = cmd.MarkFlagFilename("capture", "vigie") // fails only for a missing flag
	cmd.MarkFlagsMutuallyExclusive("capture", "socket")
	cmd.MarkFlagsMutuallyExclusive("capture", "address")
	return cmd
}

func printSimulation(env Env, out format, req *vigiev1.SimulatePoliciesRequest, m *vigiev1.SimulatePoliciesResponse, capture string) error {
	if out == formatJSON || out == formatYAML {
		return printMessage(env.Out, out, m)
	}
	screen := env.screen()
	st := screen.Style
	if len(m.GetDenials()) > 0 {
		t := term.Table{Width: screen.Width, Style: st, Header: []string{"COUNT", "POLICY", "RULE", "WORKLOAD", "BINARY", "WOULD BE DENIED"}, Right: []int{0}}
		for _, d := range m.GetDenials() {
			t.Rows = append(t.Rows, []string{show.Count(d.GetCount()), term.Escape(d.GetPolicy()), term.Escape(d.GetRule()), dash(term.Escape(d.GetWorkload())),
				dash(term.Escape(d.GetBinary())), st.Red(term.Escape(d.GetOperation())) + " " + term.Escape(d.GetObject())})
		}
		if err := t.Write(env.Out); err != nil {
			return err
		}
	}
	if out == formatWide {
		fmt.Fprintln(env.Out)
		for _, d := range m.GetDenials() {
			if d.GetExample() != nil {
				fmt.Fprintln(env.Out, show.Row(wire.FromProto(d.GetExample()), env.Now().Location(), st, false))
			}
		}
	}
	var total uint64
	for _, d := range m.GetDenials() {
		total += d.GetCount()
	}
	verdict := st.Green("would have denied nothing")
	if total > 0 {
		verdict = st.Red(fmt.Sprintf("would have denied %d", total))
	}
	fmt.Fprintf(env.Out, "%s of %s%s\n", verdict, plural(int(m.GetJudged()), "event"), historySpan(env, req.GetSince(), m.GetCompleteSince(), capture))
	for _, l := range m.GetLimits() {
		fmt.Fprintf(env.Out, "%s %s\n", st.Yellow("!"), term.Escape(l))
	}
	return nil
}

// historySpan says since when what was judged is complete, and when that is later than what was asked for.
func historySpan(env Env, asked, complete *timestamppb.Timestamp, capture string) string {
	if complete == nil {
		return ""
	}
	at := complete.AsTime().In(env.Now().Location()).Format(time.DateTime)
	if capture != "" {
		return fmt.Sprintf(" in %s, which begins %s", term.Escape(capture), at)
	}
	if asked != nil && asked.AsTime().Before(complete.AsTime()) {
		return env.screen().Style.Yellow(fmt.Sprintf("; the agent remembers everything only since %s: see its --history, or record with `vigie record`", at))
	}
	if asked != nil {
		at = asked.AsTime().In(env.Now().Location()).Format(time.DateTime)
	}
	return " since " + at
}
