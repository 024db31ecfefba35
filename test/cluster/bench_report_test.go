// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// The bars.
const (
	barEstablished = 0.97 // of what passes without vigie
	barConnections = 0.90
	barFlat        = 0.97 // 5,000 policies of 10
	barChange      = 500 * time.Millisecond
	barMemory      = 150 << 20
)

// write writes the page. What was not measured is not on it.
func (r *benchResults) write(w io.Writer) {
	fmt.Fprint(w, "# Benchmarks in a cluster\n\n"+
		"Written by `make bench-cluster`; do not edit. A real Kubernetes on one machine (`make test-cluster`): all nodes share one kernel and\n"+
		"its cores. Figures are of the parts' last runs; each says when that was.\n")
	if r.Pods != nil {
		r.Pods.write(w)
	}
	if r.Change != nil {
		r.Change.write(w)
	}
	if r.Scale != nil {
		r.Scale.write(w)
	}
	fmt.Fprint(w, benchRepeat)
}

const benchRepeat = `
## How to repeat

As root, on a machine that does nothing else:

    make bench-cluster                                      # all parts, and this page anew: 40 minutes
    make bench-cluster BENCH=ClusterPods BENCH_ARGS='-bench-rounds 10'
    make bench-cluster BENCH=ClusterChange
    make bench-cluster BENCH=ClusterScale BENCH_ARGS='-bench-watch 15m'

The raw samples are in the user's cache folder (vigie/bench-cluster.json). The generators of load are the project's own
(test/cluster/actor, load.go): plain system calls on one thread, 64 bytes a message.
`

func (a *about) write(w io.Writer) {
	h := a.Host
	fmt.Fprintf(w, "\n| | |\n|---|---|\n| machine | %d cores of %s, %d MiB, %s |\n| kernel | %s; BPF JIT %s; mitigations: %s |\n| versions | %s; Kubernetes %s |\n"+
		"| run | %s, took %v; load average %s before and %s after |\n\n",
		h.Cores, h.CPU, h.MemoryMiB, h.Virtual, h.Kernel, h.JIT, h.Mitigations, h.Agent, a.Kubernetes, a.Began.Format("2006-01-02 15:04 UTC"), a.Took, h.LoadBefore, h.LoadAfter)
}

// of are the times of one operation in an arm, by round.
func (l *loaded) of(load, where, arm string) []float64 {
	out := make([]float64, 0, l.Rounds)
	for _, s := range l.sorted() {
		if s.Load == load && s.Where == where && s.Arm == arm {
			out = append(out, s.PerOp)
		}
	}
	return out
}

func (l *loaded) sorted() []benchSampled {
	return slices.SortedStableFunc(slices.Values(l.Samples), func(a, b benchSampled) int { return a.Round - b.Round })
}

// rate is how much passes in one arm for what passes in another: the ratio of times, turned over.
func (l *loaded) rate(load, where, arm, of string, rng *rand.Rand) measure.Ratio {
	return measure.Compare(l.of(load, where, arm), l.of(load, where, of), rng)
}

func loadText(load string) string {
	return map[string]string{loadRequests: "request and response on an established connection", loadConnections: "connect, request, response, close",
		loadStream: "throughput of one connection"}[load]
}

