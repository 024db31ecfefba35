// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// flowRows are the bars of flows.
func (r *results) flowRows(rng *rand.Rand) []row {
	var out []row
	for _, target := range flowLoads() {
		base, with := ofArm(r.Flows, "flow "+target, flowsOff, wall), ofArm(r.Flows, "flow "+target, flowsOn, wall)
		if len(base) == 0 || len(with) == 0 {
			continue
		}
		x := ratioRow(fmt.Sprintf("TCP %s with flows, of without (n = %d)", flowName(target), min(len(base), len(with))), 1/barFlow, measure.Compare(base, with, rng))
		x.bar = fmt.Sprintf("≥ %.2f of what passes: ≤ %.3f× the time", barFlow, 1/barFlow)
		out = append(out, x)
	}
	if x := r.Flowed; x != nil {
		out = append(out, x.row())
	}
	if x := r.FlowTable; x != nil {
		out = append(out, row{what: fmt.Sprintf("resident memory of %d open flows, each with both ends", x.Flows), bar: "≤ " + mib(barFlowMemory),
			measured: mib(x.Bytes), verdict: under(float64(x.Bytes), barFlowMemory),
			bound: fmt.Sprintf("The table alone, in a process of its own: %d bytes a flow, garbage of the collector included; taking in both ends takes %s.",
				x.Bytes/uint64(max(x.Flows, 1)), short(x.Each))})
	}
	return out
}

func flowName(target string) string {
	return map[string]string{"rr lo": "request and response over loopback", "rr veth": "request and response over a pair of devices",
		"stream lo": "stream over loopback", "stream veth": "stream over a pair of devices"}[target]
}

func (x *flowed) row() row {
	least, both, told, lost := x.Made, x.Made, 0, uint64(0)
	for _, f := range x.Followers {
		least, both = min(least, f.Flows), min(both, f.Both)
		lost += f.Lost
		if f.Flows+int(f.Lost) == x.Made {
			told++
		}
	}
	out := row{what: fmt.Sprintf("%d short connections at %.0f/s, %d followers of flows", x.Made, x.Rate, len(x.Followers)), bar: "each gets every flow, or is told its loss",
		measured: fmt.Sprintf("%d of %d: the one with least got %d, %d of them with both processes; %d lost and told; agent: %s", told, len(x.Followers), least, both, lost,
			(&tally{Losses: x.Losses}).lost()), verdict: "met"}
	if told < len(x.Followers) || !noLoss(x.Losses) {
		out.verdict = "**not met**"
	}
	return out
}
