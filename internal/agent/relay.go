// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/relay"
	"github.com/vigie-io/vigie/internal/server"
	"github.com/vigie-io/vigie/ui"
)

// RelayConfig is what a relay can be told. Each field is a flag of `vigie relay`.
type RelayConfig struct {
	Agents     []string // HOST:PORT or NAME=HOST:PORT
	AgentsFile string   // the same, one a line; it is followed
	// Kubernetes finds them by their pods: those of the namespace that the relay is in itself.
	Kubernetes    bool
	Kubeconfig    string // instead of the pod's service account
	KubeNamespace string // instead of the pod's own
	KubeSelector  string // labels of the agents' pods; empty for those of the installation

	AgentTokenFile  string // token that agents ask for
	AgentCAFile     string // what signed their certificates; TLS is spoken when given
	AgentCert       string // the relay's own certificate, for agents that ask for one
	AgentKey        string
	AgentServerName string // the name in their certificates; empty for each one's own address

	HTTP, Socket, SocketGroup string
	TLSCert, TLSKey           string
	TokenFile                 string
	HubbleAPI                 string

	Window time.Duration // how long an event waits for older ones of other nodes
	Queue  int           // events of a node that may wait for one client
}

// DefaultRelayConfig is a relay that was told nothing. Its ports are not those of an agent, so that both can be on one host.
func DefaultRelayConfig() RelayConfig {
	return RelayConfig{HTTP: "127.0.0.1:9781", Socket: Off, HubbleAPI: Off, Window: relay.DefaultWindow, Queue: relay.DefaultQueue}
}

// RunRelay answers for many agents until ctx ends. Errors: what keeps it from starting, with what to do about it, or the first
// thing that failed while it ran.
func RunRelay(ctx context.Context, c RelayConfig, d Deps) error {
	source, err := c.source(d)
	if err != nil {
		return cannot{err}
	}
	dial, err := relay.Dialer(relay.DialOptions{TokenFile: c.AgentTokenFile, CAFile: c.AgentCAFile, CertFile: c.AgentCert, KeyFile: c.AgentKey, ServerName: c.AgentServerName})
	if err != nil {
		return cannot{err}
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("ask for the host's name: %w", err)
	}
	r := relay.New(relay.Options{Source: source, Dial: dial, Log: d.Log, Now: time.Now, Version: d.Version, Host: host, Window: c.Window, Queue: c.Queue,
		Peer: func(ctx context.Context) relay.Peer { return server.CallerOf(ctx) },
		Pace: func(ctx context.Context) relay.Pace { return server.PaceOf(ctx) }, Within: server.AnswerWithin})
	page, err := ui.Page()
	if err != nil {
		return fmt.Errorf("open the web page: %w", err)
	}
	srv, err := server.NewFor(server.Config{Socket: c.Socket, Group: c.SocketGroup, HTTP: c.HTTP, TLSCert: c.TLSCert, TLSKey: c.TLSKey, TokenFile: c.TokenFile,
		Collectors: []prometheus.Collector{r.Metrics()}, Page: page,
		Mounts: []server.Mount{{Option: "--hubble-api", Addr: c.HubbleAPI, Services: relay.HubbleServices(), Handler: r.Hubble(), TLS: true, Wait: func() {}}}},
		relaySelf{r, d.Version, host, time.Now()}, r.API(), d.Log)
	if err != nil {
		return cannot{fmt.Errorf("configuration: %w", err)}
	}
	if err := srv.Listen(ctx); err != nil {
		return err
	}
	if url := srv.PageURL(); url != "" {
		d.Log.Info("the web page is served", "url", url)
		if d.Serving != nil {
			d.Serving(url)
		}
	}
	if d.Ready != nil {
		d.Ready()
	}
	// The streams end first, then the server that carries them.
	relayCtx, stopRelay := context.WithCancel(ctx)
	defer stopRelay()
	serverCtx, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	var wg sync.WaitGroup
	var serverErr error
	wg.Go(func() {
		if serverErr = srv.Serve(serverCtx); serverErr != nil {
			stopRelay()
		}
	})
	relayErr := r.Run(relayCtx)
	stopServer()
	wg.Wait()
	return errors.Join(relayErr, serverErr)
}

// source is where the agents come from: one place.
func (c *RelayConfig) source(d Deps) (relay.Source, error) {
	given := 0
	for _, is := range []bool{len(c.Agents) > 0, c.AgentsFile != "", c.Kubernetes} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("say where the agents are, in one way: --agents HOST:PORT,…, --agents-file FILE or --kubernetes")
	}
	switch {
	case c.Kubernetes:
		return c.pods(d)
	case c.AgentsFile != "":
		return relay.File{Path: c.AgentsFile, Trouble: func(err error) {
			d.Log.Error("the list of agents is not followed: what it said last holds", "error", err)
		}}, nil
	}
	list, err := relay.ParseAgents(c.Agents)
	if err != nil {
		return nil, fmt.Errorf("--agents: %w", err)
	}
	return list, nil
}

// relaySelf is the relay as metrics and probes see it.
type relaySelf struct {
	relay   *relay.Relay
	version string
	host    string
	started time.Time
}

// Status implements server.Self.
func (s relaySelf) Status() server.Status {
	st := server.Status{Version: s.version, Host: s.host, Node: s.host, Arch: runtime.GOARCH, Started: s.started, Events: make(map[model.Type]uint64)}
	for t, n := range maps.All(s.relay.Relayed()) {
		st.Events[model.Type(t)] = n
	}
	return st
}

// Problems implements server.Self: of the relay alone. One that is not ready because a node is away would be taken away too.
func (s relaySelf) Problems() []string { return s.relay.Problems() }

// Policies implements server.Self: they are the agents'.
func (s relaySelf) Policies() []server.Policy { return nil }

var _ relay.Peer = server.Caller{}
