// SPDX-License-Identifier: Apache-2.0

// Package syslog exports events as syslog messages (RFC 5424), a JSON object in each, over a unix socket, UDP (RFC 5426),
// TCP (RFC 6587, octet counting) or TLS (RFC 5425). In: events of the hub. Out: messages to one receiver.
//
// Syslog has no answers: a message that was written counts as sent, and what a receiver throws away, or had not read when
// its connection broke, is not known. By UDP that is any message.
package syslog

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Name is what status and the table of losses call the exporter.
const Name = "export syslog"

// Options configure an exporter.
type Options struct {
	Address string // unix:///dev/log, udp://HOST[:514], tcp://HOST[:601], tls://HOST[:6514]
	TLS     *tls.Config
	Host    string // of this machine; empty: "-"
	PID     int
	Encode  export.Encoder
	Keep    func(*model.Event) bool
	Backoff func(failures int) time.Duration
	Timeout time.Duration // of one attempt

	Log    *slog.Logger
	Losses *pipeline.Losses
}

// New returns an exporter. It connects when it has something to send. Errors: the address is none.
func New(o Options) (export.Exporter, error) {
	network, address, err := ParseAddress(o.Address)
	if err != nil {
		return nil, err
	}
	s := &sender{network: network, address: address, tls: o.TLS, encode: o.Encode, host: field(o.Host, 255), pid: strconv.Itoa(o.PID)}
	return export.NewDelivery(export.Options{Name: Name, Keep: o.Keep, Backoff: o.Backoff, Timeout: o.Timeout, Log: o.Log, Losses: o.Losses}, s), nil
}

// ParseAddress takes an address apart. Network is unix, udp, tcp or tls.
func ParseAddress(s string) (network, address string, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", "", fmt.Errorf("%q is no URL: %w", s, err)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("%q: the address takes nothing but a host and a port, or a path", s)
	}
	if u.Scheme == "unix" {
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return "", "", fmt.Errorf("%q: write unix:// and an absolute path: unix:///dev/log", s)
		}
		return "unix", u.Path, nil
	}
	port := map[string]string{"udp": "514", "tcp": "601", "tls": "6514"}[u.Scheme]
	switch {
	case port == "":
		return "", "", fmt.Errorf("%q: the address begins with unix://, udp://, tcp:// or tls://", s)
	case u.Hostname() == "" || strings.Trim(u.Path, "/") != "":
		return "", "", fmt.Errorf("%q: write %s://HOST or %s://HOST:PORT", s, u.Scheme, u.Scheme)
	case u.Port() != "":
		port = u.Port()
	}
	return u.Scheme, net.JoinHostPort(u.Hostname(), port), nil
}

// sender implements export.Sink.
type sender struct {
	network, address string
	tls              *tls.Config
	encode           export.Encoder
	host, pid        string

	scratch  []byte // of Encode
	conn     net.Conn
	datagram bool
}

// Encode implements export.Sink.
func (s *sender) Encode(e *model.Event) (message []byte, size int, ok bool) {
	b := s.header(s.scratch[:0], e)
	before := len(b)
	b = s.encode(b, e)
	s.scratch = b
	if len(b) == before {
		return nil, 0, false
	}
	return bytes.Clone(b), len(b), true
}

// The numbers of RFC 5424, section 6.2.1.
const (
	facilityDaemon = 3
	facilityAuth   = 10 // security, of alerts and verdicts

	severityCritical = 2
	severityError    = 3
	severityWarning  = 4
	severityNotice   = 5
	severityInfo     = 6
)

// header appends everything before the message: "<86>1 2026-03-01T12:30:15.123456Z host vigie 812 alert - ".
func (s *sender) header(dst []byte, e *model.Event) []byte {
	facility, severity := priority(e)
	dst = strconv.AppendInt(append(dst, '<'), int64(facility*8+severity), 10)
	dst = e.Time.UTC().AppendFormat(append(dst, ">1 "...), "2006-01-02T15:04:05.000000Z")
	for _, text := range []string{s.host, "vigie", s.pid, string(e.Type), "-"} {
		dst = append(append(dst, ' '), text...)
	}
	return append(dst, ' ')
}

