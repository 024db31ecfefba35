// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/migrate"
)

// NewImport is `vigie import`.
func NewImport(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Make controls of the policies of other engines",
		Long: "Make controls of the policies of other engines: `vigie scan --controls` evaluates them, `vigie controls explain --policy` prints them\n" +
			"for an API server. For each rule that could not be taken over it is said why.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImportFrom(env, "kyverno", "Make controls of Kyverno's policies", migrate.Kyverno),
		newImportFrom(env, "gatekeeper", "Make controls of Gatekeeper's templates and constraints", migrate.Gatekeeper))
	return cmd
}

func newImportFrom(env Env, engine, short string, read func(io.Reader, string) ([]migrate.Rule, error)) *cobra.Command {
	dir := ""
	cmd := &cobra.Command{
		Use:   engine + " FILE...",
		Short: short,
		Long: short + ".\n\nThe controls are written to standard output, or each to a file of its own with --output-dir. What became of each rule is said on standard\n" +
			"error. The exit code is 1 when a rule could not be taken over, and 2 when a file could not be read.",
		Example: "  vigie import " + engine + " policies.yaml --output-dir controls/\n  vigie scan --controls controls/ deploy/",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var rules []migrate.Rule
			for _, name := range args {
				own, err := importFile(env, name, read)
				if err != nil {
					return Cannot(err)
				}
				rules = append(rules, own...)
			}
			return writeImported(env, rules, dir)
		},
	}
	cmd.Flags().StringVarP(&dir, "output-dir", "d", "", "directory for the controls, which is made if need be")
	return cmd
}

func importFile(env Env, name string, read func(io.Reader, string) ([]migrate.Rule, error)) (rules []migrate.Rule, err error) {
	if name == "-" {
		return read(env.In, "stdin")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return read(f, name)
}

func writeImported(env Env, rules []migrate.Rule, dir string) error {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // it holds nothing secret
			return Cannot(fmt.Errorf("import: %w", err))
		}
	}
	st := term.ScreenOf(env.Err, env.Getenv).Style
	taken := 0
	for _, r := range rules {
		at := term.Escape(fmt.Sprintf("%s:%d", r.File, r.Line))
		if r.Control == "" {
			fmt.Fprintf(env.Err, "%s %s %s: %s\n", st.Yellow("not taken over"), at, term.Escape(r.String()), term.Escape(strings.Join(r.Missing, "; ")))
			continue
		}
		taken++
		fmt.Fprintf(env.Err, "%s %s %s: control %s\n", st.Green("taken over"), at, term.Escape(r.String()), r.Control)
		if err := writeControl(env, r, dir, taken); err != nil {
			return Cannot(err)
		}
	}
	fmt.Fprintf(env.Err, "%d of %s taken over\n", taken, plural(len(rules), "rule"))
	if taken < len(rules) {
		return exit(ExitFailed)
	}
	return nil
}

func writeControl(env Env, r migrate.Rule, dir string, n int) error {
	if dir != "" {
		if err := os.WriteFile(filepath.Join(dir, r.Control+".yaml"), r.Text, 0o644); err != nil { //nolint:gosec // it is meant to be committed
			return fmt.Errorf("import: %w", err)
		}
		return nil
	}
	between := ""
	if n > 1 {
		between = "---\n"
	}
	if _, err := fmt.Fprintf(env.Out, "%s%s", between, r.Text); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}
