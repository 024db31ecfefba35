// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/control"
)

// NewControls is `vigie controls`.
func NewControls(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "controls",
		Short: "List, explain and test the controls: what a safe Kubernetes object looks like",
		Long: "List, explain and test the controls: what a safe Kubernetes object looks like, why, and how to get there.\n\n" +
			"A control is a file with a ValidatingAdmissionPolicy, its description and its tests. `vigie scan` evaluates them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newControlsList(env), newControlsExplain(env), newControlsTest(env))
	return cmd
}

func newControlsList(env Env) *cobra.Command {
	var set controlSet
	var out format
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the controls",
		Example: "  vigie controls list --control framework:nsa\n  vigie controls list -o json | jq -r .id",
		Args:    cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			controls, err := set.load()
			if err != nil {
				return Cannot(err)
			}
			if out == formatJSON || out == formatYAML {
				return printControls(env, out, controls)
			}
			screen := env.screen()
			t := term.Table{Width: screen.Width, Style: screen.Style, Header: []string{"ID", "SEVERITY", "WHERE"}}
			if out == formatWide {
				t.Header, t.Width = append(t.Header, "FRAMEWORKS", "SOURCE"), 0
			}
			t.Header = append(t.Header, "FINDS")
			for _, c := range controls {
				where := "scan, admission"
				if c.ScanOnly() {
					where = "scan"
				}
				row := []string{term.Escape(c.ID), severity(screen.Style, string(c.Severity)), where}
				if out == formatWide {
					row = append(row, term.Escape(paragraphs(c)), term.Escape(c.Source))
				}
				t.Rows = append(t.Rows, append(row, term.Escape(c.Title)))
			}
			return t.Write(env.Out)
		},
	}
	set.flags(cmd.Flags())
	out.flag(cmd)
	return cmd
}

// controlJSON is a control as `controls list -o json` prints it.
type controlJSON struct {
	ID string `json:"id"`
	*control.Control
	ScanOnly bool   `json:"scanOnly"`
	Source   string `json:"source"`
}

func printControls(env Env, out format, controls []*control.Control) error {
	for _, c := range controls {
		line, err := json.Marshal(controlJSON{c.ID, c, c.ScanOnly(), c.Source})
		if err != nil {
			return fmt.Errorf("write controls as json: %w", err)
		}
		write := writeJSON
		if out == formatYAML {
			write = writeYAML
		}
		if err := write(env.Out, line); err != nil {
			return fmt.Errorf("write controls: %w", err)
		}
	}
	return nil
}

func paragraphs(c *control.Control) string {
	var out []string
	for _, name := range control.FrameworkNames() {
		for _, p := range c.Frameworks[name] {
			out = append(out, name+" "+p)
		}
	}
	return strings.Join(out, "; ")
}

func newControlsExplain(env Env) *cobra.Command {
	var set controlSet
	policy := false
	cmd := &cobra.Command{
		Use:   "explain ID",
		Short: "Tell why a control is there and what to do, or print its whole policy",
		Long: "Tell why a control is there and what to do.\n\n" +
			"--policy prints its ValidatingAdmissionPolicy, whole, for an API server. It does nothing there before a binding names it.",
		Example: "  vigie controls explain privileged\n  vigie controls explain privileged --policy | kubectl apply -f -",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return controlIDs(&set), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			controls, err := set.load()
			if err != nil {
				return Cannot(err)
			}
			i := slices.IndexFunc(controls, func(c *control.Control) bool { return c.ID == args[0] })
			if i < 0 {
				return Cannot(fmt.Errorf("no control %q: `vigie controls list` names them", args[0]))
			}
			if policy {
				return printVAP(env, controls[i])
			}
			return explainControl(env, controls[i])
		},
	}
	set.flags(cmd.Flags())
	cmd.Flags().BoolVar(&policy, "policy", false, "print the ValidatingAdmissionPolicy")
	return cmd
}

func controlIDs(set *controlSet) []string {
	controls, err := set.load()
	if err != nil {
		return nil
	}
	var ids []string
	for _, c := range controls {
		ids = append(ids, c.ID+"\t"+c.Title)
	}
	return ids
}

func printVAP(env Env, c *control.Control) error {
	if c.ScanOnly() {
		return Cannot(fmt.Errorf("%s looks at several objects, which a ValidatingAdmissionPolicy cannot: it works in a scan only", c.ID))
	}
	policy := c.Policy.DeepCopy()
	policy.Annotations = map[string]string{"vigie.io/title": c.Title, "vigie.io/severity": string(c.Severity)}
	text, err := json.Marshal(policy)
	if err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	// An empty status is not for people.
	text = bytes.Replace(text, []byte(`,"status":{}`), nil, 1)
	return writeYAML(env.Out, text)
}

