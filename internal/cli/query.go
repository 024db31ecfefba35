// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
)

// queryTimeout is how long a figure over all of history may take.
const queryTimeout = 2 * time.Minute

// queryOptions are what all reports take.
type queryOptions struct {
	env      Env
	to       target
	out      format
	filter   filterFlags
	by       []string
	measures []string
	order    string
	limit    uint32
	baseline string
	changes  []string // of a report about edges
	nonZero  bool     // rows without the first measure are not shown
}

// NewQuery is `vigie query`.
func NewQuery(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Figures over what happened: who talks most, what is new, what fails",
		Long: "Figures over what happened, from the history that the agent keeps on disk (`vigie run --history`).\n\n" +
			"Each report counts over --since to --until, the last hour unless told otherwise, what the filters take; a report is\n" +
			"a table with a row for each different value of --by. The files of history are Parquet, for any engine that reads that.",
		Example: "  vigie query top --since 24h\n" +
			"  vigie query top --by workload,remote --measure bytes,flows --since yesterday\n" +
			"  vigie query new-edges --since yesterday\n" +
			"  vigie query errors --by workload,path --since 09:00 --until 10:00\n" +
			"  vigie query latency --workload checkout",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTopReport(env), newEdgesReport(env, "new"), newEdgesReport(env, "vanished"), newErrorsReport(env), newLatencyReport(env))
	return cmd
}

func newTopReport(env Env) *cobra.Command {
	o := &queryOptions{env: env, by: []string{"workload", "remote"}, measures: []string{"bytes", "flows"}}
	cmd := o.command("top", "Who talks most, or does most of whatever is counted",
		"The rows with the most of the first --measure. Without --type it counts flows, or requests where a measure is about these.",
		"  vigie query top --by workload --measure bytes_sent --since 24h\n  vigie query top --type exec --by workload,binary --measure events\n"+
			"  vigie query top --type flow --by hour --measure bytes --workload db")
	cmd.Flags().StringSliceVarP(&o.measures, "measure", "m", o.measures, "what to count: "+strings.Join(figureNames(), ", "))
	cmd.Flags().StringVar(&o.order, "order", "", "the measure that is largest first (default the first)")
	_ = cmd.RegisterFlagCompletionFunc("measure", completeList(figureNames()))
	_ = cmd.RegisterFlagCompletionFunc("order", completeList(figureNames()))
	return cmd
}

func newEdgesReport(env Env, change string) *cobra.Command {
	o := &queryOptions{env: env, by: []string{"source", "destination", "port", "protocol"}, measures: []string{"flows", "bytes"}, changes: []string{change}}
	short, long := "Who talks to whom and did not before", "Edges that were used since --since and not in the time before, as far as --compared-with looks back."
	if change == "vanished" {
		short, long = "Who talked to whom and does no more", "Edges that were used in the time before --since, as far as --compared-with looks back, and not since."
	}
	cmd := o.command(change+"-edges", short, long, "  vigie query "+change+"-edges --since yesterday\n  vigie query "+change+"-edges --since 1h --compared-with 24h --workload web")
	cmd.Flags().StringVar(&o.baseline, "compared-with", "7d", "how far back before --since to look, in the forms of --since")
	return cmd
}

func newErrorsReport(env Env) *cobra.Command {
	o := &queryOptions{env: env, by: []string{"workload", "remote", "type"}, measures: []string{"errors", "events", "error_rate"}, nonZero: true}
	o.filter.types = []string{"request", "flow", "dns"}
	return o.command("errors", "What fails, and how often",
		"Requests that failed or had no answer, flows that failed or were denied, names that did not resolve. --type counts others:\n"+
			"exec_failed, file, connect.",
		"  vigie query errors --since 24h\n  vigie query errors --type request --by workload,method,path")
}

func newLatencyReport(env Env) *cobra.Command {
	o := &queryOptions{env: env, by: []string{"workload", "remote"}, measures: []string{"latency_p50", "latency_p90", "latency_p99", "requests"}, order: "latency_p99"}
	o.filter.types = []string{"request"}
	return o.command("latency", "How long answers take",
		"Half, nine of ten and 99 of 100 requests were faster, slowest first. --type dns is about names, --type connect about connections.",
		"  vigie query latency --by workload,path --since 24h\n  vigie query latency --type dns --by name")
}

