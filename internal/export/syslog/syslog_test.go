// SPDX-License-Identifier: Apache-2.0

package syslog

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// server is a syslog receiver.
type server struct {
	mu       sync.Mutex
	messages []string
	conns    []net.Conn
}

func (s *server) add(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, message)
}

// seqs are the numbers of the events that arrived. Each message must be whole.
func (s *server) seqs(t *testing.T) (list []uint64) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		var e struct{ Seq uint64 }
		if header.FindString(m) == "" || json.Unmarshal([]byte(header.ReplaceAllString(m, "")), &e) != nil {
			t.Fatalf("not a message: %.200q", m)
		}
		list = append(list, e.Seq)
	}
	return list
}

// header is RFC 5424's, as far as vigie uses it.
var header = regexp.MustCompile(`^<\d{1,3}>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S{1,255} vigie \d+ [a-z_]{1,32} - `)

// accept takes connections until l is closed, and gives each to read.
func (s *server) accept(t *testing.T, l net.Listener, read func(net.Conn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			wg.Go(func() { read(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.drop()
		wg.Wait()
	})
}

// drop closes all connections.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

// octets reads messages as RFC 6587 counts them.
func (s *server) octets(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		count, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(count))
		b := make([]byte, n)
		if err != nil {
			s.add("not a count: " + count)
			return
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		s.add(string(b))
	}
}

// datagrams reads a message from each.
func (s *server) datagrams(t *testing.T, c net.PacketConn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<20)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			s.add(string(b[:n]))
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
}

type running struct {
	export.Exporter
	hub    *pipeline.Hub
	losses *pipeline.Losses
	seq    uint64
	end    func()
}

func start(t *testing.T, address string, config *tls.Config) *running {
	t.Helper()
	r := &running{losses: new(pipeline.Losses)}
	r.hub = pipeline.NewHub(r.losses)
	var err error
	r.Exporter, err = New(Options{Address: address, TLS: config, Host: "web 1", PID: 812, Timeout: 300 * time.Millisecond,
		Encode:  func(dst []byte, e *model.Event) []byte { return e.AppendJSON(dst, modeltest.Boot) },
		Backoff: func(int) time.Duration { return time.Millisecond }, Log: slog.New(slog.DiscardHandler), Losses: r.losses})
	if err != nil {
		t.Fatal(err)
	}
	sub := r.hub.Subscribe(r.Subscribe())
	done := make(chan error, 1)
	go func() { done <- r.Run(sub) }()
	r.end = sync.OnceFunc(func() {
		r.hub.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.end)
	return r
}

func (r *running) publish(n int) {
	for range n {
		r.seq++
		e := modeltest.Exec()
		e.Seq = r.seq
		r.hub.Publish([]*model.Event{e})
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s did not happen", what)
}

func sequence(n int) []uint64 {
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i + 1)
	}
	return list
}