func priority(e *model.Event) (facility, severity int) {
	switch {
	case e.Alert != nil:
		switch e.Alert.Severity {
		case model.SeverityCritical:
			return facilityAuth, severityCritical
		case model.SeverityHigh:
			return facilityAuth, severityError
		case model.SeverityMedium:
			return facilityAuth, severityWarning
		}
		return facilityAuth, severityNotice
	case e.Verdict != nil:
		if e.Verdict.Action == model.VerdictAudited {
			return facilityAuth, severityNotice
		}
		return facilityAuth, severityWarning
	case e.Loss != nil:
		return facilityDaemon, severityWarning
	}
	return facilityDaemon, severityInfo
}

// field is a text that a header can hold: printable ASCII without blanks, of bounded length; "-" when nothing is left.
func field(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	if text == "" {
		return "-"
	}
	return text[:min(len(text), most)]
}

// Send implements export.Sink. Over a stream it is sure of a message when all of it was written.
func (s *sender) Send(ctx context.Context, messages [][]byte) (int, error) {
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	// A deadline alone would not do: ctx also ends when the agent does.
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if s.datagram {
		return s.sendDatagrams(messages)
	}
	sent := 0
	for sent < len(messages) {
		n, err := s.write(messages[sent:])
		sent += n
		if err != nil {
			s.disconnect()
			return sent, fmt.Errorf("write to %s: %w", s.address, err)
		}
	}
	return sent, nil
}

// chunk is how many bytes are written at once over a stream.
const chunk = 64 << 10

// write writes some messages, at least one, and returns how many of them were written whole.
func (s *sender) write(messages [][]byte) (int, error) {
	var b []byte
	var ends []int // of each message in b
	for _, m := range messages {
		if s.network == "unix" { // a stream of a local syslog daemon: a line a message, which is what those read
			b = append(append(b, m...), '\n')
		} else {
			b = append(strconv.AppendInt(b, int64(len(m)), 10), ' ')
			b = append(b, m...)
		}
		if ends = append(ends, len(b)); len(b) >= chunk {
			break
		}
	}
	n, err := s.conn.Write(b)
	whole := 0
	for whole < len(ends) && ends[whole] <= n {
		whole++
	}
	return whole, err
}

// sendDatagrams sends each message on its own. One that is too long for the socket is lost alone.
func (s *sender) sendDatagrams(messages [][]byte) (int, error) {
	for i, m := range messages {
		_, err := s.conn.Write(m)
		switch {
		case err == nil:
		case errors.Is(err, syscall.EMSGSIZE):
			return i + 1, &export.RefusedError{Items: 1, Reason: "message too long", Detail: strconv.Itoa(len(m)) + " bytes"}
		case errors.Is(err, syscall.ECONNREFUSED) && s.network == "udp":
			// It tells of an earlier message, which nobody took; this one was not sent.
			return i, fmt.Errorf("send to %s: %w", s.address, err)
		default:
			s.disconnect()
			return i, fmt.Errorf("send to %s: %w", s.address, err)
		}
	}
	return len(messages), nil
}

// connect connects, unless it is.
func (s *sender) connect(ctx context.Context) error {
	if s.conn != nil && (s.datagram || !hungUp(s.conn)) {
		return s.conn.SetDeadline(time.Time{})
	}
	if s.conn != nil {
		s.disconnect()
	}
	var d net.Dialer
	var err error
	switch s.network {
	case "unix":
		// Like syslog(3): a datagram socket first, a stream where that is none.
		s.datagram = true
		if s.conn, err = d.DialContext(ctx, "unixgram", s.address); errors.Is(err, syscall.EPROTOTYPE) {
			s.datagram = false
			s.conn, err = d.DialContext(ctx, "unix", s.address)
		}
	case "tls":
		s.conn, err = (&tls.Dialer{Config: s.tls}).DialContext(ctx, "tcp", s.address)
	default:
		s.datagram = s.network == "udp"
		s.conn, err = d.DialContext(ctx, s.network, s.address)
	}
	if err != nil {
		s.conn = nil
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("connect: %w; does a syslog daemon run here?", err)
		}
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// hungUp reports whether the other end has closed a stream. A write would still succeed, into nothing.
func hungUp(c net.Conn) bool {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	return gone || err != nil
}

func (s *sender) disconnect() {
	_ = s.conn.Close()
	s.conn = nil
}

// Close implements export.Sink.
func (s *sender) Close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}
