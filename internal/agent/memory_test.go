// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestGarbageIsBoundedByAmountNotByShare(t *testing.T) {
	const busy = 100 << 20
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 12 << 20: 100, 48 << 20: 25, 1 << 30: 15} {
		if got := gcPercent(live, busy); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", live, got, want)
		}
	}
	for rate, want := range map[uint64]int{0: 25, 100 << 10: 25, 1 << 20: 66, 10 << 20: 100} {
		if got := gcPercent(12<<20, rate); got != want {
			t.Errorf("%d bytes in a second: %d %%, want %d", rate, got, want)
		}
	}
}

func TestOnlyWhatNobodyWroteIsGivenBack(t *testing.T) {
	const smaps = `00400000-011e1000 r-xp 00000000 fe:00 1 /usr/local/bin/vigie
Rss:               12152 kB
Anonymous:             0 kB
011e1000-023a2000 r--p 00de1000 fe:00 1 /usr/local/bin/vigie
Anonymous:             8 kB
023a2000-02609000 rw-p 01fa2000 fe:00 1 /usr/local/bin/vigie
Anonymous:             0 kB
02609000-02700000 r--p 00000000 fe:00 1 /usr/lib/other
Anonymous:             0 kB
02700000-02800000 r--p 01fa2000 fe:00 1 /usr/local/bin/vigie
Anonymous:             0 kB
`
	got := cleanMappings(strings.NewReader(smaps), "/usr/local/bin/vigie")
	if want := [][2]uint64{{0x400000, 0x11e1000}, {0x2700000, 0x2800000}}; !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// The test's own program goes, and is there when it is needed.
func TestTheProgramComesBack(t *testing.T) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skipf("needs /proc: %v", err)
	}
	defer f.Close()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if len(cleanMappings(f, name)) == 0 {
		t.Error("nothing of the program would be given back")
	}
	giveProgramBack()
	if len(strings.Repeat("still here", 3)) != 30 {
		t.Error("the program is another one")
	}
}

func TestMemoryIsGivenBackWhenItIsCalm(t *testing.T) {
	c := &collector{next: startUp}
	for _, x := range []struct {
		ticks      int
		gave       bool
		free, rate uint64
		want       bool
	}{
		{startUp - 1, false, 0, 0, false},
		{startUp, false, 0, 0, true}, // what only the start needs, whatever lies idle
		{startUp, false, 0, busy, false},
		{startUp + calm - 1, false, 0, busy, false},
		{startUp + calm, false, 0, busy, true}, // busy for a minute: it does not wait for ever
		{startUp, true, idle, 0, false},
		{startUp, true, idle + 1, 0, true},
	} {
		c.ticks, c.gave = x.ticks, x.gave
		if got := c.gives(x.free, x.rate); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
}
