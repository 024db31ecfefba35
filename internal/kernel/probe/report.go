// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"slices"
	"strings"
)

// Report is what is known of a host after probing it.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// Privileged is false when this process may not ask the kernel: for want of capabilities, or in a
	// user namespace of its own. What stands in Ladder and Results is then about the process, not the kernel.
	Privileged bool      `json:"privileged"`
	Facts      Facts     `json:"facts"`
	Ladder     []Row     `json:"ladder"`
	Findings   []Finding `json:"findings"`
	Results    []Result  `json:"results"`
}

// Verdict says whether vigie can run here.
type Verdict string

// The verdicts.
const (
	Full     Verdict = "full"     // every job on its best rung
	Limited  Verdict = "limited"  // it runs; Findings say what is less than the best
	Unusable Verdict = "unusable" // it cannot start; the findings with severity "blocker" say why
)

// Finding is something about this host that a person should know: what it is, what it costs, and
// what to do about it.
type Finding struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Costs    string   `json:"costs"`
	Fix      string   `json:"fix,omitempty"` // empty when nothing is known to help
}

// Severity says how much a finding matters.
type Severity string

// The severities, worst first.
const (
	Blocker Severity = "blocker" // the agent cannot start
	Limit   Severity = "limit"   // the agent does less
	Note    Severity = "note"    // good to know
)

// newReport judges facts and results. It is pure.
func newReport(facts Facts, results []Result) *Report {
	byName := make(map[Feature]Result, len(results))
	for _, r := range results {
		byName[r.Name] = r
	}
	report := &Report{Facts: facts, Results: results, Ladder: climb(ladder(), byName)}
	report.Privileged = len(facts.Capabilities.Missing) == 0 && (!facts.UserNamespace || byName[Ringbuf].Works)
	report.Findings = slices.Concat([]Finding{}, blockers(report, byName), limits(report), notes(report))
	report.Verdict = Full
	for _, f := range report.Findings {
		switch {
		case f.Severity == Blocker:
			report.Verdict = Unusable
		case f.Severity == Limit && report.Verdict == Full:
			report.Verdict = Limited
		}
	}
	return report
}

// blockers are why the agent cannot start. Without the privilege to ask, the kernel's other answers
// mean nothing, and that is the only finding.
func blockers(r *Report, results map[Feature]Result) []Finding {
	f := &r.Facts
	const all = "vigie cannot start"
	if missing := f.Capabilities.Missing; len(missing) > 0 {
		return []Finding{{Blocker, "this process lacks " + strings.Join(missing, ", "), all,
			"use sudo (sudo vigie doctor) or give it these capabilities; `vigie run --replay FILE` needs none"}}
	}
	if !r.Privileged {
		return []Finding{{Blocker, "this process is in a user namespace of its own; its capabilities do not reach the kernel's BPF", all,
			"run it in the host's user namespace"}}
	}
	var list []Finding
	if !f.BTF {
		list = append(list, Finding{Blocker, "the kernel does not show its types in " + btfPath,
			all + ": its programs adapt themselves to the kernel by these types", "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"})
	}
	if ring := results[Ringbuf]; !ring.Works {
		list = append(list, Finding{Blocker, "no ring buffer: " + ring.Cause, all + ": events have no way out of the kernel", ring.Needs})
	}
	if row := r.row("see_processes"); row.InUse == 0 {
		list = append(list, Finding{Blocker, "processes cannot be seen: " + row.Rungs[len(row.Rungs)-1].Cause, all, row.Rungs[0].Needs})
	}
	return list
}

// limits tells for each cause which jobs it keeps from their best rung.
func limits(r *Report) []Finding {
	if !r.Privileged {
		return nil
	}
	type group struct {
		needs       string
		lower, none []string
	}
	groups := make(map[string]*group)
	var order []string
	for _, row := range r.Ladder {
		if row.InUse == 1 {
			continue
		}
		best := row.Rungs[0]
		g := groups[best.Cause]
		if g == nil {
			g = &group{needs: best.Needs}
			groups[best.Cause] = g
			order = append(order, best.Cause)
		}
		if row.InUse == 0 {
			g.none = append(g.none, row.Title)
		} else {
			g.lower = append(g.lower, row.Title)
		}
	}
	var list []Finding
	for _, cause := range order {
		g := groups[cause]
		var costs []string
		if len(g.none) > 0 {
			costs = append(costs, "not possible here: "+strings.Join(g.none, "; "))
		}
		if len(g.lower) > 0 {
			costs = append(costs, "on a lower rung: "+strings.Join(g.lower, "; "))
		}
		list = append(list, Finding{Limit, cause, strings.Join(costs, " — "), g.needs})
	}
	if r.Facts.JIT == "disabled" {
		list = append(list, Finding{Limit, "the kernel's BPF compiler is off", "vigie's programs are interpreted: every event costs several times more, and kernel functions cannot be called",
			"sysctl net.core.bpf_jit_enable=1"})
	}
	return list
}

// notes are what works less smoothly than it could.
func notes(r *Report) []Finding {
	if !r.Privileged {
		return nil
	}
	f := &r.Facts
	var list []Finding
	if f.BPFFS == "" {
		list = append(list, Finding{Note, "bpffs is not mounted", "programs cannot outlive the agent: an upgrade has a gap unless the agent may mount it",
			"mount -t bpf bpf /sys/fs/bpf"})
	}
	for _, c := range f.Capabilities.Useful {
		list = append(list, Finding{Note, "this process lacks " + c, without(c), "give it " + c})
	}
	return list
}

func (r *Report) row(name string) *Row {
	for i := range r.Ladder {
		if r.Ladder[i].Name == name {
			return &r.Ladder[i]
		}
	}
	return &Row{Rungs: []Rung{{}}}
}
