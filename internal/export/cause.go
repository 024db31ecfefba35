// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// NamedError is an error whose cause is known by a name: one of few, because each is a loss counter.
type NamedError struct {
	Name string
	Err  error
}

func (f *NamedError) Error() string { return f.Err.Error() }
func (f *NamedError) Unwrap() error { return f.Err }

// Cause is why sending failed, in one of few words: what losses are counted under.
func Cause(err error) string {
	var named *NamedError
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &named):
		return named.Name
	case errors.As(err, &cert), errors.As(err, &header), errors.As(err, &alert):
		return "no TLS connection"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &dns):
		return "name not found"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "closed by the destination"
	}
	return "failed"
}
