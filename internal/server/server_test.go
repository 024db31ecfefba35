// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/store"
)

// agent is a Backend with a real hub and store, and a few processes: 812 is the parent of 4242.
type agent struct {
	policyBackend
	hub    *pipeline.Hub
	losses *pipeline.Losses
	memory *store.Memory
	store  *store.Store
	start  time.Time

	stateMu  sync.Mutex
	seq      uint64
	problems []string
}

func newAgent() *agent {
	a := &agent{losses: new(pipeline.Losses), start: time.Unix(1_700_000_000, 0)}
	a.hub, a.memory = pipeline.NewHub(a.losses), store.NewMemory(store.Config{}, a.start)
	a.store = store.NewStore(a.memory, nil, a.start)
	return a
}

// publish makes n exec events, stored before they are published.
func (a *agent) publish(n int) {
	a.stateMu.Lock()
	defer a.stateMu.Unlock()
	batch := make([]*model.Event, n)
	for i := range batch {
		a.seq++
		batch[i] = modeltest.Exec()
		batch[i].Seq = a.seq
	}
	a.memory.Append(batch)
	a.hub.Publish(batch)
}

func (a *agent) Subscribe(o pipeline.SubscribeOptions) *pipeline.Subscription {
	return a.hub.Subscribe(o)
}
func (a *agent) Events(ctx context.Context, q EventQuery) (EventPage, error) {
	page, err := a.store.Query(ctx, store.Query{Keep: q.Filter.Keep, NewestFirst: q.NewestFirst, Limit: q.Limit, Cursor: store.Position(q.Cursor)})
	return EventPage{Events: page.Events, Next: EventCursor(page.Next), LastSeq: page.LastSeq, CompleteSince: page.CompleteSince}, err
}
func (a *agent) Aggregate(_ context.Context, q AggregateQuery) (AggregateTable, error) {
	if len(q.Measures) == 0 {
		return AggregateTable{}, Refuse(Invalid, errors.New("measures: say what to count"))
	}
	since, _ := q.Filter.Span()
	row := AggregateRow{Keys: q.By, Values: []float64{float64(since.Unix()), float64(q.Limit)}, Change: "new"}
	if q.Before != nil {
		since, until := q.Before.Span()
		row.Before = []float64{float64(since.Unix()), float64(until.Unix())}
	}
	return AggregateTable{Rows: []AggregateRow{row}, LeftOut: 3, Events: 9, CompleteSince: a.start}, nil
}
func (a *agent) Processes(bool) []*model.Process {
	e := modeltest.Exec()
	return []*model.Process{e.Process, e.Parent}
}
func (a *agent) Process(execID string) *model.Process {
	for _, p := range a.Processes(true) {
		if p.ExecID == execID {
			return p
		}
	}
	return nil
}
func (a *agent) ProcessByPID(pid uint32) *model.Process {
	for _, p := range a.Processes(true) {
		if p.Key.PID == pid {
			return p
		}
	}
	return nil
}
func (a *agent) Ancestors(p *model.Process) []*model.Process {
	if p.Key.PID == 4242 {
		return []*model.Process{modeltest.Exec().Parent}
	}
	return nil
}
func (a *agent) Children(p *model.Process) []*model.Process {
	if p.Key.PID == 812 {
		return []*model.Process{modeltest.Exec().Process}
	}
	return nil
}
func (a *agent) Descends(p *model.Process, pid uint32) bool { return p.Key.PID == 4242 && pid == 812 }
func (a *agent) Status() Status {
	return Status{Version: "1.2.3", BootID: modeltest.Boot + "-0000", Started: a.start, Losses: a.losses.Snapshot(),
		Events: map[model.Type]uint64{model.TypeExec: 7}, Sensors: []Sensor{{Name: "exec", State: "on", Rung: "tp_btf",
			Programs: []Program{{Name: "a", RunCount: 3, RunTime: time.Second}}}},
		Queues: []Queue{{Name: "events", Length: 1, Capacity: 2, Unit: "bytes"}}, Store: Store{CompleteSince: a.start},
		Subscribers: []Subscriber{{Name: "export json", Exporter: true, Sent: 5, Lost: 2, Trouble: "disk full"}}}
}
func (a *agent) Detections() []Detection {
	return []Detection{{ID: "shell_from_server", Title: "a server started a shell", Severity: model.SeverityHigh, Tags: []string{"T1059.004"},
		Types: []model.Type{model.TypeExec}, Action: "alert", Source: "default", Alerts: 3, Suppressed: 2, Errors: 1}}
}

