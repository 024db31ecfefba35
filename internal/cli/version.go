// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/cli/term"
)

// NewVersion is `vigie version`.
func NewVersion(env Env) *cobra.Command {
	var out format
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Commit  string `json:"commit,omitempty"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{env.Version, env.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if out == formatJSON || out == formatYAML {
				line, err := json.Marshal(v)
				if err != nil {
					return fmt.Errorf("write version as json: %w", err)
				}
				if out == formatYAML {
					return writeYAML(env.Out, line)
				}
				return writeJSON(env.Out, line)
			}
			commit := ""
			if v.Commit != "" {
				commit = ", commit " + v.Commit
			}
			_, err := fmt.Fprintf(env.Out, "vigie %s%s (%s, %s/%s)\n", term.Escape(v.Version), commit, v.Go, v.OS, v.Arch)
			return err
		},
	}
	out.flag(cmd)
	return cmd
}
