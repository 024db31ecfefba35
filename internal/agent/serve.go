// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/ui"
)

// serve puts everything above the source in place, runs source until ctx ends or it fails, and takes all
// down in the order in which events flow: source, hub, exporters, server. So what was seen is delivered.
func (a *Agent) serve(ctx context.Context, source func(context.Context) error) error {
	waitForHistory := a.startStore()
	a.river.publish = func(batch []*model.Event) {
		a.memory.Append(batch)
		a.hub.Publish(batch)
	}
	var collectors []prometheus.Collector
	metrics := a.config.NewMetrics()
	if metrics != nil {
		collectors = append(collectors, metrics)
	}
	collectors = append(collectors, a.kubeCollectors()...)
	page, err := ui.Page()
	if err != nil {
		return fmt.Errorf("open the web page: %w", err)
	}
	srv, err := server.New(server.Config{Socket: a.config.Socket, Group: a.config.SocketGroup, HTTP: a.config.HTTP,
		TLSCert: a.config.TLSCert, TLSKey: a.config.TLSKey, ClientCAFile: a.config.ClientCA, TokenFile: a.config.TokenFile,
		Collectors: collectors, Now: a.deps.Now,
		Mounts: []server.Mount{a.mountTetragon(), a.mountHubble()}, Flows: a.answersFlows(), Pods: a.answersPods(), Page: page}, a, a.log)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := srv.Listen(ctx); err != nil {
		return err
	}
	if url := srv.PageURL(); url != "" {
		a.log.Info("the web page is served", "url", url)
		if a.deps.Serving != nil {
			a.deps.Serving(url)
		}
	}
	if a.exporters, err = a.startExporters(metrics, srv.Gatherer()); err != nil {
		return err
	}

	// Each stage ends when the one before it has: their contexts are not children of ctx.
	sourceCtx, stopSource := context.WithCancel(ctx)
	defer stopSource()
	serverCtx, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	var wg sync.WaitGroup
	var serverErr error
	wg.Go(func() {
		if serverErr = srv.Serve(serverCtx); serverErr != nil {
			stopSource()
		}
	})
	wg.Go(func() { a.reload(sourceCtx) })

	sourceErr := source(sourceCtx)
	stopSource()
	a.notify(daemon.SdNotifyStopping)
	a.background.Wait()
	a.hub.Close()
	exportErr := a.exporters.wait()
	waitForHistory()
	stopServer()
	wg.Wait()
	if errors.Is(sourceErr, context.Canceled) {
		sourceErr = nil
	}
	return errors.Join(sourceErr, exportErr, serverErr)
}

// ready tells that the agent observes and answers.
func (a *Agent) ready() {
	a.isReady.Store(true)
	a.notify(daemon.SdNotifyReady)
	if a.deps.Ready != nil {
		a.deps.Ready()
	}
}

// reload answers the wish to reopen files until ctx ends.
func (a *Agent) reload(ctx context.Context) {
	ticker := time.NewTicker(rulesInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			a.rules.look(false)
		case <-a.deps.Reload:
			a.log.Info("reloading: files are reopened")
			a.notify(daemon.SdNotifyReloading)
			a.rules.look(true)
			if err := a.exporters.reopen(); err != nil {
				a.log.Error("not everything could be reopened", "error", err)
			}
			a.policies.reload(ctx, true)
			a.notify(daemon.SdNotifyReady)
		}
	}
}

// notify tells the service manager, when one started the agent.
func (a *Agent) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.log.Warn("the service manager could not be told", "state", state, "error", err)
	}
}
