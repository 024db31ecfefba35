// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// policyAgent answers the calls about policies, and keeps the requests.
type policyAgent struct {
	fakeAgent
	policies []*vigiev1.Policy
	refuse   error
	// refuseOnly has only those policies refused that have this text.
	refuseOnly string
	asked      chan any
}

func newPolicyAgent(policies ...*vigiev1.Policy) *policyAgent {
	return &policyAgent{policies: policies, asked: make(chan any, 100)}
}

func (a *policyAgent) start(t *testing.T) string {
	t.Helper()
	return serveHandler(t, a)
}

// lastAsked is the oldest request that was not looked at.
func lastAsked[M any](t *testing.T, a *policyAgent) M {
	t.Helper()
	select {
	case m := <-a.asked:
		if m, ok := m.(M); ok {
			return m
		}
		t.Fatalf("the agent was asked %v", m)
	default:
		t.Fatal("the agent was asked for nothing")
	}
	panic("unreachable")
}

func (a *policyAgent) ListPolicies(_ context.Context, r *connect.Request[vigiev1.ListPoliciesRequest]) (*connect.Response[vigiev1.ListPoliciesResponse], error) {
	m := new(vigiev1.ListPoliciesResponse)
	for _, p := range a.policies {
		if r.Msg.Name == "" || r.Msg.Name == p.Name {
			m.Policies = append(m.Policies, p)
		}
	}
	return connect.NewResponse(m), a.refuse
}

func (a *policyAgent) ApplyPolicies(_ context.Context, r *connect.Request[vigiev1.ApplyPoliciesRequest]) (*connect.Response[vigiev1.ApplyPoliciesResponse], error) {
	a.asked <- r.Msg
	if !strings.Contains(r.Msg.Yaml, a.refuseOnly) {
		return connect.NewResponse(new(vigiev1.ApplyPoliciesResponse)), nil
	}
	return connect.NewResponse(&vigiev1.ApplyPoliciesResponse{Policies: a.policies}), a.refuse
}

func (a *policyAgent) SetPolicyMode(_ context.Context, r *connect.Request[vigiev1.SetPolicyModeRequest]) (*connect.Response[vigiev1.SetPolicyModeResponse], error) {
	a.asked <- r.Msg
	return connect.NewResponse(&vigiev1.SetPolicyModeResponse{Policy: a.policies[0]}), a.refuse
}

func (a *policyAgent) DeletePolicy(_ context.Context, r *connect.Request[vigiev1.DeletePolicyRequest]) (*connect.Response[vigiev1.DeletePolicyResponse], error) {
	a.asked <- r.Msg
	return connect.NewResponse(new(vigiev1.DeletePolicyResponse)), a.refuse
}

func (a *policyAgent) SimulatePolicies(_ context.Context, r *connect.Request[vigiev1.SimulatePoliciesRequest]) (*connect.Response[vigiev1.SimulatePoliciesResponse], error) {
	a.asked <- r.Msg
	m := &vigiev1.SimulatePoliciesResponse{Judged: 1234, CompleteSince: timestamppb.New(testNow.Add(-time.Hour)), Limits: []string{"a limit"}}
	if strings.Contains(r.Msg.Yaml, "strict") {
		m.Denials = []*vigiev1.SimulatedDenial{{Policy: "web", Rule: "files.deny[0]", Workload: "nginx.service", Binary: "/usr/sbin/nginx", Operation: "read",
			Object: "/etc/\x1bshadow", Count: 12, Example: wire.ToProto(execEvent(proc(50, 1, 11, "nginx.service", "/usr/sbin/nginx")), testBoot)}}
	}
	return connect.NewResponse(m), a.refuse
}

func (a *policyAgent) LearnPolicy(_ context.Context, r *connect.Request[vigiev1.LearnPolicyRequest]) (*connect.Response[vigiev1.LearnPolicyResponse], error) {
	a.asked <- r.Msg
	return connect.NewResponse(&vigiev1.LearnPolicyResponse{Yaml: "kind: WorkloadPolicy\n", Events: 77, Notes: []string{"look at /tmp"}}), a.refuse
}

