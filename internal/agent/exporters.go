// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/export/all"
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

// startExporters starts those that are configured.
func (a *Agent) startExporters() (*exporters, error) {
	list, err := all.Exporters(all.Options{JSON: a.config.ExportJSON, Stdout: os.Stdout, Boot: a.boot, Log: a.log, Losses: a.losses})
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
		out = append(out, server.Subscriber{Name: e.Name(), Queued: uint64(e.sub.Queued()), Lost: e.sub.Lost()})
	}
	return out
}
