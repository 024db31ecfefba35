// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/fix"
	"github.com/vigie-io/vigie/internal/posture/live"
	"github.com/vigie-io/vigie/internal/posture/render"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// fixFlags is what a fix is told by its flags.
type fixFlags struct {
	set    controlSet
	only   []string
	values []string
	risky  bool
	dry    bool
	live   liveFlags
}

// NewFix is `vigie fix`.
func NewFix(env Env) *cobra.Command {
	f := &fixFlags{}
	cmd := &cobra.Command{
		Use:   "fix PATH...",
		Short: "Fix what a scan finds in Kubernetes manifests, in place",
		Long: "Fix what a scan finds in Kubernetes manifests, in place: files, directories, or - for standard input, which is written to standard output.\n" +
			"Comments, order, anchors, quotes and line ends stay as they are. For a Helm chart the values are named that would do it.\n\n" +
			"A fix that could break a workload is only made when it is asked for, by --only CONTROL or --risky. `vigie controls explain ID` says what\n" +
			"could break.\n\n" +
			"The exit code is 0 when everything was fixed that has a fix, 1 when something was left, and 2 when a document could not be read or changed.",
		Example: "  vigie fix --dry-run deploy/\n  vigie fix --only privileged --only host-network app.yaml\n  helm template . | vigie fix - | kubectl apply -f -",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runFix(cmd.Context(), env, f, args) },
	}
	flags := cmd.Flags()
	f.set.charts = true
	f.set.flags(flags)
	f.live.flags(flags, "ask an agent what the containers did: a fix is made whose risk it proves to be none")
	flags.DurationVar(&f.live.least, "watched", fix.Watched, "with --live: how long a container must have been watched for a proof")
	flags.StringArrayVar(&f.only, "only", nil, "fix what this control finds and nothing else, whatever could break; may be repeated")
	flags.StringArrayVarP(&f.values, "values", "f", nil, "file with values for charts; may be repeated")
	flags.BoolVar(&f.risky, "risky", false, "also fix what could break a workload")
	flags.BoolVar(&f.dry, "dry-run", false, "print what would change, and change nothing")
	return cmd
}

func runFix(ctx context.Context, env Env, f *fixFlags, paths []string) error {
	if len(f.only) > 0 {
		f.set.pick = f.only
	}
	judge, err := f.set.judge()
	if err != nil {
		return Cannot(err)
	}
	r := &fixRun{env: env, flags: f, fixer: &fix.Fixer{Judge: judge, Risky: f.risky, Named: map[string]bool{}}}
	for _, id := range f.only {
		r.fixer.Named[id] = true
	}
	source, err := f.live.source(ctx, env)
	if err != nil {
		return err
	}
	if source != nil {
		r.fixer.Facts, r.fixer.Least, r.source = source, f.live.least, source
	}
	if len(paths) == 1 && paths[0] == scan.Stdin {
		return r.stream(ctx)
	}
	found, err := scan.Find(paths)
	if err != nil {
		return Cannot(err)
	}
	r.problems(found.Problems)
	for _, file := range found.Files {
		if err := r.file(ctx, file); err != nil {
			return Cannot(err)
		}
	}
	for _, chart := range found.Charts {
		if err := r.chart(ctx, chart); err != nil {
			return Cannot(err)
		}
	}
	return r.finish()
}

// fixRun is one run of the command, and what it has done.
type fixRun struct {
	env         Env
	flags       *fixFlags
	fixer       *fix.Fixer
	source      *live.Source // nil: nobody is asked
	fixed, left int
	broken      bool
}

// stream fixes standard input. What was done is said on standard error.
func (r *fixRun) stream(ctx context.Context) error {
	text, err := io.ReadAll(r.env.In)
	if err != nil {
		return Cannot(fmt.Errorf("read standard input: %w", err))
	}
	out := r.env.Out
	r.env.Out = r.env.Err
	result, err := r.fixer.File(ctx, "stdin", text)
	if err != nil {
		return Cannot(err)
	}
	r.report(result)
	if r.flags.dry {
		_, err = io.WriteString(out, difference(result))
	} else {
		_, err = out.Write(result.After)
	}
	if err != nil {
		return Cannot(fmt.Errorf("write standard output: %w", err))
	}
	return r.finish()
}

