// SPDX-License-Identifier: Apache-2.0

package all

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// tlsConfig is how receivers are checked and what is shown to them.
func (d *Destinations) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.ExportTLSCA != "" {
		pem, err := os.ReadFile(d.ExportTLSCA)
		if err != nil {
			return nil, fmt.Errorf("export-tls-ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("export-tls-ca: %s holds no certificate in PEM", d.ExportTLSCA)
		}
	}
	if d.ExportTLSCert != "" {
		pair, err := tls.LoadX509KeyPair(d.ExportTLSCert, d.ExportTLSKey)
		if err != nil {
			return nil, fmt.Errorf("export-tls-cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// mechanism reads who the agent says it is to Kafka.
func mechanism(path string) (sasl.Mechanism, error) {
	if path == "" {
		return nil, nil
	}
	const option = "export-kafka-sasl-file"
	lines, err := pairs(option, path)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for _, l := range lines {
		switch l[0] {
		case "mechanism", "user", "password":
			values[l[0]] = l[1]
		default:
			return nil, fmt.Errorf("%s: %s: unknown field %q; known are mechanism, user, password", option, path, l[0])
		}
	}
	if values["user"] == "" || values["password"] == "" {
		return nil, fmt.Errorf("%s: %s: user and password are both needed", option, path)
	}
	auth := scram.Auth{User: values["user"], Pass: values["password"]}
	switch strings.ToUpper(values["mechanism"]) {
	case "PLAIN":
		return plain.Auth{User: auth.User, Pass: auth.Pass}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return auth.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return auth.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("%s: %s: mechanism %q: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", option, path, values["mechanism"])
}
