// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

const testBoot = "0123abcd"

// fakeAgent answers the API with what a test gives it, and keeps what it was asked.
type fakeAgent struct {
	vigiev1connect.UnimplementedVigieHandler
	events    []*model.Event
	live      chan []*model.Event // sent after events to clients that follow
	processes []*model.Process
	status    *vigiev1.Status
	problems  []string
	rules     []*vigiev1.Detection
	fail      error // every call
	pageSize  int

	mu       sync.Mutex
	streamed []*vigiev1.StreamEventsRequest
	listed   []*vigiev1.ListProcessesRequest
	tokens   []string
}

// start serves a on a unix socket and returns its path.
func (a *fakeAgent) start(t *testing.T) string {
	t.Helper()
	return serveHandler(t, a)
}

// serveHandler serves an agent on a unix socket and returns its path.
func serveHandler(t *testing.T, a vigiev1connect.VigieHandler) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "vigie.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, a)
	return socket
}

func (a *fakeAgent) serve(t *testing.T, l net.Listener) { serveOn(t, l, a) }

func serveOn(t *testing.T, l net.Listener, a vigiev1connect.VigieHandler) {
	t.Helper()
	_, h := vigiev1connect.NewVigieHandler(a)
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
}

func (a *fakeAgent) StreamEvents(ctx context.Context, r *connect.Request[vigiev1.StreamEventsRequest], s *connect.ServerStream[vigiev1.StreamEventsResponse]) error {
	a.note(r.Header())
	a.mu.Lock()
	a.streamed = append(a.streamed, r.Msg)
	a.mu.Unlock()
	if a.fail != nil {
		return a.fail
	}
	if err := sendEvents(s, a.events); err != nil || r.Msg.NoFollow {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case batch, ok := <-a.live:
			if !ok {
				return nil
			}
			if err := sendEvents(s, batch); err != nil {
				return err
			}
		}
	}
}

func sendEvents(s *connect.ServerStream[vigiev1.StreamEventsResponse], batch []*model.Event) error {
	if len(batch) == 0 {
		return nil
	}
	m := &vigiev1.StreamEventsResponse{}
	for _, e := range batch {
		m.Events = append(m.Events, wire.ToProto(e, testBoot))
	}
	return s.Send(m)
}

func (a *fakeAgent) ListProcesses(_ context.Context, r *connect.Request[vigiev1.ListProcessesRequest]) (*connect.Response[vigiev1.ListProcessesResponse], error) {
	a.note(r.Header())
	a.mu.Lock()
	a.listed = append(a.listed, r.Msg)
	a.mu.Unlock()
	if a.fail != nil {
		return nil, a.fail
	}
	from := 0
	_, _ = fmt.Sscan(r.Msg.PageToken, &from)
	to := len(a.processes)
	m := &vigiev1.ListProcessesResponse{}
	if a.pageSize > 0 && from+a.pageSize < to {
		to = from + a.pageSize
		m.NextPageToken = fmt.Sprint(to)
	}
	for _, p := range a.processes[from:to] {
		m.Processes = append(m.Processes, wire.ProcessToProto(p))
	}
	return connect.NewResponse(m), nil
}

func (a *fakeAgent) GetStatus(_ context.Context, r *connect.Request[vigiev1.GetStatusRequest]) (*connect.Response[vigiev1.GetStatusResponse], error) {
	a.note(r.Header())
	if a.fail != nil {
		return nil, a.fail
	}
	s := a.status
	if s == nil {
		s = &vigiev1.Status{BootId: testBoot + "-ffff"}
	}
	return connect.NewResponse(&vigiev1.GetStatusResponse{Status: s}), nil
}

func (a *fakeAgent) Health(context.Context, *connect.Request[vigiev1.HealthRequest]) (*connect.Response[vigiev1.HealthResponse], error) {
	return connect.NewResponse(&vigiev1.HealthResponse{Ready: len(a.problems) == 0, Problems: a.problems}), nil
}

func (a *fakeAgent) ListDetections(context.Context, *connect.Request[vigiev1.ListDetectionsRequest]) (*connect.Response[vigiev1.ListDetectionsResponse], error) {
	return connect.NewResponse(&vigiev1.ListDetectionsResponse{Detections: a.rules}), nil
}

func (a *fakeAgent) note(h http.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = append(a.tokens, h.Get("Authorization"))
}

// lastStream is the latest request for events.
func (a *fakeAgent) lastStream(t *testing.T) *vigiev1.StreamEventsRequest {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.streamed) == 0 {
		t.Fatal("the agent was asked for no events")
	}
	return a.streamed[len(a.streamed)-1]
}

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// vigie runs a command line as the binary does.
func vigie(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return vigieWith(context.Background(), t, nil, args...)
}

func vigieWith(ctx context.Context, t *testing.T, run Agent, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := Env{In: &bytes.Buffer{}, Out: &out, Err: &errs, Getenv: func(string) string { return "" },
		Now: func() time.Time { return testNow }, Version: "1.2.3", Commit: "abc"}
	code = Execute(ctx, env, New(env, NewRun(env, agent.Default(), run), NewStatus(env), NewPS(env), NewPods(env), NewLifecycle(env), NewEvents(env), NewTop(env), NewQuery(env), NewPolicy(env), NewScan(env), NewFix(env), NewImport(env), NewControls(env), NewAdmit(env), NewRules(env), NewInstall(env), NewUninstall(env), NewCleanup(env), NewVersion(env), NewMan(env)), args)
	return code, out.String(), errs.String()
}

// Fixtures.

func proc(pid, parent uint32, start uint64, workload string, args ...string) *model.Process {
	k := model.ProcessKey{PID: pid, Start: start, Exec: 1}
	p := &model.Process{Key: k, ExecID: k.ExecID(testBoot), Binary: args[0], Args: args, CWD: "/", StartTime: testNow.Add(-time.Hour),
		Workload: &model.Workload{Kind: model.WorkloadUnit, Name: workload}}
	if parent != 0 {
		p.ParentKey = model.ProcessKey{PID: parent, Start: start - 1, Exec: 7}
		p.ParentExecID = p.ParentKey.ExecID(testBoot)
	}
	return p
}

func execEvent(p *model.Process) *model.Event {
	return &model.Event{Type: model.TypeExec, Time: testNow, Seq: 1, BootTime: p.Key.Start, Key: p.Key, TID: p.Key.PID, Process: p, Count: 1, Exec: &model.Exec{}}
}

func connectEvent(p *model.Process, remote string) *model.Event {
	return &model.Event{Type: model.TypeConnect, Time: testNow, Seq: 2, Key: p.Key, Process: p, Count: 1, Socket: &model.Socket{Protocol: "tcp", Family: "ipv4",
		Remote: netip.MustParseAddrPort(remote), Cookie: 5}}
}

func lossEvent(n uint64) *model.Event {
	return &model.Event{Type: model.TypeLoss, Time: testNow, Count: 1, Loss: &model.Loss{Stage: "kernel", Reason: "ring full", Count: n, Total: n}}
}
