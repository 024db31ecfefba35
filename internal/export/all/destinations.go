// SPDX-License-Identifier: Apache-2.0

package all

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/export/encoding"
	"github.com/vigie-io/vigie/internal/export/json"
	"github.com/vigie-io/vigie/internal/export/kafka"
	"github.com/vigie-io/vigie/internal/export/otlp"
	"github.com/vigie-io/vigie/internal/export/prometheus"
	"github.com/vigie-io/vigie/internal/export/syslog"
	"github.com/vigie-io/vigie/internal/model"
)

// Off turns metrics of events off.
const Off = "off"

// Destinations say where to export to, and how; an empty destination is no exporter. Each field is a flag of `vigie run`
// and, by its yaml name, a key of the configuration file.
type Destinations struct {
	// ExportTypes are the types of events that are exported, by all exporters but metrics; all when empty.
	ExportTypes []string `yaml:"export-types"`

	ExportJSON         string        `yaml:"export-json"` // file, or "-" for standard output
	ExportJSONEncoding string        `yaml:"export-json-encoding"`
	ExportJSONMaxMB    int           `yaml:"export-json-max-mb"`  // the file is put aside before it is larger; 0: never
	ExportJSONMaxAge   time.Duration `yaml:"export-json-max-age"` // the file is put aside when it is older; 0: never
	ExportJSONMaxFiles int           `yaml:"export-json-max-files"`

	ExportSyslog         string `yaml:"export-syslog"`
	ExportSyslogEncoding string `yaml:"export-syslog-encoding"`

	ExportKafka         []string `yaml:"export-kafka"` // brokers
	ExportKafkaTopic    string   `yaml:"export-kafka-topic"`
	ExportKafkaEncoding string   `yaml:"export-kafka-encoding"`
	ExportKafkaTLS      bool     `yaml:"export-kafka-tls"`
	ExportKafkaSASLFile string   `yaml:"export-kafka-sasl-file"` // mechanism, user and password

	ExportOTLP            string        `yaml:"export-otlp"`
	ExportOTLPSignals     []string      `yaml:"export-otlp-signals"`
	ExportOTLPInterval    time.Duration `yaml:"export-otlp-interval"`     // of metrics
	ExportOTLPHeadersFile string        `yaml:"export-otlp-headers-file"` // lines of "Name: value"

	// ExportTLSCA is a PEM file of who may sign receivers' certificates, instead of whom the system trusts; the other two are
	// what this agent shows to receivers that ask.
	ExportTLSCA   string `yaml:"export-tls-ca"`
	ExportTLSCert string `yaml:"export-tls-cert"`
	ExportTLSKey  string `yaml:"export-tls-key"`

	// Metrics are the groups of metrics that are counted from events, for /metrics and OTLP; or "off".
	Metrics []string `yaml:"metrics"`
}

// Default is where nothing is exported to.
func Default() Destinations {
	return Destinations{ExportJSONEncoding: encoding.Vigie, ExportJSONMaxFiles: 5, ExportSyslogEncoding: encoding.Vigie, ExportKafkaTopic: kafka.DefaultTopic,
		ExportKafkaEncoding: encoding.Vigie, ExportOTLPInterval: otlp.DefaultInterval, Metrics: prometheus.Groups()}
}

