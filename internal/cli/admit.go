// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/exception"
)

// NewAdmit is `vigie admit`.
func NewAdmit(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "admit",
		Short: "Have the API server enforce controls by itself, step by step",
		Long: "Have the API server enforce controls by itself: as few ValidatingAdmissionPolicies, without a webhook.\n\n" +
			"A control goes from audit (it stands in the API server's audit log) over warn (whoever makes the request is told) to deny.\n" +
			"`apply` begins, `rollout` takes the next step where nothing would be denied that runs, `status` tells where everything is.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAdmitRender(env), newAdmitApply(env), newAdmitStatus(env), newAdmitRollout(env), newAdmitCheck(env), newAdmitController(env))
	return cmd
}

// admitFlags are what an administrator chooses.
type admitFlags struct {
	set        controlSet
	step       string
	steps      []string
	level      string
	levelLabel string
	except     []string
	fixes      []string
}

func (f *admitFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.set.flags(flags)
	flags.StringVar(&f.step, "step", "", "step of all controls: audit, warn, deny (default audit, or where they are)")
	flags.StringArrayVar(&f.steps, "step-of", nil, "CONTROL=STEP; may be repeated")
	flags.StringVar(&f.level, "pod-security", "", "bind the Pod Security Standards to namespaces; this is the level of those without a label: privileged, baseline, restricted")
	flags.StringVar(&f.levelLabel, "pod-security-label", admission.DefaultLevelLabel, "the label of namespaces that says their level")
	flags.StringArrayVar(&f.except, "except-namespace", admission.DefaultExcept(), "namespace in which nothing is judged; may be repeated")
	flags.StringArrayVar(&f.fixes, "fix", nil, "make the fix of a control on the way in: CONTROL, or CONTROL=overrule also where a manifest says otherwise (vigie controls explain says what that is); may be repeated")
	// The flags exist, so that registering cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("fix", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		all, err := f.set.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return admission.Fixable(all), cobra.ShellCompDirectiveNoFileComp
	})
	_ = cmd.RegisterFlagCompletionFunc("step", cobra.FixedCompletions([]string{"audit", "warn", "deny"}, cobra.ShellCompDirectiveNoFileComp))
}

// settings are the flags over what was noted in the cluster: a flag that is not given leaves what it is about as it is.
func (f *admitFlags) settings(cmd *cobra.Command, noted *admission.Settings) (*admission.Settings, error) {
	s := &admission.Settings{Step: admission.Audit, Except: f.except}
	if noted != nil {
		s = noted
	}
	given := cmd.Flags().Changed
	if given("control") {
		s.Controls = f.set.pick
	}
	if given("skip") {
		s.Skip = f.set.skip
	}
	if given("except-namespace") {
		s.Except = f.except
	}
	if given("fix") {
		s.Fixes = f.fixes
	}
	if given("pod-security") || given("pod-security-label") {
		s.Levels = &admission.LevelSettings{Label: f.levelLabel, Default: f.level}
		if f.level == "" {
			s.Levels.Default = "privileged"
		}
	}
	if err := f.own(s); err != nil {
		return nil, err
	}
	if given("set") {
		params, err := f.set.valuesFor(s)
		if err != nil {
			return nil, err
		}
		s.Set = params
	}
	return s, f.stepped(s)
}

// own notes controls that do not come with vigie, whole.
func (f *admitFlags) own(s *admission.Settings) error {
	for _, path := range f.set.files {
		documents, err := readControls(path)
		if err != nil {
			return err
		}
		for _, c := range documents {
			text, err := os.ReadFile(c.Source)
			if err != nil {
				return fmt.Errorf("read controls: %w", err)
			}
			if s.Own == nil {
				s.Own = map[string]string{}
			}
			s.Own[c.ID] = string(text)
		}
	}
	return nil
}

// stepped puts the steps of the flags into settings.
func (f *admitFlags) stepped(s *admission.Settings) error {
	if f.step != "" {
		step, err := admission.ParseStep(f.step)
		if err != nil {
			return fmt.Errorf("--step: %w", err)
		}
		s.Step, s.Steps = step, nil
	}
	for _, text := range f.steps {
		id, name, ok := strings.Cut(text, "=")
		step, err := admission.ParseStep(name)
		if !ok || err != nil {
			return fmt.Errorf("--step-of %s: want CONTROL=STEP, where the steps are audit, warn, deny", text)
		}
		if s.Steps == nil {
			s.Steps = map[string]admission.Step{}
		}
		s.Steps[id] = step
	}
	chosen, _, err := s.Chosen()
	if err != nil {
		return err
	}
	for id := range s.Steps {
		if !slices.ContainsFunc(chosen, func(c *control.Control) bool { return c.ID == id }) {
			if len(f.steps) > 0 {
				return fmt.Errorf("--step-of: no control %q is chosen: `vigie controls list` names them", id)
			}
			delete(s.Steps, id)
		}
	}
	return nil
}

// valuesFor reads --set for the controls that are chosen.
func (s *controlSet) valuesFor(settings *admission.Settings) (map[string]map[string]string, error) {
	chosen, _, err := settings.Chosen()
	if err != nil {
		return nil, err
	}
	return s.parameters(chosen)
}

// admitPlan is what settings mean in a cluster now. What is wrong with an exception is told, and it excuses nothing.
func admitPlan(env Env, s *admission.Settings, exceptions []*exception.Exception, errs []error) (admission.Plan, error) {
	plan, more, err := s.Plan(exceptions, env.Now())
	if err != nil {
		return admission.Plan{}, err
	}
	for _, err := range append(errs, more...) {
		fmt.Fprintf(env.Err, "vigie: %s\n", err)
	}
	return plan, nil
}

// clusterPlan is what a cluster has noted, with flags over it.
func clusterPlan(ctx context.Context, env Env, client *cluster.Client, change func(*admission.Settings) (*admission.Settings, error)) (s *admission.Settings, plan admission.Plan, err error) {
	have, err := client.Settings(ctx)
	if err != nil {
		return nil, admission.Plan{}, err
	}
	s, err = change(have)
	if err != nil {
		return nil, admission.Plan{}, err
	}
	if s == nil { // nothing was noted, and nothing is to begin
		return nil, admission.Plan{}, errors.New("admission was never applied to this cluster: begin with `vigie admit apply`")
	}
	exceptions, errs, err := client.Exceptions(ctx)
	if err != nil {
		return nil, admission.Plan{}, err
	}
	plan, err = admitPlan(env, s, exceptions, errs)
	if err != nil {
		return nil, admission.Plan{}, err
	}
	if plan.Target, err = client.Target(); err != nil {
		return nil, admission.Plan{}, err
	}
	return s, plan, nil
}
