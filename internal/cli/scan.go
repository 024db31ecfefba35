// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/render"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// scanFlags is what a scan is told by its flags.
type scanFlags struct {
	set           controlSet
	output        string
	failOn        string
	baseline      string
	writeBaseline string
	values        []string
	quiet         bool
	exceptions    []string
	live          liveFlags
}

// scanGC makes garbage a smaller part of the memory: of 5,000 manifests 40 MiB less, for a twentieth more of CPU.
const scanGC = 60

func scanOutputs() []string { return []string{"table", "json", "sarif", "junit", "html", "prometheus"} }

// NewScan is `vigie scan`.
func NewScan(env Env) *cobra.Command {
	f := &scanFlags{}
	cmd := &cobra.Command{
		Use:   "scan PATH...",
		Short: "Find what is unsafe or fragile in Kubernetes manifests",
		Long: "Find what is unsafe or fragile in Kubernetes manifests: files, directories, or - for standard input. Helm charts (directories and .tgz)\n" +
			"and Kustomize overlays are rendered first, and findings point at their templates and files.\n\n" +
			"Controls are ValidatingAdmissionPolicies, evaluated by the API server's own libraries: what passes here is admitted there.\n" +
			"`vigie controls list` names them. No network is used.\n\n" +
			"The exit code is 0 when nothing was found, 1 when something was (see --fail-on), and 2 when a document could not be read or a\n" +
			"control could not be evaluated, whatever was found beside.",
		Example: "  vigie scan deploy/\n  vigie scan charts/shop -f prod.yaml --set replicas=3\n  helm template . | vigie scan -\n  vigie scan --control framework:pss-restricted --fail-on high app.yaml\n" +
			"  vigie scan -o sarif deploy/ > vigie.sarif",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runScan(cmd.Context(), env, f, func(j *scan.Judge) (*scan.Report, error) { return scanPaths(cmd.Context(), env, f, j, args) })
		},
	}
	f.set.charts = true
	f.flags(cmd)
	cmd.Flags().StringArrayVarP(&f.values, "values", "f", nil, "file with values for charts; may be repeated")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "no progress")
	cmd.AddCommand(newScanCluster(env), newScanNode(env))
	return cmd
}

// flags are those of every scan.
func (f *scanFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.set.flags(flags)
	f.live.flags(flags, "ask an agent what the containers did: findings are raised and lowered by it")
	flags.DurationVar(&f.live.least, "watched", 24*time.Hour, "with --live: how long a container was watched before what was not seen counts")
	flags.StringArrayVar(&f.exceptions, "exceptions", nil, "file or directory with PolicyExceptions; may be repeated")
	flags.StringVarP(&f.output, "output", "o", "table", "how to print: "+strings.Join(scanOutputs(), ", "))
	flags.StringVar(&f.failOn, "fail-on", "low", "the severity from which on a finding makes the exit code 1: critical, high, medium, low, or none")
	flags.StringVar(&f.baseline, "baseline", "", "file with known findings, which are left out")
	flags.StringVar(&f.writeBaseline, "write-baseline", "", "write what was found into this file, to be given to --baseline")
	// The flags exist, so that registering cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(scanOutputs(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"critical", "high", "medium", "low", "none"}, cobra.ShellCompDirectiveNoFileComp))
}

// scanPaths scans files.
func scanPaths(ctx context.Context, env Env, f *scanFlags, j *scan.Judge, paths []string) (*scan.Report, error) {
	in := scan.Input{Paths: paths, Stdin: env.In, Values: render.Values{Files: f.values, Set: f.set.values, Version: f.set.target}}
	done := showProgress(env, f, &in)
	r, err := j.Scan(ctx, in)
	done()
	if err != nil {
		return nil, err
	}
	if given := append(f.set.values, f.values...); r.Charts == 0 && len(given) > 0 {
		return nil, fmt.Errorf("%s: there was no chart to take it, and no control has that name", given[0])
	}
	return r, nil
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
	if env.Getenv("GOGC") == "" {
		debug.SetGCPercent(scanGC)
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

// showProgress draws a bar on a terminal when the scan takes long; done takes it away.
func showProgress(env Env, f *scanFlags, in *scan.Input) (done func()) {
	w := progressOn(env, f.quiet)
	if w == nil {
		return func() {}
	}
	begin, drawn := env.Now(), time.Time{}
	in.Progress = func(p scan.Progress) {
		now := env.Now()
		if now.Sub(begin) < time.Second || now.Sub(drawn) < 100*time.Millisecond {
			return
		}
		drawn = now
		const width = 30
		full := int(width * min(p.Bytes, p.Size) / max(p.Size, 1))
		fmt.Fprintf(w, "\r\x1b[K[%s%s] %d of %s, %s", strings.Repeat("#", full), strings.Repeat(" ", width-full), p.Files, plural(max(p.Found, p.Files), "file"), show.Bytes(uint64(p.Bytes)))
	}
	return func() {
		if !drawn.IsZero() {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}
}
