// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// NewMan is `vigie man`.
func NewMan(env Env) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the man pages into a directory",
		Long:    "Write the man pages of all commands (section 1) into a directory, which is made when it is missing.",
		Example: "  sudo vigie man /usr/local/share/man/man1 && man vigie-events",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make directory for man pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // no date: the same source gives the same pages
			header := &doc.GenManHeader{Title: "VIGIE", Section: "1", Source: "vigie " + env.Version, Manual: "vigie"}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return fmt.Errorf("write man pages to %s: %w", dir, err)
			}
			_, err := fmt.Fprintf(env.Out, "man pages written to %s; read one with: man -l %s/vigie.1\n", dir, dir)
			return err
		},
	}
}
