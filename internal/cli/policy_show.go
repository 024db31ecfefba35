// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
)

func newPolicyList(env Env) *cobra.Command {
	var to target
	var out format
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "List the policies and how they are doing",
		Long: "List the policies: those in force, and what could not be brought in force, with the reason.\n\n" +
			"HITS counts what a policy denied, killed or, in audit mode, would have. -o json prints one policy a line.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			to.warn = env.Err
			list, err := listPolicies(cmd.Context(), &to, "")
			if err != nil {
				return err
			}
			return printPolicies(env, out, list)
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	return cmd
}

func printPolicies(env Env, out format, list []*vigiev1.Policy) error {
	switch {
	case out == formatJSON || out == formatYAML:
		for _, p := range list {
			if err := printMessage(env.Out, out, p); err != nil {
				return err
			}
		}
		return nil
	case len(list) == 0:
		_, err := fmt.Fprintln(env.Out, "there are no policies: write one, or learn one with `vigie policy learn --workload NAME`, then `vigie policy apply -f FILE`")
		return err
	}
	screen := env.screen()
	t := term.Table{Width: screen.Width, Style: screen.Style, Header: []string{"NAME", "MODE", "STATE", "RULES", "PROCESSES", "HITS", "AGE", "SELECTS"},
		Right: []int{3, 4, 5, 6}}
	if out == formatWide {
		t.Header = append(t.Header, "KIND", "WORKLOADS", "SOURCE")
		t.Width = 0
	}
	ofMany := slices.ContainsFunc(list, func(p *vigiev1.Policy) bool { return len(p.GetNodes()) > 0 })
	if ofMany {
		t.Header = slices.Insert(t.Header, 3, "NODES")
		t.Right = []int{3, 4, 5, 6, 7}
	}
	for _, p := range list {
		row := []string{term.Escape(p.GetName()), modeText(screen.Style, p.GetMode()), stateText(screen.Style, p.GetState()), fmt.Sprint(len(p.GetRules())),
			fmt.Sprint(p.GetProcesses()), hitsText(screen.Style, p.GetMode(), hits(p)), policyAge(env.Now(), p), dash(term.Escape(p.GetSelector()))}
		if ofMany {
			row = slices.Insert(row, 3, fmt.Sprint(len(p.GetNodes())))
		}
		if out == formatWide {
			row = append(row, dash(term.Escape(p.GetKind())), dash(term.Escape(strings.Join(p.GetWorkloads(), ","))), term.Escape(p.GetSource()))
		}
		t.Rows = append(t.Rows, row)
	}
	if err := t.Write(env.Out); err != nil {
		return err
	}
	return printNotes(env, list)
}

// printNotes prints what is to be known of policies beside their table.
func printNotes(env Env, list []*vigiev1.Policy) error {
	st := env.screen().Style
	for _, p := range list {
		if p.GetMessage() == "" {
			continue
		}
		mark := st.Yellow("!")
		if p.GetState() == "failed" {
			mark = st.Red("!")
		}
		for line := range strings.SplitSeq(p.GetMessage(), "\n") {
			if _, err := fmt.Fprintf(env.Out, "%s %s: %s\n", mark, term.Escape(p.GetName()), term.Escape(line)); err != nil {
				return err
			}
		}
	}
	return nil
}

// printApplied says in a line what became of each policy.
func printApplied(env Env, out format, list []*vigiev1.Policy, dry bool) error {
	if out == formatJSON || out == formatYAML {
		return printPolicies(env, out, list)
	}
	st := env.screen().Style
	for _, p := range list {
		state := stateText(st, p.GetState())
		if dry {
			state = "would be " + state
		}
		line := fmt.Sprintf("policy %s: %s, %s, %s", st.Bold(term.Escape(p.GetName())), state, modeText(st, p.GetMode()), ruleCount(p))
		if s := p.GetSelector(); s != "" {
			line += " for " + term.Escape(s)
		}
		if !dry {
			line += fmt.Sprintf(" (%s)", pluralOf(int(p.GetProcesses()), "process", "processes"))
		}
		if _, err := fmt.Fprintln(env.Out, line); err != nil {
			return err
		}
		if len(p.GetRules()) > 0 && (dry || out == formatWide) {
			if err := printPolicyRules(env, p, "  "); err != nil {
				return err
			}
		}
	}
	return printNotes(env, list)
}

// ruleCount is empty of what is only checked and tells its rules when it is in force.
func ruleCount(p *vigiev1.Policy) string {
	if n := len(p.GetRules()); n > 0 {
		return plural(n, "rule")
	}
	return "checked"
}

