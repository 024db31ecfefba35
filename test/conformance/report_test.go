// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a file of results as the programs write it: a case that failed first, and a line that is cut off.
const sample = `{"name":"1 a","outcome":"failed","reason":"x/a to y/b, TCP/80: allowed | 1 < 2","seconds":2.5,"right":3,"wrong":1,"ignored":2,"tags":["egress"]}
{"name":"2 b","outcome":"failed","reason":"lost","seconds":1,"tags":["ingress"]}
{"name":"2 b","outcome":"passed","seconds":1.5,"right":4,"ignored":2,"retried":1,"firstTry":"step 1: late","tags":["egress","ingress"]}
{"name":"gone","outcome":"passed","seconds":1}
{"name":"4 d","outcome":"pas`

func ordered(t *testing.T) []Result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "results.jsonl")
	if err := os.WriteFile(file, []byte(sample), 0o644); err != nil {
		t.Fatal(err)
	}
	results, err := ReadResults(file)
	if err != nil {
		t.Fatal(err)
	}
	return Order([]string{"1 a", "2 b", "3 c [SCTP]", "4 d"}, results, func(name string) string {
		if strings.Contains(name, "SCTP") {
			return "no SCTP here"
		}
		return ""
	})
}

func TestResultsAreOrdered(t *testing.T) {
	var got []string
	for _, r := range ordered(t) {
		got = append(got, r.Name+": "+r.Outcome)
	}
	if want := "1 a: failed, 2 b: passed, 3 c [SCTP]: skipped, 4 d: not run"; strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if r := ordered(t)[1]; r.Runs != 2 || r.Failures != 1 {
		t.Errorf("2 b ran %d times and failed %d times before it passed, want 2 and 1", r.Runs, r.Failures)
	}
}

func TestNoResultsYet(t *testing.T) {
	results, err := ReadResults(filepath.Join(t.TempDir(), "none"))
	if err != nil || len(results) != 0 {
		t.Errorf("got %v, %v", results, err)
	}
}

func TestBrokenResultsNameTheLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.jsonl")
	if err := os.WriteFile(file, []byte("{\"name\":\"a\",\"outcome\":\"passed\"}\nnonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadResults(file); err == nil || !strings.Contains(err.Error(), "results.jsonl:2:") {
		t.Errorf("the error is %v", err)
	}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	suites := []Suite{{Name: "cyclonus", File: "cyclonus.xml", Results: ordered(t)}}
	if err := WriteReport(&b, []Fact{{"kernel", "6.18"}}, suites, func(string, string) string { return "" }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| kernel | 6.18 |",
		"| [cyclonus](cyclonus.xml) | 4 | 1 | 1 | 1 | 1 | 4s |",
		`| 1 a | x/a to y/b, TCP/80: allowed \| 1 &lt; 2 | **open** |`,
		"- 2 b (1 times)",
		"Skipped: no SCTP here:\n\n- 3 c [SCTP]\n",
		"Not run:\n\n- 4 d\n",
		"7 probes from pod to pod were as the suite's model says, 1 were not. 4 of a pod to itself were left aside. 1 steps",
		"| 2 b | step 1: late |",
		"| egress | 1 | 2 |",
		"| ingress | 1 | 1 |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "gone") {
		t.Error("the report has a case that the suite has not")
	}
}

func TestJUnit(t *testing.T) {
	var b strings.Builder
	if err := (Suite{Name: "cyclonus", Results: ordered(t)}).WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	var read junitSuite
	if err := xml.Unmarshal([]byte(b.String()), &read); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if read.Tests != 4 || read.Failures != 1 || read.Skipped != 2 || len(read.Cases) != 4 {
		t.Errorf("read back: %+v", read)
	}
	if f := read.Cases[0].Failure; f == nil || f.Message != "x/a to y/b, TCP/80: allowed | 1 < 2" {
		t.Errorf("the failure reads %+v", f)
	}
}
