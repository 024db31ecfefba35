// SPDX-License-Identifier: Apache-2.0

// Package server answers for the agent: the API (Connect: gRPC, gRPC-Web and JSON), the web page, Prometheus metrics
// and health, on a unix socket and on TCP. In: requests of peers that are allowed to ask. Out: what the
// Backend knows, and policies for it. It changes nothing on the host but its socket file.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// Off turns a listener off in Config.
const Off = "off"

// Config says where and to whom the server answers.
type Config struct {
	// Socket is the path of the unix socket; empty or Off for none.
	Socket string
	// Group is the name or number of a group whose members may use the socket, beside root and the agent's
	// own user; empty for none.
	Group string
	// HTTP is the TCP address; empty or Off for none. Off loopback, TLS and a token are required.
	HTTP string
	// TLSCert and TLSKey are PEM files.
	TLSCert, TLSKey string
	// ClientCAFile is the PEM file of who signed the certificates that clients must present where TLS is spoken, beside the token; empty
	// for none. Probes and /metrics need none.
	ClientCAFile string
	// TokenFile holds the token that TCP clients must send as "Authorization: Bearer TOKEN".
	TokenFile string
	// Collectors are metrics that /metrics shows beside the server's own.
	Collectors []prometheus.Collector
	// Mounts are foreign APIs that are served beside the agent's own.
	Mounts []Mount
	// Flows answers about conversations; nil when none are followed.
	Flows Flows
	// Pods answers about pods; nil without Kubernetes.
	Pods Pods
	// Page holds the files of the web page, index.html first among them; nil for none. It is served to whoever reaches the
	// port: it has no data in it.
	Page fs.FS

	// Now is the clock that Health tells; time.Now when nil.
	Now func() time.Time

	// MaxStreams is how many streams may be open at once; DefaultMaxStreams when 0.
	MaxStreams int
	// ClientQueue is how many events may wait for one client; pipeline.DefaultQueue when 0.
	ClientQueue int
	// StreamTimeout is how long a stream waits for a client that reads nothing before it ends;
	// DefaultStreamTimeout when 0. Until then the client loses events and is told when it reads again.
	StreamTimeout time.Duration
	// DrainTimeout is how long Serve waits for clients to take what is queued when it ends;
	// DefaultDrainTimeout when 0.
	DrainTimeout time.Duration
}

// The defaults of Config, and bounds that need no choice.
const (
	DefaultMaxStreams    = 128
	DefaultStreamTimeout = 10 * time.Minute // somebody reading in a pager
	DefaultDrainTimeout  = 3 * time.Second

	maxConnections = 512              // on each listener; more wait to be accepted
	requestTimeout = 30 * time.Second // to send a request, and to take the answer of a unary call
	maxRequest     = 4 << 20          // bytes: as many rules as a policy can have
)

// Server serves the API. Make it with New.
type Server struct {
	config  Config
	self    Self
	backend Backend                     // nil when api answers
	api     vigiev1connect.VigieHandler // of who answers in its own way; nil otherwise
	log     *slog.Logger
	handler http.Handler
	metrics *prometheus.Registry // what /metrics shows
	// identity is the beginning of the boot id and when the agent started: they don't change, and the
	// whole status is more work than a query.
	identity func() (boot string, started time.Time)
	tokens   *tokenCheck // nil when none is asked for
	page     page
	group    *uint32
	tls      *tls.Config

	listeners []listener
	http      net.Addr // of the TCP listener; nil when there is none
	streams   streams
	refusals  refusals
	studies   chan struct{} // holds one while a request goes through the whole history
	turns     chan struct{} // holds one for each stream that is at work: see takeTurn
	stopping  chan struct{} // closed when Serve ends
}

// listener is where the server listens, and what answers there: over TLS where tls is set.
type listener struct {
	net.Listener
	handler http.Handler
	tls     *tls.Config
}

// New is a server that answers by a backend. It checks the configuration: errors name the option and say what to add.
func New(c Config, backend Backend, log *slog.Logger) (*Server, error) {
	return prepare(c, &Server{self: backend, backend: backend, log: log})
}

// NewFor is New for an API that answers in its own way, as a relay's does. It learns by CallerOf who asks.
func NewFor(c Config, self Self, api vigiev1connect.VigieHandler, log *slog.Logger) (*Server, error) {
	return prepare(c, &Server{self: self, api: api, log: log})
}

