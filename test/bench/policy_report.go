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

// The bars of policies.
const (
	barPolicySize = 1.1
	barConnect    = 2 * time.Microsecond // added to the call
	barApply      = 100 * time.Millisecond
	barWorkloads  = 200 << 20
)

// wakeUps says why being asked costs what it does.
const wakeUps = "Asking is two wake-ups, of the agent and of who waits for it: a wake-up of a process takes 14 to 22 µs on a virtual machine whose cores sleep"

// policyRows are the bars of policies.
func (r *results) policyRows(rng *rand.Rand) []row {
	out := r.sizeRows(rng)
	out = append(out, r.addedRows(rng)...)
	out = append(out, r.rungRows(rng)...)
	out = append(out, r.othersRows(rng)...)
	out = append(out, r.applyRows()...)
	return append(out, r.workloadRows()...)
}

// policyCalls are the times of a load's calls in an arm, by round.
func (r *results) policyCalls(load, arm string) []float64 {
	return ofArm(r.Policies, load, arm, func(s sample) float64 { return float64(s.call()) })
}

// usual is the median of them; 0 of none.
func (r *results) usual(load, arm string) time.Duration {
	calls := r.policyCalls(load, arm)
	if len(calls) == 0 {
		return 0
	}
	return time.Duration(measure.Median(calls))
}

// what the loads are, in words.
func policyLoadText(load string) string {
	switch load {
	case loadOpen:
		return "open of a file that is allowed, beside denied ones"
	case loadConnect:
		return "connect, TCP on loopback"
	case loadDatagram:
		return "connect, UDP"
	case loadAsked:
		return "open that is allowed"
	case loadRefused:
		return "open that is denied"
	case loadWake:
		return "a byte to another thread and back (two wake-ups)"
	case loadExec:
		return "exec+exit, one spawner a core at full rate"
	case loadOthers:
		return "connect, TCP on loopback, by a process under no policy"
	}
	return load
}

func (r *results) sizeRows(rng *rand.Rand) []row {
	var out []row
	for _, load := range []string{loadOpen, loadConnect, loadDatagram} {
		for _, arm := range []string{manyArm, allowArm} {
			few, many := r.policyCalls(load, fewArm), r.policyCalls(load, arm)
			if len(few) == 0 || len(many) == 0 {
				continue
			}
			x := ratioRow(fmt.Sprintf("%s: %s to %s", policyLoadText(load), arm, fewArm), barPolicySize, measure.Compare(few, many, rng))
			if arm == manyArm {
				x.bound = fmt.Sprintf("The call takes %s with no policy, %s under %s and %s under %s.%s", short(r.usual(load, noPolicy)),
					short(r.usual(load, fewArm)), fewArm, short(r.usual(load, manyArm)), manyArm, r.carriedBy(load))
			}
			out = append(out, x)
		}
	}
	return out
}

// carriedBy names the rung of a load; a sentence, or nothing when it is not known.
func (r *results) carriedBy(load string) string {
	section := "network.egress.deny"
	if load == loadOpen {
		section = "files.deny"
	}
	rung := r.Rungs[section+", "+manyArm]
	switch {
	case rung == "":
		return ""
	case strings.Contains(rung, "fanotify"):
		return " It is carried by " + rung + ". " + wakeUps + "."
	}
	return " It is carried by " + rung + "."
}

// addedRows are what a policy adds to a connect.
func (r *results) addedRows(rng *rand.Rand) []row {
	var out []row
	for _, load := range []string{loadConnect, loadDatagram} {
		none, many := r.policyCalls(load, noPolicy), r.policyCalls(load, manyArm)
		if len(none) == 0 || len(many) == 0 {
			continue
		}
		x := differenceRow("added to a "+policyLoadText(load)+", by "+manyArm, barConnect, none, many, rng)
		without, with := r.spread(load, noPolicy), r.spread(load, manyArm)
		x.bound = fmt.Sprintf("The call alone, timed by who makes it: median %s, 90 %% %s, 99 %% %s, 99.9 %% %s with no policy; %s, %s, %s, %s under it. Looking at the clock is %s of each.",
			short(without.Median), short(without.P90), short(without.P99), short(without.P999), short(with.Median), short(with.P90), short(with.P99), short(with.P999), short(with.Clock))
		out = append(out, x)
	}
	return out
}

