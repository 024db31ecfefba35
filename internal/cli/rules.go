// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/detect"
)

// NewRules is `vigie rules`.
func NewRules(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "List, check and try the detections: rules over events that raise alerts",
		Long: "List, check and try the detections: rules over events that raise alerts.\n\n" +
			"The agent runs those that come with vigie and those of the files in its --rules-dir; it takes changed files in by itself.\n" +
			"`vigie events --type alert` shows what they find.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesList(env), newRulesLint(env), newRulesTest(env))
	return cmd
}

func newRulesList(env Env) *cobra.Command {
	var to target
	var out format
	var local bool
	dir := agent.DefaultRulesDir
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the rules that the agent runs, with what they have found",
		Long: "List the rules that the agent runs, with what they have found since it started.\n\n" +
			"--local asks no agent: it lists the rules that come with vigie and those in --rules-dir.",
		Example: "  vigie rules list\n  vigie rules list --local -o json | jq -r .id",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ask := func(ctx context.Context) ([]*vigiev1.Detection, error) { return agentRules(ctx, &to) }
			if local {
				ask = func(context.Context) ([]*vigiev1.Detection, error) { return localRules(dir) }
			}
			list, err := ask(cmd.Context())
			if err != nil {
				return err
			}
			return printRules(env, out, list, local)
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	cmd.Flags().BoolVar(&local, "local", false, "list what is on this host, without an agent")
	cmd.Flags().StringVar(&dir, "rules-dir", dir, "with --local: directory with files of rules")
	return cmd
}

func agentRules(ctx context.Context, to *target) ([]*vigiev1.Detection, error) {
	client, err := to.dial()
	if err != nil {
		return nil, err
	}
	answer, err := client.ListDetections(ctx, connect.NewRequest(&vigiev1.ListDetectionsRequest{}))
	if err != nil {
		return nil, to.explain(err)
	}
	to.missing(answer.Msg.GetNodeErrors())
	return answer.Msg.GetDetections(), nil
}

func localRules(dir string) ([]*vigiev1.Detection, error) {
	files, err := detect.ReadDir(dir)
	if err != nil {
		return nil, Cannot(err)
	}
	set, err := compileRules(files, true)
	if err != nil {
		return nil, err
	}
	var list []*vigiev1.Detection
	for _, r := range set.Rules {
		d := &vigiev1.Detection{Id: r.ID, Title: r.Title, Severity: string(r.Severity), Tags: r.Tags, Action: string(r.Action),
			Source: r.Source, Disabled: r.Disabled}
		for _, t := range r.Types {
			d.Types = append(d.Types, string(t))
		}
		list = append(list, d)
	}
	return list, nil
}

// compileRules checks files, with the rules that come with vigie beside them when those are wanted.
func compileRules(files []detect.File, defaults bool) (*detect.Set, error) {
	if defaults {
		own, err := detect.Default()
		if err != nil {
			return nil, err
		}
		files = append(own, files...)
	}
	return detect.Compile(files)
}

func printRules(env Env, out format, list []*vigiev1.Detection, local bool) error {
	if out == formatJSON || out == formatYAML {
		for _, d := range list {
			line, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(d)
			if err != nil {
				return fmt.Errorf("write rules as json: %w", err)
			}
			write := writeJSON
			if out == formatYAML {
				write = writeYAML
			}
			if err := write(env.Out, line); err != nil {
				return fmt.Errorf("write rules: %w", err)
			}
		}
		return nil
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(env.Out, "no rules: the agent runs with --rules off")
		return err
	}
	screen := env.screen()
	st := screen.Style
	t := term.Table{Width: screen.Width, Style: st, Header: []string{"ID", "SEVERITY"}}
	if !local {
		t.Header, t.Right = append(t.Header, "ALERTS", "HELD BACK", "ERRORS"), []int{2, 3, 4}
	}
	if out == formatWide {
		t.Header, t.Width = append(t.Header, "ACTION", "EVENTS", "TAGS", "SOURCE"), 0
	}
	t.Header = append(t.Header, "FINDS")
	for _, d := range list {
		row := []string{term.Escape(d.GetId()), severity(st, d.GetSeverity())}
		if !local {
			row = append(row, counted(d.GetAlerts(), st.Bold), counted(d.GetSuppressed(), nil), counted(d.GetErrors(), st.Red))
		}
		title := term.Escape(d.GetTitle())
		if out == formatWide {
			row = append(row, term.Escape(d.GetAction()), term.Escape(strings.Join(d.GetTypes(), ",")), term.Escape(strings.Join(d.GetTags(), ",")), term.Escape(d.GetSource()))
		} else if d.GetAction() != string(detect.ActionAlert) {
			title = st.Red(term.Escape(d.GetAction())) + "  " + title
		}
		if d.GetDisabled() {
			title = st.Dim("disabled  " + title)
		}
		t.Rows = append(t.Rows, append(row, title))
	}
	return t.Write(env.Out)
}

func severity(st term.Style, s string) string {
	switch text := term.Escape(s); s {
	case "critical", "high":
		return st.Red(text)
	case "medium":
		return st.Yellow(text)
	default:
		return text
	}
}

// counted is a number of which 0 does not catch the eye.
func counted(n uint64, style func(string) string) string {
	switch {
	case n == 0:
		return "-"
	case style == nil:
		return show.Count(n)
	}
	return style(show.Count(n))
}

// rulesOf reads the files that a command line names; a directory stands for those in it.
func rulesOf(paths []string) ([]detect.File, error) {
	var files []detect.File
	var errs []error
	for _, path := range paths {
		read := func(path string) ([]detect.File, error) { return detect.ReadFiles([]string{path}) }
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			read = detect.ReadDir
		}
		got, err := read(path)
		files, errs = append(files, got...), append(errs, err)
	}
	return files, errors.Join(errs...)
}
