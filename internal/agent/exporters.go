// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/export/all"
	"github.com/vigie-io/vigie/internal/export/encoding"
	"github.com/vigie-io/vigie/internal/export/prometheus"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
)

// exporters are what takes events to places outside, each behind a queue of its own.
type exporters struct {
	running []runningExporter
	wg      sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

type runningExporter struct {
	export.Exporter
	sub *pipeline.Subscription
}

// startExporters starts those that are configured. metrics counts events, or is nil; gatherer is what /metrics shows.
func (a *Agent) startExporters(metrics *prometheus.Metrics, gatherer client.Gatherer) (*exporters, error) {
	host, kernel := a.hostNames()
	list, err := all.Exporters(all.Options{Destinations: a.config.Destinations, Stdout: os.Stdout, Metrics: metrics, Gatherer: gatherer,
		Agent:   encoding.Options{Boot: a.boot, Host: host, Kernel: kernel, Version: a.deps.Version},
		Started: a.started, Log: a.log, Losses: a.losses})
	if err != nil {
		return nil, err
	}
	es := new(exporters)
	for _, e := range list {
		sub := a.hub.Subscribe(e.Subscribe())
		es.running = append(es.running, runningExporter{e, sub})
		es.wg.Go(func() {
			if err := e.Run(sub); err != nil {
				a.log.Error("an exporter ended", "exporter", e.Name(), "error", err)
				es.mu.Lock()
				es.errs = append(es.errs, fmt.Errorf("%s: %w", e.Name(), err))
				es.mu.Unlock()
				sub.Close()
			}
		})
	}
	return es, nil
}

// reopen has every exporter reopen its files.
func (es *exporters) reopen() error {
	var errs []error
	for _, e := range es.running {
		if err := e.Reopen(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// wait waits until all have delivered what was published before the hub was closed.
func (es *exporters) wait() error {
	es.wg.Wait()
	es.mu.Lock()
	defer es.mu.Unlock()
	return errors.Join(es.errs...)
}

func (es *exporters) list() []server.Subscriber {
	var out []server.Subscriber
	for _, e := range es.running {
		s := e.Stats()
		out = append(out, server.Subscriber{Name: e.Name(), Queued: uint64(e.sub.Queued()) + s.Waiting, Lost: e.sub.Lost() + s.Lost,
			Exporter: true, Sent: s.Sent, Retried: s.Retried, Trouble: s.Trouble, QueuedBytes: s.Bytes, QueueBytes: s.Capacity})
	}
	return out
}
