// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/gzip"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigie-io/vigie/internal/export"
)

// maxAnswer is how many bytes of an answer are read: a receiver has little to say.
const maxAnswer = 64 << 10

// client sends one signal to a receiver. Its methods are called from one goroutine.
type client struct {
	url     string
	headers http.Header
	http    *http.Client
	grpc    *connect.Client[raw, raw] // nil over HTTP
	zip     *gzip.Writer              // over HTTP: large, so there is one
}

// raw is a message as it goes over the wire.
type raw struct{ bytes []byte }

// rawCodec hands messages through as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(m any) ([]byte, error) {
	r, ok := m.(*raw)
	if !ok {
		return nil, fmt.Errorf("no message of bytes: %T", m)
	}
	return r.bytes, nil
}

func (rawCodec) Unmarshal(b []byte, m any) error {
	r, ok := m.(*raw)
	if !ok {
		return fmt.Errorf("no message of bytes: %T", m)
	}
	r.bytes = bytes.Clone(b)
	return nil
}

func newClient(endpoint *url.URL, signal Signal, o Options) *client {
	overTLS := endpoint.Scheme == "https" || endpoint.Scheme == "grpcs"
	base := "http://" + endpoint.Host + endpoint.Path
	if overTLS {
		base = "https" + strings.TrimPrefix(base, "http")
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		TLSClientConfig: o.TLS.Clone(), Protocols: new(http.Protocols)}
	if overTLS && transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c := &client{headers: o.Headers, http: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if strings.HasPrefix(endpoint.Scheme, "grpc") {
		transport.Protocols.SetHTTP2(overTLS)
		transport.Protocols.SetUnencryptedHTTP2(!overTLS)
		// A connection that died silently is noticed, and left.
		transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 20 * time.Second, PingTimeout: 10 * time.Second}
		name := strings.ToUpper(string(signal[0])) + string(signal[1:])
		c.url = base + "/opentelemetry.proto.collector." + string(signal) + ".v1." + name + "Service/Export"
		if signal == Traces {
			c.url = base + "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
		}
		c.grpc = connect.NewClient[raw, raw](c.http, c.url, connect.WithGRPC(), connect.WithSendGzip(), connect.WithCodec(rawCodec{}),
			connect.WithReadMaxBytes(maxAnswer))
		return c
	}
	transport.Protocols.SetHTTP1(true)
	transport.Protocols.SetHTTP2(overTLS)
	c.url = base + "/v1/" + string(signal)
	return c
}

func (c *client) close() error {
	c.http.CloseIdleConnections()
	return nil
}

// send sends a request of that many items and decodes the answer into answer. Errors: *export.RefusedError when the
// receiver will not take it, also later; others may pass.
func (c *client) send(ctx context.Context, request []byte, items int, answer proto.Message) error {
	var body []byte
	var err error
	if c.grpc != nil {
		body, err = c.call(ctx, request, items)
	} else {
		body, err = c.post(ctx, request, items, answer)
	}
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(body, answer); err != nil {
		return &export.RefusedError{Items: items, Reason: "the answer is no OTLP", Detail: err.Error()}
	}
	return nil
}

// call is send over gRPC.
func (c *client) call(ctx context.Context, request []byte, items int) ([]byte, error) {
	req := connect.NewRequest(&raw{request})
	for name, values := range c.headers {
		req.Header()[name] = values
	}
	res, err := c.grpc.CallUnary(ctx, req)
	if err == nil {
		return res.Msg.bytes, nil
	}
	var status *connect.Error
	if !connect.IsWireError(err) || !errors.As(err, &status) {
		return nil, err // the receiver has said nothing
	}
	name := "grpc " + status.Code().String()
	after, asked := retryInfo(status)
	switch code := status.Code(); {
	case code == connect.CodeCanceled, code == connect.CodeDeadlineExceeded, code == connect.CodeAborted, code == connect.CodeOutOfRange,
		code == connect.CodeUnavailable, code == connect.CodeDataLoss, code == connect.CodeResourceExhausted && asked:
		return nil, &export.LaterError{After: after, Err: &export.NamedError{Name: name, Err: err}}
	}
	return nil, &export.RefusedError{Items: items, Reason: name, Detail: status.Message()}
}

// retryInfo is when the receiver wants to be asked again, if it says so.
func retryInfo(status *connect.Error) (time.Duration, bool) {
	for _, d := range status.Details() {
		m, err := d.Value()
		if info, ok := m.(*errdetails.RetryInfo); ok && err == nil {
			return info.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}

// post is send over HTTP.
func (c *client) post(ctx context.Context, request []byte, items int, answer proto.Message) ([]byte, error) {
	var packed bytes.Buffer // its own each time: a request that was given up may still be read
	if c.zip == nil {
		c.zip = gzip.NewWriter(nil)
	}
	c.zip.Reset(&packed)
	if _, err := c.zip.Write(request); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := c.zip.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, &packed)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	for name, values := range c.headers {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("User-Agent", "vigie")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	name := "http " + strconv.Itoa(res.StatusCode)
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, &export.LaterError{After: retryAfter(res.Header, time.Now()), Err: &export.NamedError{Name: name, Err: fmt.Errorf("%s answers %s", c.url, res.Status)}}
	default:
		return nil, &export.RefusedError{Items: items, Reason: name, Detail: short(body)}
	}
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.url, err)
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case kind == "application/x-protobuf", len(body) == 0:
		return body, nil
	case kind == "application/json" && protojson.Unmarshal(body, answer) == nil:
		return proto.Marshal(answer)
	}
	return nil, &export.RefusedError{Items: items, Reason: "the answer is no OTLP", Detail: short(body)}
}

// retryAfter is the header of that name, in seconds or as a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(min(max(seconds, 0), 3600)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// short is the beginning of what a receiver said, for the log.
func short(body []byte) string {
	const most = 200
	return strings.ToValidUTF8(string(body[:min(len(body), most)]), "?")
}
