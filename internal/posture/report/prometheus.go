// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// Prometheus writes the sums in its text format, for a node exporter's directory of text files or a push gateway. Objects and files
// are not among the labels: there may be any number of them.
func Prometheus(w io.Writer, r *scan.Report) error {
	out := bufio.NewWriter(w)
	family := func(name, help string) {
		fmt.Fprintf(out, "# HELP vigie_scan_%s %s\n# TYPE vigie_scan_%s gauge\n", name, help, name)
	}
	sample := func(name string, value float64, labels ...string) {
		var pairs []string
		for i := 0; i+1 < len(labels); i += 2 {
			pairs = append(pairs, labels[i]+`="`+escapeLabel(labels[i+1])+`"`)
		}
		if len(pairs) > 0 {
			name += "{" + strings.Join(pairs, ",") + "}"
		}
		fmt.Fprintf(out, "vigie_scan_%s %s\n", name, strconv.FormatFloat(value, 'g', -1, 64))
	}
	counts := map[control.Severity]int{}
	for i := range r.Findings {
		counts[r.Findings[i].Severity]++
	}
	family("findings", "Findings of the last scan that no baseline has.")
	for _, s := range control.Severities() {
		sample("findings", float64(counts[s]), "severity", string(s))
	}
	family("known_findings", "Findings of the last scan that the baseline has.")
	sample("known_findings", float64(r.Known))
	family("objects", "Kubernetes objects that were scanned.")
	sample("objects", float64(r.Objects))
	family("control_objects", "Objects by how a control judged them; unevaluated ones are never passed.")
	severities := map[string]control.Severity{}
	for _, c := range r.Controls {
		severities[c.ID] = c.Severity
	}
	for _, t := range r.Tallies {
		for _, result := range []struct {
			name string
			n    int
		}{{"passed", t.Passed}, {"failed", t.Failed}, {"unevaluated", t.Unevaluated}} {
			sample("control_objects", float64(result.n), "control", t.Control, "severity", string(severities[t.Control]), "result", result.name)
		}
	}
	family("framework_score_ratio", "Share of a framework's judgements that passed.")
	for _, f := range r.Frameworks {
		sample("framework_score_ratio", f.Score/100, "framework", f.Name)
	}
	problems := 0
	for _, p := range r.Problems {
		if !p.Note {
			problems++
		}
	}
	family("problems", "Documents that could not be scanned, and controls that could not be evaluated.")
	sample("problems", float64(problems))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}

func escapeLabel(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}
