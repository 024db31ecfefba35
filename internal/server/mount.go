// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"

	"connectrpc.com/connect"
)

// Mount is a foreign API that the server answers on addresses of its own, to the peers that may use the agent's
// own API. Its clients are as they are: where they speak no TLS, its port stays on this machine.
type Mount struct {
	Option  string // the flag that gives Addr, for messages
	Addr    string // TCP address on loopback; empty or Off for none
	Socket  string // path of a unix socket; empty for none
	Handler http.Handler
	// Yield gives way when something else has the port: the server says so in the log and does without.
	Yield bool
	// Wait returns when no request of the handler runs any more. It is called when all connections are closed.
	Wait func()
	// Services are the names of gRPC services of the handler that are also answered where the agent's own API is: who asks for both,
	// as a relay does, then needs one address.
	Services []string
	// TLS says that its clients speak TLS: its port is under the same rules as Config.HTTP.
	TLS bool
}

// Caller is who makes a request.
type Caller struct {
	name      string
	trusted   bool
	local     net.Addr
	encrypted bool
}

// Reached is the address of the server to which the request came, nil outside of one, and whether it came over TLS.
func (c Caller) Reached() (local net.Addr, encrypted bool) { return c.local, c.encrypted }

// String is "uid 0 pid 123" or a TCP address.
func (c Caller) String() string { return c.name }

// MayChange is nil for who may change what the agent does: root and the agent's own user on a unix socket, and
// who sent the token.
func (c Caller) MayChange() error {
	if c.trusted {
		return nil
	}
	return connect.NewError(connect.CodePermissionDenied,
		errors.New("this changes what the agent does: ask as root on the unix socket, or with the token of --token-file"))
}

type callerKey struct{}

// CallerOf is the caller of the request that ctx belongs to. Nobody else than the server makes one that is trusted.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// introduce tells a mount's handler who calls. It runs behind admit: who is on TCP and got here has sent the token,
// if one is asked for.
func (s *Server) introduce(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := peerFrom(r.Context())
		c := Caller{name: p.String(), trusted: s.tokens != nil, encrypted: r.TLS != nil}
		c.local, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if p.unix {
			c.trusted = p.uid == 0 || p.uid == uint32(os.Geteuid())
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

// secureMounts checks the addresses of the mounts and reports whether there is one, and whether one speaks TLS.
func (s *Server) secureMounts() (onTCP, speaksTLS bool, err error) {
	for i := range s.config.Mounts {
		m := &s.config.Mounts[i]
		if m.Addr == "" || m.Addr == Off {
			continue
		}
		addr, err := net.ResolveTCPAddr("tcp", m.Addr)
		if err != nil {
			return false, false, fmt.Errorf("%s %q: %w; give HOST:PORT or off", m.Option, m.Addr, err)
		}
		if m.TLS {
			err = s.checkExposed(m.Option, addr)
		} else if !addr.IP.IsLoopback() {
			err = fmt.Errorf("%s %s can be reached from the network, and its clients speak no TLS: use 127.0.0.1, and a tunnel from elsewhere", m.Option, m.Addr)
		}
		if err != nil {
			return false, false, err
		}
		m.Addr, onTCP, speaksTLS = addr.String(), true, speaksTLS || m.TLS
	}
	return onTCP, speaksTLS, nil
}

// listenMounts opens the mounts' sockets and ports.
func (s *Server) listenMounts(ctx context.Context) error {
	for _, m := range s.config.Mounts {
		handler := s.admit(s.introduce(m.Handler))
		if m.Socket != "" {
			l, err := listenSocket(ctx, "the socket of "+m.Option, m.Socket, s.group)
			if err != nil {
				return err
			}
			s.listeners = append(s.listeners, listener{newBounded(l), handler, nil})
			s.log.Info("a foreign API is served", "option", m.Option, "socket", m.Socket)
		}
		if m.Addr == "" || m.Addr == Off {
			continue
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", m.Addr)
		switch {
		case m.Yield && errors.Is(err, syscall.EADDRINUSE):
			s.log.Warn("a port is taken by another process: this API answers on its unix socket alone",
				"option", m.Option, "address", m.Addr, "socket", m.Socket)
		case err != nil:
			return fmt.Errorf("listen on %s %s: %w; use another address or off", m.Option, m.Addr, err)
		default:
			secure := s.tls
			if !m.TLS {
				secure = nil
			}
			s.listeners = append(s.listeners, listener{newBounded(l), handler, secure})
			s.log.Info("a foreign API is served", "option", m.Option, "address", l.Addr().String())
		}
	}
	return nil
}
