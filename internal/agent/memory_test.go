// SPDX-License-Identifier: Apache-2.0

package agent

import "testing"

func TestGarbageIsBoundedByAmountNotByShare(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 12 << 20: 100, 48 << 20: 25, 1 << 30: 15} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", live, got, want)
		}
	}
}
