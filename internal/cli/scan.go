// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/report"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// scanFlags is what a scan is told by its flags.
type scanFlags struct {
	set           controlSet
	output        string
	failOn        string
	baseline      string
	writeBaseline string
	exceptions    []string
	live          liveFlags
}

func scanOutputs() []string { return []string{"table", "json", "sarif", "junit", "html"} }

// NewScan is `vigie scan`.
func NewScan(env Env) *cobra.Command {
	f := &scanFlags{}
	cmd := &cobra.Command{
		Use:   "scan PATH...",
		Short: "Find what is unsafe or fragile in Kubernetes manifests",
		Long: "Find what is unsafe or fragile in Kubernetes manifests: files, directories, or - for standard input.\n\n" +
			"Controls are ValidatingAdmissionPolicies, evaluated by the API server's own libraries: what passes here is admitted there.\n" +
			"`vigie controls list` names them. No network is used.\n\n" +
			"The exit code is 0 when nothing was found, 1 when something was (see --fail-on), and 2 when a document could not be read or a\n" +
			"control could not be evaluated, whatever was found beside.",
		Example: "  vigie scan deploy/\n  helm template . | vigie scan -\n  vigie scan --control framework:pss-restricted --fail-on high app.yaml\n" +
			"  vigie scan -o sarif deploy/ > vigie.sarif",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runScan(cmd.Context(), env, f, func(j *scan.Judge) (*scan.Report, error) { return j.Run(cmd.Context(), args, env.In) })
		},
	}
	f.flags(cmd)
	cmd.AddCommand(newScanCluster(env), newScanNode(env))
	return cmd
}

func (f *scanFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.set.flags(flags)
	f.live.flags(flags)
	flags.StringArrayVar(&f.exceptions, "exceptions", nil, "file or directory with PolicyExceptions; may be repeated")
	flags.StringVarP(&f.output, "output", "o", "table", "how to print: "+strings.Join(scanOutputs(), ", "))
	flags.StringVar(&f.failOn, "fail-on", "low", "the severity from which on a finding makes the exit code 1: critical, high, medium, low, or none")
	flags.StringVar(&f.baseline, "baseline", "", "file with known findings, which are left out")
	flags.StringVar(&f.writeBaseline, "write-baseline", "", "write what was found into this file, to be given to --baseline")
	// The flags exist, so that registering cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(scanOutputs(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"critical", "high", "medium", "low", "none"}, cobra.ShellCompDirectiveNoFileComp))
}

// runScan judges by the controls that the flags name, and ends as they say.
func runScan(ctx context.Context, env Env, f *scanFlags, run func(*scan.Judge) (*scan.Report, error)) error {
	if !slices.Contains(scanOutputs(), f.output) {
		return Cannot(fmt.Errorf("--output %s: the formats are %s", f.output, strings.Join(scanOutputs(), ", ")))
	}
	if f.failOn != "none" && control.Severity(f.failOn).Rank() < 0 {
		return Cannot(fmt.Errorf("--fail-on %s: the severities are critical, high, medium, low; none is for never", f.failOn))
	}
	known, err := readBaseline(f.baseline)
	if err != nil {
		return Cannot(err)
	}
	judge, err := f.set.judge()
	if err != nil {
		return Cannot(err)
	}
	exceptions, err := readExceptions(f.exceptions, judge.Controls)
	if err != nil {
		return Cannot(err)
	}
	r, err := run(judge.WithExceptions(exceptions, env.Now()))
	if err != nil {
		return Cannot(err)
	}
	if err := f.live.adjust(ctx, env, r); err != nil {
		return err
	}
	if f.writeBaseline != "" {
		if err := writeBaseline(f.writeBaseline, r); err != nil {
			return Cannot(err)
		}
	}
	r.Subtract(known)
	if err := printScan(env, f.output, r); err != nil {
		return Cannot(err)
	}
	worst, found := r.Worst()
	switch {
	case r.Incomplete():
		return exit(ExitCannot)
	case found && f.failOn != "none" && worst.Rank() <= control.Severity(f.failOn).Rank():
		return exit(ExitFailed)
	}
	return nil
}

func printScan(env Env, output string, r *scan.Report) error {
	switch output {
	case "json":
		return report.JSON(env.Out, r)
	case "sarif":
		return report.SARIF(env.Out, r, env.Version)
	case "junit":
		return report.JUnit(env.Out, r)
	case "html":
		return report.HTML(env.Out, r, env.Version, env.Now())
	}
	return printFindings(env, r)
}

