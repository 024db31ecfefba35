// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// The bars.
const (
	barExec      = 1.03
	barExecCPU   = 25 * time.Microsecond
	barOpen      = 1.3
	barRoundTrip = 1.05
	barCompile   = 1.02
	barIdleRSS   = 60 << 20
	barCrowdRSS  = 100 << 20
	barIdleCPU   = 0.005 // of one core
	barStart     = time.Second
)

// row is one bar and how it stands.
type row struct {
	what, bar, measured, verdict string
	bound                        string // how far from the floor, and why
}

// rows are the bars of all that was measured.
func (r *results) rows(all []compared) []row {
	var out []row
	for _, c := range all {
		out = append(out, r.comparedRows(c)...)
	}
	if s := r.Steady; s != nil {
		out = append(out, row{what: fmt.Sprintf("exec+exit at %d/s for %v: executed = reported", steadyRate, s.For.Round(time.Second)), bar: "all",
			measured: fmt.Sprintf("%.0f/s; executed %d; fork %d, exec %d, exit %d events, %d different images, %d of them with their exit; losses: %s",
				s.Rate, s.Executed, s.Forks, s.Execs, s.Exits, s.Images, s.Ended, (&tally{Losses: s.Losses}).lost()),
			verdict: all3(s.everyExec() && noLoss(s.Losses), s.Rate >= 0.99*steadyRate, s.Rate),
			bound:   fmt.Sprintf("At this rate the agent took %s of CPU a pair, everything from the ring to the file.%s", short(s.AgentCPU), s.skips())})
	}
	if s := r.Storm; s != nil {
		out = append(out, row{what: fmt.Sprintf("connect, accept, close at %d/s for %v: executed = reported or folded", stormRate, s.For.Round(time.Second)), bar: "all",
			measured: fmt.Sprintf("%.0f/s; executed %d; connects %d, accepts %d, closes %d (one an end), in %d lines; losses: %s",
				s.Rate, s.Executed, s.Connects, s.Accepts, s.Closes, s.Lines, (&tally{Losses: s.Losses}).lost()),
			verdict: all3(s.everyConnection() && noLoss(s.Losses), s.Rate >= 0.99*stormRate, s.Rate),
			bound:   fmt.Sprintf("Each connection is four events of the agent, for which it took %s of CPU.%s", short(s.AgentCPU), s.skips())})
	}
	return append(append(out, r.requestRows()...), r.watchedRows()...)
}

func noLoss(losses map[string]uint64) bool {
	for _, n := range losses {
		if n > 0 {
			return false
		}
	}
	return true
}

func all3(complete, fast bool, rate float64) string {
	switch {
	case !complete:
		return "**not met**"
	case !fast:
		return fmt.Sprintf("met at the most that this machine does, %.0f/s", rate)
	}
	return "met"
}

// skips is a sentence about what the kernel left out; empty without.
func (s *seen) skips() string {
	if s.Skipped == "" {
		return ""
	}
	return " The kernel left out runs of programs that were running on the same CPU already: " + s.Skipped + "."
}

// comparedRows are the bars of one load.
func (r *results) comparedRows(c compared) []row {
	what := r.describe(c.load)
	switch c.load {
	case "exec":
		return r.execRows(c, what)
	case "open", "open many":
		x := ratioRow(what, barOpen, c.with)
		x.bound = fmt.Sprintf("Of %s without, empty programs on the same hooks make %.3f×, the agent %.3f×; its programs run %s of each operation.",
			short(c.base), c.empty.Median, c.with.Median, short(c.programs))
		return []row{x}
	case "rr":
		x := ratioRow(what, barRoundTrip, c.with)
		x.bound = fmt.Sprintf("Of %s without, empty programs make %.3f×, the agent %.3f×; its programs run %s for the four system calls and the packets of a round trip.",
			short(c.base), c.empty.Median, c.with.Median, short(c.programs))
		return []row{x}
	case "compile":
		x := ratioRow(what, barCompile, c.with)
		x.bound = fmt.Sprintf("A build takes %s without; the agent uses %s of CPU meanwhile and its programs run %s, together %.2f %% of the %d cores' time.",
			short(c.base), short(c.agentCPU), short(c.programs), 100*float64(c.agentCPU+c.programs)/float64(c.base)/float64(r.Host.Cores), r.Host.Cores)
		return []row{x}
	}
	return nil
}

