// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"fmt"
	"slices"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// flowsLimit is how many open flows are shown unless the user says.
const flowsLimit = 1000

// NewFlows is `vigie flows`.
func NewFlows(env Env) *cobra.Command {
	var to target
	var out format
	var filter filterFlags
	var follow, open bool
	var last uint32
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "Show who talked to whom, with -f who talks, with --open what is open now",
		Long: "Show the recent conversations, oldest first: TCP connections and attempts, and what was said by UDP and ICMP, each with the\n" +
			"processes at both ends where both are on this host. --follow goes on with those that happen; --open lists what is open\n" +
			"now, with its counters, those that said most first.\n\n" +
			"A short conversation is reported once, at its end; a long one also while it goes on. -o json prints one flow a line, in\n" +
			"the form of docs/events.md; docs/flows.md says what is in it and what is not seen.",
		Example: "  vigie flows -f --workload nginx.service\n" +
			"  vigie flows --open --addr :5432\n" +
			"  vigie flows --since 10m --where 'flow.verdict == \"denied\"'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if open && (follow || filter.since != "" || filter.until != "") {
				return Cannot(fmt.Errorf("--open is about now: leave out --follow, --since and --until"))
			}
			f, err := filter.proto(env.Now())
			if err != nil {
				return Cannot(err)
			}
			client, err := to.dial()
			if err != nil {
				return err
			}
			if open {
				return printOpenFlows(cmd.Context(), env, out, client, &to, &vigiev1.ListFlowsRequest{Filter: f, Limit: last})
			}
			f.Types = []string{string(model.TypeFlow)}
			req := &vigiev1.StreamEventsRequest{Filter: f, NoFollow: !follow}
			switch {
			case last > 0:
				req.Last = last
			case cmd.Flags().Changed("last"):
				f.Since = everything(f.Since)
			case f.Since != nil:
			case follow:
				req.Last = lastFollowing
			default:
				req.Last = lastAlone
			}
			return printEvents(cmd.Context(), env, out, client, &to, req)
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	filter.flows(cmd.Flags())
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the conversations that end or go on from now, until ctrl-c")
	cmd.Flags().BoolVar(&open, "open", false, "what is open now")
	cmd.Flags().Uint32VarP(&last, "last", "n", 0, fmt.Sprintf("begin with at most this many past reports; 0 is all (default %d, with --follow %d, with --open %d)",
		lastAlone, lastFollowing, flowsLimit))
	cmd.Flags().Lookup("last").DefValue = "" // the default stands in the text
	completeFilter(cmd, &to)
	return cmd
}

func printOpenFlows(ctx context.Context, env Env, out format, client vigiev1connect.VigieClient, to *target, req *vigiev1.ListFlowsRequest) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if req.Limit == 0 {
		req.Limit = flowsLimit
	}
	answer, err := client.ListFlows(ctx, connect.NewRequest(req))
	if err != nil {
		return to.explain(err)
	}
	if out == formatTable || out == formatWide {
		return flowTable(env, out, answer.Msg)
	}
	warnMissing(env.Err, answer.Msg.GetNodeErrors())
	status, err := client.GetStatus(ctx, connect.NewRequest(&vigiev1.GetStatusRequest{}))
	if err != nil {
		return to.explain(err)
	}
	boot := status.Msg.GetStatus().GetBootId()
	w := bufio.NewWriter(env.Out)
	p := eventPrinter{w: w, out: out, boot: boot[:min(len(boot), 8)]}
	for _, e := range answer.Msg.GetFlows() {
		if err := p.print(wire.FromProto(e)); err != nil {
			return fmt.Errorf("write flows: %w", err)
		}
	}
	return w.Flush()
}

func flowTable(env Env, out format, m *vigiev1.ListFlowsResponse) error {
	screen := env.screen()
	t := term.Table{Width: screen.Width, Style: screen.Style, Right: []int{1, 2, 3, 4},
		Header: []string{"PROTO", "SENT", "RECEIVED", "RTT", "AGE", "WORKLOAD", "FLOW"}}
	if out == formatWide {
		t.Width = 0
	}
	ofMany := slices.ContainsFunc(m.GetFlows(), func(e *vigiev1.Event) bool { return e.GetNode() != "" })
	if ofMany {
		t.Header = append([]string{"NODE"}, t.Header...)
		t.Right = []int{2, 3, 4, 5}
	}
	for _, e := range m.GetFlows() {
		ev := wire.FromProto(e)
		f := ev.Flow
		rtt := "-"
		if f.SRTT > 0 {
			rtt = show.Duration(f.SRTT)
		}
		workload, _ := show.Who(ev)
		row := []string{term.Escape(f.Protocol), show.Bytes(f.Total.BytesSent), show.Bytes(f.Total.BytesReceived), rtt,
			age(env.Now(), f.Start), workload, show.FlowEnd(&f.Source) + " → " + show.FlowEnd(&f.Destination)}
		if ofMany {
			row = append([]string{term.Escape(ev.Node)}, row...)
		}
		t.Rows = append(t.Rows, row)
	}
	if err := t.Write(env.Out); err != nil {
		return fmt.Errorf("write flows: %w", err)
	}
	warnMissing(env.Err, m.GetNodeErrors())
	if n := m.GetLeftOut(); n > 0 {
		fmt.Fprintf(env.Err, "%d more are open: -n shows more\n", n)
	}
	return nil
}
