// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// TestBenchPage makes the page of figures that are known: verdicts, ratios and sums are what they have to be.
func TestBenchPage(t *testing.T) {
	perOp := func(load, name string) float64 {
		switch {
		case name == armWithout:
			return 100_000
		case load == loadConnections:
			return 125_000 // 0.8 of what passes
		case name == armName(5000, true):
			return 200_000
		}
		return 101_000
	}
	pods := &loaded{Rounds: 3, Sample: time.Second, Seed: 1, InForce: map[string][]time.Duration{armName(10, false): {time.Second, 3 * time.Second, 2 * time.Second}},
		Programs: []benchPrograms{{Load: loadConnections, Arm: armWatching, Count: 10, Programs: []measure.RunStats{{Name: "vg_x", Runs: 40, Time: 20 * time.Microsecond}}}}}
	for round := range pods.Rounds {
		for _, a := range benchArms() {
			for _, load := range benchLoads() {
				for _, where := range []string{oneNode, acrossNodes} {
					pods.Samples = append(pods.Samples, benchSampled{Load: load, Where: where, Arm: a.name, Round: round, Count: 10, PerOp: perOp(load, a.name), Agent: 100 * time.Millisecond, For: time.Second})
				}
			}
		}
	}
	change := &changed{Policies: 5000, Changes: []change{
		{Deny: true, Answered: 5 * time.Millisecond, Nodes: map[string]time.Duration{"n1": 90 * time.Millisecond, "n2": 120 * time.Millisecond}},
		{Deny: false, Answered: 7 * time.Millisecond, Nodes: map[string]time.Duration{"n1": 600 * time.Millisecond, "n2": 20 * time.Millisecond}}}}
	scale := &scaled{Nodes: 1000, Pods: 10_000, Policies: 1000, Settled: memory{RSS: 149 << 20}, Policed: memory{RSS: 300 << 20}, Open: map[string]int{"pods": 2, "nodes": 1},
		Follow: apiLoad{For: time.Minute, Requests: map[string]int{"watch pods": 2}}, Steady: apiLoad{For: 2 * time.Minute, Requests: map[string]int{"watch nodes": 1}, Bytes: 4 << 20}}
	var page strings.Builder
	(&benchResults{Pods: pods, Change: change, Scale: scale}).write(&page)
	for _, want := range []string{
		"| request and response on an established connection | one node | ≥ 0.97 | 100 µs, 10000/s | 0.990 (0.990 to 0.990) | met |",
		"| connect, request, response, close | across nodes | ≥ 0.90 | 100 µs, 10000/s | 0.800 (0.800 to 0.800) | **not met** |",
		"| request and response on an established connection | one node | these pods | 0.990 (0.990 to 0.990) | 0.990 (0.990 to 0.990) | 0.500 (0.500 to 0.500) | **not met** | 0.505 (0.505 to 0.505) | **not met** |",
		"10 policies about other pods 2 s;",
		"| throughput of one connection | one node | 0.10 | 0.10 | 0.10 |",
		"| crr | vigie watches | vg_x | 4.00 | 500 ns | 2 µs |",
		"| denies | 1 | 5 ms | 120 ms | 120 ms | ≤ 500ms | met |",
		"| allows again | 1 | 7 ms | 600 ms | 600 ms | ≤ 500ms | **not met**, 1.20× the bar |",
		"| has seen all pods come | 149.0 MiB | 0.0 MiB | 0.0 MiB | 0.0 MiB | ≤ 150 MiB | met |",
		"| and 1000 NetworkPolicies | 300.0 MiB | 0.0 MiB | 0.0 MiB | 0.0 MiB | ≤ 150 MiB | **not met**, 2.00× the bar |",
		"| watch nodes | 0 | 0 | 0.50 |", "| received | 0.0 MiB | 0.0 MiB | 2.0 MiB |", "Open watches: nodes 1, pods 2; 3 in all.",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page has no line\n%s", want)
		}
	}
	if t.Failed() {
		t.Logf("the page:\n%s", page.String())
	}
}