func (a *policyAgent) ExplainEvent(_ context.Context, r *connect.Request[vigiev1.ExplainEventRequest]) (*connect.Response[vigiev1.ExplainEventResponse], error) {
	a.asked <- r.Msg
	m := &vigiev1.ExplainEventResponse{Event: wire.ToProto(execEvent(proc(50, 1, 11, "nginx.service", "/usr/sbin/nginx", "-g")), testBoot)}
	if r.Msg.Seq == 7 {
		m.Explanations = []*vigiev1.Explanation{{Policy: "web", Rule: "processes.allow", Text: "exec of what the list does not have", Action: "denied",
			Rung: "lsm bprm_check", Guarantee: "denied before it happens", Reason: "the list has no /usr/sbin/nginx"}}
	}
	return connect.NewResponse(m), a.refuse
}

func webPolicy() *vigiev1.Policy {
	return &vigiev1.Policy{Name: "web", Kind: "WorkloadPolicy", Mode: "enforce", Source: "api", Yaml: "kind: WorkloadPolicy\n# \x1b[2J as written\n", State: "in force",
		Selector: "unit nginx.service", Applied: timestamppb.New(testNow.Add(-2 * time.Hour)), Processes: 3, Workloads: []string{"nginx.service"},
		Rules: []*vigiev1.PolicyRule{
			{Field: "files.deny[0]", Text: "read /etc/shadow", Rung: "fanotify OPEN_PERM", Guarantee: "denied before it happens", Hits: 3, Limits: []string{"bind mounts made later"}},
			{Field: "files.allow[0]", Text: "read /var/www/**"}}}
}

func auditPolicy() *vigiev1.Policy {
	return &vigiev1.Policy{Name: "db", Kind: "WorkloadPolicy", Mode: "audit", Source: "/etc/vigie/policies/db.yaml", State: "degraded", Message: "one\ntwo",
		Selector: "unit postgresql@*.service", Rules: []*vigiev1.PolicyRule{{Field: "operations.deny[0]", Text: "ptrace", Guarantee: "seen only", Hits: 1500}}}
}

func policyFileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPolicyListAndShow(t *testing.T) {
	socket := newPolicyAgent(auditPolicy(), webPolicy(), &vigiev1.Policy{Name: "new", Source: "/etc/vigie/policies/new.yaml", State: "failed", Message: "new.yaml:3:1: bad"}).start(t)
	_, out, _ := vigie(t, "policy", "list", "--socket", socket)
	want := `NAME  MODE     STATE     RULES  PROCESSES  HITS    AGE  SELECTS
db    audit    degraded      1          0  1500      -  unit postgresql@*.service
web   enforce  in force      2          3     3  2h00m  unit nginx.service
new   -        failed        0          0     0      -  -
! db: one
! db: two
! new: new.yaml:3:1: bad
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	_, out, _ = vigie(t, "policy", "list", "--socket", socket, "-o", "wide")
	if !strings.Contains(out, "/etc/vigie/policies/db.yaml") || !strings.Contains(out, "WorkloadPolicy  nginx.service") {
		t.Errorf("wide:\n%s", out)
	}
	_, out, _ = vigie(t, "policy", "list", "--socket", socket, "-o", "json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var p struct {
		Name  string
		Rules []struct{ Guarantee, Hits string }
	}
	if err := json.Unmarshal([]byte(lines[1]), &p); err != nil || len(lines) != 3 || p.Name != "web" || p.Rules[0].Guarantee != "denied before it happens" {
		t.Errorf("%v: %s", err, out)
	}

	_, out, _ = vigie(t, "policy", "show", "web", "--socket", socket)
	want = `web  WorkloadPolicy, enforce, in force since 2026-03-01 10:00:00 (2h00m)
selects  unit nginx.service: 3 processes of nginx.service
from     api

RULE            WHAT              HITS  GUARANTEE                 CARRIED BY
files.deny[0]   read /etc/shadow     3  denied before it happens  fanotify OPEN_PERM
files.allow[0]  read /var/www/**     0  -                         -
· fanotify OPEN_PERM: bind mounts made later
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	_, out, _ = vigie(t, "policy", "show", "web", "--socket", socket, "--written")
	if out != "kind: WorkloadPolicy\n# \\x1b[2J as written\n" {
		t.Errorf("written: %q", out)
	}
	if code, _, stderr := vigie(t, "policy", "show", "nope", "--socket", socket); code != 1 || !strings.Contains(stderr, "`vigie policy list` names them") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	empty := newPolicyAgent().start(t)
	if _, out, _ := vigie(t, "policy", "list", "--socket", empty); !strings.Contains(out, "vigie policy learn") {
		t.Errorf("nothing to list: %s", out)
	}
}

func TestPolicyApplyModeDelete(t *testing.T) {
	a := newPolicyAgent(webPolicy())
	socket := a.start(t)
	file := policyFileOf(t, "kind: \xff\n")
	code, out, stderr := vigie(t, "policy", "apply", "-f", file, "--socket", socket)
	if r := lastAsked[*vigiev1.ApplyPoliciesRequest](t, a); code != 0 || r.Source != file || r.Yaml != "kind: \ufffd\n" || r.DryRun ||
		out != "policy web: in force, enforce, 2 rules for unit nginx.service (3 processes)\n" {
		t.Errorf("exit %d %s: %v\n%s", code, stderr, r, out)
	}
	_, out, _ = vigie(t, "policy", "apply", "-f", file, "--dry-run", "--socket", socket)
	if r := lastAsked[*vigiev1.ApplyPoliciesRequest](t, a); !r.DryRun || !strings.Contains(out, "policy web: would be in force") || !strings.Contains(out, "  files.deny[0]") {
		t.Errorf("%v\n%s", r, out)
	}
	code, out, _ = vigie(t, "policy", "mode", "web", "audit", "--socket", socket)
	if r := lastAsked[*vigiev1.SetPolicyModeRequest](t, a); code != 0 || r.Name != "web" || r.Mode != "audit" || !strings.HasPrefix(out, "policy web: in force") {
		t.Errorf("exit %d: %v\n%s", code, r, out)
	}
	code, out, _ = vigie(t, "policy", "delete", "web", "--socket", socket)
	if r := lastAsked[*vigiev1.DeletePolicyRequest](t, a); code != 0 || r.Name != "web" || out != "policy web: deleted\n" {
		t.Errorf("exit %d: %v\n%s", code, r, out)
	}
}

func TestPolicyErrorsSayWhatToDo(t *testing.T) {
	file := policyFileOf(t, "x")
	none := filepath.Join(t.TempDir(), "none.sock")
	socketOf := func(code connect.Code, message string) string {
		a := newPolicyAgent(webPolicy())
		a.refuse = connect.NewError(code, errors.New(message))
		return a.start(t)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no file":        {[]string{"apply"}, 2, "write `vigie policy apply -f FILE|DIR`"},
		"missing file":   {[]string{"apply", "-f", none}, 2, "read policies: stat " + none},
		"empty dir":      {[]string{"apply", "-f", filepath.Dir(none)}, 2, "there is no *.yaml in " + filepath.Dir(none)},
		"no agent":       {[]string{"apply", "-f", file, "--socket", none}, 2, "no agent answers at"},
		"invalid":        {[]string{"apply", "-f", file, "--socket", socketOf(connect.CodeInvalidArgument, "p.yaml:1:1: bad\np.yaml:2:1: worse")}, 2, "vigie: p.yaml:1:1: bad\np.yaml:2:1: worse\n"},
		"not here":       {[]string{"apply", "-f", file, "--socket", socketOf(connect.CodeFailedPrecondition, "p.yaml:2:1: policy web: not on this kernel")}, 1, "vigie: p.yaml:2:1: policy web: not on this kernel\n"},
		"may not":        {[]string{"delete", "web", "--socket", socketOf(connect.CodePermissionDenied, "uid 7 may look at policies and not change them: ask as root")}, 2, "vigie: uid 7 may look at policies and not change them: ask as root\n"},
		"not found":      {[]string{"mode", "web", "audit", "--socket", socketOf(connect.CodeNotFound, "there is no policy")}, 1, "vigie: there is no policy\n"},
		"no number":      {[]string{"explain", "x"}, 2, "field seq of `vigie events -o json`"},
		"two ways":       {[]string{"learn", "-w", "x", "--for", "1s", "--since", "1h"}, 2, "none of the others can be"},
		"no time":        {[]string{"learn", "-w", "x", "--for", "-1s"}, 2, "--for -1s"},
		"exists":         {[]string{"learn", "-w", "x", "-o", file}, 2, "replace it with --overwrite"},
		"since is until": {[]string{"simulate", "-f", file, "--since", "1h", "--until", "2h"}, 2, "exchange them"},
		"a subcommand":   {[]string{"aply"}, 2, `unknown command "aply"`},
	} {
		code, _, stderr := vigie(t, append([]string{"policy"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit %d, want %d: %s", name, code, c.code, stderr)
		}
	}
	large := policyFileOf(t, strings.Repeat("#", maxPolicyText+1))
	if code, _, stderr := vigie(t, "policy", "apply", "-f", large); code != 2 || !strings.Contains(stderr, "split it") {
		t.Errorf("a large file: exit %d: %s", code, stderr)
	}
}

func TestSeveralFilesOfPoliciesAreOneChange(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.yaml": "one\ntwo", "b.yml": "---\nthree\n", "c.yaml": "four\n", ".d.yaml": "no", "e.txt": "no"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := newPolicyAgent(webPolicy())
	socket := a.start(t)
	if code, _, stderr := vigie(t, "policy", "apply", "-f", dir, "--socket", socket); code != 0 {
		t.Fatal(stderr)
	}
	if r := lastAsked[*vigiev1.ApplyPoliciesRequest](t, a); r.Yaml != "one\ntwo\n---\n---\nthree\n---\nfour\n" || r.Source != severalFiles {
		t.Errorf("%q from %s", r.Yaml, r.Source)
	}
	a.refuse = connect.NewError(connect.CodeInvalidArgument, errors.New("these-files:2:1: x is also at these-files:5:7\nthese-files:7:3: y"))
	_, _, stderr := vigie(t, "policy", "apply", "-f", filepath.Join(dir, "a.yaml"), "-f", filepath.Join(dir, "b.yml"), "-f", filepath.Join(dir, "c.yaml"), "--socket", socket)
	want := fmt.Sprintf("vigie: %[1]s/a.yaml:2:1: x is also at %[1]s/b.yml:2:7\n%[1]s/c.yaml:1:3: y\n", dir)
	if stderr != want {
		t.Errorf("got  %swant %s", stderr, want)
	}
	none := filepath.Join(dir, "none.sock")
	if code, _, stderr := vigie(t, "policy", "apply", "-f", dir, "--socket", none); code != 2 || !strings.Contains(stderr, "no agent answers at") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	// The same where no agent is asked.
	code, _, stderr := vigie(t, "policy", "simulate", "-f", dir, "--capture", none)
	if code != 2 || !strings.HasPrefix(stderr, "vigie: "+dir+"/a.yaml:1:1: ") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestPolicySimulate(t *testing.T) {
	a := newPolicyAgent()
	socket := a.start(t)
	file := policyFileOf(t, "strict")
	code, out, stderr := vigie(t, "policy", "simulate", "-f", file, "--since", "24h", "--socket", socket)
	want := `COUNT  POLICY  RULE           WORKLOAD       BINARY           WOULD BE DENIED
   12  web     files.deny[0]  nginx.service  /usr/sbin/nginx  read /etc/\x1bshadow
would have denied 12 of 1234 events; the agent remembers everything only since 2026-03-01 11:00:00: see its --history, or record with ` + "`vigie record`" + `
! a limit
`
	if r := lastAsked[*vigiev1.SimulatePoliciesRequest](t, a); code != 0 || out != want || !r.Since.AsTime().Equal(testNow.Add(-24*time.Hour)) || r.Until != nil {
		t.Errorf("exit %d %s: %v\n%s", code, stderr, r, out)
	}
	if code, _, _ := vigie(t, "policy", "simulate", "-f", file, "--fail", "--socket", socket); code != 1 {
		t.Errorf("--fail: exit %d", code)
	}
	if _, out, _ := vigie(t, "policy", "simulate", "-f", file, "-o", "wide", "--socket", socket); !strings.Contains(out, "exec      /usr/sbin/nginx") {
		t.Errorf("wide:\n%s", out)
	}
	if code, out, _ := vigie(t, "policy", "simulate", "-f", policyFileOf(t, "mild"), "--fail", "--socket", socket); code != 0 ||
		!strings.HasPrefix(out, "would have denied nothing of 1234 events since 2026-03-01 11:00:00\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestPolicyExplain(t *testing.T) {
	socket := newPolicyAgent().start(t)
	_, out, _ := vigie(t, "policy", "explain", "7", "--socket", socket)
	want := `12:00:00.000 nginx.service        nginx(50)            exec      /usr/sbin/nginx -g
policy web: denied by processes.allow, exec of what the list does not have
  carried by lsm bprm_check: denied before it happens
  the list has no /usr/sbin/nginx
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if _, out, _ = vigie(t, "policy", "explain", "8", "--socket", socket); !strings.Contains(out, "no policy in force speaks of it") {
		t.Errorf("got\n%s", out)
	}
}

func TestPolicyLearnFromHistory(t *testing.T) {
	a := newPolicyAgent()
	socket := a.start(t)
	code, out, stderr := vigie(t, "policy", "learn", "-w", "nginx.service", "--since", "1h", "--name", "web", "--socket", socket)
	r := lastAsked[*vigiev1.LearnPolicyRequest](t, a)
	if code != 0 || out != "kind: WorkloadPolicy\n" || r.Workload != "nginx.service" || r.Name != "web" || !r.Since.AsTime().Equal(testNow.Add(-time.Hour)) ||
		stderr != "! look at /tmp\nlearned from 77 events of nginx.service\n" {
		t.Errorf("exit %d: %v\n%s\n%s", code, r, out, stderr)
	}
	file := filepath.Join(t.TempDir(), "web.yaml")
	if code, out, stderr := vigie(t, "policy", "learn", "-w", "nginx.service", "-o", file, "--socket", socket); code != 0 || out != "" ||
		!strings.Contains(stderr, "vigie policy simulate -f "+file) {
		t.Errorf("exit %d\n%s\n%s", code, out, stderr)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "kind: WorkloadPolicy\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestPolicyLearnFromWhatHappensNow(t *testing.T) {
	a := newPolicyAgent()
	a.status = &vigiev1.Status{StartTime: timestamppb.New(testNow.Add(-time.Hour)), UptimeNs: int64(time.Minute)}
	a.live = make(chan []*model.Event)
	a.refuse = connect.NewError(connect.CodeFailedPrecondition, errors.New("files:3:18: policy section: not on this kernel"))
	a.refuseOnly = "files: {"
	socket := a.start(t)
	given := make(chan struct{})
	go func() {
		defer close(given)
		w := proc(7, 1, 3, "w", "/bin/true")
		a.live <- []*model.Event{execEvent(w), fileEvent(w, "/etc/hosts"), lossEvent(3)}
	}()
	code, out, stderr := vigie(t, "policy", "learn", "-w", "w", "--for", "500ms", "--socket", socket)
	<-given
	if code != 0 || !strings.Contains(out, "kind: WorkloadPolicy") || strings.Contains(out, "/etc/hosts") || !strings.Contains(out, "/bin/true") || !strings.Contains(out, "mode: audit") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	for _, says := range []string{"3 events were lost", "not on this kernel", "learned from "} {
		if !strings.Contains(stderr, says) {
			t.Errorf("not told: %s in\n%s", says, stderr)
		}
	}
	if f := a.lastStream(t).Filter; !f.Since.AsTime().Equal(testNow.Add(-59*time.Minute)) || !strings.Contains(f.Where, `== "w"`) {
		t.Errorf("streamed %v", f)
	}
	if code, _, stderr := vigie(t, "policy", "learn", "-w", "w", "--for", "100ms", "--socket", socket); code != 1 || !strings.Contains(stderr, "nothing to learn from") ||
		!strings.Contains(stderr, "vigie ps") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	// An agent that ends is no time that is over.
	close(a.live)
	if code, _, stderr := vigie(t, "policy", "learn", "-w", "w", "--for", "1h", "--socket", socket); code != 1 || !strings.Contains(stderr, "ended the stream") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestPolicyLearnShowsItsProgressAndEndsEarly(t *testing.T) {
	a := newPolicyAgent()
	a.live = make(chan []*model.Event)
	socket := a.start(t)
	x := newTerminal(t, 100, 30)
	var out bytes.Buffer
	env := Env{In: &bytes.Buffer{}, Out: &out, Err: x.slave, Getenv: func(string) string { return "" }, Now: func() time.Time { return testNow }}
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		code <- Execute(ctx, env, New(env, NewPolicy(env)), []string{"policy", "learn", "-w", "w", "--for", "1h", "--socket", socket})
	}()
	a.live <- []*model.Event{execEvent(proc(7, 1, 3, "w", "/bin/true"))}
	x.waitFor(t, "learning from w: 1 event, 1h0m0s left; ctrl-c ends it early")
	cancel()
	if got := <-code; got != 0 || !strings.Contains(out.String(), "/bin/true") {
		t.Errorf("exit %d: %s%s", got, x.text(), out.String())
	}
	x.waitFor(t, "learned from 1 event of w")
}

func fileEvent(p *model.Process, path string) *model.Event {
	return &model.Event{Type: model.TypeFile, Time: testNow, Seq: 2, Key: p.Key, Process: p, Count: 1,
		File: &model.File{Op: model.FileRead, Path: path, PathFrom: "object", FileType: "regular"}}
}

func TestPolicyCompletion(t *testing.T) {
	a := newPolicyAgent(auditPolicy(), webPolicy())
	a.processes = testProcesses()
	socket := a.start(t)
	for args, want := range map[string]string{
		"show --socket " + socket + " ":               "db\nweb\n",
		"delete --socket " + socket + " ":             "db\nweb\n",
		"mode --socket " + socket + " web ":           "audit\nenforce\n",
		"learn --socket " + socket + " --workload ng": "nginx.service\n",
		"apply -f ":    "yaml\nyml\n",
		"simulate -o ": "table\nwide\njson\nyaml\n",
	} {
		code, out, _ := vigie(t, append([]string{"__complete", "policy"}, strings.Split(args, " ")...)...)
		got, _, _ := strings.Cut(out, ":")
		if code != 0 || got != want {
			t.Errorf("%s: exit %d, %q, want %q", args, code, got, want)
		}
	}
}

func TestStatusSumsUpThePolicies(t *testing.T) {
	socket := newPolicyAgent(auditPolicy(), webPolicy(), &vigiev1.Policy{Name: "x", State: "failed"}).start(t)
	if _, out, _ := vigie(t, "status", "--socket", socket); !strings.Contains(out, "\npolicies: 1 enforce, denied 3; 1 audit, would have denied 1500;  1 FAILED \n") {
		t.Errorf("got\n%s", out)
	}
}
