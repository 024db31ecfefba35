// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/facts"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

func noon() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// agent answers with what happened in one container, whoever is asked about.
type agent struct {
	vigiev1connect.UnimplementedVigieHandler
	sensors []*vigiev1.SensorStatus
	events  []*vigiev1.Event
	files   map[string][]string         // a part of the filter → rows
	images  map[string][]*vigiev1.Event // exec_id → events of it, in whatever container
	asked   []*vigiev1.Filter
}

func (a *agent) GetStatus(context.Context, *connect.Request[vigiev1.GetStatusRequest]) (*connect.Response[vigiev1.GetStatusResponse], error) {
	return connect.NewResponse(&vigiev1.GetStatusResponse{Status: &vigiev1.Status{Sensors: a.sensors}}), nil
}

func (a *agent) QueryEvents(_ context.Context, r *connect.Request[vigiev1.QueryEventsRequest]) (*connect.Response[vigiev1.QueryEventsResponse], error) {
	f := r.Msg.GetFilter()
	a.asked = append(a.asked, f)
	out := &vigiev1.QueryEventsResponse{CompleteSince: timestamppb.New(noon().Add(-72 * time.Hour))}
	if id, ok := strings.CutPrefix(f.GetWhere(), "process.exec_id == "); ok {
		for _, e := range a.images[strings.Trim(id, `"`)] {
			if len(f.GetTypes()) == 0 || slices.Contains(f.GetTypes(), e.GetType()) {
				out.Events = append(out.Events, e)
			}
		}
		return connect.NewResponse(out), nil
	}
	for _, e := range a.events {
		if strings.Contains(f.GetWhere(), `"app"`) && (len(f.GetTypes()) == 0 || slices.Contains(f.GetTypes(), e.GetType())) && matches(f.GetWhere(), e) && len(out.Events) < int(r.Msg.GetPageSize()) {
			out.Events = append(out.Events, e)
		}
	}
	return connect.NewResponse(out), nil
}

// matches holds what is asked of an event beside its container.
func matches(where string, e *vigiev1.Event) bool {
	switch e.GetType() {
	case "capability":
		_, without, _ := strings.Cut(where, "process.exec_id in [")
		return e.GetCapability().GetGranted() && !strings.Contains(without, strconv.Quote(e.GetProcess().GetExecId())) && !strings.Contains(where, strconv.Quote(e.GetCapability().GetCap()))
	case "accept":
		return !strings.Contains(where, fmt.Sprintf("[%du", e.GetSocket().GetLocalPort()))
	case "exec":
		return !strings.Contains(where, fmt.Sprintf("[%du", e.GetProcess().GetUid()))
	}
	return true
}

func (a *agent) Aggregate(_ context.Context, r *connect.Request[vigiev1.AggregateRequest]) (*connect.Response[vigiev1.AggregateResponse], error) {
	out := &vigiev1.AggregateResponse{}
	for part, files := range a.files {
		if strings.Contains(r.Msg.GetFilter().GetWhere(), part) {
			for _, f := range files {
				out.Rows = append(out.Rows, &vigiev1.AggregateRow{Keys: []string{f}})
			}
		}
	}
	return connect.NewResponse(out), nil
}

