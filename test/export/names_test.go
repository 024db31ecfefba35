// SPDX-License-Identifier: Apache-2.0

package export

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	metrics "github.com/vigie-io/vigie/internal/export/prometheus"
	"github.com/vigie-io/vigie/internal/server"
)

// description is what a client.Desc prints.
var description = regexp.MustCompile(`fqName: "([^"]+)", help: ("(?:[^"\\]|\\.)*").*, variableLabels: \{([^}]*)\}`)

// family is a metric of /metrics.
type family struct {
	help      string
	labels    []string
	histogram bool
}

// families are all metrics of vigie by name; those of the Go runtime and the process are added with others.
func families(t *testing.T, others bool) map[string]family {
	t.Helper()
	all := make(map[string]family)
	add := func(d *client.Desc) {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s: the form of a description has changed", d)
		}
		help, err := strconv.Unquote(m[2])
		if err != nil {
			t.Fatal(err)
		}
		f := family{help: help}
		if m[3] != "" {
			f.labels = strings.Split(m[3], ",")
		}
		all[m[1]] = f
	}
	for _, d := range server.Descriptions() {
		add(d)
	}
	list := []client.Collector{metrics.New(metrics.Groups(), time.Now)}
	if others {
		list = append(list, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	for _, c := range list {
		ch := make(chan *client.Desc, 1000)
		c.Describe(ch)
		close(ch)
		for d := range ch {
			add(d)
		}
	}
	for _, f := range metrics.Families() {
		x := all[f.Name]
		x.histogram = f.Histogram
		all[f.Name] = x
	}
	return all
}

// row is how docs/metrics.md tells of a metric.
func row(name string, f family, most int) string {
	labels := "–"
	if len(f.labels) > 0 {
		labels = "`" + strings.Join(f.labels, "`, `") + "`"
	}
	kind := "gauge"
	switch {
	case f.histogram:
		kind = "histogram"
	case strings.HasSuffix(name, "_total"):
		kind = "counter"
	}
	if most == 0 {
		return fmt.Sprintf("| `%s` | %s | %s | %s |", name, kind, labels, f.help)
	}
	return fmt.Sprintf("| `%s` | %s | %s | %d | %s |", name, kind, labels, most, f.help)
}

// The tables of docs/metrics.md have every metric, as it is, and no other.
func TestDocumentedMetrics(t *testing.T) {
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[string]bool)
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `hubble_") || strings.HasPrefix(line, "| `vigie_") {
			have[strings.TrimSpace(line)] = true
		}
	}
	most := make(map[string]int)
	for _, f := range metrics.Families() {
		most[f.Name] = f.Max
	}
	for name, f := range families(t, false) {
		want := row(name, f, most[name])
		if !have[want] {
			t.Errorf("docs/metrics.md lacks the line\n%s", want)
		}
		delete(have, want)
	}
	for line := range have {
		t.Errorf("docs/metrics.md has a line of no metric: %s", line)
	}
}

// The parts of a query that are no metric.
var (
	quoted  = regexp.MustCompile(`"[^"]*"`)
	braces  = regexp.MustCompile(`\{[^}]*\}`)
	by      = regexp.MustCompile(`\b(?:by|without|on|ignoring) ?\(([^)]*)\)`)
	ranges  = regexp.MustCompile(`\[[^\]]*\]`)
	matcher = regexp.MustCompile(`([a-z_]+) ?(?:=~|!~|!=|=)`)
	word    = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	legend  = regexp.MustCompile(`\{\{ ?([a-z_]+) ?\}\}`)
)

// functions are those of PromQL that dashboards use.
func functions() []string {
	return []string{"sum", "max", "count", "rate", "increase", "topk", "histogram_quantile", "vector", "or"}
}

// check reports the metrics and labels of a query that do not exist.
func checkQuery(all map[string]family, expr, legendFormat string) (problems []string) {
	plain := quoted.ReplaceAllString(expr, `""`)
	labels := []string{"instance", "job"}
	bare := ranges.ReplaceAllString(by.ReplaceAllString(braces.ReplaceAllString(plain, ""), ""), "")
	for _, name := range word.FindAllString(bare, -1) {
		if slices.Contains(functions(), name) {
			continue
		}
		f, ok := all[name]
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && all[base].histogram {
				f, ok = all[base], true
				if suffix == "_bucket" {
					labels = append(labels, "le")
				}
			}
		}
		if !ok || f.histogram && !strings.HasSuffix(name, "_bucket") && !strings.HasSuffix(name, "_count") && !strings.HasSuffix(name, "_sum") {
			problems = append(problems, "there is no metric "+name)
		}
		labels = append(labels, f.labels...)
	}
	var used []string
	for _, m := range braces.FindAllString(plain, -1) {
		for _, l := range matcher.FindAllStringSubmatch(m, -1) {
			used = append(used, l[1])
		}
	}
	for _, m := range by.FindAllStringSubmatch(plain, -1) {
		used = append(used, word.FindAllString(m[1], -1)...)
	}
	for _, m := range legend.FindAllStringSubmatch(legendFormat, -1) {
		used = append(used, m[1])
	}
	for _, l := range used {
		if !slices.Contains(labels, l) {
			problems = append(problems, "no metric of the query has a label "+l)
		}
	}
	return problems
}

// Every dashboard asks for metrics and labels that there are.
func TestDashboards(t *testing.T) {
	all := families(t, true)
	files, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	uids, shown := make(map[string]bool), make(map[string]bool)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			UID, Title string
			Panels     []struct {
				ID      int
				Title   string
				Targets []struct{ Expr, LegendFormat string }
			}
		}
		if err := json.Unmarshal(b, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if board.UID+".json" != filepath.Base(file) || board.Title == "" || uids[board.UID] {
			t.Errorf("%s: uid %q, title %q", file, board.UID, board.Title)
		}
		uids[board.UID] = true
		ids := make(map[int]bool)
		for _, p := range board.Panels {
			if p.Title == "" || ids[p.ID] || len(p.Targets) == 0 {
				t.Errorf("%s: panel %d %q", file, p.ID, p.Title)
			}
			ids[p.ID] = true
			for _, target := range p.Targets {
				for _, problem := range checkQuery(all, target.Expr, target.LegendFormat) {
					t.Errorf("%s, %q: %s: %s", filepath.Base(file), p.Title, problem, target.Expr)
				}
				for _, name := range word.FindAllString(target.Expr, -1) {
					shown[name] = true
				}
			}
		}
	}
	for _, f := range metrics.Families() {
		if !shown[f.Name] && !shown[f.Name+"_bucket"] && f.Name != "hubble_dns_response_types_total" && f.Name != "hubble_kafka_request_duration_seconds" {
			t.Errorf("no dashboard shows %s", f.Name)
		}
	}
}

// The check itself finds what is wrong.
func TestQueriesThatAreWrong(t *testing.T) {
	all := families(t, true)
	for query, want := range map[string]string{
		`rate(vigie_nonsense_total[1m])`:                                             "no metric vigie_nonsense_total",
		`sum by (colour) (vigie_alerts_total)`:                                       "no metric of the query has a label colour",
		`vigie_alerts_total{colour="x"}`:                                             "no metric of the query has a label colour",
		`vigie_tcp_connect_seconds`:                                                  "no metric vigie_tcp_connect_seconds",
		`sum by (rule) (rate(vigie_alerts_total{severity=~"a|b"}[1m])) or vector(0)`: "",
		`histogram_quantile(0.5, sum by (le) (vigie_tcp_connect_seconds_bucket))`:    "",
	} {
		got := strings.Join(checkQuery(all, query, ""), "; ")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}
