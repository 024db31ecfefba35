// SPDX-License-Identifier: Apache-2.0

package node

import (
	"embed"
	"fmt"

	"github.com/vigie-io/vigie/internal/posture/control"
)

//go:embed controls
var embedded embed.FS

// Controls are those of hosts: the CIS Kubernetes Benchmark's sections 1 to 4, as far as files and flags can tell.
func Controls() ([]*control.Control, error) {
	all, err := control.ParseFS(embedded, "controls")
	if err != nil {
		return nil, fmt.Errorf("read the controls of hosts: %w", err)
	}
	return all, nil
}

// Problems are what could not be read of the components in an object of Collect.
func Problems(fields map[string]any) []string {
	spec, _ := fields["spec"].(map[string]any)
	components, _ := spec["components"].([]any)
	var out []string
	for _, c := range components {
		m, _ := c.(map[string]any)
		if problem, ok := m["problem"].(string); ok {
			out = append(out, fmt.Sprintf("%v: %s: run this as root", m["name"], problem))
		}
	}
	return out
}
