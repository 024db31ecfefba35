// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"
)

func TestRanBetween(t *testing.T) {
	before := map[ebpf.ProgramID]RunStats{1: {Name: "vg_a", Runs: 5, Time: 50}, 2: {Name: "vg_b", Runs: 1, Time: 10}, 3: {Name: "vg_idle", Runs: 7, Time: 70}}
	after := map[ebpf.ProgramID]RunStats{1: {Name: "vg_a", Runs: 8, Time: 80}, 2: {Name: "vg_b", Runs: 2, Time: 200}, 3: {Name: "vg_idle", Runs: 7, Time: 70},
		4: {Name: "vg_a", Runs: 1, Time: 9, Skipped: 2}}
	want := []RunStats{{Name: "vg_b", Runs: 1, Time: 190}, {Name: "vg_a", Runs: 4, Time: 39, Skipped: 2}}
	if got := RanBetween(before, after); !slices.Equal(got, want) {
		t.Errorf("what ran is %+v, want %+v", got, want)
	}
}

func TestSkipped(t *testing.T) {
	if got := Skipped(map[ebpf.ProgramID]RunStats{1: {Name: "vg_b", Skipped: 3}, 2: {Name: "vg_a", Skipped: 1}, 3: {Name: "vg_c"}}); got != "vg_a 1, vg_b 3" {
		t.Errorf("skipped: %q", got)
	}
}
