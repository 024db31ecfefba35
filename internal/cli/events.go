// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// How many past events are shown when the user does not say.
const (
	lastAlone     = 100 // without --follow
	lastFollowing = 10
)

// NewEvents is `vigie events`.
func NewEvents(env Env) *cobra.Command {
	var to target
	var out format
	var filter filterFlags
	var follow bool
	var last uint32
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened, or with -f what happens",
		Long: "Show the recent events that the agent keeps in memory, oldest first; with --since also those of the history that it\n" +
			"keeps on disk; with --follow, go on with those that happen.\n\n" +
			"Values of one flag are alternatives; different flags must all match. Events that were lost are shown with every\n" +
			"filter but --type. -o json prints one event a line, in the form of docs/events.md.",
		Example: "  vigie events -f --type exec,connect --workload nginx.service\n" +
			"  vigie events --since 10m --path '/etc/**'\n" +
			"  vigie events -f --pid 1234 -o json\n" +
			"  vigie events -f --where 'socket.remote_port == 22u && process.uid != 0u'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := filter.proto(env.Now())
			if err != nil {
				return Cannot(err)
			}
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
			client, err := to.dial()
			if err != nil {
				return err
			}
			return printEvents(cmd.Context(), env, out, client, &to, req)
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	filter.events(cmd.Flags())
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the events that happen from now on, until ctrl-c")
	cmd.Flags().Uint32VarP(&last, "last", "n", 0, fmt.Sprintf("begin with at most this many past events; 0 is all (default %d, with --follow %d)",
		lastAlone, lastFollowing))
	cmd.Flags().Lookup("last").DefValue = "" // the default stands in the text
	completeFilter(cmd, &to)
	return cmd
}

// everything is the start of the recent events, unless since says more.
func everything(since *timestamppb.Timestamp) *timestamppb.Timestamp {
	if since != nil {
		return since
	}
	return timestamppb.New(time.Unix(0, 0))
}

func printEvents(ctx context.Context, env Env, out format, client vigiev1connect.VigieClient, to *target, req *vigiev1.StreamEventsRequest) error {
	boot := ""
	if out == formatJSON || out == formatYAML {
		status, err := client.GetStatus(ctx, connect.NewRequest(&vigiev1.GetStatusRequest{}))
		if err != nil {
			return to.explain(err)
		}
		boot = status.Msg.GetStatus().GetBootId()
		boot = boot[:min(len(boot), 8)] // the part that exec_ids carry
	}
	stream, err := client.StreamEvents(ctx, connect.NewRequest(req))
	if err != nil {
		if ctx.Err() != nil && !req.NoFollow {
			return nil // ended by the user, as every --follow is
		}
		return to.explain(err)
	}
	defer stream.Close()
	w := bufio.NewWriterSize(env.Out, 64<<10)
	p := eventPrinter{w: w, out: out, boot: boot, screen: env.screen(), zone: env.Now().Location()}
	for stream.Receive() {
		sayNodes(env.Err, stream.Msg().GetNodes())
		for _, e := range stream.Msg().GetEvents() {
			if err := p.print(wire.FromProto(e)); err != nil {
				return fmt.Errorf("write events: %w", err)
			}
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write events: %w", err)
		}
	}
	if p.lines == 0 && req.NoFollow && stream.Err() == nil && out != formatJSON && out != formatYAML {
		fmt.Fprintln(env.Err, "nothing that the agent remembers matches: give an earlier --since, or a wider filter")
	}
	if err := stream.Err(); err != nil && (ctx.Err() == nil || req.NoFollow) {
		return to.explain(err)
	}
	if !req.NoFollow && ctx.Err() == nil {
		return fmt.Errorf("the agent at %s ended the stream: see its log, then start it again", to)
	}
	return nil
}

// eventPrinter writes events, one line each (YAML: one document).
type eventPrinter struct {
	w      *bufio.Writer
	out    format
	boot   string
	screen term.Screen
	zone   *time.Location
	buf    []byte
	lines  int
}

func (p *eventPrinter) print(e *model.Event) error {
	p.lines++
	switch p.out {
	case formatJSON:
		p.buf = e.AppendJSON(p.buf[:0], p.boot)
		return writeJSON(p.w, p.buf)
	case formatYAML:
		p.buf = e.AppendJSON(p.buf[:0], p.boot)
		return writeYAML(p.w, p.buf)
	}
	line := show.Row(e, p.zone, p.screen.Style, p.out == formatWide)
	if p.screen.Width > 0 && p.out != formatWide {
		line = term.Cut(line, p.screen.Width)
	}
	_, err := p.w.WriteString(line + "\n")
	return err
}
