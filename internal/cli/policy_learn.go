// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

func newPolicyLearn(env Env) *cobra.Command {
	var to target
	l := policyLearner{env: env, to: &to}
	var since string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "learn --workload NAME",
		Short: "Write a policy from what a workload does",
		Long: "Write the smallest readable policy that allows what a workload did, in audit mode: from all that the agent remembers, from --since\n" +
			"on, or with --for from all that happens from now on. Have the workload do everything it ever does meanwhile: start, serve,\n" +
			"rotate its logs, stop. What to look at before enforcing it is told on standard error.",
		Example: "  vigie policy learn --workload nginx.service --for 10m -o web.yaml\n  vigie policy learn --workload nginx.service --since 1h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if l.since, err = moment("since", since, env.Now()); err != nil {
				return Cannot(err)
			}
			if cmd.Flags().Changed("for") && l.wait <= 0 {
				return Cannot(fmt.Errorf("--for %s: give a time that is still to come: 10m", l.wait))
			}
			l.progress = progressOn(env, quiet)
			return l.run(cmd.Context())
		},
	}
	to.flags(cmd.Flags())
	fs := cmd.Flags()
	fs.StringVarP(&l.workload, "workload", "w", "", "name of the workload, as `vigie ps` shows it")
	_ = cmd.MarkFlagRequired("workload")
	fs.DurationVar(&l.wait, "for", 0, "learn from what happens in this time: 30s, 10m, 2h; ctrl-c ends it early")
	fs.StringVar(&since, "since", "", "learn from what happened since: a duration (1h), a time (15:04[:05]) or 2006-01-02T15:04:05Z")
	fs.StringVar(&l.name, "name", "", "name of the policy (default made of the workload's)")
	fs.StringVarP(&l.file, "output", "o", "-", "write the policy into this file; -: standard output")
	fs.BoolVar(&l.overwrite, "overwrite", false, "replace a file that exists")
	fs.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	cmd.MarkFlagsMutuallyExclusive("for", "since")
	completeFilter(cmd, &to)
	return cmd
}

// policyLearner writes one policy.
type policyLearner struct {
	env                  Env
	to                   *target
	workload, name, file string
	wait                 time.Duration
	since                *timestamppb.Timestamp
	overwrite            bool
	progress             io.Writer

	events int    // seen so far
	lost   uint64 // on their way here
	ended  error  // why the stream did
}

func (l *policyLearner) run(ctx context.Context) error {
	if l.file != "-" && !l.overwrite {
		if _, err := os.Lstat(l.file); !errors.Is(err, fs.ErrNotExist) {
			return Cannot(fmt.Errorf("%s exists: choose another name, or replace it with --overwrite", l.file))
		}
	}
	client, err := l.to.dial()
	if err != nil {
		return err
	}
	if l.wait > 0 {
		learned, err := l.fromNow(ctx, client)
		if err != nil {
			return err
		}
		return l.write(learned)
	}
	resp, err := client.LearnPolicy(ctx, connect.NewRequest(&vigiev1.LearnPolicyRequest{Workload: l.workload, Since: l.since, Name: l.name}))
	if err != nil {
		return l.to.explain(err)
	}
	m := resp.Msg
	l.to.missing(m.GetNodeErrors())
	return l.write(&policy.Learned{YAML: m.GetYaml(), Events: m.GetEvents(), Notes: m.GetNotes()})
}

// fromNow learns from what happens, here: the agent's memory could be too small for all of it.
func (l *policyLearner) fromNow(ctx context.Context, client vigiev1connect.VigieClient) (*policy.Learned, error) {
	status, err := client.GetStatus(ctx, connect.NewRequest(&vigiev1.GetStatusRequest{}))
	if err != nil {
		return nil, l.to.explain(err)
	}
	s := status.Msg.GetStatus()
	before := s.GetStartTime().AsTime().Add(time.Duration(s.GetUptimeNs())) // by the agent's clock
	procs, err := listProcesses(ctx, client, &vigiev1.Filter{}, true)
	if err != nil {
		return nil, l.to.explain(err)
	}
	images := make(map[string]*model.Process, len(procs))
	for _, p := range procs {
		images[p.ExecID] = p
	}
	without, weaker := l.sectionsThere(ctx, client)
	learned, err := policy.Learn(func(yield func(*model.Event) bool) { l.ended = l.stream(ctx, client, before, yield) },
		policy.LearnOptions{Workload: l.workload, Name: l.name, LeaveOut: without, Weaker: weaker,
			Image: func(id string) *model.Process { return images[id] }})
	if l.progress != nil {
		fmt.Fprint(l.progress, "\r\x1b[K")
	}
	switch {
	case l.ended != nil:
		return nil, l.to.explain(l.ended)
	case errors.Is(err, policy.ErrNothingLearned):
		return nil, fmt.Errorf("%w; `vigie ps` shows the names of workloads", err)
	case err != nil:
		return nil, err
	}
	if l.lost > 0 {
		learned.Notes = append(learned.Notes, fmt.Sprintf("%d events were lost meanwhile: what they would have told is not in the policy", l.lost))
	}
	return learned, nil
}