func (r *fixRun) file(ctx context.Context, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("fix: %w", err)
	}
	result, err := r.fixer.File(ctx, name, text)
	if err != nil {
		r.broken = true
		fmt.Fprintf(r.env.Out, "%s %s\n", r.env.screen().Style.Red("not fixed"), term.Escape(err.Error()))
		return nil
	}
	if string(result.Before) != string(result.After) {
		if r.flags.dry {
			fmt.Fprint(r.env.Out, r.colour(difference(result)))
		} else if err := replaceFile(name, result.After); err != nil {
			return fmt.Errorf("fix: %w", err)
		}
	}
	r.report(result)
	return nil
}

func difference(r *fix.Result) string {
	return udiff.Unified(r.File, r.File, string(r.Before), string(r.After))
}

func (r *fixRun) colour(diff string) string {
	st := r.env.screen().Style
	var b strings.Builder
	for line := range strings.Lines(diff) {
		text, end := strings.CutSuffix(line, "\n")
		text = term.Escape(text)
		switch {
		case strings.HasPrefix(text, "+"):
			text = st.Green(text)
		case strings.HasPrefix(text, "-"):
			text = st.Red(text)
		}
		b.WriteString(text)
		if end {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// report says what was done in a file, what was left and why.
func (r *fixRun) report(result *fix.Result) {
	st := r.env.screen().Style
	done := "fixed"
	if r.flags.dry {
		done = "would fix"
	}
	for _, o := range result.Fixed {
		r.fixed++
		r.line(st.Green(done), o)
	}
	for _, o := range result.Left {
		r.left++
		r.line(st.Yellow("left"), o)
	}
	r.problems(result.Problems)
}

func (r *fixRun) line(what string, o fix.Outcome) {
	text := fmt.Sprintf("%s in %s", o.Title, o.Object)
	if o.Container != "" {
		text += ", container " + o.Container
	}
	if o.Why != "" {
		text += ": " + o.Why
	}
	fmt.Fprintf(r.env.Out, "%s %s %s: %s\n", what, term.Escape(fmt.Sprintf("%s:%d", o.File, o.Line)), o.Control, term.Escape(text))
}

func (r *fixRun) problems(list []scan.Problem) {
	for _, p := range list {
		if p.Note {
			continue
		}
		r.broken = true
		fmt.Fprintf(r.env.Out, "%s %s: %s\n", r.env.screen().Style.Red("not read"), term.Escape(fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)), term.Escape(p.Message))
	}
}

// chart names values that would fix what is found.
func (r *fixRun) chart(ctx context.Context, root string) error {
	proposals, before, err := r.fixer.Chart(ctx, root, render.Values{Files: r.flags.values, Set: r.flags.set.values, Version: r.flags.set.target})
	if err != nil {
		return err
	}
	r.problems(before.Problems)
	r.left += len(before.Findings)
	for _, p := range proposals {
		risk := ""
		if p.Control.Fix.Risk != "" {
			risk = "; " + p.Control.Fix.Risk
		}
		fmt.Fprintf(r.env.Out, "%s %s: --set %s fixes %d of %s of %s%s\n", r.env.screen().Style.Yellow("chart"), term.Escape(root), term.Escape(p.Set), p.Mends,
			plural(p.Of, "finding"), p.Control.ID, term.Escape(risk))
	}
	if len(proposals) == 0 && len(before.Findings) > 0 {
		fmt.Fprintf(r.env.Out, "%s %s: %s, and no value of the chart would fix one: change its templates\n", r.env.screen().Style.Yellow("chart"), term.Escape(root), plural(len(before.Findings), "finding"))
	}
	return nil
}

func (r *fixRun) finish() error {
	if r.source != nil && r.source.Err() != nil { // what could not be asked was proof of nothing
		return r.flags.live.agent.explain(r.source.Err())
	}
	done := "fixed"
	if r.flags.dry {
		done = "would be fixed"
	}
	if _, err := fmt.Fprintf(r.env.Out, "%d %s, %d left\n", r.fixed, done, r.left); err != nil {
		return Cannot(fmt.Errorf("write what was fixed: %w", err))
	}
	switch {
	case r.broken:
		return exit(ExitCannot)
	case r.left > 0:
		return exit(ExitFailed)
	}
	return nil
}

// replaceFile writes a file anew beside it and puts it in its place, so that it is whole at every time. A link stays a link.
func replaceFile(name string, text []byte) (err error) {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(real), "."+filepath.Base(real)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	if _, err := tmp.Write(text); err != nil {
		return err
	}
	if err := tmp.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), real); err != nil {
		return err
	}
	return tmp.Close()
}