func (l *loaded) write(w io.Writer) {
	rng := rand.New(rand.NewPCG(l.Seed, 1))
	fmt.Fprint(w, "\n## Connections between pods\n")
	l.About.write(w)
	fmt.Fprintf(w, "n = %d rounds, samples of %v. In each round every arm is measured once, in an order that differs from round to round; for its arm\n"+
		"the agents are started, and stopped and cleaned up (`vigie cleanup`) after it. They run with their defaults as programs in the nodes' own\n"+
		"namespaces, as their container does. An arm is measured when its policies have been seen to be in force. On one node the node's agent\n"+
		"runs alone; across nodes there are two, and the one kernel bears both: each sees the system calls of all.\n"+
		"Policies come from the policy directory; that they select *these pods* means that all of them select the pods between which the load runs,\n"+
		"in both directions; *other pods*, that they select pods of another namespace on the same nodes.\n\n", l.Rounds, l.Sample)
	fmt.Fprint(w, "Ratios are of what passes, with their 95 % interval: the median of neighbours in one round.\n\n"+
		"| load | where | bar | without vigie | vigie watches | verdict |\n|---|---|---|---|---|---|\n")
	for _, load := range benchLoads() {
		bar := barEstablished
		if load == loadConnections {
			bar = barConnections
		}
		for _, where := range []string{oneNode, acrossNodes} {
			x := l.rate(load, where, armWatching, armWithout, rng)
			fmt.Fprintf(w, "| %s | %s | ≥ %.2f | %s | %s | %s |\n", loadText(load), where, bar, perOp(load, l.of(load, where, armWithout)), ratioText(x), atLeast(x, bar))
		}
	}
	fmt.Fprint(w, "\n### With policies\n\nOf what passes without vigie; flat is 5,000 policies of 10.\n\n| load | where | policies about | 10 | 1,000 | 5,000 | verdict | flat (≥ 0.97) | verdict |\n"+
		"|---|---|---|---|---|---|---|---|---|\n")
	for _, load := range benchLoads() {
		bar := barEstablished
		if load == loadConnections {
			bar = barConnections
		}
		for _, where := range []string{oneNode, acrossNodes} {
			for _, selected := range []bool{false, true} {
				l.policyRow(w, load, where, selected, bar, rng)
			}
		}
	}
	fmt.Fprint(w, "\nUntil policies are in force, from the start of the agent's process:")
	for _, name := range slices.Sorted(maps.Keys(l.InForce)) {
		times := make([]float64, len(l.InForce[name]))
		for i, d := range l.InForce[name] {
			times[i] = float64(d)
		}
		fmt.Fprintf(w, " %s %s;", name, durationText(measure.Median(times)))
	}
	fmt.Fprint(w, "\n\n### CPU of the agents\n\nMedian over the rounds, in one core, while the load ran; of both agents across nodes.\n\n| load | where | watches | ")
	fmt.Fprintln(w, strings.Join(armNames(), " | ")+" |\n|---|---|---|"+strings.Repeat("---|", len(armNames())))
	for _, load := range benchLoads() {
		for _, where := range []string{oneNode, acrossNodes} {
			fmt.Fprintf(w, "| %s | %s |", loadText(load), where)
			for _, name := range append([]string{armWatching}, armNames()...) {
				fmt.Fprintf(w, " %.2f |", l.agentShare(load, where, name))
			}
			fmt.Fprintln(w)
		}
	}
	l.writePrograms(w)
}

func armNames() []string { return []string{armName(5000, false), armName(5000, true)} }

func (l *loaded) policyRow(w io.Writer, load, where string, selected bool, bar float64, rng *rand.Rand) {
	about := map[bool]string{false: "other pods", true: "these pods"}[selected]
	fmt.Fprintf(w, "| %s | %s | %s |", loadText(load), where, about)
	var worst measure.Ratio
	for _, n := range policyCounts() {
		x := l.rate(load, where, armName(n, selected), armWithout, rng)
		if worst.N == 0 || x.Median < worst.Median {
			worst = x
		}
		fmt.Fprintf(w, " %s |", ratioText(x))
	}
	flat := l.rate(load, where, armName(5000, selected), armName(10, selected), rng)
	fmt.Fprintf(w, " %s | %s | %s |\n", atLeast(worst, bar), ratioText(flat), atLeast(flat, barFlat))
}

// agentShare is the agents' CPU in cores.
func (l *loaded) agentShare(load, where, arm string) float64 {
	var shares []float64
	for _, s := range l.Samples {
		if s.Load == load && s.Where == where && s.Arm == arm {
			shares = append(shares, s.Agent.Seconds()/s.For.Seconds())
		}
	}
	return measure.Median(shares)
}

func (l *loaded) writePrograms(w io.Writer) {
	if len(l.Programs) == 0 {
		return
	}
	fmt.Fprint(w, "\n### Where the time goes\n\nRun time of the agent's programs on one node, by the kernel's BPF statistics, in a run of its own because that measuring costs time itself.\n\n"+
		"| load | arm | program | runs an operation | time a run | time an operation |\n|---|---|---|---|---|---|\n")
	for _, p := range l.Programs {
		sum := time.Duration(0)
		for i, s := range p.Programs {
			each := s.Time / time.Duration(max(p.Count, 1))
			sum += each
			if i < 8 && each >= 10*time.Nanosecond {
				fmt.Fprintf(w, "| %s | %s | %s | %.2f | %s | %s |\n", p.Load, p.Arm, s.Name, float64(s.Runs)/float64(max(p.Count, 1)),
					durationText(float64(s.Time)/float64(max(s.Runs, 1))), durationText(float64(each)))
			}
		}
		fmt.Fprintf(w, "| %s | %s | *all* | | | %s |\n", p.Load, p.Arm, durationText(float64(sum)))
	}
}

