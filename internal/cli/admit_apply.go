// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/admission"
)

func newAdmitRender(env Env) *cobra.Command {
	var f admitFlags
	var exceptions []string
	cmd := &cobra.Command{
		Use:     "render",
		Short:   "Print the policies and bindings, and send nothing",
		Long:    "Print the policies and bindings that `apply` would send, as YAML. No cluster is asked.",
		Example: "  vigie admit render --control framework:pss-baseline --step warn > policies.yaml\n  vigie admit render --pod-security baseline --exceptions exceptions/",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.settings(cmd, nil)
			if err != nil {
				return Cannot(err)
			}
			found, err := exceptionFiles(exceptions)
			if err != nil {
				return Cannot(err)
			}
			plan, err := admitPlan(env, s, found, nil)
			if err != nil {
				return Cannot(err)
			}
			if _, err := fmt.Sscanf(f.set.target, "%d.%d", &plan.Target.Major, &plan.Target.Minor); err != nil {
				return Cannot(fmt.Errorf("--target %s: want a version as in 1.36", f.set.target))
			}
			bundle, err := admission.Compile(plan)
			if err != nil {
				return Cannot(err)
			}
			printLeft(env, bundle)
			printOverruled(env, &plan)
			return writeBundle(env.Out, bundle)
		},
	}
	f.flags(cmd)
	cmd.Flags().StringArrayVar(&exceptions, "exceptions", nil, "file or directory with PolicyExceptions; may be repeated")
	return cmd
}

// writeBundle writes documents for `kubectl apply`.
func writeBundle(w io.Writer, b *admission.Bundle) error {
	var all []any
	for _, f := range b.Fixes {
		all = append(all, f.Policy, f.Binding)
	}
	for i, p := range b.Policies {
		all = append(all, p, b.Bindings[i])
	}
	for _, o := range all {
		text, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("write policies: %w", err)
		}
		if err := writeYAML(w, bytes.Replace(text, []byte(`,"status":{}`), nil, 1)); err != nil {
			return err
		}
	}
	return nil
}

// printOverruled tells which fixes do not leave alone what a manifest says.
func printOverruled(env Env, p *admission.Plan) {
	for _, f := range p.Fixes {
		if f.Overrules() {
			fmt.Fprintf(env.Err, "the fix of %s overrules what a manifest says: %s\n", term.Escape(f.Control.ID), term.Escape(riskOf(f.Control)))
		}
	}
}

// printLeft tells which controls an API server does not get.
func printLeft(env Env, b *admission.Bundle) {
	byWhy := map[string][]string{}
	for _, l := range b.Left {
		byWhy[l.Why] = append(byWhy[l.Why], l.Control)
	}
	for _, why := range slices.Sorted(maps.Keys(byWhy)) {
		fmt.Fprintf(env.Err, "not for admission, %s: %s\n", plural(len(byWhy[why]), "control"), why)
	}
}

func newAdmitApply(env Env) *cobra.Command {
	var f admitFlags
	var where postureCluster
	dry := false
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Give the API server the policies, and take away those that are wanted no more",
		Long: "Give the API server the policies of the chosen controls and exceptions, and take away what vigie gave it before and is wanted no more.\n\n" +
			"What was chosen is noted in ConfigMap vigie-system/vigie-admission: a flag that is not given leaves it as it is. Controls begin at audit.",
		Example: "  vigie admit apply --control framework:pss-baseline\n  vigie admit apply --pod-security baseline --fix seccomp-default --fix host-pid\n  vigie admit apply --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			client, err := where.connect(env)
			if err != nil {
				return Cannot(err)
			}
			s, plan, err := clusterPlan(ctx, env, client, func(have *admission.Settings) (*admission.Settings, error) { return f.settings(cmd, have) })
			if err != nil {
				return Cannot(err)
			}
			bundle, err := admission.Compile(plan)
			if err != nil {
				return Cannot(err)
			}
			if !dry {
				if err := client.Define(ctx); err != nil {
					return err
				}
			}
			changes, err := client.Apply(ctx, bundle, dry)
			if err != nil {
				return err
			}
			if !dry {
				s.Arrived(plan, env.Now())
				if err := client.SaveSettings(ctx, s); err != nil {
					return err
				}
			}
			st := env.screen().Style
			count := map[string]int{}
			for _, c := range changes {
				count[c.What]++
				if c.What != "unchanged" {
					fmt.Fprintf(env.Out, "%-9s %s %s\n", c.What, c.Kind, term.Escape(c.Name))
				}
			}
			printLeft(env, bundle)
			printOverruled(env, &plan)
			mode := ""
			if dry {
				mode = st.Yellow("dry run: ")
			}
			_, err = fmt.Fprintf(env.Out, "%s%d created, %d changed, %d removed, %d unchanged: %s in %s\n", mode, count["created"], count["changed"], count["removed"], count["unchanged"],
				plural(controlsIn(bundle), "control"), pluralOf(len(bundle.Policies), "policy", "policies"))
			return err
		},
	}
	f.flags(cmd)
	where.flags(cmd.Flags())
	cmd.Flags().BoolVar(&dry, "dry-run", false, "ask the API server and keep nothing")
	return cmd
}

func controlsIn(b *admission.Bundle) int {
	seen := map[string]bool{}
	for _, p := range b.Places {
		seen[p.Control] = true
	}
	return len(seen)
}