// command makes the command of a report.
func (o *queryOptions) command(use, short, long, example string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) }}
	o.to.flags(cmd.Flags())
	o.out.flag(cmd)
	types := o.filter.types
	o.filter.events(cmd.Flags())
	cmd.Flags().Lookup("type").DefValue, o.filter.types = "["+strings.Join(types, ",")+"]", types
	cmd.Flags().StringSliceVar(&o.by, "by", o.by, "a row for each different value of these: "+strings.Join(keyNames(), ", "))
	cmd.Flags().Uint32VarP(&o.limit, "limit", "n", 20, "at most this many rows")
	completeFilter(cmd, &o.to)
	_ = cmd.RegisterFlagCompletionFunc("by", completeList(keyNames()))
	return cmd
}

func (o *queryOptions) run(ctx context.Context) error {
	req, err := o.request()
	if err != nil {
		return Cannot(err)
	}
	client, err := o.to.dial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	answer, err := client.Aggregate(ctx, connect.NewRequest(req))
	if err != nil {
		return o.to.explain(err)
	}
	warnMissing(o.env.Err, answer.Msg.GetNodeErrors())
	if o.nonZero {
		answer.Msg.Rows = slices.DeleteFunc(answer.Msg.GetRows(), func(r *vigiev1.AggregateRow) bool { return r.GetValues()[0] == 0 })
	}
	return o.print(answer.Msg, req.GetFilter().GetSince().AsTime())
}

func (o *queryOptions) request() (*vigiev1.AggregateRequest, error) {
	for flag, list := range map[string][2][]string{"by": {o.by, keyNames()}, "measure": {o.measures, figureNames()}} {
		for _, v := range list[0] {
			if !slices.Contains(list[1], v) {
				return nil, fmt.Errorf("--%s %q: use %s", flag, v, strings.Join(list[1], ", "))
			}
		}
	}
	if o.order != "" && !slices.Contains(o.measures, o.order) {
		return nil, fmt.Errorf("--order %q: it must be one of --measure %s", o.order, strings.Join(o.measures, ","))
	}
	now := o.env.Now()
	f, err := o.filter.proto(now)
	if err != nil {
		return nil, err
	}
	if len(f.Types) == 0 {
		f.Types = o.countedTypes()
	}
	if f.Since == nil {
		end := now
		if f.Until != nil {
			end = f.Until.AsTime()
		}
		f.Since = timestamppb.New(end.Add(-time.Hour))
	}
	req := &vigiev1.AggregateRequest{Filter: f, By: o.by, Measures: o.measures, OrderBy: o.order, Limit: o.limit, Changes: o.changes}
	if len(o.changes) > 0 {
		req.CompareUntil = f.Since
		if req.CompareSince, err = moment("compared-with", o.baseline, f.Since.AsTime().In(now.Location())); err != nil {
			return nil, err
		}
		if !req.CompareSince.AsTime().Before(f.Since.AsTime()) {
			return nil, fmt.Errorf("--compared-with %s is not before --since: give a longer time", o.baseline)
		}
	}
	return req, nil
}

// countedTypes are the events that the measures are about.
func (o *queryOptions) countedTypes() []string {
	for _, m := range o.measures {
		if m == "requests" || strings.HasPrefix(m, "latency_") {
			return []string{"request"}
		}
	}
	return []string{"flow"}
}

// keyNames and figureNames are those of vigie.v1.AggregateRequest.
func keyNames() []string {
	return []string{"workload", "workload_namespace", "process", "binary", "type", "source", "destination", "remote", "remote_name", "port",
		"protocol", "verdict", "policy", "rule", "method", "path", "host", "status", "file", "name", "severity", "hour", "day", "node"}
}

func figureNames() []string {
	return []string{"events", "flows", "bytes", "bytes_sent", "bytes_received", "retransmits", "requests", "errors", "error_rate",
		"latency_p50", "latency_p90", "latency_p99", "rtt"}
}

func completeList(values []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return listCompletion(begun, values), cobra.ShellCompDirectiveNoFileComp
	}
}
