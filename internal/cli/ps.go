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
			procs, err := listProcesses(cmd.Context(), client, f, ended)
			if err != nil {
				return to.explain(err)
			}
			if !kernel && (out == formatTable || out == formatWide) {
				procs = slices.DeleteFunc(procs, func(p *model.Process) bool { return p.KernelThread })
			}
			return printProcesses(env, out, procs, !flat)
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
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var procs []*model.Process
	req := &vigiev1.ListProcessesRequest{Filter: f, IncludeEnded: ended, PageSize: psPage}
	for {
		resp, err := client.ListProcesses(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, err
		}
		for _, p := range resp.Msg.GetProcesses() {
			procs = append(procs, wire.ProcessFromProto(p))
		}
		next := resp.Msg.GetNextPageToken()
		switch next {
		case "":
			return procs, nil
		case req.PageToken:
			return nil, errors.New("the agent repeats a page: restart it")
		}
		req.PageToken = next
	}
}

func printProcesses(env Env, out format, procs []*model.Process, tree bool) error {
	switch out {
	case formatJSON, formatYAML:
		return printEach(env.Out, out, procs)
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
	row := func(p *model.Process, branch string) {
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
		t.Rows = append(t.Rows, append(cells, screen.Style.Dim(branch)+command))
	}
	if tree {
		for _, n := range show.Tree(procs) {
			row(n.Process, n.Branch)
		}
	} else {
		slices.SortFunc(procs, func(a, b *model.Process) int {
			return cmp.Or(cmp.Compare(a.Key.PID, b.Key.PID), cmp.Compare(a.Key.Exec, b.Key.Exec))
		})
		for _, p := range procs {
			row(p, "")
		}
	}
	return t.Write(env.Out)
}

func printEach(w io.Writer, out format, procs []*model.Process) error {
	var buf []byte
	for _, p := range procs {
		buf = p.AppendJSON(buf[:0])
		write := writeJSON
		if out == formatYAML {
			write = writeYAML
		}
		if err := write(w, buf); err != nil {
			return fmt.Errorf("write processes: %w", err)
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