// differenceRow is the median of the differences of neighbours against a bar.
func differenceRow(what string, bar time.Duration, base, with []float64, rng *rand.Rand) row {
	d := make([]float64, min(len(base), len(with)))
	for i := range d {
		d[i] = with[i] - base[i]
	}
	low, high := measure.Bootstrap(d, rng)
	out := row{what: what, bar: "≤ " + short(bar), measured: fmt.Sprintf("%s (%s to %s)", signed(measure.Median(d)), signed(low), signed(high))}
	switch {
	case high <= float64(bar):
		out.verdict = "met"
	case measure.Median(d) <= float64(bar):
		out.verdict = "met by the median; the interval reaches over the bar"
	case low <= float64(bar):
		out.verdict = fmt.Sprintf("**not met** by the median, %.2f× the bar; the interval reaches under the bar", measure.Median(d)/float64(bar))
	default:
		out.verdict = fmt.Sprintf("**not met**, %.2f× the bar", measure.Median(d)/float64(bar))
	}
	return out
}

// signed is a duration of nanoseconds, also a negative one.
func signed(ns float64) string {
	if ns < 0 {
		return "−" + short(time.Duration(-ns))
	}
	return short(time.Duration(ns))
}

// spread is the median, over the rounds, of each figure of the calls' distributions.
func (r *results) spread(load, arm string) distribution {
	figure := func(of func(*distribution) time.Duration) time.Duration {
		found := ofArm(r.Policies, load, arm, func(s sample) float64 {
			if s.Calls == nil {
				return 0
			}
			return float64(of(s.Calls))
		})
		if len(found) == 0 {
			return 0
		}
		return time.Duration(measure.Median(found))
	}
	return distribution{Least: figure(func(d *distribution) time.Duration { return d.Least }), Median: figure(func(d *distribution) time.Duration { return d.Median }),
		P90: figure(func(d *distribution) time.Duration { return d.P90 }), P99: figure(func(d *distribution) time.Duration { return d.P99 }),
		P999: figure(func(d *distribution) time.Duration { return d.P999 }), Most: figure(func(d *distribution) time.Duration { return d.Most }),
		Clock: figure(func(d *distribution) time.Duration { return d.Clock })}
}

// rungRows are opens that the agent is asked about. There is no bar.
func (r *results) rungRows(rng *rand.Rand) []row {
	none := r.policyCalls(loadAsked, noPolicy)
	var out []row
	for _, load := range []string{loadAsked, loadRefused} {
		asked := r.policyCalls(load, rungArm)
		if len(none) == 0 || len(asked) == 0 {
			continue
		}
		x := measure.Compare(none, asked, rng)
		agent := time.Duration(measure.Median(ofArm(r.Policies, load, rungArm, func(s sample) float64 { return float64(s.AgentCPU) })))
		y := row{what: fmt.Sprintf("%s, by the lowest rung that is synchronous: %s", policyLoadText(load), r.Rungs["files.deny, "+rungArm]), bar: "–",
			measured: fmt.Sprintf("%s against %s without a policy, %s", short(time.Duration(measure.Median(asked))), short(time.Duration(measure.Median(none))), interval(x)), verdict: "stated"}
		y.bound = fmt.Sprintf("%s; a byte to another thread and back, which is two as well, takes %s here. The agent uses %s of CPU to answer.", wakeUps, short(r.usual(loadWake, noPolicy)), short(agent))
		out = append(out, y)
	}
	return out
}

// othersRows are what processes under no policy pay. There is no bar.
func (r *results) othersRows(rng *rand.Rand) []row {
	var out []row
	for _, load := range []string{loadExec, loadOthers} {
		none, others := r.policyCalls(load, noPolicy), r.policyCalls(load, strangeArm)
		if len(none) == 0 || len(others) == 0 {
			continue
		}
		out = append(out, row{what: policyLoadText(load) + ": a policy about others to none", bar: "–", measured: interval(measure.Compare(none, others, rng)), verdict: "stated",
			bound: fmt.Sprintf("It takes %s with no policy and %s beside one.", short(r.usual(load, noPolicy)), short(r.usual(load, strangeArm)))})
	}
	return out
}

