// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// listenUnix opens the socket of --socket.
func listenUnix(ctx context.Context, path string, group *uint32) (*net.UnixListener, error) {
	return listenSocket(ctx, "--socket", path, group)
}

// listenSocket opens the socket at path for root, the agent's user and, when given, a group. A file that
// is in the way is removed only when it is a socket on which nobody answers. option gave the path, for messages.
func listenSocket(ctx context.Context, option, path string, group *uint32) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("make the directory of %s: %w", option, err)
		}
		if group != nil {
			if err := os.Chown(dir, -1, int(*group)); err != nil {
				return nil, fmt.Errorf("give the directory of %s to its group: %w", option, err)
			}
		}
	}
	if err := removeStale(ctx, option, path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s %s: %w", option, path, err)
	}
	// Who connects before this is done is checked all the same.
	if group != nil {
		err = os.Chown(path, -1, int(*group))
	}
	if err = errors.Join(err, os.Chmod(path, 0o660)); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("set the permissions of %s: %w", option, err)
	}
	return l, nil
}

func removeStale(ctx context.Context, option, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", option, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s %s is there and no socket: remove it or choose another path", option, path)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s %s is in use by another process: stop that agent or choose another path", option, path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket that an earlier agent left: %w", err)
	}
	return nil
}

func lookupGroup(name string) (*uint32, error) {
	if name == "" {
		return nil, nil
	}
	id := name
	if g, err := user.LookupGroup(name); err == nil {
		id = g.Gid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("--socket-group %q: there is no such group: make it with groupadd, or leave the option out", name)
	}
	gid := uint32(n)
	return &gid, nil
}

// secureTCP loads what protects the TCP ports and refuses to open one to the network without it.
func (s *Server) secureTCP() error {
	c := &s.config
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key belong together: give both or none")
	}
	if c.ClientCAFile != "" && c.TLSCert == "" {
		return errors.New("--client-ca-file is about certificates of clients, which only TLS asks for: add --tls-cert and --tls-key")
	}
	served := c.HTTP != "" && c.HTTP != Off
	if served {
		addr, err := net.ResolveTCPAddr("tcp", c.HTTP)
		if err != nil {
			return fmt.Errorf("--http %q: %w; give HOST:PORT or off", c.HTTP, err)
		}
		c.HTTP = addr.String() // what was checked is what is opened
		if err := s.checkExposed("--http", addr); err != nil {
			return err
		}
	}
	mounted, speaksTLS, err := s.secureMounts()
	if err != nil {
		return err
	}
	if c.TLSCert != "" && (served || speaksTLS) {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return fmt.Errorf("load --tls-cert and --tls-key: %w", err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		if c.ClientCAFile != "" {
			// Asked for of all and wanted of most: a kubelet's probe has none, see allow.
			s.tls.ClientAuth = tls.VerifyClientCertIfGiven
			if s.tls.ClientCAs, err = readAuthority(c.ClientCAFile); err != nil {
				return err
			}
		}
	}
	if c.TokenFile != "" && (served || mounted) {
		s.tokens, err = loadToken(c.TokenFile)
	}
	return err
}

func readAuthority(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read --client-ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--client-ca-file %s holds no PEM certificate", path)
	}
	return pool, nil
}

// checkExposed refuses an address that can be reached from the network when nothing protects it.
func (s *Server) checkExposed(option string, addr *net.TCPAddr) error {
	if addr.IP.IsLoopback() || s.config.TLSCert != "" && s.config.TokenFile != "" {
		return nil
	}
	return fmt.Errorf("%s %s can be reached from the network, which takes TLS and a token: "+
		"add --tls-cert, --tls-key and --token-file, or use 127.0.0.1", option, addr)
}

// bounded is a listener with at most maxConnections open at once. A connection knows its peer.
type bounded struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBounded(l net.Listener) *bounded {
	return &bounded{Listener: l, slots: make(chan struct{}, maxConnections), closed: make(chan struct{})}
}

// Accept waits for a connection, and before that for a place.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.slots
		return nil, err
	}
	return &peerConn{Conn: c, peer: lookPeer(c), release: sync.OnceFunc(func() { <-b.slots })}, nil
}

// Close ends Accept too while it waits for a place.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

type peerConn struct {
	net.Conn
	peer    peer
	release func()
}

func (c *peerConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
