// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// healthy is a host on which nothing is missing.
func healthy() (Facts, []Result) {
	facts := Facts{Kernel: "6.12.0", BTF: true, JIT: "enabled", BPFFS: "/sys/fs/bpf"}
	var results []Result
	for _, name := range Features() {
		results = append(results, Result{Name: name, Works: true})
	}
	return facts, results
}

// breakAll makes every result fail whose name has one of the prefixes.
func breakAll(results []Result, cause, needs string, prefixes ...string) {
	for i := range results {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(string(results[i].Name), p) }) {
			results[i].Works, results[i].Cause, results[i].Needs = false, cause, needs
		}
	}
}

func TestFeatureNamesAreStableAndKnown(t *testing.T) {
	pattern := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := make(map[Feature]bool)
	for _, test := range tests() {
		if !pattern.MatchString(string(test.name)) || seen[test.name] {
			t.Errorf("%q is not a unique snake_case name", test.name)
		}
		seen[test.name] = true
		if test.kind == "" || test.about == "" || test.run == nil || len(test.caps) == 0 {
			t.Errorf("%s lacks a kind, a description, a test or its capabilities", test.name)
		}
	}
	for _, row := range ladder() {
		for _, rung := range row.Rungs {
			for _, name := range rung.Features {
				if !seen[name] {
					t.Errorf("rung %q of %s needs %s, which nothing tests", rung.Title, row.Name, name)
				}
			}
			for _, p := range rung.partial {
				if !seen[p.feature] {
					t.Errorf("rung %q of %s looks at %s, which nothing tests", rung.Title, row.Name, p.feature)
				}
			}
		}
	}
}

func TestHealthyHostIsOnEveryBestRung(t *testing.T) {
	report := newReport(healthy())
	if report.Verdict != Full || len(report.Findings) != 0 {
		t.Errorf("verdict %s, findings %+v", report.Verdict, report.Findings)
	}
	for _, row := range report.Ladder {
		if row.InUse != 1 || row.Guarantee != row.Rungs[0].Guarantee {
			t.Errorf("%s: rung %d, %q", row.Name, row.InUse, row.Guarantee)
		}
	}
}

func TestRefusedTrampolinesLowerTheLadder(t *testing.T) {
	facts, results := healthy()
	breakAll(results, "trampolines are refused", "another kernel", "lsm", "fmod_ret", "fentry")
	report := newReport(facts, results)
	for name, want := range map[string]struct {
		rung int
		is   Guarantee
	}{
		"see_processes":   {1, Seen},
		"see_files":       {3, Seen},
		"deny_exec":       {3, Denied},
		"deny_files":      {3, Denied},
		"deny_network":    {1, Denied},
		"deny_privileged": {3, KilledAfter},
	} {
		if row := report.row(name); row.InUse != want.rung || row.Guarantee != want.is {
			t.Errorf("%s: rung %d, %q; want %d, %q", name, row.InUse, row.Guarantee, want.rung, want.is)
		}
	}
	if report.Verdict != Limited || len(report.Findings) != 1 {
		t.Fatalf("verdict %s, findings %+v", report.Verdict, report.Findings)
	}
	f := report.Findings[0]
	if f.What != "trampolines are refused" || f.Fix != "another kernel" || !strings.Contains(f.Costs, "deny exec") ||
		strings.Contains(f.Costs, "deny connect") {
		t.Errorf("finding %+v", f)
	}

	breakAll(results, "no fanotify", "", "fanotify")
	report = newReport(facts, results)
	if row := report.row("deny_exec"); row.Guarantee != KilledBefore {
		t.Errorf("deny_exec without fanotify: %q", row.Guarantee)
	}
	if row := report.row("deny_files"); row.Guarantee != KilledAfter {
		t.Errorf("deny_files without fanotify: %q", row.Guarantee)
	}
}

func TestWithoutCgroup2TheNetworkIsNotAvailable(t *testing.T) {
	facts, results := healthy()
	breakAll(results, errNoCgroup2.Error(), "a mount", "cgroup_", "tcx", "bpf_sock_destroy")
	report := newReport(facts, results)
	for _, name := range []string{"see_sockets", "deny_network", "cut_open"} {
		if row := report.row(name); row.InUse != 0 || row.Guarantee != NotAvailable || row.Rung() != nil {
			t.Errorf("%s: rung %d, %q", name, row.InUse, row.Guarantee)
		}
	}
	if row := report.row("deny_exec"); row.InUse != 1 {
		t.Errorf("deny_exec: rung %d, which needs no cgroup", row.InUse)
	}
	if report.Verdict != Limited {
		t.Errorf("verdict %s", report.Verdict)
	}
}

func TestSeenOnlyWhenNothingDenies(t *testing.T) {
	facts, results := healthy()
	breakAll(results, "x", "", "lsm", "fmod_ret", "fanotify", "bpf_send_signal")
	report := newReport(facts, results)
	for _, name := range []string{"deny_exec", "deny_files", "deny_privileged"} {
		if row := report.row(name); row.InUse != 0 || row.Guarantee != SeenOnly {
			t.Errorf("%s: rung %d, %q", name, row.InUse, row.Guarantee)
		}
	}
}

func TestMissingPartIsALimitOfItsRung(t *testing.T) {
	facts, results := healthy()
	breakAll(results, "x", "", string(ConnectUnix))
	row := newReport(facts, results).row("deny_network")
	if row.InUse != 1 || len(row.Rung().Limits) != 1 {
		t.Errorf("rung %d with limits %q", row.InUse, row.Rung().Limits)
	}
}

func TestBlockers(t *testing.T) {
	for name, spoil := range map[string]func(*Facts, []Result){
		"no BTF": func(f *Facts, _ []Result) { f.BTF = false },
		"no ring buffer": func(_ *Facts, r []Result) {
			breakAll(r, "x", "", string(Ringbuf))
		},
		"no process events": func(_ *Facts, r []Result) {
			breakAll(r, "x", "", string(TPBTF), string(RawTP))
		},
		"no capability": func(f *Facts, r []Result) {
			f.Capabilities.Missing = []string{"CAP_BPF"}
			breakAll(r, "the agent lacks CAP_BPF", "CAP_BPF", "")
		},
		"user namespace": func(f *Facts, r []Result) {
			f.UserNamespace = true
			breakAll(r, "x", "", "")
		},
	} {
		facts, results := healthy()
		spoil(&facts, results)
		report := newReport(facts, results)
		if report.Verdict != Unusable || len(report.Findings) == 0 || report.Findings[0].Severity != Blocker {
			t.Errorf("%s: verdict %s, findings %+v", name, report.Verdict, report.Findings)
		}
		if name == "user namespace" && (report.Privileged || len(report.Findings) != 1) {
			t.Errorf("in a user namespace nothing else is worth saying: %+v", report.Findings)
		}
		if name == "no capability" && (len(report.Findings) != 1 || !strings.Contains(report.Findings[0].What, "CAP_BPF")) {
			t.Errorf("without a capability nothing else is worth saying: %+v", report.Findings)
		}
	}
}

func TestInterpretedProgramsAreALimit(t *testing.T) {
	facts, results := healthy()
	facts.JIT = "disabled"
	if report := newReport(facts, results); report.Verdict != Limited {
		t.Errorf("verdict %s", report.Verdict)
	}
}
