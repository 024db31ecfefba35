// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/scan"
)

// The parts of JUnit XML that CI systems agree on: a suite a control, a case a finding, or one case that holds.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string       `xml:"name,attr"`
		ClassName string       `xml:"classname,attr"`
		File      string       `xml:"file,attr,omitempty"`
		Line      int          `xml:"line,attr,omitempty"`
		Failure   *junitDetail `xml:"failure"`
		Error     *junitDetail `xml:"error"`
	}
	junitDetail struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes the report as test results.
func JUnit(w io.Writer, r *scan.Report) error {
	all := junitSuites{Name: "vigie scan"}
	byControl := map[string][]scan.Finding{}
	for _, f := range r.Findings {
		byControl[f.Control] = append(byControl[f.Control], f)
	}
	for i, c := range r.Controls {
		tally := r.Tallies[i]
		if tally.Passed+tally.Failed+tally.Unevaluated == 0 {
			continue
		}
		suite := junitSuite{Name: c.ID}
		for _, f := range byControl[c.ID] {
			suite.Failures++
			suite.Cases = append(suite.Cases, junitCase{Name: c.Title + ": " + f.Object.String(), ClassName: "vigie." + c.ID, File: f.File, Line: f.Line,
				Failure: &junitDetail{Message: printable(f.Message), Type: string(f.Severity),
					Text: printable(fmt.Sprintf("%s:%d:%d %s\n%s\n%s", f.File, f.Line, f.Column, f.Path, c.Why, c.Remediation))}})
		}
		for _, p := range r.Problems {
			if p.Control == c.ID {
				suite.Errors++
				suite.Cases = append(suite.Cases, problemCase(p))
			}
		}
		if len(suite.Cases) == 0 {
			suite.Cases = []junitCase{{Name: c.Title, ClassName: "vigie." + c.ID}}
		}
		all.add(suite)
	}
	broken := junitSuite{Name: "manifests"}
	for _, p := range r.Problems {
		if p.Control == "" && !p.Note {
			broken.Errors++
			broken.Cases = append(broken.Cases, problemCase(p))
		}
	}
	if len(broken.Cases) > 0 {
		all.add(broken)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", " ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (all *junitSuites) add(s junitSuite) {
	s.Tests = len(s.Cases)
	all.Tests += s.Tests
	all.Failures += s.Failures
	all.Errors += s.Errors
	all.Suites = append(all.Suites, s)
}

func problemCase(p scan.Problem) junitCase {
	return junitCase{Name: fmt.Sprintf("%s:%d", p.File, p.Line), ClassName: "vigie.manifests", File: p.File, Line: p.Line,
		Error: &junitDetail{Message: printable(p.Message), Type: "unscanned", Text: fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)}}
}

// printable drops what XML cannot hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
			return -1
		}
		return r
	}, s)
}