func (a *agent) Problems() []string {
	a.stateMu.Lock()
	defer a.stateMu.Unlock()
	return a.problems
}

// running is a server under test.
type running struct {
	*Server
	agent  *agent
	socket string
	stop   func() error // cancels and waits for Serve
}

func start(t *testing.T, change func(*Config)) *running {
	t.Helper()
	r := &running{agent: newAgent(), socket: filepath.Join(t.TempDir(), "run", "vigie.sock")}
	c := Config{Socket: r.socket, HTTP: "127.0.0.1:0", DrainTimeout: 5 * time.Second}
	if change != nil {
		change(&c)
	}
	var err error
	if r.Server, err = New(c, r.agent, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return r
}

func (r *running) tcp() string {
	for _, a := range r.Addrs() {
		if a.Network() == "tcp" {
			return a.String()
		}
	}
	return ""
}

// overUnix is an HTTP client that dials the socket.
func overUnix(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

func (r *running) client(options ...connect.ClientOption) vigiev1connect.VigieClient {
	return vigiev1connect.NewVigieClient(overUnix(r.socket), "http://vigie", options...)
}

// eventually polls until what says so, and fails the test when it never does.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s did not happen", what)
}

func TestListDetections(t *testing.T) {
	answer, err := start(t, nil).client().ListDetections(t.Context(), connect.NewRequest(&pb.ListDetectionsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.Detection{Id: "shell_from_server", Title: "a server started a shell", Severity: "high", Tags: []string{"T1059.004"},
		Types: []string{"exec"}, Action: "alert", Source: "default", Alerts: 3, Suppressed: 2, Errors: 1}
	if list := answer.Msg.GetDetections(); len(list) != 1 || !proto.Equal(list[0], want) {
		t.Errorf("got %v", list)
	}
}

func TestEveryProtocolOverBothListeners(t *testing.T) {
	r := start(t, nil)
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	unixH2 := overUnix(r.socket)
	unixH2.Transport.(*http.Transport).Protocols = h2
	for name, c := range map[string]vigiev1connect.VigieClient{
		"connect on the socket":      r.client(),
		"connect JSON on the socket": r.client(connect.WithProtoJSON()),
		"gRPC-Web on the socket":     r.client(connect.WithGRPCWeb()),
		"gRPC on the socket":         vigiev1connect.NewVigieClient(unixH2, "http://vigie", connect.WithGRPC()),
		"connect on TCP":             vigiev1connect.NewVigieClient(http.DefaultClient, "http://"+r.tcp()),
		"gRPC on TCP":                vigiev1connect.NewVigieClient(&http.Client{Transport: &http.Transport{Protocols: h2}}, "http://"+r.tcp(), connect.WithGRPC()),
		"connect GET on TCP":         vigiev1connect.NewVigieClient(http.DefaultClient, "http://"+r.tcp(), connect.WithHTTPGet()),
	} {
		answer, err := c.GetStatus(t.Context(), connect.NewRequest(&pb.GetStatusRequest{}))
		if err != nil || answer.Msg.GetStatus().GetVersion() != "1.2.3" {
			t.Errorf("%s: %v, %v", name, answer, err)
		}
	}
}

// What curl gets has the names of docs/events.md.
func TestJSONHasTheDocumentedNames(t *testing.T) {
	r := start(t, nil)
	r.agent.publish(1)
	answer, err := http.Post("http://"+r.tcp()+"/vigie.v1.Vigie/QueryEvents", "application/json", strings.NewReader(`{"page_size":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var got struct {
		Events []struct {
			Process struct {
				ExecID string `json:"exec_id"`
				Parent struct {
					ExecID string `json:"exec_id"`
				}
			}
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if len(got.Events) != 1 || got.Events[0].Process.ExecID == "" || got.Events[0].Process.Parent.ExecID == "" {
		t.Errorf("got %+v", got)
	}
}

func TestMetricsAndHealth(t *testing.T) {
	r := start(t, nil)
	r.agent.losses.Counter("kernel", "ring full").Add(3)
	get := func(path string) (int, string) {
		answer, err := http.Get("http://" + r.tcp() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(b)
	}
	_, page := get("/metrics")
	for _, line := range []string{`vigie_events_total{type="exec"} 7`, `vigie_lost_events_total{reason="ring full",stage="kernel"} 3`,
		`vigie_sensor_up{rung="tp_btf",sensor="exec"} 1`, `vigie_program_run_seconds_total{program="a",sensor="exec"} 1`,
		`vigie_queue_capacity{queue="events",unit="bytes"} 2`, `vigie_subscribers{name="client"} 0`, "go_goroutines", "vigie_ready 1",
		`vigie_policies{mode="audit",state="in force"} 1`, `vigie_policy_hits_total{policy="web"} 7`,
		`vigie_export_sent_total{exporter="export json"} 5`, `vigie_export_lost_total{exporter="export json"} 2`, `vigie_export_failing{exporter="export json"} 1`} {
		if !strings.Contains(page, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	if code, text := get("/healthz"); code != 200 || text != "ok\n" {
		t.Errorf("/healthz: %d %q", code, text)
	}
	if code, text := get("/readyz"); code != 200 || text != "ok\n" {
		t.Errorf("/readyz: %d %q", code, text)
	}
	r.agent.stateMu.Lock()
	r.agent.problems = []string{"sensor dns: no"}
	r.agent.stateMu.Unlock()
	if code, text := get("/readyz"); code != 503 || text != "sensor dns: no\n" {
		t.Errorf("/readyz with a problem: %d %q", code, text)
	}
	health, err := r.client().Health(t.Context(), connect.NewRequest(&pb.HealthRequest{}))
	if err != nil || health.Msg.GetReady() || !slices.Equal(health.Msg.GetProblems(), []string{"sensor dns: no"}) {
		t.Errorf("Health: %v %v", health, err)
	}
}

func TestTCPOffLoopbackNeedsTLSAndToken(t *testing.T) {
	dir := t.TempDir()
	cert, key, _ := certificate(t, dir)
	token := filepath.Join(dir, "token")
	write(t, token, "0123456789abcdef0123456789abcdef\n", 0o600)
	short, open := filepath.Join(dir, "short"), filepath.Join(dir, "open")
	write(t, short, "abc", 0o600)
	write(t, open, "0123456789abcdef0123456789abcdef", 0o644)
	for _, c := range []struct {
		config Config
		want   string // empty: allowed
	}{
		{Config{HTTP: "0.0.0.0:9780"}, "add --tls-cert, --tls-key and --token-file"},
		{Config{HTTP: ":9780"}, "can be reached from the network"},
		{Config{HTTP: "[::]:9780", TLSCert: cert, TLSKey: key}, "TLS and a token"},
		{Config{HTTP: "192.0.2.1:9780", TokenFile: token}, "TLS and a token"},
		{Config{HTTP: "0.0.0.0:0", TLSCert: cert, TLSKey: key, TokenFile: short}, "at least 16 are needed"},
		{Config{HTTP: "0.0.0.0:0", TLSCert: cert, TLSKey: key, TokenFile: open}, "chmod 600"},
		{Config{HTTP: "127.0.0.1:0", TLSCert: cert}, "belong together"},
		{Config{HTTP: "127.0.0.1:0", TLSCert: key, TLSKey: key}, "load --tls-cert"},
		{Config{HTTP: "127.0.0.1:0", ClientCAFile: cert}, "add --tls-cert and --tls-key"},
		{Config{HTTP: "127.0.0.1:0", TLSCert: cert, TLSKey: key, ClientCAFile: token}, "holds no PEM certificate"},
		{Config{HTTP: "127.0.0.1:0", TLSCert: cert, TLSKey: key, ClientCAFile: token + "-none"}, "read --client-ca-file"},
		{Config{HTTP: "nonsense"}, "HOST:PORT or off"},
		{Config{Group: "no-such-group-here"}, "groupadd"},
		{Config{HTTP: "0.0.0.0:0", TLSCert: cert, TLSKey: key, TokenFile: token}, ""},
		{Config{HTTP: "127.0.0.1:0"}, ""},
		{Config{HTTP: "localhost:0"}, ""},
		{Config{HTTP: "[::1]:0"}, ""},
		{Config{HTTP: Off}, ""},
	} {
		_, err := New(c.config, newAgent(), slog.New(slog.DiscardHandler))
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.config, err, c.want)
		}
	}
}

func TestTLSAndToken(t *testing.T) {
	dir := t.TempDir()
	cert, key, pool := certificate(t, dir)
	token := filepath.Join(dir, "token")
	write(t, token, "0123456789abcdef0123456789abcdef\n", 0o600)
	r := start(t, func(c *Config) { c.TLSCert, c.TLSKey, c.TokenFile = cert, key, token })
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	ask := func(token string) error {
		request := connect.NewRequest(&pb.HealthRequest{})
		if token != "" {
			request.Header().Set("Authorization", "Bearer "+token)
		}
		_, err := vigiev1connect.NewVigieClient(h, "https://"+r.tcp(), connect.WithGRPC()).Health(t.Context(), request)
		return err
	}
	if err := ask("0123456789abcdef0123456789abcdef"); err != nil {
		t.Errorf("right token: %v", err)
	}
	for _, wrong := range []string{"", "0123456789abcdef0123456789abcdeX", "0123456789abcdef"} {
		if err := ask(wrong); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("token %q: %v", wrong, err)
		}
	}
	for path, want := range map[string]int{"/metrics": 401, "/healthz": 200} {
		answer, err := h.Get("https://" + r.tcp() + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s without a token: %d, want %d", path, answer.StatusCode, want)
		}
	}
}

// A page in a browser on this host must not read the API.
func TestWebPagesOfOthersAreRefused(t *testing.T) {
	r := start(t, nil)
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"curl", func(*http.Request) {}, 200},
		{"localhost", func(r *http.Request) { r.Host = "localhost:9780" }, 200},
		{"ipv6", func(r *http.Request) { r.Host = "[::1]:9780" }, 200},
		{"own page", func(h *http.Request) {
			h.Header.Set("Origin", "http://"+r.tcp())
			h.Header.Set("Sec-Fetch-Site", "same-origin")
		}, 200},
		{"typed address", func(h *http.Request) { h.Header.Set("Sec-Fetch-Site", "none") }, 200},
		{"rebound name", func(r *http.Request) { r.Host = "evil.example:9780" }, 403},
		{"rebound name like ours", func(r *http.Request) { r.Host = "127.0.0.1.evil.example" }, 403},
		{"another site", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		{"another port", func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:1") }, 403},
		{"sandboxed frame", func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		{"image of another site", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
	} {
		for _, path := range []string{"/metrics", "/vigie.v1.Vigie/Health"} {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.tcp()+path+"?connect=v1&encoding=json&message=%7B%7D", nil)
			c.change(request)
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != c.want {
				t.Errorf("%s: %s answered %d, want %d", c.name, path, answer.StatusCode, c.want)
			}
		}
	}
}

func TestStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	path := filepath.Join(dir, "vigie.sock")
	s, err := New(Config{Socket: path}, newAgent(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{path: 0o660, dir: 0o750} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode().Perm(), want, err)
		}
	}
	again, _ := New(Config{Socket: path}, newAgent(), slog.New(slog.DiscardHandler))
	if err := again.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second agent: %v", err)
	}
	s.listeners[0].Listener.(*bounded).Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	s.close() // as kill -9 leaves it
	if err := again.Listen(t.Context()); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	again.close()
	write(t, path, "precious", 0o600)
	third, _ := New(Config{Socket: path}, newAgent(), slog.New(slog.DiscardHandler))
	if err := third.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file in the way is gone")
	}
}

func TestTCPPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := filepath.Join(t.TempDir(), "s")
	s, _ := New(Config{Socket: path, HTTP: l.Addr().String()}, newAgent(), slog.New(slog.DiscardHandler))
	if err := s.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "--http off") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