// CheckExports reports everything that is wrong to bad, with the name of the field.
func (d *Destinations) CheckExports(bad func(field, format string, args ...any)) {
	for field, name := range map[string]string{"export-json-encoding": d.ExportJSONEncoding, "export-syslog-encoding": d.ExportSyslogEncoding,
		"export-kafka-encoding": d.ExportKafkaEncoding} {
		if _, err := encoding.New(name, encoding.Options{}); err != nil {
			bad(field, "%w", err)
		}
	}
	if d.ExportJSONMaxMB < 0 || d.ExportJSONMaxMB > 1<<20 {
		bad("export-json-max-mb", "%d is outside 0 to %d", d.ExportJSONMaxMB, 1<<20)
	}
	if d.ExportJSONMaxAge < 0 || d.ExportJSONMaxAge > 0 && d.ExportJSONMaxAge < time.Minute {
		bad("export-json-max-age", "%s is neither 0 nor at least a minute", d.ExportJSONMaxAge)
	}
	if d.ExportJSONMaxFiles < 1 || d.ExportJSONMaxFiles > json.MaxFiles {
		bad("export-json-max-files", "%d is outside 1 to %d", d.ExportJSONMaxFiles, json.MaxFiles)
	}
	if d.ExportSyslog != "" {
		if _, _, err := syslog.ParseAddress(d.ExportSyslog); err != nil {
			bad("export-syslog", "%w", err)
		}
	}
	for _, b := range d.ExportKafka {
		if _, err := kafka.ParseBroker(b); err != nil {
			bad("export-kafka", "%w", err)
		}
	}
	if err := kafka.CheckTopic(d.ExportKafkaTopic); err != nil {
		bad("export-kafka-topic", "%w", err)
	}
	if d.ExportOTLP != "" {
		if _, err := otlp.ParseEndpoint(d.ExportOTLP); err != nil {
			bad("export-otlp", "%w", err)
		}
	}
	for _, s := range d.ExportOTLPSignals {
		if !slices.Contains(otlp.Signals(), otlp.Signal(s)) {
			bad("export-otlp-signals", "there is no signal %q; known are logs, traces, metrics", s)
		}
	}
	if d.ExportOTLPInterval < time.Second {
		bad("export-otlp-interval", "%s is less than a second", d.ExportOTLPInterval)
	}
	if (d.ExportTLSCert == "") != (d.ExportTLSKey == "") {
		bad("export-tls-cert", "certificate and export-tls-key belong together: give both or none")
	}
	for _, t := range d.ExportTypes {
		if !slices.Contains(model.Types(), model.Type(t)) {
			bad("export-types", "there is no event type %q; known are %v", t, model.Types())
		}
	}
	for _, g := range d.metricGroups() {
		if !slices.Contains(prometheus.Groups(), g) {
			bad("metrics", "there is no group %q; known are %s, or %s alone", g, strings.Join(prometheus.Groups(), ", "), Off)
		}
	}
}

// metricGroups are the groups that are on.
func (d *Destinations) metricGroups() []string {
	if len(d.Metrics) == 1 && d.Metrics[0] == Off {
		return nil
	}
	return d.Metrics
}

// ExportsInUse is everything by option name. Secrets are in files, of which only the names are here.
func (d *Destinations) ExportsInUse() map[string]string {
	join := func(list []string) string { return strings.Join(list, ",") }
	return map[string]string{
		"export-types": join(d.ExportTypes), "export-json": d.ExportJSON, "export-json-encoding": d.ExportJSONEncoding,
		"export-json-max-mb": strconv.Itoa(d.ExportJSONMaxMB), "export-json-max-age": d.ExportJSONMaxAge.String(),
		"export-json-max-files": strconv.Itoa(d.ExportJSONMaxFiles), "export-syslog": d.ExportSyslog, "export-syslog-encoding": d.ExportSyslogEncoding,
		"export-kafka": join(d.ExportKafka), "export-kafka-topic": d.ExportKafkaTopic, "export-kafka-encoding": d.ExportKafkaEncoding,
		"export-kafka-tls": strconv.FormatBool(d.ExportKafkaTLS), "export-kafka-sasl-file": d.ExportKafkaSASLFile,
		"export-otlp": d.ExportOTLP, "export-otlp-signals": join(d.ExportOTLPSignals), "export-otlp-interval": d.ExportOTLPInterval.String(),
		"export-otlp-headers-file": d.ExportOTLPHeadersFile, "export-tls-ca": d.ExportTLSCA, "export-tls-cert": d.ExportTLSCert,
		"export-tls-key": d.ExportTLSKey, "metrics": join(d.Metrics),
	}
}

// keep is what exporters take; nil for everything.
func (d *Destinations) keep() func(*model.Event) bool {
	if len(d.ExportTypes) == 0 {
		return nil
	}
	types := make(map[model.Type]bool)
	for _, t := range d.ExportTypes {
		types[model.Type(t)] = true
	}
	return func(e *model.Event) bool { return types[e.Type] }
}

// pairs reads a file of "name: value" lines; empty lines and those that begin with # say nothing. Its values are secret: no
// error shows them.
func pairs(option, path string) ([][2]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	var out [][2]string
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("%s: %s:%d: want a line of `name: value`", option, path, n)
		}
		out = append(out, [2]string{name, strings.TrimSpace(value)})
	}
	return out, nil
}

// headers reads the headers that an OTLP receiver wants.
func headers(path string) (http.Header, error) {
	if path == "" {
		return nil, nil
	}
	lines, err := pairs("export-otlp-headers-file", path)
	if err != nil {
		return nil, err
	}
	h := make(http.Header)
	for _, l := range lines {
		h.Add(l[0], l[1])
	}
	return h, nil
}
