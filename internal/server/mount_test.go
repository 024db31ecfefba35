// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
)

// whoAmI answers what the server says of the caller.
func whoAmI(w http.ResponseWriter, r *http.Request) {
	answer := "may change"
	if err := CallerOf(r.Context()).MayChange(); err != nil {
		answer = err.Error()
	}
	if deadlinesOf(r.Context()) == nil {
		answer += ", without a deadline"
	}
	_, _ = io.WriteString(w, CallerOf(r.Context()).String()+" "+answer)
}

func TestMountIsServedOnItsOwnAddresses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "m.sock")
	var waited atomic.Int32
	r := start(t, func(c *Config) {
		c.Mounts = []Mount{{Option: "--m", Addr: "127.0.0.1:0", Socket: socket, Handler: http.HandlerFunc(whoAmI), Wait: func() { waited.Add(1) }}}
	})
	addrs := r.Addrs()
	if len(addrs) != 4 {
		t.Fatalf("listens on %v", addrs)
	}
	get := func(client *http.Client, url string, header ...string) string {
		t.Helper()
		q, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if len(header) == 2 {
			q.Header.Set(header[0], header[1])
		}
		answer, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, _ := io.ReadAll(answer.Body)
		return string(b)
	}
	if got := get(overUnix(socket), "http://m/"); !strings.HasPrefix(got, "uid ") || !strings.HasSuffix(got, " may change") {
		t.Errorf("on the socket: %q", got)
	}
	tcp := "http://" + addrs[3].String()
	if got := get(http.DefaultClient, tcp); !strings.HasPrefix(got, "127.0.0.1:") || !strings.HasSuffix(got, "as root on the unix socket, or with the token of --token-file") {
		t.Errorf("on TCP: %q", got)
	}
	if got := get(http.DefaultClient, tcp, "Origin", "http://evil.example"); !strings.Contains(got, "another site") {
		t.Errorf("a page of another site: %q", got)
	}
	if got := get(overUnix(r.socket), "http://m/healthz"); got != "ok\n" {
		t.Errorf("the agent's own API answers %q", got)
	}
	if err := r.stop(); err != nil || waited.Load() != 1 {
		t.Errorf("stopped: %v, waited for the mount %d times", err, waited.Load())
	}
}

func TestMountAsksForTheToken(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "0123456789abcdef0123456789abcdef", 0o600)
	// Also where the agent's own API has no port.
	r := start(t, func(c *Config) {
		c.HTTP, c.TokenFile = Off, token
		c.Mounts = []Mount{{Option: "--m", Addr: "127.0.0.1:0", Handler: http.HandlerFunc(whoAmI), Wait: func() {}}}
	})
	for header, want := range map[string]string{"": "the token is missing or wrong", "Bearer 0123456789abcdef0123456789abcdef": " may change"} {
		q, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.tcp(), nil)
		q.Header.Set("Authorization", header)
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if !strings.Contains(string(b), want) {
			t.Errorf("with %q: %s", header, b)
		}
	}
}

// Who may look is not who may change: members of the socket's group.
func TestWhoMayChange(t *testing.T) {
	for _, c := range []struct {
		peer peer
		may  bool
	}{
		{peer{unix: true, uid: 0}, true},
		{peer{unix: true, uid: uint32(os.Geteuid())}, true},
		{peer{unix: true, uid: 65534, groups: []uint32{0}}, false},
		{peer{remote: "127.0.0.1:1"}, false},
	} {
		var err error
		h := new(Server).introduce(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { err = CallerOf(r.Context()).MayChange() }))
		q := httptest.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, c.peer), http.MethodGet, "/", nil)
		h.ServeHTTP(httptest.NewRecorder(), q)
		if (err == nil) != c.may || err != nil && connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%v: %v", c.peer, err)
		}
	}
	if CallerOf(t.Context()).MayChange() == nil {
		t.Error("who did not come through the server may change something")
	}
}

func TestMountStaysOnThisMachine(t *testing.T) {
	for addr, want := range map[string]string{"0.0.0.0:1": "speak no TLS", ":1": "speak no TLS", "192.0.2.1:1": "--m 192.0.2.1:1", "nonsense": "HOST:PORT or off",
		"[::1]:0": "", "localhost:0": "", Off: "", "": ""} {
		_, err := New(Config{Mounts: []Mount{{Option: "--m", Addr: addr}}}, newAgent(), slog.New(slog.DiscardHandler))
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", addr, err, want)
		}
	}
}

func TestMountYieldsWhenItsPortIsTaken(t *testing.T) {
	other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mount := Mount{Option: "--m", Addr: other.Addr().String(), Yield: true}
	s, err := New(Config{Mounts: []Mount{mount}}, newAgent(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil || len(s.Addrs()) != 0 {
		t.Errorf("an agent beside another program does not start: %v, %v", err, s.Addrs())
	}
	mount.Yield = false
	socket := filepath.Join(t.TempDir(), "s")
	if s, err = New(Config{Socket: socket, Mounts: []Mount{mount}}, newAgent(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "listen on --m 127.0.0.1:") {
		t.Errorf("an address that was asked for: %v", err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was opened before is left open: %v", err)
	}
}

// A foreign API whose clients speak TLS is under the rules of the agent's own port.
func TestMountThatSpeaksTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key, pool := certificate(t, dir)
	token := filepath.Join(dir, "token")
	write(t, token, "0123456789abcdef0123456789abcdef", 0o600)
	mount := Mount{Option: "--m", Addr: "192.0.2.1:1", TLS: true}
	for want, c := range map[string]Config{
		"--m 192.0.2.1:1 can be reached from the network": {},
		"add --tls-cert, --tls-key and --token-file":      {TLSCert: cert, TLSKey: key},
		"load --tls-cert": {TLSCert: key, TLSKey: key, TokenFile: token},
		"":                {TLSCert: cert, TLSKey: key, TokenFile: token},
	} {
		c.HTTP, c.Mounts = Off, []Mount{mount}
		if _, err := New(c, newAgent(), slog.New(slog.DiscardHandler)); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}

	var address net.Addr
	r := start(t, func(c *Config) {
		c.HTTP, c.TLSCert, c.TLSKey, c.TokenFile = Off, cert, key, token
		c.Mounts = []Mount{{Option: "--m", Addr: "127.0.0.1:0", TLS: true, Wait: func() {}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			local, encrypted := CallerOf(r.Context()).Reached()
			if address = local; !encrypted {
				t.Error("the handler is not told of TLS")
			}
			whoAmI(w, r)
		})}}
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	// Hubble's clients send the token as a password.
	for password, want := range map[string]string{"0123456789abcdef0123456789abcdef": " may change", "wrong": "the token is missing or wrong"} {
		q, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.tcp(), nil)
		q.SetBasicAuth("vigie", password)
		answer, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if !strings.Contains(string(b), want) {
			t.Errorf("with %q: %s", password, b)
		}
	}
	if address == nil || address.String() != r.tcp() {
		t.Errorf("reached at %v, not %s", address, r.tcp())
	}
	if plain, err := http.DefaultClient.Do(mustRequest(t, "http://"+r.tcp())); err == nil {
		plain.Body.Close()
		if plain.StatusCode == http.StatusOK {
			t.Error("it is served without TLS too")
		}
	}
}

func mustRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q
}
