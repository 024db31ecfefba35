// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// tetragonClients are clients of Tetragon's published API: one of the unix socket, one of the port.
func (a *agent) tetragonClients() (socket, port tg.FineGuidanceSensorsClient) {
	a.t.Helper()
	found := regexp.MustCompile(`option=--tetragon-api address=(\S+)`).FindStringSubmatch(a.log.String())
	if found == nil {
		a.t.Fatalf("the agent does not say where Tetragon's API is:\n%s", a.log.String())
	}
	return tetragonClient(a.t, "unix://"+filepath.Join(a.dir, "state", "tetragon.sock")), tetragonClient(a.t, found[1])
}

func tetragonClient(t *testing.T, target string) tg.FineGuidanceSensorsClient {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return tg.NewFineGuidanceSensorsClient(conn)
}

// tetragonEvents opens a stream. Everything that happens after it returns is in the stream.
func tetragonEvents(t *testing.T, c tg.FineGuidanceSensorsClient, q *tg.GetEventsRequest) grpc.ServerStreamingClient[tg.GetEventsResponse] {
	t.Helper()
	stream, err := c.GetEvents(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestTetragonsClientSeesARealProcess(t *testing.T) {
	a := startAgent(t, "--tetragon-api", "127.0.0.1:0")
	socket, port := a.tetragonClients()
	self := uint32(os.Getpid())
	filter := &tg.Filter{PidSet: []uint32{self}, AncestorBinaryRegex: []string{`/e2e\.test$`, "."}}
	// The other stream is filtered so that what it gets is known: of the exit alone two fields.
	stream := tetragonEvents(t, port, &tg.GetEventsRequest{AllowList: []*tg.Filter{filter}})
	masked := tetragonEvents(t, socket, &tg.GetEventsRequest{AllowList: []*tg.Filter{{PidSet: []uint32{self}, BinaryRegex: []string{"/true$"},
		EventSet: []tg.EventType{tg.EventType_PROCESS_EXIT}}},
		FieldFilters: []*tg.FieldFilter{{Fields: &fieldmaskpb.FieldMask{Paths: []string{"process.pid", "status"}}}}})

	cmd := exec.Command("/bin/sh", "-c", `/bin/true one "two words"; exit 7`)
	cmd.Dir = "/usr"
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Fatal(err)
	}
	shell := uint32(cmd.Process.Pid)

	var execShell, execTrue *tg.ProcessExec
	var exitTrue, exitShell *tg.ProcessExit
	for exitShell == nil {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		isTrue := func(p *tg.Process) bool {
			return strings.HasSuffix(p.GetBinary(), "/true") && p.GetArguments() == `one "two words"`
		}
		switch e := m.GetEvent().(type) {
		case *tg.GetEventsResponse_ProcessExec:
			switch p := e.ProcessExec.GetProcess(); {
			case p.GetPid().GetValue() == shell:
				execShell = e.ProcessExec
			case isTrue(p):
				execTrue = e.ProcessExec
			}
		case *tg.GetEventsResponse_ProcessExit:
			switch p := e.ProcessExit.GetProcess(); {
			case p.GetPid().GetValue() == shell:
				exitShell = e.ProcessExit
			case isTrue(p):
				exitTrue = e.ProcessExit
			}
		}
		if m.GetNodeName() == "" || m.GetTime() == nil {
			t.Errorf("no node or no time: %v", m)
		}
	}
	if execShell == nil || execTrue == nil || exitTrue == nil {
		t.Fatalf("missing: exec of the shell %v, exec %v and exit %v of true", execShell != nil, execTrue != nil, exitTrue != nil)
	}
	if p := execShell.GetParent(); p.GetPid().GetValue() != self || !strings.HasSuffix(p.GetBinary(), "/e2e.test") || p.GetExecId() != execShell.GetProcess().GetParentExecId() {
		t.Errorf("the shell's parent is %v", p)
	}
	if p := execTrue.GetProcess(); p.GetParentExecId() != execShell.GetProcess().GetExecId() || execTrue.GetParent().GetExecId() != execShell.GetProcess().GetExecId() ||
		p.GetCwd() != "/usr" || p.GetFlags() != "execve clone" || p.GetTid().GetValue() != p.GetPid().GetValue() {
		t.Errorf("true: %v", p)
	}
	if len(execTrue.GetAncestors()) == 0 || execTrue.GetAncestors()[0].GetPid().GetValue() != self {
		t.Errorf("the ancestors beyond true's parent: %v", execTrue.GetAncestors())
	}
	if exitTrue.GetProcess().GetExecId() != execTrue.GetProcess().GetExecId() || exitShell.GetProcess().GetExecId() != execShell.GetProcess().GetExecId() {
		t.Error("exec and exit of one process have different exec_ids")
	}
	if exitShell.GetStatus() != 7 || exitShell.GetSignal() != "" || exitTrue.GetStatus() != 0 {
		t.Errorf("ended with %d %q and %d", exitShell.GetStatus(), exitShell.GetSignal(), exitTrue.GetStatus())
	}
	m, err := masked.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if e := m.GetProcessExit(); e.GetProcess().GetPid().GetValue() != execTrue.GetProcess().GetPid().GetValue() || e.GetParent() != nil || e.GetProcess().GetBinary() != "" {
		t.Errorf("with a field filter: %v", m)
	}
	a.stop()
}

func TestTetragonsClientAsksAboutTheAgent(t *testing.T) {
	a := startAgent(t, "--tetragon-api", "127.0.0.1:0")
	socket, port := a.tetragonClients()
	health, err := port.GetHealth(t.Context(), &tg.GetHealthStatusRequest{})
	if err != nil || health.GetHealthStatus()[0].GetStatus() != tg.HealthStatusResult_HEALTH_STATUS_RUNNING {
		t.Errorf("health: %v, %v", health, err)
	}
	want, _ := get(a.call("GetStatus"), "status.version").(string)
	if v, err := port.GetVersion(t.Context(), &tg.GetVersionRequest{}); err != nil || v.GetVersion() != want || want == "" {
		t.Errorf("version: %v, %v; want %q", v, err, want)
	}
	dump, err := socket.GetDebug(t.Context(), &tg.GetDebugRequest{Flag: tg.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE})
	found := false
	for _, p := range dump.GetProcesses().GetProcesses() {
		found = found || p.GetProcess().GetPid().GetValue() == uint32(os.Getpid())
	}
	if err != nil || !found {
		t.Errorf("the process table has not this process: %v", err)
	}
	level := &tg.SetDebugRequest{Arg: &tg.SetDebugRequest_Level{Level: tg.LogLevel_LOG_LEVEL_DEBUG}}
	if _, err := port.SetDebug(t.Context(), level); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the log level by the port: %v", err)
	}
	if _, err := socket.SetDebug(t.Context(), level); err != nil {
		t.Errorf("the log level by the socket: %v", err)
	}
	hook := &tg.RuntimeHookRequest{Event: &tg.RuntimeHookRequest_CreateContainer{CreateContainer: &tg.CreateContainer{ContainerID: "of-a-test"}}}
	if _, err := socket.RuntimeHook(t.Context(), hook); err != nil {
		t.Errorf("the hook of a container runtime: %v", err)
	}
	a.await("a line that is written at level debug only", func() bool { return strings.Contains(a.log.String(), "of-a-test") })
	a.stop()
}
