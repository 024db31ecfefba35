// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/server"
)

// backend is an agent with the processes that a test gives it.
type backend struct {
	server.Backend // for what is not asked here
	hub            *pipeline.Hub
	losses         *pipeline.Losses
	list           []*model.Process
	problems       []string
}

func newBackend(list ...*model.Process) *backend {
	b := &backend{losses: new(pipeline.Losses), list: list}
	b.hub = pipeline.NewHub(b.losses)
	return b
}

func (b *backend) Subscribe(o pipeline.SubscribeOptions) *pipeline.Subscription {
	return b.hub.Subscribe(o)
}
func (b *backend) Events(context.Context, server.EventQuery) (server.EventPage, error) {
	return server.EventPage{}, nil
}
func (b *backend) Processes(ended bool) []*model.Process {
	return slices.DeleteFunc(slices.Clone(b.list), func(p *model.Process) bool { return !ended && !p.EndTime.IsZero() })
}
func (b *backend) find(match func(*model.Process) bool) *model.Process {
	if i := slices.IndexFunc(b.list, match); i >= 0 {
		return b.list[i]
	}
	return nil
}
func (b *backend) Process(execID string) *model.Process {
	return b.find(func(p *model.Process) bool { return p.ExecID == execID })
}
func (b *backend) ProcessByPID(pid uint32) *model.Process {
	return b.find(func(p *model.Process) bool { return p.Key.PID == pid })
}
func (b *backend) Ancestors(p *model.Process) []*model.Process {
	var out []*model.Process
	for p = b.parent(p); p != nil; p = b.parent(p) {
		out = append(out, p)
	}
	return out
}
func (b *backend) parent(p *model.Process) *model.Process {
	return b.find(func(o *model.Process) bool { return o.Key == p.ParentKey && !p.ParentKey.IsZero() })
}
func (b *backend) Children(*model.Process) []*model.Process { return nil }
func (b *backend) Descends(p *model.Process, pid uint32) bool {
	if p == nil {
		return false
	}
	return slices.ContainsFunc(append(b.Ancestors(p), p), func(a *model.Process) bool { return a.Key.PID == pid })
}
func (b *backend) Status() server.Status {
	return server.Status{Version: "1.2.3", Host: "node1", BootID: modeltest.Boot, Losses: b.losses.Snapshot(),
		Sensors: []server.Sensor{{Name: "exec", State: "on"}, {Name: "dns", State: "failed"}}, Config: map[string]string{"http": "off"}}
}
func (b *backend) Problems() []string { return b.problems }

// policies is an agent's TracingPolicies.
type policies struct {
	mu   sync.Mutex
	list []PolicyStatus
	log  []string // what was asked for
}