// printFindings is the table: a line a finding, then what was not scanned, then the sums.
func printFindings(env Env, r *scan.Report) error {
	screen := env.screen()
	st := screen.Style
	if len(r.Findings) > 0 {
		t := term.Table{Width: screen.Width, Style: st, Header: []string{"SEVERITY", "CONTROL", "WHERE", "OBJECT", "FOUND"}}
		for _, f := range r.Findings {
			found := f.Message
			if f.Value != "" && !strings.Contains(f.Message, f.Value) {
				found += " (" + f.Path[strings.LastIndexByte(f.Path, '.')+1:] + ": " + firstLine(f.Value) + ")"
			}
			if f.Seen != "" {
				found += "; " + f.Seen
			}
			t.Rows = append(t.Rows, []string{severity(st, string(f.Severity)), f.Control, term.Escape(whereOf(r, f)),
				term.Escape(f.Object.String()), term.Escape(found)})
		}
		if err := t.Write(env.Out); err != nil {
			return err
		}
		fmt.Fprintln(env.Out)
	}
	printExcused(env, r)
	for _, p := range r.Problems {
		what := p.Message
		if p.Control != "" {
			what = p.Control + " " + what
		}
		word := st.Red("not scanned")
		if p.Note {
			word = st.Yellow("note")
		}
		fmt.Fprintf(env.Out, "%s %s: %s\n", word, st.Bold(term.Escape(fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column))), term.Escape(what))
	}
	for _, f := range r.Frameworks {
		if f.Name == "mitre" || f.Name == "kubescape" {
			continue // lists of attacks and of another tool, not standards to reach
		}
		fmt.Fprintf(env.Out, "%5.1f %%  %s\n", f.Score, f.Title)
	}
	counts := map[control.Severity]int{}
	for _, f := range r.Findings {
		counts[f.Severity]++
	}
	var parts []string
	for _, s := range control.Severities() {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	sum := st.Green("nothing found")
	if len(parts) > 0 {
		sum = strings.Join(parts, ", ")
	}
	if r.Known > 0 {
		sum += fmt.Sprintf(", %d known", r.Known)
	}
	in := plural(r.Objects, "object")
	if !r.Live {
		in += " of " + plural(r.Files, "file")
	}
	_, err := fmt.Fprintf(env.Out, "%s in %s, by %s\n", sum, in, plural(len(r.Controls), "control"))
	return err
}

func firstLine(s string) string {
	line, rest, more := strings.Cut(s, "\n")
	if more && rest != "" {
		return line + " ..."
	}
	return line
}

// baseline is the file of known findings.
type baseline struct {
	Version  int            `json:"version"`
	Findings map[string]int `json:"findings"` // fingerprint → how often
}

func readBaseline(path string) (map[string]int, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the baseline: %w", err)
	}
	var b baseline
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("read the baseline %s: %w", path, err)
	}
	if b.Version != 1 {
		return nil, fmt.Errorf("read the baseline %s: its version is %d, want 1: make it anew with --write-baseline", path, b.Version)
	}
	return b.Findings, nil
}

func writeBaseline(path string, r *scan.Report) error {
	b := baseline{Version: 1, Findings: map[string]int{}}
	for _, f := range r.Findings {
		b.Findings[f.Fingerprint]++
	}
	text, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		return fmt.Errorf("write the baseline: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // it is meant to be committed
		return fmt.Errorf("write the baseline: %w", err)
	}
	return nil
}

// controlSet is which controls a command works with.
type controlSet struct {
	pick, skip, files, params []string
	target                    string
	source                    func() ([]*control.Control, error) // of those that come with vigie; nil: those of objects
}

type flagSet interface {
	StringArrayVar(p *[]string, name string, value []string, usage string)
	StringVar(p *string, name string, value string, usage string)
}

func (s *controlSet) flags(f flagSet) {
	_, newest := engine.Supported()
	f.StringArrayVar(&s.pick, "control", nil, "only these: an id, framework:NAME or severity:NAME (and worse); may be repeated")
	f.StringArrayVar(&s.skip, "skip", nil, "not these; may be repeated")
	f.StringArrayVar(&s.files, "controls", nil, "file or directory with controls of your own; may be repeated")
	f.StringArrayVar(&s.params, "set", nil, "CONTROL.PARAMETER=VALUE; may be repeated")
	f.StringVar(&s.target, "target", newest.String(), "Kubernetes version whose CEL is allowed")
}

// load reads the controls that come with vigie and those of the user, and picks.
func (s *controlSet) load() ([]*control.Control, error) {
	all, err := s.defaults()
	if err != nil {
		return nil, err
	}
	for _, path := range s.files {
		own, err := readControls(path)
		if err != nil {
			return nil, err
		}
		all = append(all, own...)
	}
	picked, err := control.Select(all, s.pick)
	if err != nil || len(s.skip) == 0 {
		return picked, err
	}
	skipped, err := control.Select(all, s.skip)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(picked), func(c *control.Control) bool { return slices.Contains(skipped, c) }), nil
}

func readControls(path string) ([]*control.Control, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read controls: %w", err)
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.y*ml")); err != nil {
			return nil, fmt.Errorf("read controls: %w", err)
		}
	}
	var all []*control.Control
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("read controls: %w", err))
			continue
		}
		c, err := control.Parse(file, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, c)
	}
	return all, errors.Join(errs...)
}

func (s *controlSet) judge() (*scan.Judge, error) {
	controls, err := s.load()
	if err != nil {
		return nil, err
	}
	var target engine.Version
	if n, err := fmt.Sscanf(s.target, "%d.%d", &target.Major, &target.Minor); n != 2 || err != nil {
		return nil, fmt.Errorf("--target %s: want a version as in 1.36", s.target)
	}
	params, err := s.parameters(controls)
	if err != nil {
		return nil, err
	}
	return scan.NewJudge(controls, target, params)
}

// parameters are the values of --set: control → parameter → value.
func (s *controlSet) parameters(controls []*control.Control) (map[string]map[string]string, error) {
	params := map[string]map[string]string{}
	for _, p := range s.params {
		name, value, ok := strings.Cut(p, "=")
		id, parameter, dot := strings.Cut(name, ".")
		i := slices.IndexFunc(controls, func(c *control.Control) bool { return c.ID == id })
		if !ok || !dot || i < 0 {
			return nil, fmt.Errorf("--set %s: want CONTROL.PARAMETER=VALUE, of a control that is used", p)
		}
		if _, has := controls[i].Parameters[parameter]; !has {
			return nil, fmt.Errorf("--set %s: control %s has no parameter %q", p, id, parameter)
		}
		if params[id] == nil {
			params[id] = map[string]string{}
		}
		params[id][parameter] = value
	}
	return params, nil
}
