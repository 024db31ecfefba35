// SPDX-License-Identifier: Apache-2.0

package install

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"strings"
	"text/template"
	"time"

	"sigs.k8s.io/yaml"
)

// functions are those of Helm's that the chart uses, with what Helm's do (https://helm.sh/docs/chart_template_guide/function_list).
func functions(all *template.Template, lookup func(kind, namespace, name string) (map[string]any, error)) template.FuncMap {
	return template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var out strings.Builder
			err := all.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"toYaml": func(v any) (string, error) {
			data, err := yaml.Marshal(v)
			return strings.TrimSuffix(string(data), "\n"), err
		},
		"fromYaml": func(text string) (map[string]any, error) {
			v := map[string]any{}
			return v, yaml.Unmarshal([]byte(text), &v)
		},
		"set": func(m map[string]any, name string, v any) map[string]any {
			m[name] = v
			return m
		},
		"toJson": func(v any) (string, error) {
			data, err := json.Marshal(v)
			return string(data), err
		},
		"quote":     func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
		"indent":    indent,
		"nindent":   func(n int, s string) string { return "\n" + indent(n, s) },
		"list":      func(items ...any) []any { return items },
		"b64enc":    func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"sha256sum": func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) },
		"default": func(otherwise, v any) any {
			if v == nil || v == "" || v == false {
				return otherwise
			}
			return v
		},
		"lookup": func(_, kind, namespace, name string) (map[string]any, error) {
			if lookup == nil {
				return nil, nil
			}
			return lookup(kind, namespace, name)
		},
		"randAlphaNum": func(n int) string { return rand.Text()[:min(n, 26)] },
		"genCA": func(name string, days int) (certificate, error) {
			return issue(name, nil, nil, days, nil)
		},
		"genSignedCert": func(name string, ips, names []any, days int, ca certificate) (certificate, error) {
			return issue(name, ips, names, days, &ca)
		},
	}
}

func indent(n int, s string) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad)
}

// files is the chart's folder as templates see it.
type files struct{ fs.FS }

// Glob gives the files whose names match.
func (f files) Glob(pattern string) (map[string][]byte, error) {
	names, err := fs.Glob(f.FS, pattern)
	found := map[string][]byte{}
	for _, name := range names {
		data, readErr := fs.ReadFile(f.FS, name)
		found[name], err = data, errors.Join(err, readErr)
	}
	return found, err
}

// Get gives the content of a file.
func (f files) Get(name string) (string, error) {
	data, err := fs.ReadFile(f.FS, name)
	return string(data), err
}

// certificate is a certificate with its key, in PEM.
type certificate struct {
	Cert, Key string
	parsed    *x509.Certificate
	key       *ecdsa.PrivateKey
}

// issue makes a certificate of a server or a client, signed by ca, or an authority when that is nil.
func issue(name string, ips, names []any, days int, ca *certificate) (certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return certificate{}, err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, days), // clocks of nodes may be late
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, v := range ips {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(fmt.Sprint(v)))
	}
	for _, v := range names {
		t.DNSNames = append(t.DNSNames, fmt.Sprint(v))
	}
	parent, signer := t, key
	if ca == nil {
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage, t.ExtKeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature, nil
	} else {
		parent, signer = ca.parsed, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return certificate{}, fmt.Errorf("issue a certificate for %s: %w", name, err)
	}
	parsed, parseErr := x509.ParseCertificate(der)
	keyDER, keyErr := x509.MarshalECPrivateKey(key)
	if err := errors.Join(parseErr, keyErr); err != nil {
		return certificate{}, err
	}
	return certificate{Cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})), parsed: parsed, key: key}, nil
}
