// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Fact is a line of what was tested, on what.
type Fact struct{ Name, Value string }

// WriteReport writes the page. explain says of a case that failed why that is no fault of vigie, or nothing.
func WriteReport(w io.Writer, facts []Fact, suites []Suite, explain func(suite, name string) string) error {
	var b strings.Builder
	b.WriteString("# Conformance: the results\n\nWritten by `make test-conformance`; do not edit. [How it is run, and what is left out](README.md).\n\n| | |\n|---|---|\n")
	for _, f := range facts {
		fmt.Fprintf(&b, "| %s | %s |\n", f.Name, cell(f.Value))
	}
	b.WriteString("\n| suite | cases | passed | failed | skipped | not run | time |\n|---|---|---|---|---|---|---|\n")
	for _, s := range suites {
		fmt.Fprintf(&b, "| [%s](%s) | %d | %d | %d | %d | %d | %v |\n", s.Name, s.File, len(s.Results), Count(s.Results, Passed), Count(s.Results, Failed),
			Count(s.Results, Skipped), Count(s.Results, NotRun), taken(s.Results))
	}
	for _, s := range suites {
		fmt.Fprintf(&b, "\n## %s\n", s.Name)
		s.failures(&b, explain)
		s.others(&b)
		s.probes(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s Suite) failures(b *strings.Builder, explain func(suite, name string) string) {
	if Count(s.Results, Failed) == 0 {
		b.WriteString("\nNothing failed.\n")
	} else {
		b.WriteString("\n| failed | what was seen | why |\n|---|---|---|\n")
	}
	again := 0
	for _, r := range s.Results {
		if r.Outcome == Failed {
			why := explain(s.Name, r.Name)
			if why == "" {
				why = "**open**"
			}
			fmt.Fprintf(b, "| %s | %s | %s |\n", cell(r.Name), cell(r.Reason), cell(why))
		}
		if r.Outcome == Passed && r.Failures > 0 {
			again++
		}
	}
	if again == 0 {
		return
	}
	b.WriteString("\nThese passed in the end and had failed before, with the same binary:\n\n")
	for _, r := range s.Results {
		if r.Outcome == Passed && r.Failures > 0 {
			fmt.Fprintf(b, "- %s (%d times)\n", r.Name, r.Failures)
		}
	}
}

// others lists what did not run, by reason.
func (s Suite) others(b *strings.Builder) {
	by := map[string][]string{}
	for _, r := range s.Results {
		switch r.Outcome {
		case Skipped:
			by["Skipped: "+strings.Join(strings.Fields(r.Reason), " ")] = append(by["Skipped: "+strings.Join(strings.Fields(r.Reason), " ")], r.Name)
		case NotRun:
			by["Not run"] = append(by["Not run"], r.Name)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(by)) {
		fmt.Fprintf(b, "\n%s:\n\n", why)
		for _, name := range by[why] {
			fmt.Fprintf(b, "- %s\n", name)
		}
	}
}

// probes adds up the probes of a suite that tells them, and its cases by their tags.
func (s Suite) probes(b *strings.Builder) {
	var right, wrong, ignored, retried int
	ran, passed := map[string]int{}, map[string]int{}
	for _, r := range s.Results {
		right, wrong, ignored, retried = right+r.Right, wrong+r.Wrong, ignored+r.Ignored, retried+r.Retried
		for _, tag := range r.Tags {
			ran[tag]++
			if r.Outcome == Passed {
				passed[tag]++
			}
		}
	}
	if len(ran) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%d probes from pod to pod were as the suite's model says, %d were not. %d of a pod to itself were left aside. %d steps were right at the second try only%s\n",
		right, wrong, ignored, retried, map[bool]string{true: ":", false: "."}[retried > 0])
	if retried > 0 {
		b.WriteString("\n| case | wrong at the first try |\n|---|---|\n")
	}
	for _, r := range s.Results {
		if r.Retried > 0 {
			fmt.Fprintf(b, "| %s | %s |\n", cell(r.Name), cell(r.FirstTry))
		}
	}
	b.WriteString("\n| tag | passed | ran |\n|---|---|---|\n")
	for _, tag := range slices.Sorted(maps.Keys(ran)) {
		fmt.Fprintf(b, "| %s | %d | %d |\n", tag, passed[tag], ran[tag])
	}
}

func taken(results []Result) time.Duration {
	var sum float64
	for _, r := range results {
		sum += r.Seconds
	}
	return time.Duration(sum * float64(time.Second)).Round(time.Second)
}

// cell is a text that does not break its table.
func cell(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const most = 600
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + " …"
	}
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s)
}

type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"` // seconds
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Time    string        `xml:"time,attr"` // seconds
		Failure *junitMessage `xml:"failure"`
		Skipped *junitMessage `xml:"skipped"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
	}
)

// WriteJUnit writes the results as the JUnit XML that CI systems read (https://github.com/testmoapp/junitxml). What did not run is skipped.
func (s Suite) WriteJUnit(w io.Writer) error {
	suite := junitSuite{Name: s.Name, Tests: len(s.Results), Failures: Count(s.Results, Failed), Skipped: Count(s.Results, Skipped) + Count(s.Results, NotRun),
		Time: fmt.Sprintf("%.1f", taken(s.Results).Seconds())}
	for _, r := range s.Results {
		c := junitCase{Name: r.Name, Class: s.Name, Time: fmt.Sprintf("%.1f", r.Seconds)}
		switch r.Outcome {
		case Failed:
			c.Failure = &junitMessage{r.Reason}
		case Skipped:
			c.Skipped = &junitMessage{r.Reason}
		case NotRun:
			c.Skipped = &junitMessage{NotRun}
		}
		suite.Cases = append(suite.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "\t")
	if err := e.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