func ask(t *testing.T, a *agent) *Source {
	t.Helper()
	_, handler := vigiev1connect.NewVigieHandler(a)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s, err := Ask(t.Context(), vigiev1connect.NewVigieClient(server.Client(), server.URL), noon)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(e *vigiev1.Event) *vigiev1.Event {
	e.Time = timestamppb.New(noon().Add(-48 * time.Hour))
	return e
}

func TestWhatAnAgentSaw(t *testing.T) {
	a := &agent{sensors: []*vigiev1.SensorStatus{{Name: "privilege", State: "on", Rung: "sys_exit; capability use: tp_btf"}, {Name: "file", State: "on"}},
		files: map[string][]string{`!= "read"`: {"/tmp/x", "/proc/self/attr"}, tokenPath: {tokenPath + "/token"}}}
	process := &vigiev1.Process{Uid: 7, File: &vigiev1.ExecFile{SetuidGained: true}}
	a.events = []*vigiev1.Event{at(&vigiev1.Event{Type: "exec", Process: process}),
		at(&vigiev1.Event{Type: "capability", Process: process, Capability: &vigiev1.Capability{Cap: "CAP_NET_RAW", Granted: true}}),
		at(&vigiev1.Event{Type: "capability", Process: process, Capability: &vigiev1.Capability{Cap: "CAP_SYS_ADMIN"}}),
		at(&vigiev1.Event{Type: "accept", Process: process, Socket: &vigiev1.Socket{LocalPort: 80}})}
	s := ask(t, a)
	seen, ok := s.Container(facts.Workload{Kind: "Deployment", Namespace: "shop", Name: "web"}, "app")
	if !ok || s.Err() != nil {
		t.Fatal(ok, s.Err())
	}
	if !slices.Equal(seen.Capabilities, []string{"NET_RAW"}) || !slices.Equal(seen.Listens, []uint16{80}) || !slices.Equal(seen.Writes, []string{"/tmp/x"}) ||
		!slices.Equal(seen.Reads, []string{tokenPath + "/token"}) || !slices.Equal(seen.Users, []uint32{7}) || !seen.Setuid || seen.To.Sub(seen.From) != 48*time.Hour {
		t.Errorf("%+v", seen)
	}
	if f := a.asked[0]; f.WorkloadNames[0] != "web-*" || !strings.Contains(f.Where, `process.workload.namespace == "shop"`) {
		t.Errorf("asked for %v", f)
	}
	n := len(a.asked)
	if _, ok := s.Container(facts.Workload{Kind: "Deployment", Namespace: "shop", Name: "web"}, "app"); !ok || len(a.asked) != n {
		t.Error("the agent was asked again")
	}
	if _, ok := s.Container(facts.Workload{Kind: "Pod", Namespace: "shop", Name: "db"}, "other"); ok {
		t.Error("a container that was never seen is known")
	}
}

func TestASensorThatIsOffProvesNothing(t *testing.T) {
	_, handler := vigiev1connect.NewVigieHandler(&agent{sensors: []*vigiev1.SensorStatus{{Name: "file", State: "failed", Message: "no memory"}}})
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	if _, err := Ask(t.Context(), vigiev1connect.NewVigieClient(server.Client(), server.URL), noon); err == nil || !strings.Contains(err.Error(), "no memory") {
		t.Errorf("got %v", err)
	}
	s := ask(t, &agent{sensors: []*vigiev1.SensorStatus{{Name: "privilege", State: "on", Rung: "sys_exit; capability use: not seen on this kernel"}},
		events: []*vigiev1.Event{at(&vigiev1.Event{Type: "exec", Process: &vigiev1.Process{}})}})
	seen, ok := s.Container(facts.Workload{Kind: "Pod", Namespace: "shop", Name: "web"}, "app")
	if why, proven := seen.Proof(facts.NoCapabilities, time.Hour, nil); !ok || proven {
		t.Errorf("that no capability was used is proven by a kernel that does not tell: %s", why)
	}
}

// fixed answers the same about every container.
type fixed facts.Seen

func (f fixed) Container(_ facts.Workload, container string) (facts.Seen, bool) {
	return facts.Seen(f), container != "unknown"
}

func TestFindingsAreRaisedAndLowered(t *testing.T) {
	long := facts.Seen{From: noon().Add(-48 * time.Hour), To: noon(), Users: []uint32{7}}
	with := func(edit func(*facts.Seen)) facts.Seen {
		s := long
		edit(&s)
		return s
	}
	for _, c := range []struct {
		name, control string
		severity      control.Severity
		seen          facts.Seen
		want          control.Severity
		says          string
	}{
		{"privileged and never used", "privileged", control.Critical, long, control.High, "never used a capability, in 2 days"},
		{"privileged and used", "privileged", control.High, with(func(s *facts.Seen) { s.Capabilities = []string{"SYS_ADMIN"} }), control.Critical, "SYS_ADMIN"},
		{"another capability", "capability-net-raw", control.Medium, with(func(s *facts.Seen) { s.Capabilities = []string{"CHOWN"} }), control.Low, "never used NET_RAW"},
		{"not told", "privileged", control.Critical, with(func(s *facts.Seen) { s.Capabilities = []string{unseen} }), control.Critical, "not seen on this kernel"},
		{"too short", "privileged", control.Critical, with(func(s *facts.Seen) { s.From = noon().Add(-time.Hour) }), control.Critical, "in 1h"},
		{"a port", "host-port", control.Medium, long, control.Low, "no connection"},
		{"a port in use", "host-port", control.Medium, with(func(s *facts.Seen) { s.Listens = []uint16{80} }), control.Medium, "port 80"},
		{"a token", "service-account-token", control.Medium, long, control.Low, "never read"},
		{"root", "run-as-non-root", control.Medium, with(func(s *facts.Seen) { s.Users = []uint32{0} }), control.High, "runs as root"},
		{"setuid", "privilege-escalation", control.Medium, with(func(s *facts.Seen) { s.Setuid = true }), control.High, "setuid"},
		{"writes", "read-only-root", control.Medium, with(func(s *facts.Seen) { s.Writes = []string{"/a", "/b", "/c", "/d"} }), control.Medium, "/c and more"},
		{"nothing to say", "image-digest", control.Low, long, control.Low, ""},
	} {
		r := &scan.Report{Findings: []scan.Finding{{Control: c.control, Severity: c.severity, Container: "a"}, {Control: c.control, Severity: c.severity, Container: "unknown"}}}
		Adjust(r, fixed(c.seen), 24*time.Hour)
		for _, f := range r.Findings {
			if f.Container == "unknown" {
				if f.Severity != c.severity || f.Seen != "" {
					t.Errorf("%s: a container that was never seen: %+v", c.name, f)
				}
				continue
			}
			if f.Severity != c.want || !strings.Contains(f.Seen, c.says) || (c.says == "") != (f.Seen == "") {
				t.Errorf("%s: %s %q, want %s %q", c.name, f.Severity, f.Seen, c.want, c.says)
			}
		}
	}
}

// TestOpinionsAreAboutControls: a control that was renamed must not be forgotten here.
func TestOpinionsAreAboutControls(t *testing.T) {
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	for id := range opinions() {
		if !slices.ContainsFunc(all, func(c *control.Control) bool { return c.ID == id }) {
			t.Errorf("no control is called %s", id)
		}
	}
}

// TestWhatTheRuntimeDoesIsNotTheContainers: capabilities that the runtime uses in the container's cgroup before its program runs.
func TestWhatTheRuntimeDoesIsNotTheContainers(t *testing.T) {
	container := &vigiev1.Workload{Kind: "pod", Id: "c1"}
	unit := &vigiev1.Workload{Kind: "unit", Id: "containerd"}
	exec := func(id string, w *vigiev1.Workload) []*vigiev1.Event {
		return []*vigiev1.Event{at(&vigiev1.Event{Type: "exec", Process: &vigiev1.Process{ExecId: id, Workload: w}})}
	}
	of := func(id, parent string, capability string) *vigiev1.Event {
		p := &vigiev1.Process{ExecId: id, Workload: container}
		if parent != "" {
			p.Forked, p.Parent = true, &vigiev1.ProcessRef{ExecId: parent}
		}
		return at(&vigiev1.Event{Type: "capability", Process: p, Capability: &vigiev1.Capability{Cap: capability, Granted: true}})
	}
	a := &agent{sensors: []*vigiev1.SensorStatus{{Name: "privilege", State: "on", Rung: "sys_exit; capability use: tp_btf"}},
		images: map[string][]*vigiev1.Event{"init": exec("init", unit), "create": exec("create", unit), "app": exec("app", container),
			"stage": {of("stage", "init", "CAP_SETPCAP")}}}
	a.events = []*vigiev1.Event{
		of("init", "", "CAP_SETUID"), of("stage", "init", "CAP_SETPCAP"), of("last", "stage", "CAP_SYS_ADMIN"), of("sibling", "create", "CAP_SETGID"), // the runtime
		of("app", "", "CAP_CHOWN"), of("worker", "app", "CAP_KILL"), of("earlier", "", "CAP_FOWNER"), of("orphan", "unknown", "CAP_NET_RAW"), // not known to be
		of("app", "", "CAP_SETGID"),
	}
	seen, ok := ask(t, a).Container(facts.Workload{Kind: "Deployment", Namespace: "shop", Name: "web"}, "app")
	if want := []string{"CHOWN", "KILL", "FOWNER", "NET_RAW", "SETGID"}; !ok || !slices.Equal(seen.Capabilities, want) {
		t.Errorf("%v %q, want %q", ok, seen.Capabilities, want)
	}
}
