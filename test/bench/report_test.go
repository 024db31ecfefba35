// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

func TestRatioRow(t *testing.T) {
	for _, tc := range []struct {
		ratio measure.Ratio
		want  string
	}{
		{measure.Ratio{Median: 1.01, Low: 1.00, High: 1.02}, "met"},
		{measure.Ratio{Median: 1.01, Low: 1.00, High: 1.09}, "met by the median; the interval reaches over the bar"},
		{measure.Ratio{Median: 1.10, Low: 1.00, High: 1.20}, "**not met** by the median, +4.8 % over; the interval reaches under the bar"},
		{measure.Ratio{Median: 1.26, Low: 1.20, High: 1.30}, "**not met**, 20.0 % over"},
	} {
		if got := ratioRow("x", 1.05, tc.ratio).verdict; got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.ratio, got, tc.want)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		12: "12 ns", 1234: "1.23 µs", 12345: "12.3 µs", 123456: "123 µs", 2 * time.Millisecond: "2.00 ms", 90 * time.Second: "90.0 s", 0: "0 ns",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%d) = %q, want %q", d, got, want)
		}
	}
}

// someResults are of a run in which the agent doubles the time of an exec and loses nothing.
func someResults() *results {
	r := &results{N: 3, Sample: time.Second, Host: measure.Facts{Cores: 2}}
	for round := range 3 {
		for arm, t := range map[string]time.Duration{without: 100, withAgent: 200, withEmpty: 110} {
			r.Samples = append(r.Samples, sample{Load: "exec", Arm: arm, Round: round, PerOp: t * time.Microsecond,
				done: done{Count: 10, CPU: 10 * t * time.Microsecond}, AgentCPU: 12 * time.Microsecond})
		}
	}
	r.Programs = []programTimes{{Load: "exec", Count: 10, Programs: []measure.RunStats{{Name: "vg_x", Runs: 20, Time: 80 * time.Microsecond}}}}
	r.FullRate = seen{Executed: 3, Forks: 3, Execs: 3, Exits: 3, Images: 3, Ended: 3}
	r.Steady = &seen{Rate: 4000, For: time.Minute, Executed: 9, Forks: 9, Execs: 9, Exits: 9, Images: 9, Ended: 9}
	r.Storm = &seen{Rate: 20000, For: time.Second, Executed: 9, Connects: 9, Accepts: 9, Closes: 17}
	r.Starts = []start{{FirstLine: 2 * time.Second, Ready: time.Second}}
	r.Idle = &idle{For: time.Minute, CPU: 30 * time.Millisecond, RSS: 50 << 20}
	r.Crowded = &crowded{Wanted: 50, Processes: 40, Live: 41, FoundLive: 39, Grown: 1 << 20, Found: 101 << 20}
	return r
}

func TestReport(t *testing.T) {
	var page bytes.Buffer
	someResults().report(&page, seeded())
	for _, want := range []string{
		"| exec+exit, one spawner a core at full rate | ≤ 1.03× | 2.000 (2.000 to 2.000) | **not met**, 94.2 % over |",
		"| ≤ 25.0 µs | 12.0 µs | met |",
		"a pair costs 200 µs of CPU without, and 8.00 µs in the programs plus 12.0 µs in the agent are 10.0 % of that",
		"| met at the most that this machine does, 4000/s |",
		"closes 17 (one an end), in 0 lines; losses: none | **not met** |",
		"| ≤ 1.00 s | median 2.00 s, most 2.00 s; ready at 1.00 s | **not met**, 2.00× the bar |",
		"| ≤ 0.5 % of one core | 0.05 % | met |",
		"| 1.0 MiB, peak 0.0 MiB; 41 in the table | met |",
		"| **not met**: not all are in the table |",
		"room for 40 processes, not 50",
		"| exec | vg_x | 2.00 | 4.00 µs | 8.00 µs |",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(page.String())
	}
}

func TestReportOfAnInterruptedRun(t *testing.T) {
	whole := someResults()
	for n := range whole.Samples {
		r := &results{Samples: whole.Samples[:n], Policies: somePolicyResults().Policies[:n]}
		var page bytes.Buffer
		r.report(&page, seeded())
		if !strings.Contains(page.String(), "## How to repeat") {
			t.Errorf("the page of %d samples is not whole:\n%s", n, page.String())
		}
	}
}

func TestCgroupRoot(t *testing.T) {
	const mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
	if got := cgroupRoot(mounts); got != "/sys/fs/cgroup/unified" {
		t.Errorf("root = %q", got)
	}
	if got := cgroupRoot("proc /proc proc rw 0 0\n"); got != "" {
		t.Errorf("root without cgroup v2 = %q", got)
	}
}

func seeded() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
