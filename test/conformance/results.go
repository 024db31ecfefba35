// SPDX-License-Identifier: Apache-2.0

// Package conformance runs the network-policy suites of others against vigie in a real cluster, from outside: what cyclonus generates,
// and Kubernetes' own NetworkPolicy specs. `make test-conformance` boots the cluster of test/cluster, installs vigie with its own
// command, runs the programs of test/cluster/tools/cyclonus and …/e2e, and writes docs/conformance. In: those programs' results, a
// line of JSON a case. Out: a page for people, and JUnit XML. What has been seen for one binary of vigie is kept in the user's cache, so
// that a run that was interrupted goes on.
package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Outcomes of a case.
const (
	Passed  = "passed"
	Failed  = "failed"
	Skipped = "skipped"
	NotRun  = "not run" // of a case that the suite has and of which there is no result
)

// Result is what became of a case.
type Result struct {
	Name    string   `json:"name"`
	Outcome string   `json:"outcome"`
	Reason  string   `json:"reason,omitempty"` // why it did not pass
	Seconds float64  `json:"seconds"`
	Tags    []string `json:"tags,omitempty"`
	// Probes of cyclonus: those as its model says and those not, and those of a pod to itself, which are left aside.
	Right   int `json:"right,omitempty"`
	Wrong   int `json:"wrong,omitempty"`
	Ignored int `json:"ignored,omitempty"`
	// Retried counts steps that were right at the second try only; FirstTry is what was wrong of them at the first.
	Retried  int    `json:"retried,omitempty"`
	FirstTry string `json:"firstTry,omitempty"`
	// Runs counts the results of the case, this one included, and Failures those before it that were failures.
	Runs, Failures int `json:"-"`
}

// ReadResults reads a file of results, one a line; the last of a name counts. That there is no file is no error: there are no results.
func ReadResults(file string) (map[string]Result, error) {
	results := map[string]Result{}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return results, nil
	}
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		// Whoever wrote it was ended meanwhile: the case counts as not run.
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var r Result
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		before := results[r.Name]
		r.Runs, r.Failures = before.Runs+1, before.Failures
		if before.Outcome == Failed {
			r.Failures++
		}
		results[r.Name] = r
	}
	return results, nil
}

// Suite is one of the suites with what is known of it.
type Suite struct {
	Name    string // in the report
	File    string // of its JUnit XML, without folder
	Results []Result
}

// Order puts results into the order of the suite's cases; those without one are not run. A result of a case that the suite has not is left
// out. excused says why a case is not run on purpose, or nothing.
func Order(cases []string, results map[string]Result, excused func(name string) string) []Result {
	list := make([]Result, len(cases))
	for i, name := range cases {
		r, ok := results[name]
		if !ok {
			r = Result{Name: name, Outcome: NotRun}
			if why := excused(name); why != "" {
				r.Outcome, r.Reason = Skipped, why
			}
		}
		list[i] = r
	}
	return list
}

// Count says how many results have an outcome.
func Count(results []Result, outcome string) int {
	n := 0
	for _, r := range results {
		if r.Outcome == outcome {
			n++
		}
	}
	return n
}
