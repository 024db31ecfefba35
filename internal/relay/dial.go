// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// DialOptions say how agents are reached.
type DialOptions struct {
	// TokenFile holds the token that they ask for; empty for none. It is read again when it may have changed.
	TokenFile string
	// CAFile is the PEM file of who signed their certificates; empty for agents that speak no TLS.
	CAFile string
	// CertFile and KeyFile are the PEM files of the certificate that agents may ask for; empty for none. They are read for each connection.
	CertFile, KeyFile string
	// ServerName is the name that their certificates are for; empty for the address of each.
	ServerName string
}

// maxMessage bounds a message from an agent, in bytes: a full batch of events with long arguments.
const maxMessage = 64 << 20

// Dialer makes the clients of agents. Each agent has its own connection; one that is dead is noticed by a ping.
func Dialer(o DialOptions) (func(Agent) (*http.Client, string, []connect.ClientOption), error) {
	var secure *tls.Config
	scheme := "http://"
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate authority of agents: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the certificate authority of agents, %s, holds no PEM certificate", o.CAFile)
		}
		secure = &tls.Config{RootCAs: pool, ServerName: o.ServerName, MinVersion: tls.VersionTLS12}
		if err := o.identify(secure); err != nil {
			return nil, err
		}
		scheme = "https://"
	} else if o.ServerName != "" || o.CertFile != "" || o.KeyFile != "" {
		return nil, errors.New("a server name, a certificate and its key are for TLS: give the authority of the agents' certificates with them")
	}
	options := []connect.ClientOption{connect.WithReadMaxBytes(maxMessage)}
	if o.TokenFile != "" {
		token := &tokenFile{path: o.TokenFile}
		if _, err := token.read(); err != nil {
			return nil, err
		}
		options = append(options, connect.WithInterceptors(token))
	}
	return func(a Agent) (*http.Client, string, []connect.ClientOption) {
		protocols := new(http.Protocols)
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{DisableCompression: true, TLSClientConfig: secure.Clone(), Protocols: protocols,
			DialContext: (&net.Dialer{Timeout: 3 * time.Second}).DialContext, TLSHandshakeTimeout: 3 * time.Second,
			HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second}}
		return &http.Client{Transport: transport}, scheme + a.Address, options
	}, nil
}

// identify has connections present the certificate.
func (o *DialOptions) identify(c *tls.Config) error {
	if o.CertFile == "" && o.KeyFile == "" {
		return nil
	}
	cert, key := o.CertFile, o.KeyFile
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("load the certificate for agents and its key: %w", err)
		}
		return &pair, nil
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	_, err := load() // whether it can be
	return err
}

// tokenFile presents a token with every call.
type tokenFile struct {
	path string

	mu    sync.Mutex
	token string
	until time.Time // read again then
}

func (t *tokenFile) read() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Before(t.until) {
		return t.token, nil
	}
	b, err := os.ReadFile(t.path)
	switch {
	case err == nil:
		t.token = strings.TrimSpace(string(b))
	case t.token == "":
		return "", fmt.Errorf("read the token of agents: %w", err)
	}
	t.until = now.Add(10 * time.Second)
	return t.token, nil
}

// WrapUnary implements connect.Interceptor.
func (t *tokenFile) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, q connect.AnyRequest) (connect.AnyResponse, error) {
		token, err := t.read()
		if err != nil {
			return nil, connect.NewError(connect.CodeUnauthenticated, err)
		}
		q.Header().Set("Authorization", "Bearer "+token)
		return next(ctx, q)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (t *tokenFile) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		if token, err := t.read(); err == nil {
			conn.RequestHeader().Set("Authorization", "Bearer "+token)
		}
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (t *tokenFile) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