func (r *results) execRows(c compared, what string) []row {
	// A pair takes base of wall time while all cores work on pairs.
	pair := c.base * time.Duration(r.Host.Cores)
	own := float64(c.agentCPU+c.programs) / float64(pair)
	slow := ratioRow(what, barExec, c.with)
	slow.bound = fmt.Sprintf("The load leaves no core idle, so what the agent uses is taken from it: a pair costs %s of CPU without, and %s in the programs plus %s in "+
		"the agent are %.1f %% of that. Empty programs on the same hooks make %.3f×. To stay under %.2f× on this machine programs and agent together could use %s a pair; "+
		"on a machine with an idle core for the agent its share falls away and the load's own CPU, %.3f×, is what remains.",
		short(pair), short(c.programs), short(c.agentCPU), 100*own, c.empty.Median, barExec, short(time.Duration(float64(pair)*(barExec-1))), c.cpu.Median)
	agent := row{what: "the agent's CPU for a pair (fork, exec and exit events, as JSON to a file)", bar: "≤ " + short(barExecCPU), measured: short(c.agentCPU), verdict: "met"}
	if c.agentCPU > barExecCPU {
		agent.verdict = fmt.Sprintf("**not met**, %.1f× the bar", float64(c.agentCPU)/float64(barExecCPU))
	}
	s := r.FullRate
	rate := row{what: "the same at full rate: executed = reported", bar: "–",
		measured: fmt.Sprintf("%.0f/s without; executed %d with; fork %d, exec %d, exit %d; losses: %s", 1/c.base.Seconds(), s.Executed, s.Forks, s.Execs, s.Exits,
			(&tally{Losses: s.Losses}).lost()), verdict: "all told"}
	if !s.everyExec() || !noLoss(s.Losses) {
		rate.verdict = "lost, and said so"
		if noLoss(s.Losses) {
			rate.verdict = "**not all told**"
		}
	}
	return []row{slow, agent, rate}
}

func ratioRow(what string, bar float64, x measure.Ratio) row {
	out := row{what: what, bar: fmt.Sprintf("≤ %.2f×", bar), measured: interval(x)}
	switch {
	case x.High <= bar:
		out.verdict = "met"
	case x.Median <= bar:
		out.verdict = "met by the median; the interval reaches over the bar"
	case x.Low <= bar:
		out.verdict = fmt.Sprintf("**not met** by the median, %+.1f %% over; the interval reaches under the bar", 100*(x.Median/bar-1))
	default:
		out.verdict = fmt.Sprintf("**not met**, %.1f %% over", 100*(x.Median/bar-1))
	}
	return out
}

// watchedRows are the bars of the agent alone.
func (r *results) watchedRows() []row {
	var out []row
	if len(r.Starts) > 0 {
		var first, ready, version, cpu []float64
		for _, s := range r.Starts {
			first, ready = append(first, float64(s.FirstLine)), append(ready, float64(s.Ready))
			version, cpu = append(version, float64(s.Version)), append(cpu, float64(s.CPU))
		}
		most := time.Duration(measure.Quantile(first, 1))
		out = append(out, row{what: fmt.Sprintf("start to the first line in the export, %d processes running (n = %d)", startProcesses, len(first)), bar: "≤ " + short(barStart),
			measured: fmt.Sprintf("median %s, most %s; ready at %s", short(time.Duration(measure.Median(first))), short(most), short(time.Duration(measure.Median(ready)))),
			verdict:  under(float64(most), float64(barStart)),
			bound: fmt.Sprintf("Any start of the binary (`vigie version`) takes %s. Until it is ready the agent uses %s of CPU, to read the kernel's types, to load and verify the programs and to take the inventory.",
				short(time.Duration(measure.Median(version))), short(time.Duration(measure.Median(cpu))))})
	}
	if x := r.Idle; x != nil {
		share := x.CPU.Seconds() / x.For.Seconds()
		out = append(out,
			row{what: "resident memory, idle", bar: "≤ " + mib(barIdleRSS), measured: fmt.Sprintf("%s, peak %s", mib(x.RSS), mib(x.Peak)), verdict: under(float64(x.RSS), barIdleRSS),
				bound: fmt.Sprintf("Of it %s is live heap, with %d processes in the table; the kernel holds %s of maps beside it.", mib(x.Heap), x.Processes, mib(x.Maps))},
			row{what: fmt.Sprintf("CPU, idle, over %v", x.For.Round(time.Second)), bar: fmt.Sprintf("≤ %.1f %% of one core", 100*barIdleCPU),
				measured: fmt.Sprintf("%.2f %%", 100*share), verdict: under(share, barIdleCPU),
				bound: fmt.Sprintf("The host's own doings made %d events in that time.", x.Events)})
	}
	if x := r.Crowded; x != nil {
		for _, y := range []struct {
			how             string
			rss, peak, live uint64
		}{{"started while it ran", x.Grown, x.GrownPeak, x.Live}, {"found at its start", x.Found, x.FoundPeak, x.FoundLive}} {
			z := row{what: fmt.Sprintf("resident memory, %d processes %s", x.Processes, y.how), bar: "≤ " + mib(barCrowdRSS),
				measured: fmt.Sprintf("%s, peak %s; %d in the table", mib(y.rss), mib(y.peak), y.live), verdict: under(float64(y.rss), barCrowdRSS)}
			if x.Processes < x.Wanted {
				z.bound = fmt.Sprintf("This machine has room for %d processes, not %d (kernel.pid_max, kernel.threads-max or memory).", x.Processes, x.Wanted)
			}
			if y.live < uint64(x.Processes) {
				z.verdict = "**not met**: not all are in the table"
			}
			out = append(out, z)
		}
		out[len(out)-1].bound += fmt.Sprintf(" Ready after %s with that many to take in.", short(x.FoundReady))
	}
	return out
}

func under(value, bar float64) string {
	if value <= bar {
		return "met"
	}
	return fmt.Sprintf("**not met**, %.2f× the bar", value/bar)
}

func mib(bytes uint64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
