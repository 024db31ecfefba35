// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
)

// Nodes is "3 nodes", or "2 of 3 nodes" when one is not connected.
func Nodes(nodes []*vigiev1.NodeStatus) string {
	connected := 0
	for _, n := range nodes {
		if n.GetState() == "connected" {
			connected++
		}
	}
	switch {
	case connected < len(nodes):
		return fmt.Sprintf("%d of %d nodes", connected, len(nodes))
	case len(nodes) == 1:
		return "one node"
	}
	return fmt.Sprintf("%d nodes", len(nodes))
}
