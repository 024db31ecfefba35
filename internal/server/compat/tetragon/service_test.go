// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

func TestEventsReachAPublishedClient(t *testing.T) {
	shell, script, curl := family()
	r := start(t, newBackend(shell, script, curl), nil)
	stream := r.events(t, &tg.GetEventsRequest{AllowList: []*tg.Filter{{BinaryRegex: []string{"curl"}}}})
	file := &model.Event{Type: model.TypeFile, Process: curl, Key: curl.Key, File: &model.File{}}
	r.backend.hub.Publish([]*model.Event{execOf(script, shell), file, execOf(curl, script)})
	r.backend.hub.Publish([]*model.Event{exitOf(curl, script)})
	got, err := stream.Recv()
	if err != nil || got.GetProcessExec().GetProcess().GetBinary() != "/usr/bin/curl" || got.GetNodeName() != "node1" {
		t.Fatalf("first: %v, %v", got, err)
	}
	next, err := stream.Recv()
	if err != nil || next.GetProcessExit().GetProcess().GetExecId() != got.GetProcessExec().GetProcess().GetExecId() {
		t.Fatalf("second: %v, %v", next, err)
	}
	subscribers := r.Subscribers()
	if len(subscribers) != 1 || subscribers[0].Name != subscriberName || !strings.HasPrefix(subscribers[0].Peer, "127.0.0.1:") {
		t.Errorf("subscribers %v", subscribers)
	}
	r.backend.hub.Close() // the agent stops
	if m, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("at the agent's end: %v, %v", m, err)
	}
}

// A client that reads nothing loses for itself and is told how much; one that reads loses nothing.
func TestSlowClientIsToldWhatItLost(t *testing.T) {
	shell, script, _ := family()
	script.Args = []string{"x", strings.Repeat("a", 64<<10)}
	r := start(t, newBackend(shell, script), func(o *Options) { o.Queue = 4 })
	slow := r.events(t, &tg.GetEventsRequest{})
	quick := r.events(t, &tg.GetEventsRequest{AggregationOptions: &tg.AggregationOptions{ChannelBufferSize: 1000}})
	const sent = 200 // of 64 KiB: more than HTTP/2's windows take
	quickEnd := make(chan error, 1)
	go func() {
		for n := range sent {
			if m, err := quick.Recv(); err != nil || m.GetProcessExec() == nil {
				quickEnd <- fmt.Errorf("event %d: %v, %w", n, m.GetEvent(), err)
				return
			}
		}
		quickEnd <- nil
	}()
	for range sent {
		r.backend.hub.Publish([]*model.Event{execOf(script, shell)})
	}
	if err := <-quickEnd; err != nil {
		t.Errorf("the client that reads: %v", err)
	}
	received, told := 0, false
	r.backend.hub.Close()
	for {
		m, err := slow.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.GetProcessExec() != nil {
			received++
		}
		if c := m.GetProcessThrottle().GetCgroup(); strings.HasPrefix(c, "vigie lost ") && strings.Contains(c, "(subscriber: ") {
			told = true
		}
	}
	lost := counter(r.backend.losses)
	if received+int(lost) != sent || lost == 0 || !told {
		t.Errorf("of %d events %d came and %d are counted as lost; told: %v", sent, received, lost, told)
	}
}

func counter(l *pipeline.Losses) uint64 {
	return l.Counter("subscriber", subscriberName).Load()
}

func TestStreamsAreLimited(t *testing.T) {
	r := start(t, newBackend(), func(o *Options) { o.MaxStreams = 1 })
	r.events(t, &tg.GetEventsRequest{})
	second, err := r.tcp.GetEvents(t.Context(), &tg.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the second stream: %v", err)
	}
	if n := r.backend.hub.Subscribers(); n != 1 {
		t.Errorf("%d subscriptions are open", n)
	}
}