// riskOf says what a control's fix could break.
func riskOf(c *control.Control) string { return cmp.Or(c.Fix.Risk, "nothing that worked stops") }

// explainAdmission says what an API server makes of the control's fix, and why it does not.
func explainAdmission(w io.Writer, c *control.Control) {
	id := term.Escape(c.ID)
	if c.Fix == nil {
		return
	}
	why := admission.NotOnTheWayIn(c)
	switch {
	case why != "":
		fmt.Fprintf(w, "        not by an API server: %s\n", term.Escape(why))
	case c.Fix.Default:
		fmt.Fprintf(w, "        vigie admit apply --fix %s: where a manifest says nothing\n", id)
		fmt.Fprintf(w, "        vigie admit apply --fix %s=overrule: also where it says otherwise\n", id)
	default:
		fmt.Fprintf(w, "        vigie admit apply --fix %s: it overrules what a manifest says\n", id)
	}
}

func explainControl(env Env, c *control.Control) error {
	st := env.screen().Style
	w := env.Out
	where := "scan and admission"
	if c.ScanOnly() {
		where = "scan only: it looks at several objects"
	}
	fmt.Fprintf(w, "%s  %s\n", st.Bold(term.Escape(c.ID)), severity(st, string(c.Severity)))
	fmt.Fprintf(w, "%s\n\n", term.Escape(c.Title))
	fmt.Fprintf(w, "Why:    %s\nTo do:  %s\nWhere:  %s\n", term.Escape(c.Why), term.Escape(c.Remediation), where)
	for _, name := range control.FrameworkNames() {
		if p := c.Frameworks[name]; len(p) > 0 {
			fmt.Fprintf(w, "        %s: %s\n", control.Frameworks()[name], term.Escape(strings.Join(p, ", ")))
		}
	}
	for name, p := range c.Parameters {
		fmt.Fprintf(w, "Set:    --set %s.%s=%s\n        %s\n", term.Escape(c.ID), term.Escape(name), term.Escape(p.Default), term.Escape(p.Description))
	}
	if f := c.Fix; f != nil {
		risk := riskOf(c)
		if f.Proof != "" {
			risk += " (safe when an agent saw for 14 days: " + f.Proof + ")"
		}
		fmt.Fprintf(w, "Fix:    vigie fix --only %s: %s\n", term.Escape(c.ID), term.Escape(risk))
	}
	explainAdmission(w, c)
	fmt.Fprintf(w, "Checks:\n")
	for _, v := range c.Policy.Spec.Validations {
		fmt.Fprintf(w, "        %s\n", term.Escape(v.Expression))
	}
	_, err := fmt.Fprintf(w, "File:   %s\n", term.Escape(c.Source))
	return err
}

func newControlsTest(env Env) *cobra.Command {
	var set controlSet
	verbose := false
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Try controls on the good and bad objects in their files",
		Long: "Try controls on the good and bad objects in their files. A container is tried in every place where one can stand, a pod in\n" +
			"every kind that makes pods. The exit code is 1 when a control judges one of them wrongly.",
		Example: "  vigie controls test\n  vigie controls test --controls mine/ --control my-control -v",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return testControls(cmd.Context(), env, &set, verbose) },
	}
	set.flags(cmd.Flags())
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also name the objects that are judged as they should be")
	return cmd
}

func testControls(ctx context.Context, env Env, set *controlSet, verbose bool) error {
	judge, err := set.judge()
	if err != nil {
		return Cannot(err)
	}
	trials, err := judge.Try(ctx)
	if err != nil {
		return Cannot(err)
	}
	st := env.screen().Style
	failed := 0
	for _, t := range trials {
		switch {
		case !t.OK:
			failed++
			fmt.Fprintf(env.Out, "%s %s: %s: %s\n     %s\n", st.Red("FAIL"), st.Bold(term.Escape(t.Control.ID)), term.Escape(t.Example.Name), term.Escape(t.Reason),
				st.Dim(term.Escape(fmt.Sprintf("%s:%d", t.Example.File, t.Example.Line))))
		case verbose:
			fmt.Fprintf(env.Out, "%s %s: %s\n", st.Green("ok  "), st.Bold(term.Escape(t.Control.ID)), term.Escape(t.Example.Name))
		}
	}
	summary := fmt.Sprintf("%s of %s", plural(len(trials), "test"), plural(len(judge.Controls), "control"))
	if failed > 0 {
		fmt.Fprintf(env.Out, "%s %d of %s\n", st.Red("failed:"), failed, summary)
		return exit(ExitFailed)
	}
	_, err = fmt.Fprintf(env.Out, "%s %s\n", st.Green("good:"), summary)
	return err
}
