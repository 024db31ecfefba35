// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// report writes the page. What was not measured is not on it.
func (r *results) report(w io.Writer, rng *rand.Rand) {
	c := r.compareAll(rng)
	fmt.Fprint(w, "# Benchmarks\n\n"+
		"Written by `make bench`; do not edit. Every figure compares arms of one run on one machine, taken in turns in random order,\n"+
		"with an agent that was started for its sample alone and wrote all events as JSON to a file. Times are only worth\n"+
		"something beside their baseline.\n\n")
	r.header(w)
	rows := slices.Concat(r.rows(c), r.policyRows(rng), r.detectRows(), r.flowRows(rng), r.historyRows(), r.scanRows())
	fmt.Fprint(w, "\n## The bars\n\n| what | bar | measured | verdict |\n|---|---|---|---|\n")
	for _, x := range rows {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", x.what, x.bar, x.measured, x.verdict)
	}
	if len(c) > 0 {
		r.ratios(w, c)
	}
	r.callTable(w)
	r.bounds(w, rows)
	r.programTable(w)
	fmt.Fprint(w, repeat)
}

const repeat = `
## How to repeat

As root, on a host that does nothing else and where no other agent runs:

    make bench                                  # this page anew
    make bench BENCH_ARGS='-run exec -n 4'      # one part, to the terminal
    make bench BENCH_ARGS=-full                 # 20 rounds, longer samples, all of std as the compile load
    make bench BENCH_ARGS=-help                 # the parts and the other flags

The tool needs nothing but Go. It starts itself again for the loads, and writes the tiny programs that they start, static
ELF files of one page, itself. The memory part starts tens of thousands of processes and raises kernel.pid_max while
it runs. The policies' parts mount a folder of their own in memory, and make ten thousand cgroups, all of which they remove.
The raw samples are written to the user's cache folder (vigie/bench-TIME.json) with the seed of the order.

How the figures are made: a ratio is the median of the ratios of neighbours (the two arms of one round); its interval is
the 95 % bootstrap interval of that median; "of the fastest" is the fastest sample with the agent by the fastest without.
CPU of the agent is its process's CPU clock, from when it had written all that came before the sample until it had written
all of the sample. "Empty programs" is the arm without an agent and with programs that return at once on sys_exit,
sched_process_exec, _fork, _exit, inet_sock_set_state and, both ways, on packets (cgroup_skb): what any observer at
these places takes. The programs' own times are the kernel's (BPF_ENABLE_STATS), in one more run, because that
measuring costs time itself.

Under policies an agent runs in every arm, and the calls are timed one by one by the process that makes them; the clock's own
share is in all arms. The rules deny what the load does not do, in the folder and beside the addresses that it uses, so that
they are looked at. Before an arm is measured, its worker is seen denied. Detections run in a process of their own.
`

