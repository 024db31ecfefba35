// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/report"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

func printScan(env Env, output string, r *scan.Report) error {
	switch output {
	case "json":
		return report.JSON(env.Out, r)
	case "sarif":
		return report.SARIF(env.Out, r, env.Version)
	case "junit":
		return report.JUnit(env.Out, r)
	case "prometheus":
		return report.Prometheus(env.Out, r)
	case "html":
		return report.HTML(env.Out, r, env.Version, env.Now())
	}
	return printFindings(env, r)
}

// printFindings is the table: a line a finding, then what was not scanned, then the sums.
func printFindings(env Env, r *scan.Report) error {
	st := env.screen().Style
	out := bufio.NewWriter(env.Out)
	if len(r.Findings) > 0 {
		writeFindings(out, env.screen(), r)
	}
	printExcused(out, st, r)
	for _, p := range r.Problems {
		what := p.Message
		if p.Control != "" {
			what = p.Control + " " + what
		}
		word := st.Red("not scanned")
		if p.Note {
			word = st.Yellow("note")
		}
		fmt.Fprintf(out, "%s %s: %s\n", word, st.Bold(term.Escape(fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column))), term.Escape(what))
	}
	for _, f := range r.Frameworks {
		if f.Name == "mitre" || f.Name == "kubescape" {
			continue // lists of attacks and of another tool, not standards to reach
		}
		fmt.Fprintf(out, "%5.1f %%  %s\n", f.Score, f.Title)
	}
	counts := map[control.Severity]int{}
	for _, f := range r.Findings {
		counts[f.Severity]++
	}
	var parts []string
	for _, s := range control.Severities() {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	sum := st.Green("nothing found")
	if len(parts) > 0 {
		sum = strings.Join(parts, ", ")
	}
	if r.Known > 0 {
		sum += fmt.Sprintf(", %d known", r.Known)
	}
	in := plural(r.Objects, "object")
	if !r.Live {
		in += " of " + plural(r.Files, "file")
	}
	fmt.Fprintf(out, "%s in %s, by %s\n", sum, in, plural(len(r.Controls), "control"))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the findings: %w", err)
	}
	return nil
}

// maxColumn bounds the columns on a terminal, so that one long name does not push out the rest.
const maxColumn = 40

// writeFindings lays out the table a line at a time: of a long report the whole would be in memory twice.
func writeFindings(out *bufio.Writer, screen term.Screen, r *scan.Report) {
	findings := r.Findings
	header := []string{"SEVERITY", "CONTROL", "WHERE", "OBJECT", "FOUND"}
	widths := make([]int, len(header))
	measure := func(row []string) {
		for i, cell := range row {
			widths[i] = max(widths[i], term.Width(cell))
			if screen.Width > 0 {
				widths[i] = min(widths[i], maxColumn)
			}
		}
	}
	line := func(row []string, style func(string) string) {
		var b strings.Builder
		for i, cell := range row {
			if i < len(row)-1 {
				cell = term.Fit(cell, widths[i]) + "  "
			}
			b.WriteString(cell)
		}
		text := b.String()
		if screen.Width > 0 {
			text = term.Cut(text, screen.Width)
		}
		fmt.Fprintln(out, style(text))
	}
	measure(header)
	for i := range findings {
		measure(cells(screen.Style, r, &findings[i]))
	}
	line(header, screen.Style.Bold)
	for i := range findings {
		line(cells(screen.Style, r, &findings[i]), func(s string) string { return s })
	}
	fmt.Fprintln(out)
}

func cells(st term.Style, r *scan.Report, f *scan.Finding) []string {
	found := f.Message
	if f.Value != "" && !strings.Contains(f.Message, f.Value) {
		found += " (" + f.Path[strings.LastIndexByte(f.Path, '.')+1:] + ": " + firstLine(f.Value) + ")"
	}
	if f.Seen != "" {
		found += "; " + f.Seen
	}
	return []string{severity(st, string(f.Severity)), f.Control, term.Escape(whereOf(r, f)),
		term.Escape(f.Object.String()), term.Escape(found)}
}

func firstLine(s string) string {
	line, rest, more := strings.Cut(s, "\n")
	if more && rest != "" {
		return line + " ..."
	}
	return line
}
