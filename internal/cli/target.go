// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/pflag"

	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// DefaultSocket is where the agent listens unless it is told otherwise.
const DefaultSocket = "/run/vigie/vigie.sock"

// maxMessage bounds one message from an agent, in bytes: a full batch of events with long arguments.
const maxMessage = 64 << 20

// target is the agent that a command asks.
type target struct {
	socket    string
	address   string
	tokenFile string
	caFile    string

	// The relay of a cluster instead:
	cluster    string // context, or currentContext; empty for none
	kubeconfig string
	find       findRelay // nil for the real one
	given      *pflag.FlagSet

	warn io.Writer // where it is said which nodes a relay's answer is without; nil for nowhere
}

func (t *target) flags(fs *pflag.FlagSet) {
	fs.StringVar(&t.socket, "socket", DefaultSocket, "unix socket of the agent")
	fs.StringVar(&t.address, "address", "", "agent over TCP instead of the socket: http://HOST:PORT or https://HOST:PORT")
	fs.StringVar(&t.tokenFile, "token-file", "", "with --address: file that holds the token to present")
	fs.StringVar(&t.caFile, "ca-file", "", "with an https --address: PEM file of the certificate authority to trust instead of the system's")
	t.clusterFlags(fs)
	t.given = fs
}

// socketGiven reports whether the socket was chosen, and is not the default.
func (t *target) socketGiven() bool { return t.given != nil && t.given.Changed("socket") }

// String names the agent in messages.
func (t *target) String() string {
	switch {
	case t.cluster == currentContext:
		return "the cluster's relay"
	case t.cluster != "":
		return "the relay of cluster " + t.cluster
	case t.address != "":
		return t.address
	}
	return t.socket
}

// dial makes a client. Nothing is sent before its first call.
func (t *target) dial() (vigiev1connect.VigieClient, error) {
	options := []connect.ClientOption{connect.WithReadMaxBytes(maxMessage)}
	if t.tokenFile != "" {
		token, err := os.ReadFile(t.tokenFile)
		if err != nil {
			return nil, Cannot(fmt.Errorf("read token: %w", err))
		}
		options = append(options, connect.WithInterceptors(bearer(strings.TrimSpace(string(token)))))
	}
	if t.cluster != "" {
		return t.dialCluster(options)
	}
	transport := &http.Transport{DisableCompression: true}
	base := "http://vigie"
	if t.address == "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", t.socket)
		}
	} else {
		u, err := url.Parse(t.address)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, Cannot(fmt.Errorf("--address %q: give it as http://HOST:PORT or https://HOST:PORT", t.address))
		}
		base = strings.TrimRight(t.address, "/")
		if transport.TLSClientConfig, err = t.tls(); err != nil {
			return nil, Cannot(err)
		}
		transport.ForceAttemptHTTP2 = true
	}
	return vigiev1connect.NewVigieClient(&http.Client{Transport: transport}, base, options...), nil
}

func (t *target) tls() (*tls.Config, error) {
	if t.caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(t.caFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca-file %s holds no PEM certificate", t.caFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// bearer presents a token with every call.
type bearer string

// WrapUnary implements connect.Interceptor.
func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, req)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// explain turns an error of a call into one that says what to do next.
func (t *target) explain(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	message := err.Error()
	var ce *connect.Error
	if errors.As(err, &ce) {
		message = ce.Message()
	}
	code := connect.CodeOf(err)
	switch {
	case t.cluster != "" && code == connect.CodeUnavailable:
		return Cannot(errors.New(message))
	case t.address == "" && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)):
		return Cannot(fmt.Errorf("no agent answers at %s: start one with `sudo vigie run`", t.socket))
	case t.address == "" && (errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)):
		return Cannot(fmt.Errorf("not allowed to use %s: run this command as root, or as a member of the group given to `vigie run --socket-group`", t.socket))
	case code == connect.CodePermissionDenied || code == connect.CodeUnauthenticated:
		next := "run this command as root, or as a member of the group given to `vigie run --socket-group`"
		if t.address != "" || t.cluster != "" {
			next = "give its token with --token-file"
		}
		if strings.Contains(message, "--client-ca-file") {
			next = "ask the relay, which has one, or the agent's unix socket"
		}
		return Cannot(fmt.Errorf("the agent at %s refuses: %s: %s", t, message, next))
	case code == connect.CodeInvalidArgument:
		return Cannot(errors.New(message))
	case code == connect.CodeNotFound, code == connect.CodeFailedPrecondition:
		return errors.New(message)
	case code == connect.CodeResourceExhausted:
		return fmt.Errorf("the agent at %s is busy: %s: end another client and try again", t, message)
	case code == connect.CodeUnimplemented:
		return Cannot(fmt.Errorf("what answers at %s is no vigie agent of this version: compare `vigie version` with `vigie status`", t))
	case code == connect.CodeUnavailable && t.address != "":
		return Cannot(fmt.Errorf("no agent answers at %s: %s: start one there with `vigie run --http HOST:PORT`", t, message))
	case code == connect.CodeUnavailable:
		return fmt.Errorf("the agent at %s went away: %s: see its log, then start it again", t, message)
	}
	return fmt.Errorf("ask the agent at %s: %s", t, message)
}