func (r *results) header(w io.Writer) {
	h := r.Host
	fmt.Fprintf(w, "| | |\n|---|---|\n"+
		"| machine | %d cores of %s, %d MiB, %s |\n"+
		"| kernel | %s; clock %s; BPF JIT %s; mitigations: %s |\n"+
		"| agent | %s, built with %s |\n"+
		"| run | %s, took %v; n = %d rounds, samples of %v |\n"+
		"| quiet? | load average %s before and %s after; the hypervisor took %.1f %% of the CPU time |\n",
		h.Cores, h.CPU, h.MemoryMiB, h.Virtual, h.Kernel, h.Clock, orUnknown(h.JIT), h.Mitigations, h.Agent, h.Go,
		r.Began.Format("2006-01-02 15:04 UTC"), r.Took, r.N, r.Sample, h.LoadBefore, h.LoadAfter, 100*h.Steal)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// compared is a load with its arms compared.
type compared struct {
	load     string
	base     time.Duration // median without the agent
	fastest  time.Duration
	with     measure.Ratio
	empty    measure.Ratio // N is 0 without that arm
	cpu      measure.Ratio // of the load's own CPU time
	agentCPU time.Duration
	programs time.Duration // run time of the agent's programs
}

// compareAll compares each load, in the order of the samples.
func (r *results) compareAll(rng *rand.Rand) []compared {
	var out []compared
	for _, s := range r.Samples {
		if slices.ContainsFunc(out, func(c compared) bool { return c.load == s.Load }) {
			continue
		}
		base, with, empty := r.arm(s.Load, without, wall), r.arm(s.Load, withAgent, wall), r.arm(s.Load, withEmpty, wall)
		if len(base) == 0 || len(with) == 0 {
			continue // the run was interrupted in its first round
		}
		c := compared{load: s.Load, base: time.Duration(measure.Median(base)), fastest: time.Duration(slices.Min(base)), with: measure.Compare(base, with, rng),
			empty: measure.Compare(base, empty, rng), cpu: measure.Compare(r.arm(s.Load, without, cpu), r.arm(s.Load, withAgent, cpu), rng),
			agentCPU: time.Duration(measure.Median(r.arm(s.Load, withAgent, func(s sample) float64 { return float64(s.AgentCPU) })))}
		for _, p := range r.Programs {
			if p.Load == s.Load {
				c.programs = p.perOp()
			}
		}
		out = append(out, c)
	}
	return out
}

func wall(s sample) float64 { return float64(s.PerOp) }
func cpu(s sample) float64  { return float64(s.CPU) / float64(s.Count) }

// arm is a figure of an arm's samples, by round.
func (r *results) arm(load, arm string, of func(sample) float64) []float64 {
	return ofArm(r.Samples, load, arm, of)
}

func ofArm(samples []sample, load, arm string, of func(sample) float64) []float64 {
	var found []sample
	for _, s := range samples {
		if s.Load == load && s.Arm == arm {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b sample) int { return a.Round - b.Round })
	out := make([]float64, len(found))
	for i, s := range found {
		out[i] = of(s)
	}
	return out
}

func (r *results) ratios(w io.Writer, all []compared) {
	fmt.Fprint(w, "\n## With and without the agent\n\n"+
		"| load | n | without, median (fastest) | with: median ratio (95 %) | of the fastest | empty programs | load's own CPU | agent's CPU | its programs |\n"+
		"|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range all {
		empty := "–"
		if c.empty.N > 0 {
			empty = interval(c.empty)
		}
		fmt.Fprintf(w, "| %s | %d | %s (%s) | %s | %.3f | %s | %.3f | %s | %s |\n", r.describe(c.load), c.with.N, short(c.base), short(c.fastest),
			interval(c.with), c.with.Min, empty, c.cpu.Median, short(c.agentCPU), short(c.programs))
	}
	fmt.Fprint(w, "\nTimes are for one operation of the load, over all cores that it uses. The agent's CPU is beside the load's own; what its\nprograms run is a part of the load's own.\n")
}

func interval(r measure.Ratio) string {
	return fmt.Sprintf("%.3f (%.3f to %.3f)", r.Median, r.Low, r.High)
}

// short is a duration in three digits.
func short(d time.Duration) string {
	for _, u := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= u {
			v := float64(d) / float64(u)
			name := strings.TrimPrefix(u.String(), "1")
			switch {
			case v < 10:
				return fmt.Sprintf("%.2f %s", v, name)
			case v < 100:
				return fmt.Sprintf("%.1f %s", v, name)
			}
			return fmt.Sprintf("%.0f %s", v, name)
		}
	}
	return fmt.Sprintf("%d ns", d)
}

func (r *results) describe(load string) string {
	switch load {
	case "exec":
		return "exec+exit, one spawner a core at full rate"
	case "open":
		return "open+close of one file"
	case "open many":
		return "open+close of 1,000 files in turn"
	case "rr":
		return fmt.Sprintf("TCP request and response, %d bytes each, loopback", messageBytes)
	case loadHTTP:
		return "HTTP request of 400 bytes and answer of 800, loopback"
	case loadRequests:
		return "the same, and the agent looks at requests (`--l7 all`)"
	case "compile":
		return "`go build -a " + r.Packages + "` with all that they import, empty cache"
	}
	return load
}

func (r *results) bounds(w io.Writer, rows []row) {
	printed := false
	for _, x := range rows {
		if x.bound == "" {
			continue
		}
		if !printed {
			fmt.Fprint(w, "\n## How far from the floor, and what bounds it\n\n")
			printed = true
		}
		fmt.Fprintf(w, "- **%s.** %s\n", x.what, x.bound)
	}
}

func (r *results) programTable(w io.Writer) {
	if len(r.Programs) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Run time of the agent's programs\n\nFrom the kernel's BPF statistics, the programs that take the most.\n\n"+
		"| load | program | runs an operation | time a run | time an operation |\n|---|---|---|---|---|\n")
	for _, p := range r.Programs {
		for _, s := range p.Programs[:min(6, len(p.Programs))] {
			if s.Time < time.Duration(p.Count) {
				continue // less than a nanosecond an operation: what else the machine did
			}
			fmt.Fprintf(w, "| %s | %s | %.2f | %s | %s |\n", p.Load, s.Name, float64(s.Runs)/float64(p.Count),
				short(s.Time/time.Duration(s.Runs)), short(s.Time/time.Duration(p.Count)))
		}
	}
}
