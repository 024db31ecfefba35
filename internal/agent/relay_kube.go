// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/vigie-io/vigie/internal/kube/peers"
	"github.com/vigie-io/vigie/internal/relay"
)

// pods are the agents by their pods.
func (c *RelayConfig) pods(d Deps) (relay.Source, error) {
	cluster, err := peers.InPod(c.Kubeconfig, d.Version)
	if err != nil {
		return nil, err
	}
	if c.KubeNamespace != "" {
		cluster.Namespace = c.KubeNamespace
	}
	return podSource{&peers.Agents{Cluster: cluster, Selector: c.KubeSelector, Log: d.Log}}, nil
}

type podSource struct{ agents *peers.Agents }

// Follow implements relay.Source.
func (s podSource) Follow(ctx context.Context, set func([]relay.Agent)) error {
	return s.agents.Follow(ctx, func(list []peers.Agent) {
		out := make([]relay.Agent, len(list))
		for i, a := range list {
			out[i] = relay.Agent{Address: a.Address, Name: a.Node}
		}
		set(out)
	})
}

// ClusterRelay is the relay of a cluster, as a command reaches it.
type ClusterRelay struct {
	Name  string // for messages
	Dial  func(context.Context) (net.Conn, error)
	TLS   *tls.Config // nil when it speaks none
	Token string      // empty for none
}

// FindClusterRelay finds the relay of a context of a kubeconfig, of the current one when empty. Errors say what to do.
func FindClusterRelay(ctx context.Context, kubeconfig, name, version string) (ClusterRelay, error) {
	cluster, err := peers.Of(kubeconfig, name, version)
	if err != nil {
		return ClusterRelay{}, err
	}
	r, err := cluster.FindRelay(ctx)
	if err != nil {
		return ClusterRelay{}, err
	}
	return ClusterRelay{Name: r.String(), Dial: r.Dial, TLS: r.TLS, Token: r.Token}, nil
}
