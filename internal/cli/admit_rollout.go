// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// rolloutFlags say how far to go, and by what evidence.
type rolloutFlags struct {
	where    postureCluster
	controls []string
	to       string
	soak     time.Duration
	accept   []string
	auditLog string
	dry      bool
	back     bool
}

func newAdmitRollout(env Env) *cobra.Command {
	var f rolloutFlags
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Take the next step, where nothing that runs would be denied",
		Long: "Take the next step of each control: audit to warn, warn to deny. The cluster is scanned first. A control goes to deny only when\n" +
			"nothing that is there fails it, and, with --audit-log, no request failed it since it came to its step; what stands in the way is listed.\n" +
			"What must stay as it is gets a PolicyException; --accept denies it all the same. The exit code is 1 when a step was refused.",
		Example: "  vigie admit rollout --dry-run\n  vigie admit rollout --control framework:pss-baseline --soak 72h --audit-log audit.log\n  vigie admit rollout --back --control privileged",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return rollout(cmd.Context(), env, &f) },
	}
	flags := cmd.Flags()
	f.where.flags(flags)
	flags.StringArrayVar(&f.controls, "control", nil, "only these: an id, framework:NAME or severity:NAME; may be repeated")
	flags.StringVar(&f.to, "to", "deny", "no further than this: warn, deny")
	flags.DurationVar(&f.soak, "soak", 24*time.Hour, "how long a control stays at each step at least")
	flags.StringArrayVar(&f.accept, "accept", nil, "take this control to deny although something that runs fails it; may be repeated")
	flags.StringVar(&f.auditLog, "audit-log", "", "file with the API server's audit log: what failed there is in the way too")
	flags.BoolVar(&f.dry, "dry-run", false, "say what would be done, and do nothing")
	flags.BoolVar(&f.back, "back", false, "one step back instead, at once")
	return cmd
}

func rollout(ctx context.Context, env Env, f *rolloutFlags) error {
	to, err := admission.ParseStep(f.to)
	if err != nil {
		return Cannot(fmt.Errorf("--to: %w", err))
	}
	client, err := f.where.connect(env)
	if err != nil {
		return Cannot(err)
	}
	s, plan, err := clusterPlan(ctx, env, client, func(have *admission.Settings) (*admission.Settings, error) { return have, nil })
	if err != nil {
		return Cannot(err)
	}
	only, err := idsOf(plan.Controls, f.controls)
	if err != nil {
		return Cannot(err)
	}
	var moves []admission.Move
	if f.back {
		moves = s.Back(plan, only)
	} else {
		accept, err := idsOf(plan.Controls, f.accept)
		if err != nil {
			return Cannot(err)
		}
		r := admission.Rollout{To: to, Only: only, Soak: f.soak, Accept: accept}
		evidence, err := f.evidence(ctx, env, client, s, plan, r)
		if err != nil {
			return Cannot(err)
		}
		moves = r.Moves(s, plan, evidence, env.Now())
		printEvidence(env, moves, evidence)
	}
	printMoves(env, moves)
	refused := slices.ContainsFunc(moves, func(m admission.Move) bool { return len(m.Refused) > 0 })
	taken := s.Take(moves)
	if !f.dry && taken > 0 {
		if err := takeSteps(ctx, env, client, s, plan); err != nil {
			return err
		}
	}
	word := "taken"
	if f.dry {
		word = "would be taken"
	}
	fmt.Fprintf(env.Out, "%s %s, %d refused\n", plural(taken, "step"), word, len(moves)-taken)
	if refused {
		return exit(ExitFailed)
	}
	return nil
}

// takeSteps gives the API server the policies with controls at their new steps, and notes them.
func takeSteps(ctx context.Context, env Env, client *cluster.Client, s *admission.Settings, plan admission.Plan) error {
	plan.Steps = s.Steps
	bundle, err := admission.Compile(plan)
	if err != nil {
		return Cannot(err)
	}
	if _, err := client.Apply(ctx, bundle, false); err != nil {
		return err
	}
	s.Arrived(plan, env.Now())
	return client.SaveSettings(ctx, s)
}

// idsOf are the ids that names pick; nil for no names. accept wants none then, too: nothing is accepted that is not named.
func idsOf(all []*control.Control, names []string) (map[string]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	picked, err := control.Select(all, names)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, c := range picked {
		ids[c.ID] = true
	}
	return ids, nil
}

// evidence scans the cluster by the controls that would come to deny next, as the API server would judge.
func (f *rolloutFlags) evidence(ctx context.Context, env Env, client *cluster.Client, s *admission.Settings, plan admission.Plan, r admission.Rollout) (admission.Evidence, error) {
	e := admission.Evidence{Failing: map[string][]string{}, Unevaluated: map[string]int{}}
	var next []*control.Control
	for _, m := range r.Moves(s, plan, e, env.Now()) {
		i := slices.IndexFunc(plan.Controls, func(c *control.Control) bool { return c.ID == m.Control })
		next = append(next, plan.Controls[i])
	}
	if len(next) == 0 {
		return e, nil
	}
	judge, err := scan.NewJudge(next, plan.Target, plan.Params)
	if err != nil {
		return e, err
	}
	judge = judge.WithScope(func(id string, namespace map[string]string) bool {
		i := slices.IndexFunc(next, func(c *control.Control) bool { return c.ID == id })
		return plan.Levels.Applies(next[i], namespace)
	})
	report, err := scanCluster(ctx, env, client, judge, clusterScan{options: cluster.Options{Except: plan.Except}, secrets: true})
	if err != nil {
		return e, err
	}
	var gaps []error
	for _, p := range report.Problems {
		switch {
		case p.Control != "":
			e.Unevaluated[p.Control]++
		case !p.Note:
			gaps = append(gaps, fmt.Errorf("%s: %s", p.File, p.Message))
		}
	}
	if len(gaps) > 0 {
		return e, fmt.Errorf("what was not seen cannot be ruled out: %w", errors.Join(gaps...))
	}
	for _, finding := range report.Findings {
		if text := finding.Object.String() + ": " + finding.Message; !slices.Contains(e.Failing[finding.Control], text) {
			e.Failing[finding.Control] = append(e.Failing[finding.Control], text)
		}
	}
	if f.auditLog != "" {
		if e.Audited, err = readAuditLog(f.auditLog, s.Reached); err != nil {
			return e, err
		}
	}
	return e, nil
}

// atMost bounds how many objects are named for one control.
const atMost = 10

func printEvidence(env Env, moves []admission.Move, e admission.Evidence) {
	for _, m := range moves {
		failing := e.Failing[m.Control]
		for i, text := range failing {
			if i == atMost {
				fmt.Fprintf(env.Out, "%s: and %d more: vigie scan cluster --control %s\n", term.Escape(m.Control), len(failing)-i, term.Escape(m.Control))
				break
			}
			fmt.Fprintf(env.Out, "%s would deny %s\n", env.screen().Style.Bold(term.Escape(m.Control)), term.Escape(text))
		}
	}
}

func printMoves(env Env, moves []admission.Move) {
	st := env.screen().Style
	for _, m := range moves {
		if len(m.Refused) > 0 {
			fmt.Fprintf(env.Out, "%s %s stays at %s: %s\n", st.Yellow("refused"), term.Escape(m.Control), m.From, term.Escape(strings.Join(m.Refused, "; ")))
			continue
		}
		fmt.Fprintf(env.Out, "%s %s: %s to %s\n", st.Green("step"), term.Escape(m.Control), m.From, m.To)
	}
}