// Every transport carries every message whole and in order, and what the agent held when it ended.
func TestTransports(t *testing.T) {
	dir := t.TempDir()
	authority := httptest.NewTLSServer(nil) // for its certificate, which is of example.com
	defer authority.Close()
	trust := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"}
	trust.RootCAs.AddCert(authority.Certificate())
	listen := func(network, address string) net.Listener {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	packets := func(network, address string) net.PacketConn {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, open := range map[string]func(*server) string{
		"tcp": func(s *server) string {
			l := listen("tcp", "127.0.0.1:0")
			s.accept(t, l, s.octets)
			return "tcp://" + l.Addr().String()
		},
		"tls": func(s *server) string {
			l := tls.NewListener(listen("tcp", "127.0.0.1:0"), authority.TLS)
			s.accept(t, l, s.octets)
			return "tls://" + l.Addr().String()
		},
		"udp": func(s *server) string {
			c := packets("udp", "127.0.0.1:0")
			_ = c.(*net.UDPConn).SetReadBuffer(4 << 20) // of a burst it loses nothing here
			s.datagrams(t, c)
			return "udp://" + c.LocalAddr().String()
		},
		"unix, datagrams": func(s *server) string {
			s.datagrams(t, packets("unixgram", filepath.Join(dir, "gram")))
			return "unix://" + filepath.Join(dir, "gram")
		},
		"unix, stream": func(s *server) string {
			s.accept(t, listen("unix", filepath.Join(dir, "stream")), func(c net.Conn) {
				for lines := bufio.NewScanner(c); lines.Scan(); {
					s.add(lines.Text())
				}
			})
			return "unix://" + filepath.Join(dir, "stream")
		},
	} {
		s := new(server)
		r := start(t, open(s), trust)
		const n = 200
		r.publish(n)
		r.end()
		eventually(t, name, func() bool { return len(s.seqs(t)) == n })
		if got := s.seqs(t); !slices.Equal(got, sequence(n)) || r.Stats().Sent != n || r.Stats().Lost != 0 {
			t.Errorf("%s: %v, %+v", name, got, r.Stats())
		}
	}
}

func TestCertificateIsChecked(t *testing.T) {
	authority := httptest.NewUnstartedServer(nil)
	authority.Config.ErrorLog = log.New(io.Discard, "", 0)
	authority.StartTLS()
	defer authority.Close()
	r := start(t, "tls://"+authority.Listener.Addr().String(), &tls.Config{MinVersion: tls.VersionTLS12})
	r.publish(1)
	eventually(t, "trouble", func() bool { return strings.Contains(r.Stats().Trouble, "certificate") })
	r.end()
	if got := r.losses.Counter(Name, "no TLS connection").Load(); got != 1 {
		t.Errorf("%d lost for it: %v", got, r.losses.Snapshot())
	}
}

// A receiver that takes connections and reads nothing holds nobody up. When its connection breaks and another receiver stands
// there, that gets the rest.
func TestReceiverThatNeverReadsAndThenComesBack(t *testing.T) {
	s := new(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reads := make(chan struct{})
	s.accept(t, l, func(c net.Conn) {
		select {
		case <-reads:
			s.octets(c)
		default: // never
		}
	})
	r := start(t, "tcp://"+l.Addr().String(), nil)
	large := strings.Repeat("x", 20_000) // the kernel's buffers of each connection take some megabytes
	eventually(t, "loss", func() bool {
		// No faster than the exporter takes them from the hub, where they would only wait.
		for s := r.Stats(); r.seq < s.Sent+s.Waiting+s.Lost+100; {
			r.seq++
			e := modeltest.Exec()
			p := *e.Process
			p.CWD, e.Process, e.Seq = large, &p, r.seq
			r.hub.Publish([]*model.Event{e})
		}
		return r.Stats().Lost > 0
	})
	if s := r.Stats(); s.Bytes > s.Capacity || s.Capacity != export.DefaultMaxWaiting {
		t.Errorf("more waits than may: %+v", s)
	}
	close(reads)
	s.drop()
	eventually(t, "what waited", func() bool { return r.Stats().Waiting == 0 && r.Stats().Trouble == "" })
	r.publish(1)
	r.end()
	last := r.seq
	eventually(t, "the last event", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.messages) > 0 && strings.Contains(s.messages[len(s.messages)-1], fmt.Sprintf(`"seq":%d,`, last))
	})
	s.seqs(t)
	stats := r.Stats() // among what was sent are the hub's words about what it dropped
	if missed := r.losses.Counter("subscriber", Name).Load(); stats.Sent+stats.Lost+missed < last || stats.Retried == 0 {
		t.Errorf("%d events, %d of them dropped by the hub, %+v", last, missed, stats)
	}
}

// A receiver that is started anew gets what came in between: what is written to a connection that it has closed does not
// count as sent.
func TestReceiverThatClosesAndComesBack(t *testing.T) {
	first, second := new(server), new(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first.accept(t, l, first.octets)
	r := start(t, "tcp://"+l.Addr().String(), nil)
	r.publish(10)
	eventually(t, "the first events", func() bool { return len(first.seqs(t)) == 10 && r.Stats().Sent == 10 })
	_ = l.Close()
	first.drop()
	r.publish(10)
	eventually(t, "trouble", func() bool { return strings.Contains(r.Stats().Trouble, "refused") })
	l, err = net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Skipf("the port was taken by another process: %v", err)
	}
	second.accept(t, l, second.octets)
	r.publish(10)
	r.end()
	eventually(t, "the rest", func() bool { return len(second.seqs(t)) == 20 })
	if got := append(first.seqs(t), second.seqs(t)...); !slices.Equal(got, sequence(30)) || r.Stats().Sent != 30 || r.Stats().Lost != 0 {
		t.Errorf("%v, %+v", got, r.Stats())
	}
}

// One message that no datagram can hold is lost alone.
func TestMessageThatIsTooLong(t *testing.T) {
	s := new(server)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.datagrams(t, c)
	r := start(t, "udp://"+c.LocalAddr().String(), nil)
	r.publish(1)
	long := modeltest.Exec()
	p := *long.Process
	p.Args, long.Process, long.Seq = []string{strings.Repeat("x", 70_000)}, &p, 2
	r.seq++
	r.hub.Publish([]*model.Event{long})
	r.publish(1)
	r.end()
	eventually(t, "the others", func() bool { return slices.Equal(s.seqs(t), []uint64{1, 3}) })
	if got := r.losses.Counter(Name, "message too long").Load(); got != 1 || r.Stats().Lost != 1 {
		t.Errorf("%d lost for it, %+v", got, r.Stats())
	}
}

func TestPriorities(t *testing.T) {
	for want, e := range map[string]*model.Event{
		"<30>": {Type: model.TypeExec, Exec: new(model.Exec)},
		"<82>": {Type: model.TypeAlert, Alert: &model.Alert{Severity: model.SeverityCritical}},
		"<83>": {Type: model.TypeAlert, Alert: &model.Alert{Severity: model.SeverityHigh}},
		"<84>": {Type: model.TypeVerdict, Verdict: &model.Verdict{Action: model.VerdictDenied}},
		"<85>": {Type: model.TypeVerdict, Verdict: &model.Verdict{Action: model.VerdictAudited}},
		"<28>": {Type: model.TypeLoss, Loss: new(model.Loss)},
	} {
		s := &sender{host: field("", 255), pid: "1"}
		if got := string(s.header(nil, e)); !strings.HasPrefix(got, want) || header.FindString(got) == "" {
			t.Errorf("%s: %q, want %s", e.Type, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{"unix:///dev/log": "unix /dev/log", "udp://h": "udp h:514", "tcp://h": "tcp h:601", "tls://[::1]": "tls [::1]:6514",
		"tcp://h:1": "tcp h:1", "/dev/log": "begins with", "unix://dev/log": "absolute", "http://h": "begins with", "tcp://h/x": "write tcp://", "tcp://": "write tcp://",
		"tcp://u@h": "nothing but", "tcp://h?x": "nothing but"} {
		network, address, err := ParseAddress(in)
		if got := network + " " + address; err != nil && !strings.Contains(err.Error(), want) || err == nil && got != want {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
}
