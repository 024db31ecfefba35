// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"

	"connectrpc.com/connect"
	"github.com/spf13/pflag"

	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/agent"
)

// currentContext stands for the context that kubectl uses.
const currentContext = "current"

// findRelay finds the relay of a cluster: agent.FindClusterRelay, or a test's own.
type findRelay func(ctx context.Context, kubeconfig, name, version string) (agent.ClusterRelay, error)

// clusterFlags are the flags that lead to a cluster's relay.
func (t *target) clusterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&t.cluster, "cluster", "", "the relay of a Kubernetes cluster instead of an agent, by port-forward: of the kubeconfig's current context, or of --cluster=CONTEXT")
	fs.Lookup("cluster").NoOptDefVal = currentContext
	fs.StringVar(&t.kubeconfig, "kubeconfig", "", "with --cluster: this file instead of $KUBECONFIG or ~/.kube/config")
}

// dialCluster makes a client of the cluster's relay. It is looked for at the first call.
func (t *target) dialCluster(options []connect.ClientOption) (vigiev1connect.VigieClient, error) {
	if t.address != "" || t.socketGiven() {
		return nil, Cannot(fmt.Errorf("--cluster, --address and --socket are ways to different places: give one of them"))
	}
	secure, err := t.tls()
	if err != nil {
		return nil, Cannot(err)
	}
	way := &clusterWay{target: t, secure: secure}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true) // TLS, where it is spoken, is inside of the connection
	transport := &http.Transport{DisableCompression: true, Protocols: protocols, DialContext: way.dial}
	if t.tokenFile == "" {
		options = append(options, connect.WithInterceptors(way))
	}
	return vigiev1connect.NewVigieClient(&http.Client{Transport: transport}, "http://relay", options...), nil
}

// clusterWay is the way to a cluster's relay, found once.
type clusterWay struct {
	target *target
	secure *tls.Config // of --ca-file; nil without

	mu    sync.Mutex
	found *agent.ClusterRelay
}

func (w *clusterWay) relay(ctx context.Context) (*agent.ClusterRelay, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.found != nil {
		return w.found, nil
	}
	find, name := w.target.find, w.target.cluster
	if find == nil {
		find = agent.FindClusterRelay
	}
	if name == currentContext {
		name = ""
	}
	r, err := find(ctx, w.target.kubeconfig, name, "cli")
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	w.found = &r
	return w.found, nil
}

func (w *clusterWay) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	r, err := w.relay(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := r.Dial(ctx)
	if err != nil || r.TLS == nil {
		return conn, err
	}
	config := r.TLS.Clone()
	config.NextProtos = []string{"h2"}
	if w.secure != nil {
		config.RootCAs = w.secure.RootCAs
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("speak TLS with %s: %w; give the authority of its certificate with --ca-file", r.Name, err)
	}
	return secure, nil
}

// WrapUnary implements connect.Interceptor: the relay's own token is presented.
func (w *clusterWay) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, q connect.AnyRequest) (connect.AnyResponse, error) {
		r, err := w.relay(ctx)
		if err != nil {
			return nil, err
		}
		return bearer(r.Token).WrapUnary(next)(ctx, q)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (w *clusterWay) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		r, err := w.relay(ctx)
		if err != nil {
			return next(ctx, spec) // the call finds out itself
		}
		return bearer(r.Token).WrapStreamingClient(next)(ctx, spec)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (w *clusterWay) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
