// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// psPage is how many processes one call asks for.
const psPage = 2000

// NewPS is `vigie ps`.
func NewPS(env Env) *cobra.Command {
	var to target
	var out format
	var filter filterFlags
	var flat, ended, kernel bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "Show the processes as a tree, with the workloads they belong to",
		Long: "Show the processes that run, as a tree, with the workloads they belong to.\n\n" +
			"Kernel threads are left out of the table unless --kernel asks for them. -o json prints one process a line.",
		Example: "  vigie ps --workload nginx.service\n  vigie ps --pid 1 --flat -o wide\n  vigie ps --where 'process.euid == 0u && process.uid != 0u'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := filter.proto(env.Now())
			if err != nil {
				return Cannot(err)
			}
			client, err := to.dial()
			if err != nil {
				return err
			}
			hosts, missing, err := processesByNode(cmd.Context(), client, f, ended)
			if err != nil {
				return to.explain(err)
			}
			warnMissing(env.Err, missing)
			if !kernel && (out == formatTable || out == formatWide) {
				for i := range hosts {
					hosts[i].procs = slices.DeleteFunc(hosts[i].procs, func(p *model.Process) bool { return p.KernelThread })
				}
			}
			return printProcesses(env, out, hosts, !flat)
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	filter.processes(cmd.Flags())
	cmd.Flags().BoolVar(&flat, "flat", false, "a list ordered by pid")
	tree := true
	cmd.Flags().BoolVar(&tree, "tree", true, "a tree (the default)")
	cmd.MarkFlagsMutuallyExclusive("flat", "tree")
	cmd.PreRunE = func(*cobra.Command, []string) error { flat = flat || !tree; return nil }
	cmd.Flags().BoolVar(&ended, "ended", false, "also process images that have ended and are still known")
	cmd.Flags().BoolVarP(&kernel, "kernel", "k", false, "also kernel threads")
	completeFilter(cmd, &to)
	return cmd
}

func listProcesses(ctx context.Context, client vigiev1connect.VigieClient, f *vigiev1.Filter, ended bool) ([]*model.Process, error) {
	hosts, _, err := processesByNode(ctx, client, f, ended)
	var procs []*model.Process
	for _, h := range hosts {
		procs = append(procs, h.procs...)
	}
	return procs, err
}

// hostProcesses are the processes of one host.
type hostProcesses struct {
	node  string // empty for that of an agent
	procs []*model.Process
}

// processesByNode lists processes; of a relay, node by node, and which nodes are missing.
func processesByNode(ctx context.Context, client vigiev1connect.VigieClient, f *vigiev1.Filter, ended bool) ([]hostProcesses, []*vigiev1.NodeError, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var hosts []hostProcesses
	var missing []*vigiev1.NodeError
	req := &vigiev1.ListProcessesRequest{Filter: f, IncludeEnded: ended, PageSize: psPage}
	for {
		resp, err := client.ListProcesses(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, nil, err
		}
		missing = append(missing, resp.Msg.GetNodeErrors()...)
		for i, p := range resp.Msg.GetProcesses() {
			node := ""
			if nodes := resp.Msg.GetNodes(); i < len(nodes) {
				node = nodes[i]
			}
			if len(hosts) == 0 || hosts[len(hosts)-1].node != node {
				hosts = append(hosts, hostProcesses{node: node})
			}
			h := &hosts[len(hosts)-1]
			h.procs = append(h.procs, wire.ProcessFromProto(p))
		}
		next := resp.Msg.GetNextPageToken()
		switch next {
		case "":
			return hosts, missing, nil
		case req.PageToken:
			return nil, nil, errors.New("the agent repeats a page: restart it")
		}
		req.PageToken = next
	}
}

func printProcesses(env Env, out format, hosts []hostProcesses, tree bool) error {
	switch out {
	case formatJSON, formatYAML:
		return printEach(env.Out, out, hosts)
	}
	screen := env.screen()
	now := env.Now()
	t := term.Table{Width: screen.Width, Style: screen.Style, Right: []int{0, 2, 3},
		Header: []string{"PID", "WORKLOAD", "UID", "AGE", "COMMAND"}}
	if out == formatWide {
		t.Header = []string{"PID", "WORKLOAD", "UID", "AGE", "KIND", "PPID", "TTY", "CWD", "EXEC_ID", "COMMAND"}
		t.Right = []int{0, 2, 3, 5}
		t.Width = 0
	}
	ofMany := slices.ContainsFunc(hosts, func(h hostProcesses) bool { return h.node != "" })
	if ofMany {
		t.Header = append([]string{"NODE"}, t.Header...)
		for i := range t.Right {
			t.Right[i]++
		}
	}
	row := func(node string, p *model.Process, branch string) {
		until := now
		if !p.EndTime.IsZero() {
			until = p.EndTime
		}
		cells := []string{fmt.Sprint(p.Key.PID), show.Workload(p.Workload), fmt.Sprint(p.Creds.UID), age(until, p.StartTime)}
		if out == formatWide {
			kind := "-"
			if p.Workload != nil {
				kind = term.Escape(string(p.Workload.Kind))
			}
			cells = append(cells, kind, fmt.Sprint(p.ParentKey.PID), dash(term.Escape(p.TTY)), dash(term.Escape(p.CWD)), term.Escape(p.ExecID))
		}
		command := show.Command(p)
		if out != formatWide {
			command = show.Short(command)
		}
		if !p.EndTime.IsZero() {
			command += screen.Style.Dim("  ended " + p.EndTime.Local().Format(time.TimeOnly))
		}
		if ofMany {
			cells = append([]string{term.Escape(node)}, cells...)
		}
		t.Rows = append(t.Rows, append(cells, screen.Style.Dim(branch)+command))
	}
	for _, h := range hosts {
		if tree {
			for _, n := range show.Tree(h.procs) {
				row(h.node, n.Process, n.Branch)
			}
			continue
		}
		slices.SortFunc(h.procs, func(a, b *model.Process) int {
			return cmp.Or(cmp.Compare(a.Key.PID, b.Key.PID), cmp.Compare(a.Key.Exec, b.Key.Exec))
		})
		for _, p := range h.procs {
			row(h.node, p, "")
		}
	}
	return t.Write(env.Out)
}

func printEach(w io.Writer, out format, hosts []hostProcesses) error {
	write := writeJSON
	if out == formatYAML {
		write = writeYAML
	}
	for _, h := range hosts {
		for _, p := range h.procs {
			if err := write(w, p.AppendNodeJSON(nil, h.node)); err != nil {
				return fmt.Errorf("write processes: %w", err)
			}
		}
	}
	return nil
}

func age(now, start time.Time) string {
	if start.IsZero() {
		return "-"
	}
	return show.Age(now.Sub(start))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
