// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// certificate writes a key and a certificate for 127.0.0.1.
func (w *world) certificate() (cert, key string) {
	w.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &k.PublicKey, k)
	if err != nil {
		w.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.file("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		w.file("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})))
}

func (w *world) tlsNginx() {
	w.t.Helper()
	cert, key := w.certificate()
	w.nginx("listen 127.0.0.1:80; listen 127.0.0.1:443 ssl http2; ssl_certificate " + cert + "; ssl_certificate_key " + key + ";")
}

// said checks a request over TLS at one end.
func (w *world) said(role, library string, at func(*model.Request) bool) *model.Request {
	w.t.Helper()
	e := w.request(role, func(r *model.Request) bool { return r.TLS == library && at(r) })
	r := e.Request
	end := r.Remote
	if role == "server" {
		end = r.Local
	}
	if r.Status != 200 || r.Latency <= 0 || r.Cookie == 0 || end.Port() != 443 || e.Key.IsZero() {
		w.t.Errorf("%s: %+v", role, r)
	}
	return r
}

func TestOpenSSL(t *testing.T) {
	w := newWorld(t)
	curl := w.need("curl", "curl")
	w.tlsNginx()
	w.probed("/usr/lib/*/libssl.so.3")
	w.run(curl, "-s", "-k", "--http1.1", "-u", "anna:secret-of-anna", "https://127.0.0.1/small.html?secret-of-the-query", "https://127.0.0.1/large.bin")
	for _, role := range []string{"client", "server"} {
		if r := w.said(role, "openssl", at("/small.html")); r.Version != "HTTP/1.1" || r.ResponseBytes != 5 {
			t.Errorf("%s: %+v", role, r)
		}
		if r := w.said(role, "openssl", at("/large.bin")); r.ResponseBytes != 950000 || r.Duration <= r.Latency {
			t.Errorf("%s: %+v", role, r)
		}
	}
	w.hidden("secret-of", "c2VjcmV0")
}

func TestGnuTLS(t *testing.T) {
	w := newWorld(t)
	wget := w.need("wget", "wget")
	w.tlsNginx()
	w.probed("/usr/lib/*/libssl.so.3")
	w.probed("/usr/lib/*/libgnutls.so.30")
	w.run(wget, "-q", "-O", "/dev/null", "--no-check-certificate", "--header=Authorization: Bearer secret-of-wget", "https://127.0.0.1/small.html?secret-of-the-query")
	if r := w.said("client", "gnutls", at("/small.html")); r.Version != "HTTP/1.1" || r.ResponseBytes != 5 {
		t.Errorf("%+v", r)
	}
	w.said("server", "openssl", at("/small.html"))
	w.hidden("secret-of")
}

func TestHTTP2OverOpenSSL(t *testing.T) {
	w := newWorld(t)
	curl := w.need("curl", "curl")
	w.tlsNginx()
	w.probed("/usr/lib/*/libssl.so.3")
	w.run(curl, "-s", "-k", "--http2", "-H", "Authorization: Bearer secret-of-curl", "https://127.0.0.1/small.html?secret-of-the-query",
		"https://127.0.0.1/large.bin", "https://127.0.0.1/small.html?again")
	for _, role := range []string{"client", "server"} {
		for path, size := range map[string]uint64{"/small.html": 5, "/large.bin": 950000} {
			if r := w.said(role, "openssl", at(path)); r.Version != "HTTP/2" || r.ResponseBytes != size || r.Host != "127.0.0.1" {
				t.Errorf("%s: %+v", role, r)
			}
		}
	}
	w.hidden("secret-of", "again")
}
