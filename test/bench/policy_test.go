// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/policy"
)

// tables are compiled from policies as they are handed to the agent.
func tables(t *testing.T, sets ...ruleSet) []*policy.Table {
	t.Helper()
	parsed, err := policy.Parse("test", []byte(documents(sets)))
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed) != len(sets) {
		t.Fatalf("%d policies of %d", len(parsed), len(sets))
	}
	var out []*policy.Table
	for _, p := range parsed {
		table, err := policy.Compile(p, policy.Env{})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, table)
	}
	return out
}

func testFiles(n int) *files {
	f := &files{dir: "/f", open: "/f/open"}
	for i := range n {
		f.denied = append(f.denied, fmt.Sprintf("/f/denied-%04d", i))
	}
	return f
}

func TestPoliciesOfManyRules(t *testing.T) {
	b, f := &bench{worker: "/w", options: &options{}}, testFiles(manyRules+1)
	texts := b.alternating("bench", f)
	for name, x := range map[string]struct {
		set   ruleSet
		rules int
	}{"few": {b.policyOf(fewRules, f), 2 * fewRules}, "many": {b.policyOf(manyRules, f), 2 * manyRules}} {
		p := tables(t, x.set)[0]
		if got := len(p.Policy.Files.Deny) + len(p.Policy.Network.Egress.Deny); got != x.rules {
			t.Errorf("%s: %d rules, want %d", name, got, x.rules)
		}
		if p.Policy.Selector.Binary != "/w" || p.Mode != policy.Enforce {
			t.Errorf("%s: selects %+v in mode %s", name, p.Policy.Selector, p.Mode)
		}
		for path, want := range map[string]policy.Action{f.open: policy.ActAllow, f.denied[0]: policy.ActDeny, f.denied[fewRules-1]: policy.ActDeny} {
			if got := p.File(policy.Read, path, 0).Action(); got != want {
				t.Errorf("%s: reading %s: %v, want %v", name, path, got, want)
			}
		}
		for host, want := range map[string]policy.Action{"127.0.0.1": policy.ActAllow, deniedHost: policy.ActDeny, "10.0.0.77": policy.ActDeny} {
			if got := connecting(p, host); got != want {
				t.Errorf("%s: connecting to %s: %v, want %v", name, host, got, want)
			}
		}
	}
	for i, want := range []policy.Action{policy.ActDeny, policy.ActAllow} {
		parsed, err := policy.Parse("test", []byte(texts[i]))
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Compile(parsed[0], policy.Env{})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Policy.Files.Deny) != manyRules || len(p.Policy.Network.Egress.Deny) != manyRules {
			t.Errorf("policy %d has %d and %d rules", i, len(p.Policy.Files.Deny), len(p.Policy.Network.Egress.Deny))
		}
		if got := p.File(policy.Read, f.denied[0], 0).Action(); got != want {
			t.Errorf("policy %d: the watched file: %v, want %v", i, got, want)
		}
		if got := connecting(p, deniedHost); got != want {
			t.Errorf("policy %d: the watched address: %v, want %v", i, got, want)
		}
	}
}

func connecting(p *policy.Table, host string) policy.Action {
	return p.Net(policy.Egress, 6, netip.MustParseAddr(host), 80, 0, nil, nil).Action()
}

func TestAnAllowListAllowsLoopbackOnly(t *testing.T) {
	p := tables(t, ruleSet{Name: "a", Binary: "/w", Allowed: append(deniedNetworks(10), "127.0.0.1")})[0]
	if got := connecting(p, "127.0.0.1"); got != policy.ActAllow {
		t.Errorf("connecting to a name that is listed: %v", got)
	}
	if got := connecting(p, deniedHost); got != policy.ActDeny {
		t.Errorf("connecting to an address that is not listed: %v", got)
	}
}

func TestDeniedNetworksAreApart(t *testing.T) {
	var all []netip.Prefix
	for _, text := range deniedNetworks(manyRules) {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Masked() != p {
			t.Fatalf("%s is no network: %v", text, err)
		}
		for _, other := range all {
			if p.Overlaps(other) {
				t.Fatalf("%v overlaps %v", p, other)
			}
		}
		if p.Addr().IsLoopback() {
			t.Fatalf("%v is of loopback", p)
		}
		all = append(all, p)
	}
}

func TestEachWorkloadIsUnderFivePolicies(t *testing.T) {
	u := &units{slice: "/c/x.slice", n: 300}
	sets := workloadPolicies(u, testFiles(fewRules))
	if len(sets) != u.n+shared {
		t.Fatalf("%d policies, want %d", len(sets), u.n+shared)
	}
	all := tables(t, sets...)
	own := make(map[string]bool)
	for i := range u.n {
		p := all[i]
		if got := p.Policy.Selector.Unit; got != filepath.Base(u.dir(i)) {
			t.Errorf("policy %d selects %q", i, got)
		}
		if host := ownHost(i); own[host] || connecting(p, host) != policy.ActDeny {
			t.Errorf("policy %d and %s: denied elsewhere %v, here %v", i, host, own[host], connecting(p, host))
		}
		own[ownHost(i)] = true
	}
	for _, p := range all[u.n:] {
		if p.Policy.Selector.Unit != "vigie-bench-*.service" {
			t.Errorf("a shared policy selects %q", p.Policy.Selector.Unit)
		}
	}
}

