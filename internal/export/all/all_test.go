// SPDX-License-Identifier: Apache-2.0

package all

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

func options(d Destinations) Options {
	return Options{Destinations: d, Metrics: d.NewMetrics(), Gatherer: client.NewRegistry(), Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses)}
}

func names(t *testing.T, d Destinations) []string {
	t.Helper()
	list, err := Exporters(options(d))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// What is not asked for does not exist.
func TestExportersAreThoseThatAreConfigured(t *testing.T) {
	d := Default()
	if got := names(t, d); !slices.Equal(got, []string{"metrics"}) {
		t.Errorf("by default %v", got)
	}
	d.Metrics = []string{Off}
	if got := names(t, d); len(got) != 0 {
		t.Errorf("with metrics off %v", got)
	}
	d.ExportJSON, d.ExportSyslog, d.ExportKafka, d.ExportOTLP = filepath.Join(t.TempDir(), "x"), "udp://127.0.0.1", []string{"h"}, "http://h"
	if got := names(t, d); !slices.Equal(got, []string{"export json", "export syslog", "export kafka", "export otlp logs", "export otlp traces", "export otlp metrics"}) {
		t.Errorf("all: %v", got)
	}
	d.ExportOTLPSignals = []string{"traces"}
	if got := names(t, d); len(got) != 4 || got[3] != "export otlp traces" {
		t.Errorf("with traces alone %v", got)
	}
}

func problems(d Destinations) (list []string) {
	d.CheckExports(func(field, format string, args ...any) {
		list = append(list, fmt.Errorf(field+": "+format, args...).Error())
	})
	return list
}

func TestMistakesNameTheirField(t *testing.T) {
	if got := problems(Default()); len(got) > 0 {
		t.Errorf("the defaults are refused: %v", got)
	}
	for want, change := range map[string]func(*Destinations){
		"export-json-encoding: \"cef\" is no encoding":              func(d *Destinations) { d.ExportJSONEncoding = "cef" },
		"export-syslog-encoding: \"cef\"":                           func(d *Destinations) { d.ExportSyslogEncoding = "cef" },
		"export-kafka-encoding: \"cef\"":                            func(d *Destinations) { d.ExportKafkaEncoding = "cef" },
		"export-json-max-mb: -1 is outside":                         func(d *Destinations) { d.ExportJSONMaxMB = -1 },
		"export-json-max-age: 1s is neither":                        func(d *Destinations) { d.ExportJSONMaxAge = time.Second },
		"export-json-max-files: 0 is outside":                       func(d *Destinations) { d.ExportJSONMaxFiles = 0 },
		"export-syslog: \"/dev/log\": the address begins":           func(d *Destinations) { d.ExportSyslog = "/dev/log" },
		"export-kafka: \"\" is no broker":                           func(d *Destinations) { d.ExportKafka = []string{""} },
		"export-kafka-topic: \"a b\" is no topic":                   func(d *Destinations) { d.ExportKafkaTopic = "a b" },
		"export-otlp: \"host:4317\": the URL begins":                func(d *Destinations) { d.ExportOTLP = "host:4317" },
		"export-otlp-signals: there is no signal \"profiles\"":      func(d *Destinations) { d.ExportOTLPSignals = []string{"profiles"} },
		"export-otlp-interval: 1ms is less":                         func(d *Destinations) { d.ExportOTLPInterval = time.Millisecond },
		"export-tls-cert: certificate and export-tls-key":           func(d *Destinations) { d.ExportTLSCert = "x" },
		"export-types: there is no event type \"flows\"; known are": func(d *Destinations) { d.ExportTypes = []string{"flows"} },
		"metrics: there is no group \"tcp\"; known are flow":        func(d *Destinations) { d.Metrics = []string{"tcp"} },
		"metrics: there is no group \"off\"":                        func(d *Destinations) { d.Metrics = []string{"flow", "off"} },
	} {
		d := Default()
		change(&d)
		if got := problems(d); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%v, want %s", got, want)
		}
	}
}

// write makes a file with a text.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesOfSecrets(t *testing.T) {
	h, err := headers(write(t, "# who we are\nAuthorization: Bearer x:y\n\nX-Scope-OrgID: me\n"))
	if err != nil || h.Get("Authorization") != "Bearer x:y" || h.Get("X-Scope-OrgID") != "me" || len(h) != 2 {
		t.Errorf("%v, %v", h, err)
	}
	if m, err := mechanism(write(t, "mechanism: scram-sha-512\nuser: a\npassword: b: c\n")); err != nil || m.Name() != "SCRAM-SHA-512" {
		t.Errorf("%v, %v", m, err)
	}
	if m, err := mechanism(write(t, "mechanism: PLAIN\nuser: a\npassword: b\n")); err != nil || m.Name() != "PLAIN" {
		t.Errorf("%v, %v", m, err)
	}
	for text, want := range map[string]string{
		"secret":                                      ":1: want a line of",
		"mechanism: PLAIN\nsecret word: x\n":          ":2: want a line of",
		"mechanism: PLAIN\nuser: a\n":                 "user and password are both needed",
		"mechanism: MD5\nuser: a\npassword: secret\n": "mechanism \"MD5\": use PLAIN",
		"login: secret\n":                             "unknown field \"login\"",
	} {
		_, err := mechanism(write(t, text))
		if err == nil || !strings.HasPrefix(err.Error(), "export-kafka-sasl-file: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := headers("/nonexistent"); err == nil || !strings.HasPrefix(err.Error(), "export-otlp-headers-file: ") {
		t.Errorf("%v", err)
	}
}

func TestCertificates(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	d := Default()
	d.ExportTLSCA = write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	if c, err := d.tlsConfig(); err != nil || c.RootCAs == nil {
		t.Errorf("%v", err)
	}
	d.ExportTLSCA = write(t, "rubbish")
	d.ExportOTLP = "https://h"
	if _, err := Exporters(options(d)); err == nil || !strings.Contains(err.Error(), "export-tls-ca: ") || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("%v", err)
	}
}

func TestTypesThatAreExported(t *testing.T) {
	d := Default()
	if d.keep() != nil {
		t.Error("by default all")
	}
	d.ExportTypes = []string{"flow", "alert"}
	keep := d.keep()
	if !keep(&model.Event{Type: model.TypeFlow}) || !keep(&model.Event{Type: model.TypeAlert}) || keep(&model.Event{Type: model.TypeExec}) {
		t.Error("those that are named")
	}
}
