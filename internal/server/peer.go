// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// peer is who is at the other end of a connection.
type peer struct {
	unix   bool
	uid    uint32
	pid    int32
	groups []uint32
	remote string // of TCP
	err    error  // who it is could not be told
}

// String is "uid 0 pid 123" or a TCP address.
func (p peer) String() string {
	if p.unix {
		return fmt.Sprintf("uid %d pid %d", p.uid, p.pid)
	}
	return p.remote
}

type (
	peerKey     struct{} // peer of the connection
	deadlineKey struct{} // *http.ResponseController of the request
)

func peerFrom(ctx context.Context) peer {
	p, ok := ctx.Value(peerKey{}).(peer)
	if !ok {
		return peer{err: errors.New("unknown connection")}
	}
	return p
}

func peerOf(c net.Conn) peer {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if p, ok := c.(*peerConn); ok {
		return p.peer
	}
	return peer{err: errors.New("unknown connection")}
}

// lookPeer asks the kernel who connected: the credentials are those of the moment of connect(2).
func lookPeer(c net.Conn) peer {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{remote: c.RemoteAddr().String()}
	}
	p := peer{unix: true}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{unix: true, err: err}
	}
	if err := raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			p.err = err
			return
		}
		p.uid, p.pid = cred.Uid, cred.Pid
		p.groups = append(peerGroups(fd), cred.Gid)
	}); err != nil {
		p.err = err
	}
	return p
}

// peerGroups are the supplementary groups of the peer; none when it has more than anybody sensible.
func peerGroups(fd uintptr) []uint32 {
	groups := make([]uint32, 1024)
	size := uint32(len(groups) * 4)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return groups[:size/4]
}

// admit lets a request through when its peer may ask, and gives it its deadlines.
func (s *Server) admit(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.allow(r); err != nil {
			if before, tell := s.refusals.add(time.Now()); tell {
				s.log.Warn("a request was refused", "peer", peerFrom(r.Context()).String(), "path", r.URL.Path,
					"reason", err.Message(), "refused_before", before)
			}
			if refuse.IsSupported(r) {
				_ = refuse.Write(w, r, err)
				return
			}
			status := http.StatusForbidden
			if err.Code() == connect.CodeUnauthenticated {
				w.Header().Set("WWW-Authenticate", "Bearer")
				status = http.StatusUnauthorized
			}
			http.Error(w, err.Message(), status)
			return
		}
		w.Header().Set("Cache-Control", "no-store") // what the page's files say differently
		deadlines := http.NewResponseController(w)
		_ = deadlines.SetReadDeadline(time.Now().Add(requestTimeout))
		_ = deadlines.SetWriteDeadline(time.Now().Add(requestTimeout))
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), deadlineKey{}, deadlines)))
	})
}

// refusals bounds what refused requests write to the log: one line a second.
type refusals struct {
	mu     sync.Mutex
	told   time.Time
	silent int
}

// add reports whether to tell of a refusal now, and how many were not told of before it.
func (r *refusals) add(now time.Time) (before int, tell bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.told) < time.Second {
		r.silent++
		return 0, false
	}
	before, r.silent, r.told = r.silent, 0, now
	return before, true
}

// allow is nil when the peer of r may ask.
func (s *Server) allow(r *http.Request) *connect.Error {
	p := peerFrom(r.Context())
	switch {
	case p.err != nil:
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("can't tell who asks: %w", p.err))
	case p.unix:
		return s.allowUser(p)
	case r.URL.Path == "/healthz" || r.URL.Path == "/readyz":
		return nil // probes have no token, and learn nothing
	case s.page.has(r) && (s.tokens != nil || isLocal(r.Host)):
		return nil // a link to it may stand on any site: its files hold no data, and it goes into no frame
	case s.tls != nil && s.tls.ClientCAs != nil && r.TLS != nil && len(r.TLS.VerifiedChains) == 0 && r.URL.Path != "/metrics":
		return connect.NewError(connect.CodeUnauthenticated, errors.New("the client's certificate is missing: present one that --client-ca-file has signed"))
	case s.tokens != nil:
		// A page of another site has no token, so there is nothing to ask about where r comes from.
		return s.tokens.check(r.Header.Get("Authorization"))
	}
	return allowOrigin(r)
}

func (s *Server) allowUser(p peer) *connect.Error {
	if p.uid == 0 || p.uid == uint32(os.Geteuid()) || s.group != nil && slices.Contains(p.groups, *s.group) {
		return nil
	}
	hint := "ask as root, or start the agent with --socket-group and a group of this user"
	if s.group != nil {
		hint = fmt.Sprintf("ask as root, or add this user to group %d (--socket-group)", *s.group)
	}
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("uid %d may not use this socket: %s", p.uid, hint))
}

// allowOrigin keeps web pages of others out of a port that asks for no token: those that had their own
// name point here (DNS rebinding: Host is not this machine), and those of another site.
func allowOrigin(r *http.Request) *connect.Error {
	if !isLocal(r.Host) {
		return connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("host %q is not this machine: use 127.0.0.1 or localhost, or --token-file", r.Host))
	}
	origin := r.Header.Get("Origin")
	if origin != "" {
		u, err := url.Parse(origin)
		if err != nil || u.Host != r.Host {
			return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("origin %q is another site", origin))
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the request comes from another site (%s)", site))
	}
	return nil
}

func isLocal(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.IsLoopback()
}

// tokenCheck compares tokens without telling by its time how much was right.
type tokenCheck struct{ sum [sha256.Size]byte }

const minToken = 16 // characters

func loadToken(path string) (*tokenCheck, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read --token-file: %w", err)
	}
	// Its group may read it: that is how Kubernetes gives a secret to a user other than root.
	if info.Mode().Perm()&0o037 != 0 {
		return nil, fmt.Errorf("--token-file %s can be read by others: chmod 600 it", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read --token-file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken {
		return nil, fmt.Errorf("--token-file %s holds %d characters, at least %d are needed: fill it with `openssl rand -hex 32`",
			path, len(token), minToken)
	}
	return &tokenCheck{sha256.Sum256([]byte(token))}, nil
}

// check takes the token as a bearer token, and as the password of basic authentication, which is what Hubble's clients send.
func (t *tokenCheck) check(header string) *connect.Error {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	known := strings.EqualFold(scheme, "Bearer")
	if strings.EqualFold(scheme, "Basic") {
		pair, err := base64.StdEncoding.DecodeString(token)
		if err == nil {
			_, token, known = strings.Cut(string(pair), ":")
		}
	}
	sum := sha256.Sum256([]byte(token))
	if !known || subtle.ConstantTimeCompare(sum[:], t.sum[:]) != 1 {
		return connect.NewError(connect.CodeUnauthenticated,
			errors.New("the token is missing or wrong: send Authorization: Bearer with the content of the agent's --token-file"))
	}
	return nil
}
