// SPDX-License-Identifier: Apache-2.0

// Package all lists the exporters. In: where to export to. Out: an exporter for each place. A new
// exporter is its folder and one entry here.
package all

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/export/encoding"
	"github.com/vigie-io/vigie/internal/export/json"
	"github.com/vigie-io/vigie/internal/export/kafka"
	"github.com/vigie-io/vigie/internal/export/otlp"
	"github.com/vigie-io/vigie/internal/export/prometheus"
	"github.com/vigie-io/vigie/internal/export/syslog"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Options are what exporters need beside their destinations.
type Options struct {
	Destinations
	Agent  encoding.Options // of which agent the events are
	Stdout io.Writer
	// Metrics counts events; nil when that is off. Gatherer is everything that /metrics shows.
	Metrics  *prometheus.Metrics
	Gatherer client.Gatherer
	Started  time.Time
	Log      *slog.Logger
	Losses   *pipeline.Losses
}

// NewMetrics counts events for /metrics; nil when no group is on.
func (d *Destinations) NewMetrics() *prometheus.Metrics {
	if groups := d.metricGroups(); len(groups) > 0 {
		return prometheus.New(groups, time.Now)
	}
	return nil
}

// Exporters opens the exporters that o asks for. Errors: those of each that could not be opened; then
// none is.
func Exporters(o Options) ([]export.Exporter, error) {
	var list []export.Exporter
	var errs []error
	for _, make := range []func(Options) ([]export.Exporter, error){
		metricsExporter, jsonExporter, syslogExporter, kafkaExporter, otlpExporters,
	} {
		more, err := make(o)
		errs = append(errs, err)
		list = append(list, more...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return list, nil
}

func metricsExporter(o Options) ([]export.Exporter, error) {
	if o.Metrics == nil {
		return nil, nil
	}
	return []export.Exporter{o.Metrics}, nil
}

func jsonExporter(o Options) ([]export.Exporter, error) {
	if o.ExportJSON == "" {
		return nil, nil
	}
	encode, err := encoding.New(o.ExportJSONEncoding, o.Agent)
	if err != nil {
		return nil, fmt.Errorf("export-json-encoding: %w", err)
	}
	e, err := json.New(json.Options{Path: o.ExportJSON, Stdout: o.Stdout, Encode: encode, Keep: o.keep(), Log: o.Log, Losses: o.Losses,
		Rotate: json.Rotation{MaxBytes: int64(o.ExportJSONMaxMB) << 20, MaxAge: o.ExportJSONMaxAge, MaxFiles: o.ExportJSONMaxFiles}})
	if err != nil {
		return nil, err
	}
	return []export.Exporter{e}, nil
}

func syslogExporter(o Options) ([]export.Exporter, error) {
	if o.ExportSyslog == "" {
		return nil, nil
	}
	encode, err := encoding.New(o.ExportSyslogEncoding, o.Agent)
	if err != nil {
		return nil, fmt.Errorf("export-syslog-encoding: %w", err)
	}
	tls, err := o.tlsConfig()
	if err != nil {
		return nil, err
	}
	e, err := syslog.New(syslog.Options{Address: o.ExportSyslog, TLS: tls, Host: o.Agent.Host, PID: os.Getpid(), Encode: encode, Keep: o.keep(),
		Log: o.Log, Losses: o.Losses})
	if err != nil {
		return nil, fmt.Errorf("export-syslog: %w", err)
	}
	return []export.Exporter{e}, nil
}

func kafkaExporter(o Options) ([]export.Exporter, error) {
	if len(o.ExportKafka) == 0 {
		return nil, nil
	}
	encode, err := encoding.New(o.ExportKafkaEncoding, o.Agent)
	if err != nil {
		return nil, fmt.Errorf("export-kafka-encoding: %w", err)
	}
	k := kafka.Options{Brokers: o.ExportKafka, Topic: o.ExportKafkaTopic, Boot: o.Agent.Boot, Encode: encode, Keep: o.keep(), Log: o.Log, Losses: o.Losses}
	if o.ExportKafkaTLS {
		if k.TLS, err = o.tlsConfig(); err != nil {
			return nil, err
		}
	}
	if k.SASL, err = mechanism(o.ExportKafkaSASLFile); err != nil {
		return nil, err
	}
	e, err := kafka.New(k)
	if err != nil {
		return nil, fmt.Errorf("export-kafka: %w", err)
	}
	return []export.Exporter{e}, nil
}

func otlpExporters(o Options) ([]export.Exporter, error) {
	if o.ExportOTLP == "" {
		return nil, nil
	}
	tls, err := o.tlsConfig()
	if err != nil {
		return nil, err
	}
	h, err := headers(o.ExportOTLPHeadersFile)
	if err != nil {
		return nil, err
	}
	var signals []otlp.Signal
	for _, s := range o.ExportOTLPSignals {
		signals = append(signals, otlp.Signal(s))
	}
	list, err := otlp.New(otlp.Options{Endpoint: o.ExportOTLP, Signals: signals, Headers: h, TLS: tls, Interval: o.ExportOTLPInterval,
		Host: o.Agent.Host, Version: o.Agent.Version, Boot: o.Agent.Boot, Started: o.Started, Keep: o.keep(), Gatherer: o.Gatherer, Log: o.Log, Losses: o.Losses})
	if err != nil {
		return nil, fmt.Errorf("export-otlp: %w", err)
	}
	return list, nil
}
