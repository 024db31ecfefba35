// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/detect"
)

func newRulesLint(env Env) *cobra.Command {
	alone := false
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Check files of rules; a directory stands for the files in it",
		Long: "Check files of rules. Each mistake is told with file, line and column; the exit code is then 1.\n\n" +
			"They are checked together with the rules that come with vigie, whose lists and macros they may use and to which they may\n" +
			"add exceptions.",
		Example: "  vigie rules lint /etc/vigie/rules\n  vigie rules lint mine.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := rulesOf(args)
			if err != nil {
				return Cannot(err)
			}
			set, err := compileRules(files, !alone)
			if err != nil {
				return told(env, err)
			}
			rules, exceptions := 0, 0
			for _, r := range set.Rules {
				if of(files, r.Source) {
					rules++
				}
				for _, e := range r.Exceptions {
					if of(files, e.Source) {
						exceptions++
					}
				}
			}
			_, err = fmt.Fprintf(env.Out, "%s %s, %s, %s\n", env.screen().Style.Green("good:"), plural(len(files), "file"), plural(rules, "rule"), plural(exceptions, "exception"))
			return err
		},
	}
	cmd.Flags().BoolVar(&alone, "alone", false, "without the rules that come with vigie")
	return cmd
}

func newRulesTest(env Env) *cobra.Command {
	alone, verbose := false, false
	cmd := &cobra.Command{
		Use:   "test [FILE...]",
		Short: "Try rules on the examples in their files",
		Long: "Try rules on the examples in their files: the events under tests: must raise an alert, or none, as each says.\n\n" +
			"Without a FILE these are the rules that come with vigie. The exit code is 1 when an example does not hold.",
		Example: "  vigie rules test\n  vigie rules test -v mine.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := rulesOf(args)
			if err != nil {
				return Cannot(err)
			}
			set, err := compileRules(files, !alone || len(args) == 0)
			if err != nil {
				return told(env, err)
			}
			if len(args) == 0 {
				if files, err = detect.Default(); err != nil {
					return err
				}
			}
			return tryRules(env, set, files, verbose)
		},
	}
	cmd.Flags().BoolVar(&alone, "alone", false, "without the rules that come with vigie")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also name the examples that hold")
	return cmd
}

// tryRules runs the examples in the files and prints what came of them.
func tryRules(env Env, set *detect.Set, files []detect.File, verbose bool) error {
	st := env.screen().Style
	set.Examples = slices.DeleteFunc(set.Examples, func(e *detect.Example) bool { return !of(files, e.Path) })
	tried, failed := make(map[string]bool), 0
	for _, r := range set.Try() {
		tried[r.Rule] = true
		state, reason := st.Green("ok  "), ""
		switch {
		case !r.OK:
			failed++
			state, reason = st.Red("FAIL"), ": "+term.Escape(r.Reason)
		case !verbose:
			continue
		}
		want := "alerts"
		if !r.Alert {
			want = "is silent"
		}
		fmt.Fprintf(env.Out, "%s %s %s: %s%s\n", state, st.Bold(term.Escape(r.Rule)), want, term.Escape(r.Name), reason)
		if !r.OK {
			fmt.Fprintf(env.Out, "     %s\n", st.Dim(fmt.Sprintf("%s:%d:%d", term.Escape(r.Path), r.Line, r.Column)))
		}
	}
	untested := 0
	for _, r := range set.Rules {
		if !tried[r.ID] && of(files, r.Source) {
			untested++
			fmt.Fprintf(env.Out, "%s %s has no test\n", st.Yellow("note"), term.Escape(r.ID))
		}
	}
	summary := fmt.Sprintf("%s of %s", plural(len(set.Examples), "test"), plural(len(tried), "rule"))
	switch {
	case failed > 0:
		fmt.Fprintf(env.Out, "%s %d of %s\n", st.Red("failed:"), failed, summary)
		return exit(ExitFailed)
	case len(set.Examples) == 0:
		return errors.New("the files hold no tests: add some under tests: of a rule")
	}
	_, err := fmt.Fprintf(env.Out, "%s %s\n", st.Green("good:"), summary)
	return err
}

// told prints problems of files as compilers do, so that editors find the places.
func told(env Env, err error) error {
	var problems detect.FileErrors
	if !errors.As(err, &problems) {
		return err
	}
	st := env.screen().Style
	for _, p := range problems {
		place := term.Escape(p.Path)
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d:%d", place, p.Line, p.Column)
		}
		fmt.Fprintf(env.Out, "%s: %s\n", st.Bold(place), term.Escape(p.Message))
	}
	fmt.Fprintf(env.Out, "%s %s\n", st.Red("bad:"), plural(len(problems), "problem"))
	return exit(ExitFailed)
}

// of reports whether a path is among files. The source of rules that come with vigie stands for all their files.
func of(files []detect.File, path string) bool {
	return slices.ContainsFunc(files, func(f detect.File) bool {
		return f.Path == path || path == detect.DefaultSource && len(f.Path) > len(path) && f.Path[:len(path)+1] == path+"/"
	})
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
