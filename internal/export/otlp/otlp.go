// SPDX-License-Identifier: Apache-2.0

// Package otlp exports to a receiver of the OpenTelemetry protocol, over HTTP or gRPC: events as logs, requests as
// spans, and the metrics of /metrics. In: events of the hub, a registry. Out: OTLP 1.x
// (https://opentelemetry.io/docs/specs/otlp/). Each signal is an exporter of its own, with its own queue, so that
// a receiver without traces costs no logs.
//
// It makes the messages itself and does without the OpenTelemetry SDK: the SDK's processors drop what does not fit
// without saying how much, and report failures to one handler of the whole process.
package otlp

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Signal is a kind of telemetry.
type Signal string

// The signals.
const (
	Logs    Signal = "logs"
	Traces  Signal = "traces"
	Metrics Signal = "metrics"
)

// Signals lists every signal.
func Signals() []Signal { return []Signal{Logs, Traces, Metrics} }

// DefaultInterval is how often metrics are sent.
const DefaultInterval = 30 * time.Second

// Options configure the exporters.
type Options struct {
	// Endpoint is where the receiver is: http://, https:// (the signals' paths are added), grpc:// or grpcs://.
	Endpoint string
	Signals  []Signal    // all when empty
	Headers  http.Header // sent with each request, for what a receiver wants to know who asks; may be nil
	TLS      *tls.Config // of https and grpcs; nil trusts what the system trusts
	Interval time.Duration

	Host     string // host.name; empty when unknown
	Version  string // of the agent
	Boot     string // the beginning of the boot id, as exec_ids carry it
	Started  time.Time
	Keep     func(*model.Event) bool // which events become logs; nil takes all
	Gatherer prometheus.Gatherer     // of Metrics
	Backoff  func(failures int) time.Duration
	Timeout  time.Duration // of one attempt

	Log    *slog.Logger
	Losses *pipeline.Losses
}

// New returns an exporter for each signal. Errors name what is wrong with the endpoint.
func New(o Options) ([]export.Exporter, error) {
	endpoint, err := ParseEndpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	if len(o.Signals) == 0 {
		o.Signals = Signals()
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	var list []export.Exporter
	for _, signal := range Signals() {
		if !slices.Contains(o.Signals, signal) {
			continue
		}
		c := newClient(endpoint, signal, o)
		delivery := export.Options{Name: "export otlp " + string(signal), Keep: o.Keep, Backoff: o.Backoff, Timeout: o.Timeout, Log: o.Log, Losses: o.Losses}
		switch signal {
		case Logs:
			list = append(list, export.NewDelivery(delivery, &logs{client: c, boot: o.Boot, head: scopeHead(agentResource(o), o.Version)}))
		case Traces:
			delivery.Keep = func(e *model.Event) bool { return e.Type == model.TypeRequest }
			list = append(list, export.NewDelivery(delivery, &traces{client: c, options: o}))
		case Metrics:
			list = append(list, newMetrics(o, delivery, c))
		}
	}
	return list, nil
}

// ParseEndpoint checks the address of a receiver.
func ParseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%q is no URL: %w", s, err)
	}
	ports := map[string]string{"http": "4318", "https": "4318", "grpc": "4317", "grpcs": "4317"}
	port, ok := ports[u.Scheme]
	switch {
	case !ok:
		return nil, fmt.Errorf("%q: the URL begins with http://, https://, grpc:// or grpcs://", s)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", s)
	case u.User != nil:
		return nil, fmt.Errorf("%q: a password in a URL is shown to all: put it in the file of headers", s)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q: the URL takes nothing behind ? or #", s)
	case strings.HasPrefix(u.Scheme, "grpc") && strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("%q: gRPC has no path", s)
	}
	if u.Port() == "" {
		u.Host += ":" + port
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}
