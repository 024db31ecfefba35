// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/tls"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// Where clients must have a certificate, the token alone opens nothing but the metrics, and the certificate alone nothing. Probes have neither.
func TestClientCertificates(t *testing.T) {
	mine, relays, others := t.TempDir(), t.TempDir(), t.TempDir()
	cert, key, pool := certificate(t, mine)
	relayCert, relayKey, _ := certificate(t, relays)
	otherCert, otherKey, _ := certificate(t, others)
	const secret = "0123456789abcdef0123456789abcdef"
	token := filepath.Join(mine, "token")
	write(t, token, secret, 0o600)
	r := start(t, func(c *Config) { c.TLSCert, c.TLSKey, c.TokenFile, c.ClientCAFile = cert, key, token, relayCert })
	client := func(cert, key string) *http.Client {
		c := &tls.Config{RootCAs: pool}
		if cert != "" {
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			// Presented whether or not the server says that it would do.
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}}
	}
	ask := func(h *http.Client, token string) error {
		request := connect.NewRequest(&pb.HealthRequest{})
		if token != "" {
			request.Header().Set("Authorization", "Bearer "+token)
		}
		_, err := vigiev1connect.NewVigieClient(h, "https://"+r.tcp(), connect.WithGRPC()).Health(t.Context(), request)
		return err
	}
	relay, nobody := client(relayCert, relayKey), client("", "")
	if err := ask(relay, secret); err != nil {
		t.Errorf("with certificate and token: %v", err)
	}
	if err := ask(relay, ""); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("without the token: %v", err)
	}
	if err := ask(nobody, secret); connect.CodeOf(err) != connect.CodeUnauthenticated || !strings.Contains(err.Error(), "--client-ca-file") { // the command looks for it
		t.Errorf("without a certificate: %v", err)
	}
	if err := ask(client(otherCert, otherKey), secret); err == nil {
		t.Error("with a certificate of somebody else it is answered")
	}
	if err := ask(client(cert, key), secret); err == nil {
		t.Error("the server's own certificate is as good as a client's")
	}
	for _, c := range []struct {
		path, token string
		want        int
	}{{"/metrics", secret, 200}, {"/metrics", "", 401}, {"/healthz", "", 200}, {"/readyz", "", 200}, {"/vigie.v1.Vigie/Health", secret, 401}} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.tcp()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.token != "" {
			q.Header.Set("Authorization", "Bearer "+c.token)
		}
		answer, err := nobody.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != c.want {
			t.Errorf("%s with token %q and no certificate: %d, want %d", c.path, c.token, answer.StatusCode, c.want)
		}
	}
}
