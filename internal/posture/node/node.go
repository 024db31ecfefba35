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