func prepare(c Config, s *Server) (*Server, error) {
	if c.MaxStreams <= 0 {
		c.MaxStreams = DefaultMaxStreams
	}
	if c.StreamTimeout <= 0 {
		c.StreamTimeout = DefaultStreamTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	s.config, s.stopping, s.studies = c, make(chan struct{}), make(chan struct{}, 1)
	s.turns = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	s.streams = streams{limit: c.MaxStreams, open: make(map[*stream]struct{})}
	s.identity = sync.OnceValues(func() (string, time.Time) {
		st := s.self.Status()
		return st.BootID[:min(len(st.BootID), 8)], st.Started
	})
	var err error
	if s.group, err = lookupGroup(c.Group); err != nil {
		return nil, err
	}
	if err := s.secureTCP(); err != nil {
		return nil, err
	}
	if s.metrics, err = s.register(); err != nil {
		return nil, err
	}
	if s.page, err = readPage(c.Page); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	return s, nil
}

// routes puts everything that is served under its path.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	var api vigiev1connect.VigieHandler = &service{Server: s}
	if s.api != nil {
		api = s.api
	}
	path, handler := vigiev1connect.NewVigieHandler(api,
		connect.WithReadMaxBytes(maxRequest),
		// Compressing would cost the agent more than a local client gains.
		connect.WithCompression("gzip", nil, nil),
		connect.WithCodec(jsonCodec{"json"}), connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, cause any) error {
			s.log.Error("a call failed: please report this", "procedure", spec.Procedure, "panic", cause)
			return connect.NewError(connect.CodeInternal, errors.New("the agent failed to answer, see its log"))
		}))
	mux.Handle(path, s.introduce(handler))
	for _, m := range s.config.Mounts {
		for _, name := range m.Services {
			mux.Handle("/"+name+"/", s.introduce(m.Handler))
		}
	}
	mux.Handle("GET /metrics", s.metricsHandler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer := "ok"
		if problems := s.self.Problems(); len(problems) > 0 {
			answer = strings.Join(problems, "\n")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, answer)
	})
	mux.Handle("/", s.page)
	return s.admit(mux)
}

// Listen opens the socket and the TCP port, so that a caller can say that it is ready. Serve calls it
// when it was not.
func (s *Server) Listen(ctx context.Context) error {
	if s.listeners != nil {
		return nil
	}
	if p := s.config.Socket; p != "" && p != Off {
		l, err := listenUnix(ctx, p, s.group)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, listener{newBounded(l), s.handler, nil})
	}
	if a := s.config.HTTP; a != "" && a != Off {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", a)
		if err != nil {
			s.close()
			return fmt.Errorf("listen on --http %s: %w; use another address or --http off", a, err)
		}
		s.http = l.Addr()
		s.listeners = append(s.listeners, listener{newBounded(l), s.handler, s.tls})
	}
	if err := s.listenMounts(ctx); err != nil {
		s.close()
		return err
	}
	return nil
}

// Addrs are the addresses that Listen opened.
func (s *Server) Addrs() []net.Addr {
	var list []net.Addr
	for _, l := range s.listeners {
		list = append(list, l.Addr())
	}
	return list
}

// PageURL is the address of the web page; empty when it is not served on TCP.
func (s *Server) PageURL() string {
	if len(s.page) == 0 || s.http == nil {
		return ""
	}
	if s.tls != nil {
		return "https://" + s.http.String() + "/"
	}
	return "http://" + s.http.String() + "/"
}

func (s *Server) close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.listeners = nil
}

// Serve answers until ctx ends; then streams send what is queued and end, within the drain timeout. It
// returns when everything has stopped: nil, or the first error of a listener. It serves once.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(s.listeners))
	servers := make([]*http.Server, len(s.listeners))
	for i, l := range s.listeners {
		servers[i] = s.httpServer(l)
		wg.Go(func() {
			var err error
			if l.tls != nil {
				err = servers[i].ServeTLS(l, "", "")
			} else {
				err = servers[i].Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	close(s.stopping)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.DrainTimeout)
	defer cancel()
	for _, server := range servers {
		wg.Go(func() {
			if server.Shutdown(drain) != nil {
				_ = server.Close() // clients that take nothing
			}
		})
	}
	wg.Wait()
	s.streams.wait() // their connections are closed: what they wait for fails
	for _, m := range s.config.Mounts {
		m.Wait()
	}
	return err
}

func (s *Server) httpServer(l listener) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           l.handler,
		Protocols:         protocols,
		TLSConfig:         l.tls.Clone(), // each server adds to its own
		ReadHeaderTimeout: requestTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
}
