// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

const passing = `[    1.0] Linux says something
@vm boot 6.1.0-56-cloud-amd64 lsm=landlock,bpf
@vm begin example.org/a
=== RUN   TestOne
--- PASS: TestOne (0.38s)
=== RUN   TestTwo
    a_test.go:9: missing on this host: fprobe
--- SKIP: TestTwo (0.00s)
PASS
@vm end example.org/a 0
@vm done
`

func read(console string) *report {
	r := &report{}
	for line := range strings.Lines(console) {
		r.line(line)
	}
	return r
}

func TestReportOfAPassingRun(t *testing.T) {
	// A serial console ends lines with CR LF.
	r := read(strings.ReplaceAll(passing, "\n", "\r\n"))
	if err := r.verdict(1); err != nil {
		t.Errorf("verdict: %v", err)
	}
	if r.passed != 1 {
		t.Errorf("passed = %d, want 1", r.passed)
	}
	want := []skip{{"example.org/a.TestTwo", "a_test.go:9: missing on this host: fprobe"}}
	if !slices.Equal(r.skipped, want) {
		t.Errorf("skipped = %v, want %v", r.skipped, want)
	}
}

func TestVerdictNeedsProof(t *testing.T) {
	for _, tc := range []struct{ name, old, new, want string }{
		{"a failed package", "a 0\n", "a 1\n", "failed: example.org/a"},
		{"a package that did not end", "@vm end example.org/a 0\n", "", "did not end"},
		{"a guest that did not boot", passing, "Kernel panic\n", "did not reach"},
		{"a guest that stopped early", "@vm done\n", "", "stopped after 1 of 1"},
		{"a package too few", "@vm begin example.org/a\n", "@vm gone\n", "stopped after 0 of 1"},
		{"nothing that passed", "--- PASS", "--- NONE", "no test passed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			console := strings.Replace(passing, tc.old, tc.new, 1)
			if console == passing {
				t.Fatalf("%q is not in the console", tc.old)
			}
			err := read(console).verdict(1)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("verdict = %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestMarkBehindOtherOutput(t *testing.T) {
	console := strings.Replace(passing, "PASS\n@vm end", "PASS[    2.0] late kernel line @vm end", 1)
	if err := read(console).verdict(1); err != nil {
		t.Errorf("verdict: %v", err)
	}
}