func TestBadFilterIsTheClientsError(t *testing.T) {
	r := start(t, newBackend(), nil)
	stream, err := r.tcp.GetEvents(t.Context(), &tg.GetEventsRequest{AllowList: []*tg.Filter{{BinaryRegex: []string{"("}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "allow_list[0]: binary_regex[0]") {
		t.Errorf("got %v", err)
	}
}

func TestHealthVersionInfoSensors(t *testing.T) {
	r := start(t, newBackend(), nil)
	health := func() *tg.HealthStatus {
		t.Helper()
		h, err := r.tcp.GetHealth(t.Context(), &tg.GetHealthStatusRequest{EventSet: []tg.HealthStatusType{tg.HealthStatusType_HEALTH_STATUS_TYPE_STATUS}})
		if err != nil || len(h.GetHealthStatus()) != 1 {
			t.Fatalf("health: %v, %v", h, err)
		}
		return h.GetHealthStatus()[0]
	}
	if h := health(); h.GetStatus() != tg.HealthStatusResult_HEALTH_STATUS_RUNNING || h.GetDetails() != "running" {
		t.Errorf("health: %v", h)
	}
	r.backend.problems = []string{"sensor dns does not run", "too hot"}
	if h := health(); h.GetStatus() != tg.HealthStatusResult_HEALTH_STATUS_ERROR || h.GetDetails() != "sensor dns does not run; too hot" {
		t.Errorf("health with problems: %v", h)
	}
	none, err := r.tcp.GetHealth(t.Context(), &tg.GetHealthStatusRequest{EventSet: []tg.HealthStatusType{tg.HealthStatusType_HEALTH_STATUS_TYPE_UNDEF}})
	if err != nil || len(none.GetHealthStatus()) != 0 {
		t.Errorf("health of something else: %v, %v", none, err)
	}
	if v, err := r.tcp.GetVersion(t.Context(), &tg.GetVersionRequest{}); err != nil || v.GetVersion() != "1.2.3" {
		t.Errorf("version: %v, %v", v, err)
	}
	info, err := r.tcp.GetInfo(t.Context(), &tg.GetInfoRequest{})
	if err != nil || info.GetName() != "vigie" || len(info.GetProbes()) != 2 || info.GetConf()[0].GetKey() != "http" || info.GetBuild().GetGoVersion() == "" {
		t.Errorf("info: %v, %v", info, err)
	}
	sensors, err := r.tcp.ListSensors(t.Context(), &tg.ListSensorsRequest{}) //nolint:staticcheck // old clients ask it
	if err != nil || len(sensors.GetSensors()) != 2 || !sensors.GetSensors()[0].GetEnabled() || sensors.GetSensors()[1].GetEnabled() {
		t.Errorf("sensors: %v, %v", sensors, err)
	}
}

func TestPolicyCalls(t *testing.T) {
	p := new(policies)
	r := start(t, newBackend(), func(o *Options) { o.Policies = p })
	ctx := t.Context()
	if _, err := r.socket.AddTracingPolicy(ctx, &tg.AddTracingPolicyRequest{Yaml: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.socket.AddTracingPolicy(ctx, &tg.AddTracingPolicyRequest{Yaml: "a"}); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "there already") {
		t.Errorf("the second of that name: %v", err)
	}
	monitor, yes := tg.TracingPolicyMode_TP_MODE_MONITOR, true
	if _, err := r.socket.ConfigureTracingPolicy(ctx, &tg.ConfigureTracingPolicyRequest{Name: "a", Mode: &monitor, Enable: &yes}); err != nil {
		t.Error(err)
	}
	if want := []string{"mode monitor", "enabled true"}; !slices.Equal(p.log, want) {
		t.Errorf("configured by %q, want %q", p.log, want)
	}
	if _, err := r.socket.DisableTracingPolicy(ctx, &tg.DisableTracingPolicyRequest{Name: "a"}); err != nil { //nolint:staticcheck // old clients
		t.Error(err)
	}
	list, err := r.tcp.ListTracingPolicies(ctx, &tg.ListTracingPoliciesRequest{})
	if err != nil || len(list.GetPolicies()) != 1 {
		t.Fatalf("list: %v, %v", list, err)
	}
	if s := list.GetPolicies()[0]; s.GetState() != tg.TracingPolicyState_TP_STATE_DISABLED || s.GetMode() != monitor || s.GetId() != 1 {
		t.Errorf("status %v", s)
	}
	if _, err := r.socket.EnableTracingPolicy(ctx, &tg.EnableTracingPolicyRequest{Name: "a"}); err != nil { //nolint:staticcheck // old clients
		t.Error(err)
	}
	if _, err := r.socket.DeleteTracingPolicy(ctx, &tg.DeleteTracingPolicyRequest{Name: "a"}); err != nil {
		t.Error(err)
	}
	if _, err := r.socket.DeleteTracingPolicy(ctx, &tg.DeleteTracingPolicyRequest{Name: "a"}); status.Code(err) != codes.NotFound {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := r.socket.ConfigureTracingPolicy(ctx, &tg.ConfigureTracingPolicyRequest{Name: "a"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("nothing to configure: %v", err)
	}
	only := tg.TracingPolicyMode_TP_MODE_MONITOR_ONLY
	if _, err := r.socket.ConfigureTracingPolicy(ctx, &tg.ConfigureTracingPolicyRequest{Name: "a", Mode: &only}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a mode that can't be set: %v", err)
	}
}

func TestPolicyStatus(t *testing.T) {
	got := policyStatus(&PolicyStatus{ID: 3, Name: "a", Namespace: "n", State: StateEnabled, Mode: ModeEnforce, Sensors: []string{"sys_exit"}, FilterID: 4,
		KernelBytes: 5, Error: "e", Counters: PolicyCounters{Post: 1, Signal: 2, MonitorSignal: 3, Override: 4, MonitorOverride: 5, NotifyEnforcer: 6, MonitorNotifyEnforcer: 7, Set: 8, MonitorSet: 9}})
	c := got.GetStats().GetActionCounters()
	if got.GetId() != 3 || got.GetName() != "a" || got.GetNamespace() != "n" || got.GetSensors()[0] != "sys_exit" || got.GetFilterId() != 4 ||
		got.GetKernelMemoryBytes() != 5 || got.GetError() != "e" || !got.GetEnabled() || //nolint:staticcheck // old clients read it
		c.GetPost() != 1 || c.GetSignal() != 2 || c.GetMonitorSignal() != 3 || c.GetOverride() != 4 || c.GetMonitorOverride() != 5 ||
		c.GetNotifyEnforcer() != 6 || c.GetMonitorNotifyEnforcer() != 7 || c.GetSet() != 8 || c.GetMonitorSet() != 9 {
		t.Errorf("got %v", got)
	}
	for state, want := range map[PolicyState]string{StateEnabled: "ENABLED", StateDisabled: "DISABLED", StateLoadError: "LOAD_ERROR", StateError: "ERROR",
		StateLoading: "LOADING", StateUnloading: "UNLOADING", "": "UNKNOWN"} {
		if got := policyState(state).String(); got != "TP_STATE_"+want {
			t.Errorf("%q is %s", state, got)
		}
	}
	for mode, want := range map[PolicyMode]string{ModeEnforce: "ENFORCE", ModeMonitor: "MONITOR", ModeMonitorOnly: "MONITOR_ONLY", "": "UNKNOWN"} {
		if got := policyMode(mode).String(); got != "TP_MODE_"+want {
			t.Errorf("%q is %s", mode, got)
		}
	}
}

// Whoever reaches the port may look. What changes the agent is for root on the socket.
func TestChangesOnlyOverTheSocket(t *testing.T) {
	p := new(policies)
	r := start(t, newBackend(), func(o *Options) { o.Policies = p })
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"add": func() error {
			_, err := r.tcp.AddTracingPolicy(ctx, &tg.AddTracingPolicyRequest{Yaml: "x"})
			return err
		},
		"delete": func() error { _, err := r.tcp.DeleteTracingPolicy(ctx, &tg.DeleteTracingPolicyRequest{}); return err },
		"config": func() error {
			_, err := r.tcp.ConfigureTracingPolicy(ctx, &tg.ConfigureTracingPolicyRequest{})
			return err
		},
		"enable":  func() error { _, err := r.tcp.EnableTracingPolicy(ctx, &tg.EnableTracingPolicyRequest{}); return err },   //nolint:staticcheck // old clients
		"disable": func() error { _, err := r.tcp.DisableTracingPolicy(ctx, &tg.DisableTracingPolicyRequest{}); return err }, //nolint:staticcheck // old clients
		"log":     func() error { _, err := r.tcp.SetDebug(ctx, &tg.SetDebugRequest{}); return err },
		"hook":    func() error { _, err := r.tcp.RuntimeHook(ctx, &tg.RuntimeHookRequest{}); return err },
		"sensor":  func() error { _, err := r.tcp.RemoveSensor(ctx, &tg.RemoveSensorRequest{}); return err }, //nolint:staticcheck // old clients
	} {
		if err := call(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "as root on the unix socket") {
			t.Errorf("%s over TCP: %v", name, err)
		}
	}
	if len(p.list) != 0 {
		t.Error("a policy was added over TCP")
	}
}

func TestWhatThisAgentHasNot(t *testing.T) {
	r := start(t, newBackend(), func(o *Options) { o.Policies, o.Level = nil, nil })
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"add":   func() error { _, err := r.socket.AddTracingPolicy(ctx, &tg.AddTracingPolicyRequest{}); return err },
		"level": func() error { _, err := r.socket.GetDebug(ctx, &tg.GetDebugRequest{}); return err },
		"set": func() error {
			_, err := r.socket.SetDebug(ctx, &tg.SetDebugRequest{Arg: &tg.SetDebugRequest_Level{}})
			return err
		},
		"enable":  func() error { _, err := r.socket.EnableSensor(ctx, &tg.EnableSensorRequest{}); return err },   //nolint:staticcheck // old clients
		"disable": func() error { _, err := r.socket.DisableSensor(ctx, &tg.DisableSensorRequest{}); return err }, //nolint:staticcheck // old clients
		"remove":  func() error { _, err := r.socket.RemoveSensor(ctx, &tg.RemoveSensorRequest{}); return err },   //nolint:staticcheck // old clients
	} {
		if err := call(); status.Code(err) != codes.Unimplemented || len(status.Convert(err).Message()) < 20 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := r.tcp.ListTracingPolicies(ctx, &tg.ListTracingPoliciesRequest{}); err != nil || len(list.GetPolicies()) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
}

func TestLogLevelIsReadAndSet(t *testing.T) {
	level := new(slog.LevelVar)
	r := start(t, newBackend(), func(o *Options) { o.Level = level })
	ctx := t.Context()
	for want := range tg.LogLevel_name {
		set, err := r.socket.SetDebug(ctx, &tg.SetDebugRequest{Arg: &tg.SetDebugRequest_Level{Level: tg.LogLevel(want)}})
		if err != nil || set.GetLevel() != tg.LogLevel(want) {
			t.Errorf("set %s: %v, %v", tg.LogLevel(want), set, err)
		}
		if got, err := r.tcp.GetDebug(ctx, &tg.GetDebugRequest{}); err != nil || got.GetLevel() != tg.LogLevel(want) {
			t.Errorf("set %s: it is %v, %v", tg.LogLevel(want), got, err)
		}
	}
	if _, err := r.socket.SetDebug(ctx, &tg.SetDebugRequest{Flag: tg.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("set the process table: %v", err)
	}
	if _, err := r.socket.GetDebug(ctx, &tg.GetDebugRequest{Flag: 9}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("get something unknown: %v", err)
	}
}

func TestProcessTableIsDumped(t *testing.T) {
	shell, script, curl := family()
	curl.EndTime = curl.StartTime.Add(time.Second)
	r := start(t, newBackend(shell, script, curl), nil)
	for want, q := range map[string]*tg.DumpProcessCacheReqArgs{
		"100 inUse, 200 inUse, 300 deleted": {},
		"100 inUse, 200 inUse":              {SkipZeroRefcnt: true},
		"300 deleted":                       {ExcludeExecveMapProcesses: true},
	} {
		m, err := r.tcp.GetDebug(t.Context(), &tg.GetDebugRequest{Flag: tg.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE, Arg: &tg.GetDebugRequest_Dump{Dump: q}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range m.GetProcesses().GetProcesses() {
			got = append(got, fmt.Sprintf("%d %s", p.GetProcess().GetPid().GetValue(), p.GetColor()))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%v: %q, want %q", q, got, want)
		}
	}
}

func TestRuntimeHookIsAnswered(t *testing.T) {
	r := start(t, newBackend(), nil)
	q := &tg.RuntimeHookRequest{Event: &tg.RuntimeHookRequest_CreateContainer{CreateContainer: &tg.CreateContainer{ContainerID: "c"}}}
	if _, err := r.socket.RuntimeHook(t.Context(), q); err != nil {
		t.Errorf("a container would not start: %v", err)
	}
	if _, err := r.socket.RuntimeHook(t.Context(), &tg.RuntimeHookRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("nothing: %v", err)
	}
}
