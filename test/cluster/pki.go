// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

// pair is a certificate and its key.
type pair struct {
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
	certPEM, keyPEM []byte
}

// identities issues the authority and everybody's certificates into the folder pki, and a kubeconfig for each.
// The cluster's kubeconfig is the administrator's, by the address outside. It returns the administrator's client.
func (c *cluster) identities(server, outside string) (*http.Client, error) {
	ca, err := issue(nil, "lab-ca", nil, nil, nil)
	if err != nil {
		return nil, err
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	addresses := []net.IP{net.ParseIP(controlPlaneIP), net.ParseIP("127.0.0.1"), net.ParseIP(kubernetesIP)}
	apiServer, err := issue(ca, "kube-apiserver", nil, names, addresses)
	if err != nil {
		return nil, err
	}
	accounts, err := issue(nil, "service-accounts", nil, nil, nil)
	if err != nil {
		return nil, err
	}
	for name, p := range map[string]*pair{"ca": ca, "apiserver": apiServer, "service-accounts": accounts} {
		if err := p.write(c.pki(name)); err != nil {
			return nil, err
		}
	}
	users := map[string][]string{"admin": {"system:masters"}, "kubelet-client": {"system:masters"}, "front-proxy": nil,
		"system:kube-controller-manager": nil, "system:kube-scheduler": nil, "system:kube-proxy": {"system:node-proxier"}}
	for _, n := range c.NodeNames() {
		users["system:node:"+n] = []string{"system:nodes"}
	}
	var admin *pair
	for user, groups := range users {
		p, err := issue(ca, user, groups, nil, nil)
		if err != nil {
			return nil, err
		}
		if user == "admin" {
			admin = p
		}
		if err := p.write(c.pki(user)); err != nil {
			return nil, err
		}
		if err := kubeconfig(c.pki(user+".kubeconfig"), server, ca, p); err != nil {
			return nil, err
		}
	}
	if err := kubeconfig(c.path("kubeconfig"), outside, ca, admin); err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(admin.certPEM, admin.keyPEM)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64,
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}}, nil
}

// issue makes a certificate for clients and servers, signed by ca, or an authority when that is nil.
func issue(ca *pair, name string, groups, dns []string, ips []net.IP) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: groups},
		// Clocks that tests set back still find it valid.
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), DNSNames: dns, IPAddresses: ips,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	parent, signer := t, key
	if ca == nil {
		t.IsCA, t.BasicConstraintsValid, t.ExtKeyUsage = true, true, nil
		t.KeyUsage |= x509.KeyUsageCertSign
	} else {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &pair{cert: cert, key: key, certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})}, nil
}

func (p *pair) write(base string) error {
	if err := os.WriteFile(base+".crt", p.certPEM, 0o644); err != nil {
		return err
	}
	return os.WriteFile(base+".key", p.keyPEM, 0o600)
}

func kubeconfig(file, server string, ca, user *pair) error {
	b64 := base64.StdEncoding.EncodeToString
	return os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "%s", certificate-authority-data: %s}}]
users: [{name: lab, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
current-context: lab
`, server, b64(ca.certPEM), b64(user.certPEM), b64(user.keyPEM)), 0o600)
}
