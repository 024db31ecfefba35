// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
)

// mapTimeout bounds the drawing of a map out of history.
const mapTimeout = time.Minute

// NewMap is `vigie map`.
func NewMap(env Env) *cobra.Command {
	var to target
	var out format
	var filter filterFlags
	var compare string
	var expand []string
	var nodes uint32
	cmd := &cobra.Command{
		Use:   "map",
		Short: "Show which workloads talk to which, over a range of time",
		Long: "Show which workloads talked to which, on which ports and how much, in the last hour or in --since to --until.\n\n" +
			"--compare draws the map of an earlier time beside it and marks what is new (+) and what has vanished (-): the time as long as\n" +
			"this one that began so long ago (24h), or at that moment. --expand shows workloads by process.",
		Example: "  vigie map\n  vigie map --since 10m --workload nginx.service --expand '*'\n  vigie map --since 1h --compare 24h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req := &vigiev1.GetMapRequest{Expand: expand, MaxNodes: nodes}
			var err error
			if req.Filter, err = filter.proto(env.Now()); err != nil {
				return Cannot(err)
			}
			if err := compareWith(req, compare, env.Now()); err != nil {
				return Cannot(err)
			}
			client, err := to.dial()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), mapTimeout)
			defer cancel()
			answer, err := client.GetMap(ctx, connect.NewRequest(req))
			if err != nil {
				return to.explain(err)
			}
			warnMissing(env.Err, answer.Msg.GetNodeErrors())
			return printMap(env, out, answer.Msg)
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	filter.flows(cmd.Flags())
	cmd.Flags().StringVar(&compare, "compare", "", "mark what differs from a time before: a duration (24h) or a moment, as of --since")
	cmd.Flags().StringSliceVar(&expand, "expand", nil, "show these workloads by process: their ids, or '*'")
	cmd.Flags().Uint32Var(&nodes, "nodes", 0, "at most this many nodes, those that said most (default 1000)")
	completeFilter(cmd, &to)
	return cmd
}

// compareWith adds the time to compare with: as long as the map's own.
func compareWith(req *vigiev1.GetMapRequest, compare string, now time.Time) error {
	begin, err := moment("compare", compare, now)
	if begin == nil || err != nil {
		return err
	}
	since, until := now.Add(-time.Hour), now
	if t := req.Filter.Until; t != nil {
		until = t.AsTime()
		since = until.Add(-time.Hour)
	}
	if t := req.Filter.Since; t != nil {
		since = t.AsTime()
	}
	if ago, err := time.ParseDuration(compare); err == nil {
		begin = timestamppb.New(since.Add(-ago.Abs()))
	}
	req.CompareSince, req.CompareUntil = begin, timestamppb.New(begin.AsTime().Add(until.Sub(since)))
	return nil
}

func printMap(env Env, out format, m *vigiev1.GetMapResponse) error {
	if out == formatJSON || out == formatYAML {
		json, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return fmt.Errorf("write the map: %w", err)
		}
		if out == formatYAML {
			return writeYAML(env.Out, json)
		}
		return writeJSON(env.Out, json)
	}
	names := make(map[string]string)
	for _, n := range m.GetNodes() {
		names[n.GetId()] = n.GetName()
		if n.GetKind() == "process" {
			names[n.GetId()] = n.GetWorkload().GetName() + ": " + n.GetName()
		}
		if n.GetNode() != "" {
			names[n.GetId()] += " @" + n.GetNode()
		}
	}
	screen := env.screen()
	t := term.Table{Width: screen.Width, Style: screen.Style, Right: []int{3, 4, 5, 6, 7},
		Header: []string{"SOURCE", "DESTINATION", "PORT", "FLOWS", "SENT", "RECEIVED", "RTT", "REQUESTS", "NOTES"}}
	if out == formatWide {
		t.Width = 0
	}
	edges := slices.Clone(m.GetEdges())
	slices.SortStableFunc(edges, func(a, b *vigiev1.MapEdge) int {
		return cmp.Or(cmp.Compare(b.GetBytesSent()+b.GetBytesReceived(), a.GetBytesSent()+a.GetBytesReceived()), cmp.Compare(b.GetFlows(), a.GetFlows()))
	})
	for _, e := range edges {
		port := e.GetProtocol()
		if e.GetPort() != 0 {
			port = fmt.Sprintf("%d/%s", e.GetPort(), e.GetProtocol())
		}
		rtt, requests := "-", "-"
		if e.GetRttNs() > 0 {
			rtt = show.Duration(time.Duration(e.GetRttNs()))
		}
		if e.GetRequests() > 0 {
			requests = fmt.Sprint(e.GetRequests())
		}
		source := term.Escape(names[e.GetSource()])
		switch e.GetChange() {
		case "new":
			source = screen.Style.Green("+ " + source)
		case "vanished":
			source = screen.Style.Red("- " + source)
		}
		t.Rows = append(t.Rows, []string{source, term.Escape(names[e.GetDestination()]), term.Escape(port), fmt.Sprint(e.GetFlows()),
			show.Bytes(e.GetBytesSent()), show.Bytes(e.GetBytesReceived()), rtt, requests, edgeNotes(e)})
	}
	if len(t.Rows) == 0 {
		fmt.Fprintln(env.Err, "nobody was seen to talk in that time: give another --since and --until, or a wider filter")
		return nil
	}
	if err := t.Write(env.Out); err != nil {
		return fmt.Errorf("write the map: %w", err)
	}
	if n := m.GetNodesLeftOut(); n > 0 {
		fmt.Fprintf(env.Err, "%d nodes that said less are left out: --nodes shows more\n", n)
	}
	return nil
}

func edgeNotes(e *vigiev1.MapEdge) string {
	var s string
	add := func(n uint64, what string) {
		if n == 0 {
			return
		}
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("%d %s", n, what)
	}
	add(e.GetDenied(), "denied")
	add(e.GetAudited(), "would be denied")
	add(e.GetFailed(), "failed")
	add(e.GetRequestErrors(), "requests failed")
	add(e.GetRetransmits(), "retransmits")
	if e.GetRequests() > 0 {
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("%s p50 %s p99 %s", term.Escape(e.GetApplication()), show.Duration(time.Duration(e.GetLatencyP50Ns())), show.Duration(time.Duration(e.GetLatencyP99Ns())))
	}
	return dash(s)
}
