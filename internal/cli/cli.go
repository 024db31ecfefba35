// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
)

// Exit codes of every command.
const (
	ExitOK     = 0
	ExitFailed = 1 // it was tried and did not work
	ExitCannot = 2 // it could not be tried: usage, no privilege, no agent
)

// Env is what the commands know of the world around them.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Environ  []string
	Now      func() time.Time
	Version  string // of this binary
	Commit   string // of this binary; empty when unknown
}

// SystemEnv is the Env of the real process.
func SystemEnv(version, commit string) Env {
	return Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Environ: os.Environ(), Now: time.Now,
		Version: version, Commit: commit}
}

func (e Env) screen() term.Screen { return term.ScreenOf(e.Out, e.Getenv) }

// New makes the root command out of the commands that the binary has.
func New(env Env, commands ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "vigie",
		Short: "See, explain and stop what workloads do: processes, files, network",
		Long: "vigie sees, explains and stops what workloads do: their processes, files and network, on a Linux host and in Kubernetes.\n\n" +
			"`vigie run` is the agent; the commands that read ask it over its unix socket, or all agents of a cluster with --cluster.\n" +
			"Those about Kubernetes objects need no agent.",
		SilenceErrors: true,
		SilenceUsage:  true,
		// Without Args cobra answers an unknown command with the near ones.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.AddCommand(commands...)
	groupCommands(root)
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion", "powershell"}); err == nil && c.Name() == "powershell" {
		c.Parent().RemoveCommand(c) // Linux only
	}
	return root
}

// Execute runs the command that args name, prints its error, and returns the exit code. Whatever goes
// wrong before a command starts is its usage.
func Execute(ctx context.Context, env Env, root *cobra.Command, args []string) int {
	started := false
	watchStart(root, &started)
	sayArguments(root)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	var code interface{ ExitCode() int }
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		fmt.Fprintln(env.Err, "vigie: interrupted")
		return ExitFailed
	case !started:
		if strings.HasPrefix(err.Error(), "required flag") { // cobra's words, which name no way
			err = fmt.Errorf("an option is missing: write `%s`", written(cmd))
		}
		fmt.Fprintf(env.Err, "vigie: %s\nSee `%s --help`.\n", term.EscapeLines(err.Error()), cmd.CommandPath())
		return ExitCannot
	case errors.As(err, &code):
		if text := err.Error(); text != "" {
			fmt.Fprintf(env.Err, "vigie: %s\n", term.EscapeLines(text))
		}
		return code.ExitCode()
	}
	fmt.Fprintf(env.Err, "vigie: %s\n", term.EscapeLines(err.Error()))
	return ExitFailed
}

func watchStart(cmd *cobra.Command, started *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		watchStart(sub, started)
	}
}

// sayArguments has commands that got too few or too many arguments say how they are written.
func sayArguments(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil || (cmd.HasSubCommands() && len(args) > 0) { // it was to be one of those, perhaps
				return err
			}
			return fmt.Errorf("%s given: write `%s`", plural(len(args), "argument"), written(cmd))
		}
	}
	for _, sub := range cmd.Commands() {
		sayArguments(sub)
	}
}

// written is how a command is written, with what it cannot do without.
func written(cmd *cobra.Command) string {
	_, wanted, _ := strings.Cut(cmd.Use, " ")
	return strings.TrimSpace(cmd.CommandPath() + " " + wanted)
}

// cannotError is an error with exit code 2.
type cannotError struct{ err error }

// Cannot marks err as something that could not be tried: exit code 2.
func Cannot(err error) error {
	if err == nil {
		return nil
	}
	return cannotError{err}
}

func (e cannotError) Error() string { return e.err.Error() }
func (e cannotError) Unwrap() error { return e.err }
func (e cannotError) ExitCode() int { return ExitCannot }

// exit ends a command with a code and without a message: everything has been said.
type exit int

func (e exit) Error() string { return "" }
func (e exit) ExitCode() int { return int(e) }
