// SPDX-License-Identifier: Apache-2.0

package engine

import "testing"

// OnCost has every expression counted while a test runs, and told with its bound.
func OnCost(t *testing.T, told func(text string, bound float64, cost uint64)) {
	onCost = told
	t.Cleanup(func() { onCost = nil })
}