func (c *changed) write(w io.Writer) {
	fmt.Fprint(w, "\n## A policy changes\n")
	c.About.write(w)
	fmt.Fprintf(w, "The cluster has %d NetworkPolicies, two nodes with an agent each. A policy is changed by a request to the API server; on each node a pod that it\n"+
		"selects sends a datagram every %v. The time runs from when the request begins to the first datagram that is treated otherwise, on the node where\n"+
		"that comes last.\n\n| change | n | API server's answer, median | in force on all nodes, median | most | bar | verdict |\n|---|---|---|---|---|---|---|\n", c.Policies, beatPace)
	for _, deny := range []bool{true, false} {
		var answered, all []float64
		for _, x := range c.Changes {
			if x.Deny == deny {
				answered, all = append(answered, float64(x.Answered)), append(all, float64(x.all()))
			}
		}
		verdict := "met"
		if measure.Quantile(all, 1) > float64(barChange) {
			verdict = fmt.Sprintf("**not met** by the worst, %.2f× the bar", measure.Quantile(all, 1)/float64(barChange))
		}
		if measure.Median(all) > float64(barChange) {
			verdict = fmt.Sprintf("**not met**, %.2f× the bar", measure.Median(all)/float64(barChange))
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | ≤ %v | %s |\n", map[bool]string{true: "denies", false: "allows again"}[deny], len(all), durationText(measure.Median(answered)),
			durationText(measure.Median(all)), durationText(measure.Quantile(all, 1)), barChange, verdict)
	}
}

func (s *scaled) write(w io.Writer) {
	fmt.Fprint(w, "\n## A large cluster\n")
	s.About.write(w)
	fmt.Fprintf(w, "%d nodes and %d pods of %d Deployments that kwok plays, beside one real node with the agent as `vigie install` puts it there.\n\n"+
		"| agent's resident memory | all | anonymous | of files (the binary) | highest so far | bar | verdict |\n|---|---|---|---|---|---|---|\n", s.Nodes, s.Pods, s.Nodes)
	for _, x := range []struct {
		what string
		memory
		barred bool
	}{{"without the fake nodes", s.Alone, false}, {"has seen all pods come", s.Settled, true}, {fmt.Sprintf("and %d NetworkPolicies", s.Policies), s.Policed, true},
		{"an agent that started and found all of it", s.Restarted, true}} {
		bar, verdict := "–", "stated"
		if x.barred {
			bar, verdict = fmt.Sprintf("≤ %d MiB", barMemory>>20), "met"
			if x.RSS > barMemory {
				verdict = fmt.Sprintf("**not met**, %.2f× the bar", float64(x.RSS)/barMemory)
			}
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", x.what, mibText(x.RSS), mibText(x.Anon), mibText(x.File), mibText(x.Peak), bar, verdict)
	}
	fmt.Fprintf(w, "\n### What one agent asks of the API server\n\nBy the API server's audit log. An agent that starts knows everything after %v, its container's start included.\n\n"+
		"| request | while the pods came (%v) | at the start of an agent | a minute, when nothing happens (%v) |\n|---|---|---|---|\n",
		s.Known.Round(100*time.Millisecond), s.Follow.For.Round(time.Second), s.Steady.For.Round(time.Second))
	all := maps.Clone(s.Follow.Requests)
	maps.Copy(all, s.Start.Requests)
	maps.Copy(all, s.Steady.Requests)
	sum := 0
	for _, what := range slices.Sorted(maps.Keys(all)) {
		sum += s.Steady.Requests[what]
		fmt.Fprintf(w, "| %s | %d | %d | %.2f |\n", what, s.Follow.Requests[what], s.Start.Requests[what], float64(s.Steady.Requests[what])/s.Steady.For.Minutes())
	}
	fmt.Fprintf(w, "| all | | | %.2f |\n| received | %s | %s | %s |\n\nOpen watches: ", float64(sum)/s.Steady.For.Minutes(), mibText(s.Follow.Bytes), mibText(s.Start.Bytes),
		mibText(uint64(float64(s.Steady.Bytes)/s.Steady.For.Minutes())))
	open := 0
	for i, resource := range slices.Sorted(maps.Keys(s.Open)) {
		if open += s.Open[resource]; i > 0 {
			fmt.Fprint(w, ", ")
		}
		fmt.Fprintf(w, "%s %d", resource, s.Open[resource])
	}
	fmt.Fprintf(w, "; %d in all.\n", open)
}

func perOp(load string, times []float64) string {
	if load == loadStream {
		return fmt.Sprintf("%.2f Gbit/s", 8/measure.Median(times))
	}
	return fmt.Sprintf("%s, %.0f/s", durationText(measure.Median(times)), 1e9/measure.Median(times))
}

func ratioText(r measure.Ratio) string {
	return fmt.Sprintf("%.3f (%.3f to %.3f)", r.Median, r.Low, r.High)
}

func atLeast(r measure.Ratio, bar float64) string {
	switch {
	case r.Low >= bar:
		return "met"
	case r.Median >= bar:
		return "met by the median; the interval reaches under the bar"
	case r.High >= bar:
		return "**not met** by the median; the interval reaches over the bar"
	}
	return "**not met**"
}

func durationText(ns float64) string {
	d := time.Duration(ns)
	for _, u := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= u {
			return fmt.Sprintf("%.3g %s", ns/float64(u), strings.TrimPrefix(u.String(), "1"))
		}
	}
	return fmt.Sprintf("%.0f ns", ns)
}

func mibText(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
