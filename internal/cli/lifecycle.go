// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/lifecycle"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// NewLifecycle is `vigie lifecycle`.
func NewLifecycle(env Env) *cobra.Command {
	var to target
	var out format
	var since string
	cmd := &cobra.Command{
		Use:   "lifecycle [NAMESPACE/]POD",
		Short: "Say in which order the containers of a pod started, listened and ended, and what is wrong with that",
		Long: "Say in which order the containers of a pod started, listened and ended, as their processes did, and name the problems: a sidecar\n" +
			"that outlives its job, an app that starts before its proxy listens or runs on without it, an init container that fails,\n" +
			"restarts. The pod may be gone already: its events are looked for, too.\n\n" +
			"The exit code is 1 when there is a problem.",
		Example: "  vigie lifecycle shop/web-5d4f9c7b8-x2x9k\n  vigie lifecycle import-28900000-abcde --since 24h -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := moment("since", since, env.Now())
			if err != nil {
				return Cannot(err)
			}
			client, err := to.dial()
			if err != nil {
				return err
			}
			t, err := timeline(cmd.Context(), env, client, args[0], from.AsTime())
			if answer := new(connect.Error); errors.As(err, &answer) {
				return to.explain(err)
			}
			if err != nil {
				return err
			}
			if err := printTimeline(env, out, t); err != nil {
				return err
			}
			if len(t.Problems) > 0 {
				return exit(ExitFailed)
			}
			return nil
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	cmd.Flags().StringVar(&since, "since", "24h", "how far back to look for the pod's events")
	return cmd
}

// timeline gathers what the agent knows of a pod.
func timeline(ctx context.Context, env Env, client vigiev1connect.VigieClient, name string, since time.Time) (*lifecycle.Timeline, error) {
	namespace, pod, ok := strings.Cut(name, "/")
	if !ok {
		namespace, pod = "", name
	}
	where := "process.workload.kind == 'pod' && process.workload.name == " + strconv.Quote(pod)
	if namespace != "" {
		where += " && process.workload.namespace == " + strconv.Quote(namespace)
	}
	var known *model.Pod
	pods, err := listPods(ctx, client, &vigiev1.ListPodsRequest{Namespace: namespace, Name: pod, AllNodes: true})
	switch code := connect.CodeOf(err); {
	case err == nil && len(pods) > 1:
		return nil, Cannot(fmt.Errorf("there are %d pods %s: say which as NAMESPACE/%s", len(pods), pod, pod))
	case err == nil && len(pods) == 1:
		known = pods[0]
		where = "process.workload.pod_uid == " + strconv.Quote(known.UID)
	case err != nil && code != connect.CodeFailedPrecondition && code != connect.CodeUnimplemented: // the agent follows no Kubernetes
		return nil, err
	}
	events, err := podEvents(ctx, client, where, since)
	if err != nil {
		return nil, err
	}
	t := lifecycle.Of(known, events, env.Now())
	if t.Name == "" {
		return nil, Cannot(fmt.Errorf("no pod %s is known, and nothing was seen of one since %s: `vigie pods` lists those that are known", name, since.Local().Format(time.DateTime)))
	}
	return &t, nil
}

func podEvents(ctx context.Context, client vigiev1connect.VigieClient, where string, since time.Time) ([]*model.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	req := &vigiev1.QueryEventsRequest{PageSize: 1000, Filter: &vigiev1.Filter{Types: []string{"exec", "exit", "listen"}, Where: where, Since: timestamppb.New(since)}}
	var events []*model.Event
	for {
		page, err := client.QueryEvents(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, err
		}
		for _, e := range page.Msg.GetEvents() {
			events = append(events, wire.FromProto(e))
		}
		next := page.Msg.GetNextPageToken()
		switch next {
		case "":
			return events, nil
		case req.GetPageToken():
			return nil, errors.New("the agent repeats a page: restart it")
		}
		req.PageToken = next
	}
}

func printTimeline(env Env, out format, t *lifecycle.Timeline) error {
	if out == formatJSON || out == formatYAML {
		text, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("write a timeline: %w", err)
		}
		if out == formatYAML {
			return writeYAML(env.Out, text)
		}
		return writeJSON(env.Out, text)
	}
	screen := env.screen()
	title := t.Namespace + "/" + t.Name
	if c := controllerText(t.Controller); c != "" {
		title += " of " + c
	}
	if _, err := fmt.Fprintln(env.Out, screen.Style.Bold(term.Escape(title))); err != nil {
		return err
	}
	table := term.Table{Width: screen.Width, Style: screen.Style, Header: []string{"CONTAINER", "ROLE", "STARTED", "LISTENS", "ENDED", "HOW", "PROGRAM"}}
	if out == formatWide {
		table.Width = 0
	}
	for i := range t.Containers {
		c := &t.Containers[i]
		if len(c.Runs) == 0 {
			table.Rows = append(table.Rows, []string{term.Escape(c.Name), string(c.Role), "not seen", "", "", "", term.Escape(c.Image)})
		}
		for j := range c.Runs {
			r := &c.Runs[j]
			ended, how := "", "runs"
			if !r.Ended.IsZero() {
				ended, how = clock(r.Ended), fmt.Sprintf("exit %d", r.Code)
				if r.Signal != 0 {
					how = fmt.Sprintf("signal %d", r.Signal)
				}
			}
			var listens []string
			for _, l := range r.Listens {
				listens = append(listens, fmt.Sprintf("%s after %s", l.Addr, l.At.Sub(r.Started).Round(time.Millisecond)))
			}
			table.Rows = append(table.Rows, []string{term.Escape(c.Name), string(c.Role), clock(r.Started), strings.Join(listens, ", "), ended, how, term.Escape(r.Binary)})
		}
	}
	if err := table.Write(env.Out); err != nil {
		return err
	}
	for _, p := range t.Problems {
		if _, err := fmt.Fprintf(env.Out, "%s %s: %s\n", screen.Style.Red("!"), p.Kind, term.Escape(p.Text)); err != nil {
			return err
		}
	}
	return nil
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("15:04:05.000")
}
