// SPDX-License-Identifier: Apache-2.0

package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

//go:embed report.html
var page string

// HTML writes one page that needs nothing else: no script, no font, no network.
func HTML(w io.Writer, r *scan.Report, version string, now time.Time) error {
	t, err := template.New("report").Parse(page)
	if err != nil {
		return fmt.Errorf("read the page of the report: %w", err)
	}
	type group struct {
		*control.Control
		Findings []scan.Finding
	}
	byControl := map[string][]scan.Finding{}
	counts := map[control.Severity]int{}
	for _, f := range r.Findings {
		byControl[f.Control] = append(byControl[f.Control], f)
		counts[f.Severity]++
	}
	var groups []group
	for _, severity := range control.Severities() {
		for _, c := range r.Controls {
			if c.Severity == severity && len(byControl[c.ID]) > 0 {
				groups = append(groups, group{c, byControl[c.ID]})
			}
		}
	}
	err = t.Execute(w, map[string]any{"Report": r, "Groups": groups, "Counts": counts, "Severities": control.Severities(), "Version": version,
		"Time": now.UTC().Format(time.RFC3339)})
	if err != nil {
		return fmt.Errorf("write html: %w", err)
	}
	return nil
}
