// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/protocols"
	"github.com/vigie-io/vigie/internal/model"
)

const (
	barParse = 3 * time.Microsecond // of CPU, for a request

	loadHTTP     = "http"
	loadRequests = "http, looked at"
)

// httpRequest and httpAnswer are what the worker says: as a browser and a server would.
const httpRequest = "GET /api/v1/orders/4711/items?page=2 HTTP/1.1\r\nHost: shop.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
	"Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nConnection: keep-alive\r\n\r\n"

func httpAnswer() string {
	return "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 26 Nov 2026 22:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 600\r\n" +
		"Connection: keep-alive\r\nVary: Accept-Encoding\r\n\r\n" + strings.Repeat("x", 600)
}

// requests measures HTTP on a connection without an agent, with one, and with one that looks at requests; and the parser alone.
func (b *bench) requests(ctx context.Context) error {
	parse, err := parseTime()
	if err != nil {
		return err
	}
	b.results.Parse = parse
	for _, l := range []load{{name: loadHTTP}, {name: loadRequests, flags: []string{"--l7", "all"}}} {
		l.unit, l.arms, l.warm = "request and answer", []string{without, withAgent}, warmUp
		l.run = func(ctx context.Context, d time.Duration) (done, error) {
			return b.workers(ctx, job{kind: "http", duration: d}, 1)
		}
		if err := b.compare(ctx, &l); err != nil {
			return err
		}
	}
	return nil
}

// parseTime is the CPU time of the parser for a request with its answer, at its best of several turns.
func parseTime() (time.Duration, error) {
	var counts l7.Counts
	told := 0
	c := l7.NewConn(protocols.All(), &counts, func(*model.Request, uint64) { told++ })
	asks, answers := []byte(httpRequest), []byte(httpAnswer())
	var sent, received uint32
	const n, turns = 50_000, 5
	var best time.Duration
	for range turns {
		took, err := cpuOf(func() error {
			for i := range uint64(n) {
				c.Feed(l7.Chunk{Time: i, Sent: true, Pos: sent, Data: asks, Size: len(asks)})
				c.Feed(l7.Chunk{Time: i, Pos: received, Data: answers, Size: len(answers)})
				sent += uint32(len(asks))
				received += uint32(len(answers))
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		if best == 0 || took < best {
			best = took
		}
	}
	if told != n*turns {
		return 0, fmt.Errorf("parse requests: %d were told, of %d", told, n*turns)
	}
	return best / n, nil
}

// httpStep asks over a TCP connection on loopback, and takes the answer that another thread gives.
func httpStep() (func() error, func(), error) {
	l, addr, err := listen()
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(l)
	client, server, err := connectPair(l, addr)
	if err != nil {
		return nil, nil, err
	}
	asks, answers := []byte(httpRequest), []byte(httpAnswer())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		b := make([]byte, len(asks))
		for take(server, b) == nil && give(server, answers) == nil {
		}
	}()
	b := make([]byte, len(answers))
	step := func() error { return errors.Join(give(client, asks), take(client, b)) }
	return step, func() {
		_ = unix.Shutdown(client, unix.SHUT_RDWR)
		<-ended
		unix.Close(client)
		unix.Close(server)
	}, nil
}

// give writes a whole message. Loopback takes these few bytes whole.
func give(fd int, b []byte) error {
	if n, err := unix.Write(fd, b); err != nil || n != len(b) {
		return fmt.Errorf("write %d of %d bytes: %w", n, len(b), err)
	}
	return nil
}

// take reads a whole message.
func take(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		b = b[n:]
	}
	return nil
}

// requestRows are the bars of requests.
func (r *results) requestRows() []row {
	if r.Parse == 0 {
		return nil
	}
	x := row{what: "parse an HTTP request with nine headers and its answer", bar: fmt.Sprintf("≤ %s of CPU", short(barParse)), measured: short(r.Parse), verdict: "met"}
	if r.Parse > barParse {
		x.verdict = fmt.Sprintf("**not met**, %.1f× the bar", float64(r.Parse)/float64(barParse))
	}
	return []row{x}
}
