// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/cluster"
)

func newAdmitStatus(env Env) *cobra.Command {
	var where postureCluster
	auditLog := ""
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell what is in force, what the API server says of it, and what it found",
		Long: "Tell which controls are in force at which step and since when, what the API server's type check says of the policies, which exceptions\n" +
			"hold, and how often a policy had something to say: from the metrics of one API server, and by control from --audit-log.",
		Example: "  vigie admit status\n  vigie admit status --audit-log /var/log/kubernetes/audit.log",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			client, err := where.connect(env)
			if err != nil {
				return Cannot(err)
			}
			s, err := client.Settings(ctx)
			if err != nil {
				return Cannot(err)
			}
			inForce, err := client.InForce(ctx)
			if err != nil {
				return Cannot(err)
			}
			counters, err := client.Counters(ctx)
			if err != nil {
				fmt.Fprintf(env.Err, "vigie: %s: the counts are left out\n", err)
			}
			if err := printInForce(env, inForce, counters); err != nil {
				return err
			}
			if s != nil {
				if err := printSteps(env, s, auditLog); err != nil {
					return err
				}
			}
			exceptions, errs, err := client.Exceptions(ctx)
			if err != nil {
				return Cannot(err)
			}
			for _, e := range exceptions {
				state := env.screen().Style.Green("holds")
				if e.Expired(env.Now()) {
					state = env.screen().Style.Red("expired")
				}
				fmt.Fprintf(env.Out, "exception %s %s until %s, by %s: %s\n", env.screen().Style.Bold(term.Escape(e.Name)), state, e.Spec.Expires.UTC().Format(time.RFC3339),
					term.Escape(e.Spec.Owner), term.Escape(strings.Join(e.Spec.Controls, ", ")))
			}
			for _, err := range errs {
				fmt.Fprintf(env.Out, "exception %s: %s\n", env.screen().Style.Red("invalid"), term.Escape(err.Error()))
			}
			if s == nil {
				fmt.Fprintln(env.Out, "admission was never applied to this cluster: begin with `vigie admit apply`")
				return exit(ExitFailed)
			}
			return nil
		},
	}
	where.flags(cmd.Flags())
	cmd.Flags().StringVar(&auditLog, "audit-log", "", "file with the API server's audit log, to count failures by control")
	return cmd
}

func printInForce(env Env, list []cluster.InForce, counters cluster.Counters) error {
	screen := env.screen()
	t := term.Table{Width: screen.Width, Style: screen.Style, Header: []string{"POLICY", "STEP", "CONTROLS", "BOUND", "TYPES", "ALLOWED", "FAILED"}}
	for _, p := range list {
		bound, types := "yes", "good"
		if !p.Bound {
			bound = screen.Style.Red("no")
		}
		switch {
		case !p.Checked:
			types = "not checked yet"
		case len(p.Warnings) > 0:
			types = screen.Style.Yellow(plural(len(p.Warnings), "warning"))
		}
		allowed, failed := "", ""
		if counters != nil {
			c := counters[p.Policy]
			allowed, failed = fmt.Sprint(c["allow"]), fmt.Sprint(c["deny"]+c["warn"]+c["audit"])
		}
		t.Rows = append(t.Rows, []string{term.Escape(p.Policy), term.Escape(string(p.Step)), fmt.Sprint(len(p.Controls)), bound, types, allowed, failed})
	}
	if err := t.Write(env.Out); err != nil {
		return err
	}
	for _, p := range list {
		for _, w := range p.Warnings {
			fmt.Fprintf(env.Out, "%s %s: %s\n", screen.Style.Yellow("types"), term.Escape(p.Policy), term.Escape(w))
		}
	}
	return nil
}

// printSteps counts the controls at each step, and names those that the audit log is about.
func printSteps(env Env, s *admission.Settings, auditLog string) error {
	count := map[admission.Step]int{}
	for _, r := range s.Reached {
		count[r.Step]++
	}
	var parts []string
	for _, step := range admission.Steps() {
		parts = append(parts, fmt.Sprintf("%d at %s", count[step], step))
	}
	fmt.Fprintf(env.Out, "controls: %s\n", strings.Join(parts, ", "))
	if auditLog == "" {
		return nil
	}
	failed, err := readAuditLog(auditLog, s.Reached)
	if err != nil {
		return Cannot(err)
	}
	for _, id := range slices.SortedFunc(maps.Keys(failed), func(a, b string) int { return cmp.Or(failed[b]-failed[a], cmp.Compare(a, b)) }) {
		fmt.Fprintf(env.Out, "audit log: %s failed %d times since it came to %s at %s\n", id, failed[id], s.Reached[id].Step, s.Reached[id].Since.Format(time.RFC3339))
	}
	return nil
}

// readAuditLog counts failures by control, since each came to its step.
func readAuditLog(path string, reached map[string]admission.Reached) (map[string]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	defer f.Close() // it was only read
	failed := map[string]int{}
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		countFailures(line, reached, failed)
		if err == io.EOF {
			return failed, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
	}
}

// countFailures reads one event; what is no event of a failure counts nothing.
func countFailures(line []byte, reached map[string]admission.Reached, failed map[string]int) {
	var event struct {
		Stage       string            `json:"stage"`
		Time        time.Time         `json:"stageTimestamp"`
		Annotations map[string]string `json:"annotations"`
	}
	if json.Unmarshal(line, &event) != nil || event.Stage != "ResponseComplete" {
		return
	}
	for _, id := range failedControls(event.Annotations) {
		if r, ok := reached[id]; ok && !event.Time.Before(r.Since) {
			failed[id]++
		}
	}
}

// failedControls are those that an event's annotations name: in vigie's own, or in the API server's, which before Kubernetes 1.37
// has one failure of a request.
func failedControls(annotations map[string]string) []string {
	var ids []string
	add := func(id string) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for key, value := range annotations {
		if policy, ok := strings.CutSuffix(key, "/"+admission.FailedAnnotation); ok && strings.HasPrefix(policy, "vigie-") {
			for id := range strings.SplitSeq(value, ", ") {
				add(id)
			}
		}
	}
	var list []struct{ Policy, Message string }
	if json.Unmarshal([]byte(annotations["validation.policy.admission.k8s.io/validation_failure"]), &list) != nil {
		return ids
	}
	for _, v := range list {
		if id, _, ok := strings.Cut(v.Message, ": "); ok && strings.HasPrefix(v.Policy, "vigie-") {
			add(id)
		}
	}
	return ids
}
