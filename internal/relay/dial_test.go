// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// identity is a certificate that has signed itself, and its key, as files.
type identity struct {
	cert, key string
	pool      *x509.CertPool
}

func newIdentity(t *testing.T, dir, name string) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"), x509.NewCertPool()}
	for file, block := range map[string]*pem.Block{id.cert: {Type: "CERTIFICATE", Bytes: der}, id.key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	id.pool.AddCert(parsed)
	return id
}

// agentAt answers by TLS who has a certificate of these clients' authority, with the name in it.
func agentAt(t *testing.T, id identity, clients *x509.CertPool) *httptest.Server {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(id.cert, id.key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName+" by "+r.Proto)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// Both ends of a connection are known by their certificates: an agent that is another is not talked to, and the relay presents its own, as
// it is in the file by then.
func TestBothEndsAreKnownByTheirCertificates(t *testing.T) {
	dir := t.TempDir()
	agent, relay, stranger := newIdentity(t, dir, "agent"), newIdentity(t, dir, "relay"), newIdentity(t, dir, "stranger")
	clients := relay.pool.Clone()
	get := func(o DialOptions, s *httptest.Server) (string, error) {
		t.Helper()
		dial, err := Dialer(o)
		if err != nil {
			t.Fatal(err)
		}
		client, base, _ := dial(Agent{Address: s.Listener.Addr().String()})
		answer, err := client.Get(base)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		return string(b), err
	}
	mutual := DialOptions{CAFile: agent.cert, CertFile: relay.cert, KeyFile: relay.key, ServerName: "agent"}
	if got, err := get(mutual, agentAt(t, agent, clients)); err != nil || got != "relay by HTTP/2.0" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := get(DialOptions{CAFile: agent.cert, ServerName: "agent"}, agentAt(t, agent, clients)); err == nil {
		t.Errorf("without a certificate: %q", got)
	}
	if _, err := get(mutual, agentAt(t, stranger, clients)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an agent that is another: %v", err)
	}
	other := mutual
	other.ServerName = "another"
	if _, err := get(other, agentAt(t, agent, clients)); err == nil || !strings.Contains(err.Error(), "not another") {
		t.Errorf("an agent of another name: %v", err)
	}
	dial, err := Dialer(mutual)
	if err != nil {
		t.Fatal(err)
	}
	renewed := newIdentity(t, dir, "relay") // over the same files
	s := agentAt(t, agent, renewed.pool)
	client, base, _ := dial(Agent{Address: s.Listener.Addr().String()})
	answer, err := client.Get(base)
	if err != nil {
		t.Fatalf("with a certificate that was renewed since: %v", err)
	}
	answer.Body.Close()
}

func TestCertificatesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	id := newIdentity(t, dir, "relay")
	for name, c := range map[string]struct {
		o    DialOptions
		want string
	}{
		"without an authority": {DialOptions{CertFile: id.cert, KeyFile: id.key}, "give the authority"},
		"a name alone":         {DialOptions{ServerName: "x"}, "give the authority"},
		"no key":               {DialOptions{CAFile: id.cert, CertFile: id.cert}, "load the certificate for agents"},
		"another file":         {DialOptions{CAFile: id.cert, CertFile: id.key, KeyFile: id.key}, "load the certificate for agents"},
		"no authority in it":   {DialOptions{CAFile: id.key}, "holds no PEM certificate"},
	} {
		if _, err := Dialer(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