// sectionsThere asks the agent what cannot be in force there, or not as strongly as it is written.
func (l *policyLearner) sectionsThere(ctx context.Context, client vigiev1connect.VigieClient) (without, weaker map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return agent.SectionsHere(func(section, yaml string) error {
		_, err := client.ApplyPolicies(ctx, connect.NewRequest(&vigiev1.ApplyPoliciesRequest{Yaml: yaml, Source: section, DryRun: true}))
		if connect.CodeOf(err) != connect.CodeFailedPrecondition {
			return nil // says nothing about the section
		}
		return err
	})
}

// stream gives the events of the workload, and who listens on the host, until the time is over, ctx ends (ctrl-c) or the
// stream does, which is an error.
func (l *policyLearner) stream(ctx context.Context, client vigiev1connect.VigieClient, since time.Time, yield func(*model.Event) bool) error {
	// No deadline of the call: the agent would end it a moment before it is over here.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	where := `type == "listen" || process.workload.name == ` + strconv.Quote(l.workload)
	req := &vigiev1.StreamEventsRequest{Filter: &vigiev1.Filter{Where: where, Since: timestamppb.New(since)}}
	batches, ended := make(chan []*model.Event), make(chan streamEnd, 1)
	go func() { ended <- streamEnd{receive(ctx, client, req, batches)} }()
	receiving := true
	defer func() {
		if cancel(); receiving {
			<-ended
		}
	}()
	started := l.env.Now()
	over, ticker := time.NewTimer(l.wait), time.NewTicker(tick)
	defer over.Stop()
	defer ticker.Stop()
	for {
		select {
		case batch := <-batches:
			if !l.take(batch, yield) {
				return nil
			}
		case end := <-ended:
			receiving = false
			if ctx.Err() != nil {
				return nil
			}
			return cmp.Or(end.err, errors.New("the agent ended the stream"))
		case <-ticker.C:
			if l.progress != nil {
				fmt.Fprintf(l.progress, "\r\x1b[Klearning from %s: %s, %s left; ctrl-c ends it early", term.Escape(l.workload), plural(l.events, "event"),
					max(l.wait-l.env.Now().Sub(started), 0).Round(time.Second))
			}
		case <-over.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// streamEnd is why a stream ended.
type streamEnd struct{ err error }

// receive hands on what a stream has until it or ctx ends. The call itself may wait for the first event.
func receive(ctx context.Context, client vigiev1connect.VigieClient, req *vigiev1.StreamEventsRequest, batches chan<- []*model.Event) error {
	stream, err := client.StreamEvents(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		select {
		case batches <- eventsOf(stream.Msg()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return stream.Err()
}

func (l *policyLearner) take(batch []*model.Event, yield func(*model.Event) bool) bool {
	for _, ev := range batch {
		switch {
		case ev.Loss != nil:
			l.lost += ev.Loss.Count
		case ev.Process != nil && ev.Process.Workload != nil && ev.Process.Workload.Name == l.workload:
			l.events++
		}
		if !yield(ev) {
			return false
		}
	}
	return true
}

func (l *policyLearner) write(learned *policy.Learned) error {
	st := term.ScreenOf(l.env.Err, l.env.Getenv).Style
	text := strings.TrimSuffix(learned.YAML, "\n") + "\n"
	var err error
	if l.file == "-" {
		_, err = io.WriteString(l.env.Out, term.EscapeLines(text))
	} else {
		err = os.WriteFile(l.file, []byte(text), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	for _, note := range learned.Notes {
		fmt.Fprintf(l.env.Err, "%s %s\n", st.Yellow("!"), term.Escape(note))
	}
	fmt.Fprintf(l.env.Err, "learned from %s of %s\n", plural(int(learned.Events), "event"), term.Escape(l.workload))
	if l.file != "-" {
		fmt.Fprintf(l.env.Err, "wrote %s; try it with: vigie policy simulate -f %s\n", term.Escape(l.file), term.Args([]string{l.file}))
	}
	return nil
}
