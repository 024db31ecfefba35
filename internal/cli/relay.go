// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/agent"
)

// Relay runs a relay until ctx ends: agent.RunRelay, or a test's own.
type Relay func(ctx context.Context, c agent.RelayConfig, d agent.Deps) error

// NewRelay is `vigie relay`.
func NewRelay(env Env, defaults agent.RelayConfig, run Relay) *cobra.Command {
	c, o := defaults, runOptions{}
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Answer for the agents of many nodes as if they were one",
		Long: "Answer for the agents of many nodes as if they were one: the same commands, web page and API, and Hubble's, with the streams\n" +
			"of all nodes merged in the order of time. A node that does not answer is told, and holds nobody up.\n\n" +
			"The agents must answer over TCP: `vigie run --http HOST:PORT --tls-cert … --tls-key … --token-file …`. With --tls-cert,\n" +
			"--tls-key and --token-file the relay itself can be reached from the network too. docs/cluster.md says more.",
		Example: "  vigie relay --agents 10.0.0.1:9780,10.0.0.2:9780 --agent-ca-file ca.pem --agent-token-file token\n" +
			"  vigie relay --agents-file /etc/vigie/agents\n" +
			"  vigie status --address http://127.0.0.1:9781",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level, handler, err := o.logging()
			if err != nil {
				return Cannot(err)
			}
			err = run(cmd.Context(), c, agent.Deps{Log: slog.New(handler(env.Err, level)), LogLevel: level, Version: env.Version})
			if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
				return nil
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&c.Agents, "agents", nil, "the agents: HOST:PORT, or NAME=HOST:PORT for a node's name before it answers")
	fs.StringVar(&c.AgentsFile, "agents-file", "", "file with the agents, one a line; it is followed")
	fs.BoolVar(&c.Kubernetes, "kubernetes", false, "find the agents by their pods in the namespace of this pod")
	fs.StringVar(&c.Kubeconfig, "kubeconfig", "", "with --kubernetes: this file instead of the pod's service account")
	fs.StringVar(&c.KubeNamespace, "agent-namespace", "", "with --kubernetes: the agents' namespace (default that of this pod)")
	fs.StringVar(&c.KubeSelector, "agent-selector", "", "with --kubernetes: labels of the agents' pods (default those of the installation)")
	fs.StringVar(&c.AgentTokenFile, "agent-token-file", "", "file with the token that agents ask for")
	fs.StringVar(&c.AgentCAFile, "agent-ca-file", "", "PEM file of who signed the agents' certificates; TLS is spoken to them when given")
	fs.StringVar(&c.AgentCert, "agent-cert", "", "PEM certificate to present to agents, which ask for one with `vigie run --client-ca-file`")
	fs.StringVar(&c.AgentKey, "agent-key", "", "PEM key of --agent-cert")
	fs.StringVar(&c.AgentServerName, "agent-server-name", "", "name that the agents' certificates are for (default the address of each)")
	fs.StringVar(&c.HTTP, "http", c.HTTP, "TCP address of the web page, the API, Hubble's API and /metrics; off: none. Off loopback it needs TLS and a token")
	fs.StringVar(&c.Socket, "socket", c.Socket, "unix socket of the API; off: none")
	fs.StringVar(&c.SocketGroup, "socket-group", c.SocketGroup, "group whose members may use the socket beside root")
	fs.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "PEM certificate for --http and --hubble-api")
	fs.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "PEM key for --http and --hubble-api")
	fs.StringVar(&c.TokenFile, "token-file", c.TokenFile, "file with the token that clients must present")
	fs.StringVar(&c.HubbleAPI, "hubble-api", c.HubbleAPI, "another TCP address for Hubble's clients; off: none. Off loopback it needs TLS and a token")
	fs.DurationVar(&c.Window, "window", c.Window, "how long an event waits for older ones of other nodes")
	fs.IntVar(&c.Queue, "queue", c.Queue, "events of a node that may wait for one client")
	o.logFlags(cmd)
	return cmd
}