func (p *policies) record(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

func (p *policies) find(name, namespace string) (*PolicyStatus, error) {
	for i := range p.list {
		if p.list[i].Name == name && p.list[i].Namespace == namespace {
			return &p.list[i], nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, ErrNoPolicy)
}

func (p *policies) Add(_ context.Context, yaml string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.find(yaml, ""); err == nil {
		return fmt.Errorf("a TracingPolicy %q is there already", yaml)
	}
	p.list = append(p.list, PolicyStatus{ID: uint64(len(p.list) + 1), Name: yaml, State: StateEnabled, Mode: ModeEnforce})
	return nil
}

func (p *policies) Delete(_ context.Context, name, namespace string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.find(name, namespace); err != nil {
		return err
	}
	p.list = slices.DeleteFunc(p.list, func(s PolicyStatus) bool { return s.Name == name && s.Namespace == namespace })
	return nil
}

func (p *policies) SetEnabled(_ context.Context, name, namespace string, enabled bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.record("enabled %v", enabled)
	s, err := p.find(name, namespace)
	if err != nil {
		return err
	}
	if s.State = StateDisabled; enabled {
		s.State = StateEnabled
	}
	return nil
}

func (p *policies) SetMode(_ context.Context, name, namespace string, mode PolicyMode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.record("mode %s", mode)
	s, err := p.find(name, namespace)
	if err != nil {
		return err
	}
	s.Mode = mode
	return nil
}

func (p *policies) List(context.Context) ([]PolicyStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list), nil
}

// running is the service behind a real server, with a client of Tetragon's published API on each address.
type running struct {
	*Service
	backend     *backend
	server      *server.Server
	socket, tcp tg.FineGuidanceSensorsClient
}

func start(t *testing.T, b *backend, change func(*Options)) *running {
	t.Helper()
	o := Options{Backend: b, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Level: new(slog.LevelVar), Policies: new(policies)}
	if change != nil {
		change(&o)
	}
	r := &running{Service: New(o), backend: b}
	path := filepath.Join(t.TempDir(), "t.sock")
	var err error
	r.server, err = server.New(server.Config{Socket: server.Off, HTTP: server.Off, DrainTimeout: 5 * time.Second,
		Mounts: []server.Mount{{Option: "--tetragon-api", Addr: "127.0.0.1:0", Socket: path, Handler: r.Handler(), Wait: r.Wait}}}, b, o.Log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.server.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx) }()
	t.Cleanup(func() {
		b.hub.Close()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	r.socket = dial(t, "unix:"+path)
	r.tcp = dial(t, r.server.Addrs()[1].String())
	return r
}

func dial(t *testing.T, target string) tg.FineGuidanceSensorsClient {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return tg.NewFineGuidanceSensorsClient(conn)
}

// events opens a stream and returns when it is open.
func (r *running) events(t *testing.T, q *tg.GetEventsRequest) grpc.ServerStreamingClient[tg.GetEventsResponse] {
	t.Helper()
	stream, err := r.tcp.GetEvents(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	return stream
}

// family is a session shell, what it started, and what that started: curl, as its parents see it.
func family() (shell, script, curl *model.Process) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	shell = &model.Process{Key: model.ProcessKey{PID: 100, Start: 1_000, Exec: 2}, StartTime: began, Binary: "/usr/bin/bash",
		Args: []string{"-bash"}, CWD: "/root", PreExisting: true}
	script = &model.Process{Key: model.ProcessKey{PID: 200, Start: 2_000, Exec: 3}, ParentKey: shell.Key, StartTime: began.Add(time.Second),
		Binary: "/usr/bin/dash", Args: []string{"/bin/sh", "./fetch", "all of it", "now"}, CWD: "/srv", File: model.ExecFile{Script: "./fetch"}}
	curl = &model.Process{Key: model.ProcessKey{PID: 300, Start: 3_000, Exec: 4}, ParentKey: script.Key, StartTime: began.Add(2 * time.Second),
		Binary: "/usr/bin/curl", Args: []string{"curl", "-s", "https://example.org"}, CWD: "/",
		Creds:      model.Creds{UID: 1000, EUID: 0, LoginUID: 1000, CapPermitted: 1 << 7, CapEffective: 1<<7 | 1<<21},
		Namespaces: model.Namespaces{UTS: initUTS, Net: 4026532000, PID: 4026532001}}
	return shell, script, curl
}

func execOf(p, parent *model.Process) *model.Event {
	return &model.Event{Type: model.TypeExec, Time: p.StartTime, Key: p.Key, TID: p.Key.PID, Process: p, Parent: parent, Count: 1, Exec: &model.Exec{}}
}

func exitOf(p, parent *model.Process) *model.Event {
	return &model.Event{Type: model.TypeExit, Time: p.StartTime.Add(time.Minute), Key: p.Key, TID: p.Key.PID, Process: p, Parent: parent, Count: 1, Exit: &model.Exit{Code: 3}}
}

func probeOf(p, parent *model.Process, probe model.Probe) *model.Event {
	return &model.Event{Type: model.TypeProbe, Time: p.StartTime, Key: p.Key, TID: p.Key.PID + 1, Process: p, Parent: parent, Count: 1, Probe: &probe}
}