func newPolicyShow(env Env) *cobra.Command {
	var to target
	var out format
	var written bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a policy: each rule with what carries it, how well, and how often it hit",
		Long: "Show a policy: each rule with what carries it here, how strong that is, and how often it denied, killed or, in audit mode,\n" +
			"would have. --written prints the YAML as it was given.",
		Example: "  vigie policy show web\n  vigie policy show web --written > web.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			to.warn = env.Err
			list, err := listPolicies(cmd.Context(), &to, args[0])
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return fmt.Errorf("there is no policy %q: `vigie policy list` names them", args[0])
			}
			for _, p := range list {
				if written {
					_, err = io.WriteString(env.Out, term.EscapeLines(strings.TrimSuffix(p.GetYaml(), "\n"))+"\n")
				} else {
					err = printPolicy(env, out, p)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	cmd.Flags().BoolVar(&written, "written", false, "print the policy as it was given")
	cmd.MarkFlagsMutuallyExclusive("written", "output")
	completePolicyName(cmd, &to)
	return cmd
}

func printPolicy(env Env, out format, p *vigiev1.Policy) error {
	if out == formatJSON || out == formatYAML {
		return printMessage(env.Out, out, p)
	}
	st := env.screen().Style
	w := env.Out
	since := ""
	if at := p.GetApplied(); at != nil {
		since = fmt.Sprintf(" since %s (%s)", at.AsTime().In(env.Now().Location()).Format(time.DateTime), policyAge(env.Now(), p))
	}
	fmt.Fprintf(w, "%s  %s, %s, %s%s\n", st.Bold(term.Escape(p.GetName())), dash(term.Escape(p.GetKind())), modeText(st, p.GetMode()), stateText(st, p.GetState()), since)
	selects := fmt.Sprintf("%s: %s", dash(term.Escape(p.GetSelector())), pluralOf(int(p.GetProcesses()), "process", "processes"))
	if names := p.GetWorkloads(); len(names) > 0 {
		selects += " of " + term.Escape(strings.Join(names, ", "))
	}
	fmt.Fprintf(w, "selects  %s\nfrom     %s\n", selects, term.Escape(p.GetSource()))
	for line := range strings.SplitSeq(p.GetMessage(), "\n") {
		if line != "" {
			fmt.Fprintf(w, "%s        %s\n", st.Yellow("!"), term.Escape(line))
		}
	}
	if err := printPolicyNodes(env, p); err != nil || len(p.GetRules()) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return printPolicyRules(env, p, "")
}

// printPolicyRules prints the table of the rules, and under it what their rungs leave out.
func printPolicyRules(env Env, p *vigiev1.Policy, indent string) error {
	screen := env.screen()
	var b strings.Builder
	t := term.Table{Style: screen.Style, Header: []string{"RULE", "WHAT", "HITS", "GUARANTEE", "CARRIED BY"}, Right: []int{2}}
	if screen.Width > 0 {
		t.Width = max(screen.Width-len(indent), 40)
	}
	var limits []string
	for _, r := range p.GetRules() {
		t.Rows = append(t.Rows, []string{term.Escape(r.GetField()), term.Escape(r.GetText()), hitsText(screen.Style, p.GetMode(), r.GetHits()),
			guaranteeText(screen.Style, r.GetGuarantee()), dash(term.Escape(r.GetRung()))})
		for _, l := range r.GetLimits() {
			if line := cmp.Or(r.GetRung(), r.GetField()) + ": " + l; !slices.Contains(limits, line) {
				limits = append(limits, line)
			}
		}
	}
	if err := t.Write(&b); err != nil {
		return err
	}
	for _, l := range limits {
		b.WriteString(screen.Style.Dim("· "+term.Escape(l)) + "\n")
	}
	for line := range strings.Lines(b.String()) {
		if _, err := io.WriteString(env.Out, indent+line); err != nil {
			return err
		}
	}
	return nil
}

// policySummary is all policies in a line: "policies: 2 enforce, denied 17; 1 audit, would have denied 3; 1 FAILED".
func policySummary(st term.Style, list []*vigiev1.Policy) string {
	count, hit := make(map[string]int), make(map[string]uint64)
	for _, p := range list {
		kind := p.GetMode()
		if p.GetState() == "failed" || p.GetState() == "disabled" {
			kind = p.GetState()
		}
		count[kind]++
		hit[kind] += hits(p)
	}
	var parts []string
	if n := count["enforce"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d enforce, denied %s", n, hitsText(st, "enforce", hit["enforce"])))
	}
	if n := count["audit"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d audit, would have denied %s", n, hitsText(st, "audit", hit["audit"])))
	}
	if n := count["disabled"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d disabled", n))
	}
	if n := count["failed"]; n > 0 {
		parts = append(parts, st.Alarm(fmt.Sprintf(" %d FAILED ", n)))
	}
	return "policies: " + strings.Join(parts, "; ")
}

func modeText(st term.Style, mode string) string {
	if mode == "enforce" {
		return st.Bold(mode)
	}
	return dash(term.Escape(mode))
}

func stateText(st term.Style, state string) string {
	switch state {
	case "in force":
		return st.Green(state)
	case "degraded":
		return st.Yellow(state)
	case "failed":
		return st.Red(state)
	}
	return dash(st.Dim(term.Escape(state)))
}

func guaranteeText(st term.Style, g string) string {
	switch g {
	case "":
		return "-"
	case "denied before it happens", "killed before the first instruction":
		return st.Green(g)
	}
	return st.Yellow(term.Escape(g))
}

// hitsText makes hits stand out: red for what was stopped.
func hitsText(st term.Style, mode string, n uint64) string {
	text := show.Count(n)
	switch {
	case n == 0:
		return text
	case mode == "enforce":
		return st.Red(text)
	}
	return st.Yellow(text)
}

func hits(p *vigiev1.Policy) uint64 {
	var n uint64
	for _, r := range p.GetRules() {
		n += r.GetHits()
	}
	return n
}

func policyAge(now time.Time, p *vigiev1.Policy) string {
	if p.GetApplied() == nil {
		return "-"
	}
	return age(now, p.GetApplied().AsTime())
}

func pluralOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
