// SPDX-License-Identifier: Apache-2.0

// Package doctor is the command `vigie doctor`. In: a report of internal/kernel/probe. Out: the same
// for a person in front of a terminal, or whole as JSON or YAML, and an exit code that says whether
// vigie can run on this host.
package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/kernel/probe"
)

// Streams are where the command writes.
type Streams struct {
	Out io.Writer // the report, and help
	Err io.Writer // how to use the command, when it was used wrongly
	// Getenv looks up NO_COLOR and TERM; nil means os.Getenv.
	Getenv func(string) string
}

// UnusableError says that vigie cannot run here. The report has been printed when it is returned.
type UnusableError struct{ Findings []probe.Finding }

// Error is what stands in the way and what to do about it.
func (e *UnusableError) Error() string {
	var parts []string
	for _, f := range e.Findings {
		part := f.What
		if f.Fix != "" {
			part += "; " + f.Fix
		}
		parts = append(parts, part)
	}
	return "cannot run here: " + strings.Join(parts, "\n")
}

// ExitCode is 2: the answer is no, and the command itself worked.
func (e *UnusableError) ExitCode() int { return 2 }

// NewCommand makes `vigie doctor`. The command's error is an *UnusableError when vigie cannot run
// here; it carries the exit code.
func NewCommand(streams Streams) *cobra.Command {
	return newCommand(streams, func(ctx context.Context) (*probe.Report, error) {
		return probe.Run(ctx, probe.Options{})
	})
}

func newCommand(streams Streams, run func(context.Context) (*probe.Report, error)) *cobra.Command {
	if streams.Getenv == nil {
		streams.Getenv = os.Getenv
	}
	var output string
	var all bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Show what vigie can do on this host, and why not more",
		Long: `doctor tries on the running kernel everything that vigie may use, and shows for each of its jobs
which rung of the ladder carries it here, how strong the result is, and what keeps it from a better one.
Each try loads a program of a few instructions, attaches it to something harmless and removes it.

Exit code: 0 when vigie can run here, with or without limits; 2 when it cannot.`,
		Example: `  sudo vigie doctor           what vigie can do here
  sudo vigie doctor --all     with the result of every single try
  sudo vigie doctor -o json   all of it, for scripts`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write, err := writer(output, all, term.ScreenOf(streams.Out, streams.Getenv))
			if err != nil {
				return err
			}
			report, err := run(cmd.Context())
			if err != nil {
				return fmt.Errorf("probe the kernel: %w", err)
			}
			if err := write(streams.Out, report); err != nil {
				return fmt.Errorf("print the report: %w", err)
			}
			if report.Verdict == probe.Unusable {
				return &UnusableError{blockers(report)}
			}
			return nil
		},
	}
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.Err)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`format`: table, json or yaml")
	cmd.Flags().BoolVar(&all, "all", false, "show the result of every single try")
	cmd.Flags().BoolVarP(&all, "verbose", "v", false, "the same as --all")
	return cmd
}

// writer picks the printer for an output format.
func writer(format string, all bool, screen term.Screen) (func(io.Writer, *probe.Report) error, error) {
	switch format {
	case "table":
		return func(w io.Writer, r *probe.Report) error { return writePage(w, r, screen, all) }, nil
	case "json":
		return writeJSON, nil
	case "yaml":
		return writeYAML, nil
	}
	return nil, fmt.Errorf("unknown output format %q: use table, json or yaml", format)
}

func writeJSON(w io.Writer, r *probe.Report) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

// writeYAML prints the JSON form as YAML, so that the two cannot differ: JSON is YAML in another style.
func writeYAML(w io.Writer, r *probe.Report) error {
	var text bytes.Buffer
	if err := writeJSON(&text, r); err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text.Bytes(), &document); err != nil {
		return err
	}
	plainStyle(&document)
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	return errors.Join(encoder.Encode(&document), encoder.Close())
}

func plainStyle(n *yaml.Node) {
	n.Style = 0
	for _, inner := range n.Content {
		plainStyle(inner)
	}
}

func blockers(r *probe.Report) []probe.Finding {
	var list []probe.Finding
	for _, f := range r.Findings {
		if f.Severity == probe.Blocker {
			list = append(list, f)
		}
	}
	return list
}