func TestDistribution(t *testing.T) {
	c := newCalls()
	for i := range 1000 {
		c.add(time.Duration(1000 - i))
	}
	d := c.distribution()
	want := distribution{N: 1000, Least: 1, Median: 500, P90: 900, P99: 990, P999: 999, Most: 1000, Clock: d.Clock}
	if *d != want {
		t.Errorf("distribution = %+v, want %+v", *d, want)
	}
	if newCalls().distribution() != nil || (*calls)(nil).distribution() != nil {
		t.Error("a distribution of no calls")
	}
}

func TestTimedSteps(t *testing.T) {
	dir := t.TempDir()
	if err := makeFiles(dir, 1); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file-0000")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, j := range []job{
		{kind: "timed open", target: file, count: 20},
		{kind: "timed connect", count: 20},
		{kind: "timed datagram", count: 20},
		{kind: "timed wake", count: 20},
	} {
		t.Run(j.kind, func(t *testing.T) {
			step, finish, err := j.prepare(nil)
			if err != nil {
				t.Fatal(err)
			}
			d, err := j.loop(step)
			finish()
			if err != nil {
				t.Fatal(err)
			}
			if d.Calls == nil || d.Calls.N != j.count || d.Calls.Median <= 0 {
				t.Errorf("did %+v, calls %+v", d, d.Calls)
			}
		})
	}
	for kind, target := range map[string]string{"timed open": dir + "/none", "timed denial": file} {
		j := job{kind: kind, target: target, count: 1}
		step, finish, err := j.prepare(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.loop(step); err == nil {
			t.Errorf("%s of %s ended as nobody expects, without an error", kind, target)
		}
		finish()
	}
}

func TestAWatcherTellsChangesAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	j := job{kind: "watch", target: file + " 127.0.0.1", out: &out}
	step, finish, err := j.prepare(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer finish()
	for range 3 {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if out.Len() > 0 {
		t.Errorf("told of %s, and nothing is denied", out.String())
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := step(); err == nil {
		t.Error("a file that is not there counts as allowed or denied")
	}
}

func TestRungsByArm(t *testing.T) {
	var r results
	r.noteRungs(&pb.Policy{Rules: []*pb.PolicyRule{{Field: "files.deny[0]", Rung: "lsm", Guarantee: "g"}, {Field: "files.deny[1]", Rung: "lsm", Guarantee: "g"},
		{Field: "spec.network.egress.deny[0]", Rung: "cgroup", Guarantee: "h"}, {Field: "files.allow[0]"}}}, "arm")
	if got := fmt.Sprint(r.Rungs); got != "map[files.deny, arm:lsm (g) network.egress.deny, arm:cgroup (h)]" {
		t.Errorf("rungs = %s", got)
	}
}

func TestDifferenceRow(t *testing.T) {
	us := func(n ...float64) []float64 {
		for i := range n {
			n[i] *= 1000
		}
		return n
	}
	for _, tc := range []struct {
		with     []float64
		measured string
		verdict  string
	}{
		{us(11, 21, 31), "1.00 µs (1.00 µs to 1.00 µs)", "met"},
		{us(9, 19, 29), "−1.00 µs (−1.00 µs to −1.00 µs)", "met"},
		{us(14, 24, 34), "4.00 µs (4.00 µs to 4.00 µs)", "**not met**, 2.00× the bar"},
		{us(11, 21, 39), "1.00 µs (1.00 µs to 9.00 µs)", "met by the median; the interval reaches over the bar"},
		{us(11, 24, 34), "4.00 µs (1.00 µs to 4.00 µs)", "**not met** by the median, 2.00× the bar; the interval reaches under the bar"},
	} {
		got := differenceRow("x", 2*time.Microsecond, us(10, 20, 30), tc.with, seeded())
		if got.measured != tc.measured || got.verdict != tc.verdict {
			t.Errorf("%v: %q, %q; want %q, %q", tc.with, got.measured, got.verdict, tc.measured, tc.verdict)
		}
	}
}

// somePolicyResults are of a run in which policies of many rules double the time of a call.
func somePolicyResults() *results {
	r := &results{N: 3, Sample: time.Second, Rungs: map[string]string{"files.deny, " + manyArm: "fanotify OPEN_PERM (denied before it happens)",
		"files.deny, " + rungArm: "fanotify OPEN_PERM (denied before it happens)"}}
	add := func(load, arm string, t time.Duration, round int) {
		r.Policies = append(r.Policies, sample{Load: load, Arm: arm, Round: round, PerOp: 9 * t, AgentCPU: 7 * time.Microsecond,
			done: done{Count: 1, Calls: &distribution{Median: t, P90: 2 * t, P99: 3 * t, P999: 4 * t, Least: t / 2, Most: 9 * t, Clock: 40}}})
	}
	for round := range 3 {
		for i, arm := range []string{noPolicy, fewArm, manyArm} {
			for _, load := range []string{loadOpen, loadConnect, loadDatagram} {
				add(load, arm, time.Duration(1<<i)*10*time.Microsecond, round)
			}
		}
		add(loadConnect, allowArm, 20*time.Microsecond, round)
		add(loadAsked, noPolicy, 2*time.Microsecond, round)
		add(loadWake, noPolicy, 30*time.Microsecond, round)
		add(loadAsked, rungArm, 40*time.Microsecond, round)
		add(loadRefused, rungArm, 50*time.Microsecond, round)
		add(loadOthers, noPolicy, 20*time.Microsecond, round)
		add(loadOthers, strangeArm, 21*time.Microsecond, round)
	}
	ms := time.Millisecond
	r.Applied = []applied{{First: takenEffect{300 * ms, 200 * ms, 250 * ms, 150 * ms}, Later: []takenEffect{{20 * ms, 30 * ms, 25 * ms, 12 * ms}, {10 * ms, 10 * ms, 9 * ms, 8 * ms}},
		Files: []takenEffect{{120 * ms, 90 * ms, 0, 9 * ms}}}}
	r.Populated = &populated{Workloads: 10_000, Policies: 10_004, Rules: 40_016, Before: footprint{RSS: 50 << 20, Maps: 20 << 20},
		After: footprint{RSS: 150 << 20, Maps: 60 << 20, Peak: 180 << 20, CPU: 0.25}, ReadyBefore: time.Second, ReadyAfter: 5 * time.Second,
		CPUBefore: 500 * ms, CPUAfter: 3 * time.Second}
	return r
}

func TestPolicyReport(t *testing.T) {
	r := somePolicyResults()
	var page bytes.Buffer
	r.report(&page, seeded())
	for _, want := range []string{
		"| open of a file that is allowed, beside denied ones: 1,000 + 1,000 rules to 10 + 10 rules | ≤ 1.10× | 2.000 (2.000 to 2.000) | **not met**, 81.8 % over |",
		"| connect, TCP on loopback: allow list of 1,000 to 10 + 10 rules | ≤ 1.10× | 1.000 (1.000 to 1.000) | met |",
		"The call takes 10.0 µs with no policy, 20.0 µs under 10 + 10 rules and 40.0 µs under 1,000 + 1,000 rules. It is carried by fanotify OPEN_PERM (denied before it happens). Asking is two wake-ups",
		"| added to a connect, UDP, by 1,000 + 1,000 rules | ≤ 2.00 µs | 30.0 µs (30.0 µs to 30.0 µs) | **not met**, 15.00× the bar |",
		"median 10.0 µs, 90 % 20.0 µs, 99 % 30.0 µs, 99.9 % 40.0 µs with no policy; 40.0 µs, 80.0 µs, 120 µs, 160 µs under it",
		"| open that is allowed, by the lowest rung that is synchronous: fanotify OPEN_PERM (denied before it happens) | – | 40.0 µs against 2.00 µs without a policy, 20.000 (20.000 to 20.000) | stated |",
		"| open that is denied, by the lowest rung that is synchronous: fanotify OPEN_PERM (denied before it happens) | – | 50.0 µs against 2.00 µs",
		"which is two as well, takes 30.0 µs here. The agent uses 7.00 µs of CPU to answer.",
		"| connect, TCP on loopback, by a process under no policy: a policy about others to none | – | 1.050 (1.050 to 1.050) | stated |",
		"The API answers after 17.0 ms. The agent uses 10.0 ms of CPU for a change.",
		"only when a policy needs them: 150 ms of CPU.",
		", by the API | ≤ 100 ms | median 20.0 ms, most 30.0 ms (n = 2) | met |",
		", by a file of the policy directory | ≤ 100 ms | median 120 ms, most 120 ms (n = 1) | **not met**, 1.20× the bar |",
		"| the same for the first policy after the agent's start | – | median 300 ms, most 300 ms (n = 1) | stated |",
		"| memory with 10000 workloads under 5 policies each: resident and BPF maps | ≤ 200.0 MiB | 150.0 MiB + 60.0 MiB = 210.0 MiB, of which the policies take 140.0 MiB; peak resident 180.0 MiB | **not met**, 1.05× the bar |",
		"in force 5.00 s after the agent's start, which takes 1.00 s without; until then it uses 3.00 s of CPU, 500 ms without. Then it uses 25.0 % of one core, 0.0 % without.",
		"| connect, UDP | no policy | 5.00 µs | 10.0 µs | 20.0 µs | 30.0 µs | 40.0 µs | 90.0 µs | 7.00 µs |",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(page.String())
	}
	if _, err := json.Marshal(r); err != nil {
		t.Errorf("the raw file: %v", err)
	}
}
