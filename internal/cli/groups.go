// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"

	"github.com/spf13/cobra"
)

// commandGroups are the headings of `vigie help`, and the commands below each.
func commandGroups() []struct {
	title    string
	commands []string
} {
	return []struct {
		title    string
		commands []string
	}{
		{"The agent:", []string{"run", "status", "doctor", "record", "cleanup"}},
		{"What happens:", []string{"events", "flows", "map", "ps", "pods", "lifecycle", "top", "query"}},
		{"What may happen:", []string{"policy", "rules"}},
		{"Kubernetes objects:", []string{"scan", "fix", "controls", "admit", "import"}},
		{"Clusters:", []string{"install", "uninstall", "relay"}},
	}
}

// groupCommands puts the commands of root below their headings.
func groupCommands(root *cobra.Command) {
	for _, g := range commandGroups() {
		var any bool
		for _, c := range root.Commands() {
			if slices.Contains(g.commands, c.Name()) {
				c.GroupID, any = g.title, true
			}
		}
		if any {
			root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		}
	}
}