func (r *results) applyRows() []row {
	if len(r.Applied) == 0 {
		return nil
	}
	var first, later, files, answers, cpu, firstCPU []float64
	for _, x := range r.Applied {
		first, firstCPU = append(first, float64(x.First.all())), append(firstCPU, float64(x.First.CPU))
		for _, t := range x.Later {
			later, answers, cpu = append(later, float64(t.all())), append(answers, float64(t.Answer)), append(cpu, float64(t.CPU))
		}
		for _, t := range x.Files {
			files = append(files, float64(t.all()))
		}
	}
	text := func(times []float64) string {
		return fmt.Sprintf("median %s, most %s (n = %d)", short(time.Duration(measure.Median(times))), short(time.Duration(measure.Quantile(times, 1))), len(times))
	}
	what := "policy of 1,000 + 1,000 rules to its effect on a running process"
	return []row{
		{what: what + ", by the API", bar: "≤ " + short(barApply), measured: text(later), verdict: under(measure.Quantile(later, 1), float64(barApply)),
			bound: fmt.Sprintf("The effect is when both an open and a connect end otherwise than before, tried every %s. The API answers after %s. The agent uses %s of CPU for a change.",
				short(watchInterval), short(time.Duration(measure.Median(answers))), short(time.Duration(measure.Median(cpu))))},
		{what: what + ", by a file of the policy directory", bar: "≤ " + short(barApply), measured: text(files), verdict: under(measure.Quantile(files, 1), float64(barApply)),
			bound: "The directory must be quiet for a moment before it is read: who changes several files changes them at once."},
		{what: "the same for the first policy after the agent's start", bar: "–", measured: text(first), verdict: "stated",
			bound: fmt.Sprintf("Programs are loaded and verified, and attached, only when a policy needs them: %s of CPU.", short(time.Duration(measure.Median(firstCPU))))},
	}
}

func (r *results) workloadRows() []row {
	x := r.Populated
	if x == nil {
		return nil
	}
	total := x.After.RSS + x.After.Maps
	return []row{{what: fmt.Sprintf("memory with %d workloads under %d policies each: resident and BPF maps", x.Workloads, shared+1), bar: "≤ " + mib(barWorkloads),
		measured: fmt.Sprintf("%s + %s = %s, of which the policies take %s; peak resident %s", mib(x.After.RSS), mib(x.After.Maps), mib(total),
			mib(total-min(total, x.Before.RSS+x.Before.Maps)), mib(x.After.Peak)), verdict: under(float64(total), barWorkloads),
		bound: fmt.Sprintf("Beside as many workloads without policies it is %s + %s. The %d policies have %d rules; %s of live heap, %s without. They are in force %s after the agent's start, "+
			"which takes %s without; until then it uses %s of CPU, %s without. Then it uses %.1f %% of one core, %.1f %% without.", mib(x.Before.RSS), mib(x.Before.Maps), x.Policies, x.Rules,
			mib(x.After.Heap), mib(x.Before.Heap), short(x.ReadyAfter), short(x.ReadyBefore), short(x.CPUAfter), short(x.CPUBefore), 100*x.After.CPU, 100*x.Before.CPU)}}
}

// callTable has the distribution of every call that was timed.
func (r *results) callTable(w io.Writer) {
	type key struct{ load, arm string }
	var keys []key
	for _, s := range r.Policies {
		if k := (key{s.Load, s.Arm}); s.Calls != nil && !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.SortStableFunc(keys, func(a, b key) int { return strings.Compare(a.load, b.load) })
	fmt.Fprint(w, "\n## Calls under policies\n\nAn agent runs in every arm. Each figure is the median of those of the rounds.\n\n"+
		"| call | arm | least | median | 90 % | 99 % | 99.9 % | most | agent's CPU |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, k := range keys {
		d := r.spread(k.load, k.arm)
		agent := measure.Median(ofArm(r.Policies, k.load, k.arm, func(s sample) float64 { return float64(s.AgentCPU) }))
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", policyLoadText(k.load), k.arm, short(d.Least), short(d.Median), short(d.P90),
			short(d.P99), short(d.P999), short(d.Most), short(time.Duration(agent)))
	}
}
