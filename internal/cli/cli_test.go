// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.yaml.in/yaml/v3"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

func TestExitCodesAndAdvice(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.sock")
	denied := (&fakeAgent{fail: connect.NewError(connect.CodePermissionDenied, errors.New("uid 7 may not"))}).start(t)
	invalid := (&fakeAgent{fail: connect.NewError(connect.CodeInvalidArgument, errors.New("where: undeclared reference to 'foo'"))}).start(t)
	broken := (&fakeAgent{fail: connect.NewError(connect.CodeInternal, errors.New("oh\x1b[2J"))}).start(t)
	fine := (&fakeAgent{}).start(t)
	bad := (&fakeAgent{problems: []string{"sensor dns failed"}}).start(t)
	for _, c := range []struct {
		args string
		code int
		says string // on standard error
	}{
		{"version", 0, ""},
		{"status --socket " + fine, 0, ""},
		{"status --socket " + bad, 1, ""},
		{"status --socket " + none, 2, "no agent answers at " + none + ": start one with `sudo vigie run`"},
		{"events --socket " + none, 2, "no agent answers"},
		{"events -f --socket " + none, 2, "no agent answers"},
		{"ps --socket " + none, 2, "no agent answers"},
		{"ps --address http://127.0.0.1:1", 2, "start one there with `vigie run --http"},
		{"ps --address nonsense", 2, "give it as http://HOST:PORT"},
		{"ps --socket " + denied, 2, "run this command as root"},
		{"events --socket " + invalid, 2, "undeclared reference to 'foo'"},
		{"ps --socket " + broken, 1, `oh\x1b[2J`},
		{"nonsense", 2, "unknown command"},
		{"statu", 2, "status"},
		{"status extra", 2, "--help"},
		{"status --nonsense", 2, "unknown flag"},
		{"status -o xml", 2, "table, wide, json, yaml"},
		{"events --type exce", 2, "the types are exec, exec_failed"},
		{"events --since someday", 2, "give a duration"},
		{"events --since 1m --until 2m", 2, "exchange them"},
		{"events --pid 0", 2, "pids go from 1"},
		{"events --uid nosuchuser", 2, "give the number"},
		{"ps --kind x", 2, "the kinds are"},
		{"ps --flat --tree", 2, "tree"},
		{"top", 2, "no terminal"},
		{"man", 2, "write `vigie man DIR`"},
		{"run --log-level loud", 2, "the levels are"},
		{"run --log-format xml", 2, "the formats are"},
		{"run --speed fast", 2, "--speed"},
		{"run --config /nonexistent.yaml", 2, "read configuration"},
	} {
		code, _, stderr := vigie(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.says) || (c.says == "" && stderr != "") {
			t.Errorf("vigie %s: exit %d, %q; want %d, %q", c.args, code, stderr, c.code, c.says)
		}
	}
}

func TestStatusSaysWhatWasLost(t *testing.T) {
	a := &fakeAgent{status: &vigiev1.Status{Version: "9", Host: "h\x1b1", Kernel: "6.1", UptimeNs: int64(time.Minute), CpuTimeNs: int64(time.Second),
		Sensors: []*vigiev1.SensorStatus{{Name: "exec", State: "on", Rung: "tp_btf"}, {Name: "dns", State: "failed", Message: "no maps"}},
		Losses:  []*vigiev1.LossStatus{{Stage: "kernel", Reason: "ring full"}}, Events: map[string]uint64{"exec": 3, "file": 4}}}
	socket := a.start(t)
	_, out, _ := vigie(t, "status", "--socket", socket)
	for _, want := range []string{"lost nothing of 7 events", "exec    on      tp_btf", "failed", "no maps", `h\x1b1`, "up 1m00s: ready", "exec 3, file 4"} {
		if !strings.Contains(out, want) {
			t.Errorf("status lacks %q:\n%s", want, out)
		}
	}
	a.status.Losses[0].Count = 12
	a.problems = []string{"sensor dns failed"}
	code, out, _ := vigie(t, "status", "--socket", socket)
	if code != 1 || !strings.Contains(out, "LOST 12") || !strings.Contains(out, "12  kernel: ring full") || !strings.Contains(out, "sensor dns failed") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	_, out, _ = vigie(t, "status", "--socket", socket, "-o", "json")
	var got struct {
		Host   string
		Losses []struct{ Stage, Count string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Losses[0].Count != "12" || got.Host != "h\x1b1" {
		t.Errorf("%v: %s", err, out)
	}
	_, out, _ = vigie(t, "status", "--socket", socket, "-o", "yaml")
	if err := yaml.Unmarshal([]byte(out), &got); err != nil || !strings.Contains(out, "\n    reason: ring full\n") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestStatusShowsExporters(t *testing.T) {
	a := &fakeAgent{status: &vigiev1.Status{Subscribers: []*vigiev1.SubscriberStatus{
		{Name: "export kafka", Exporter: true, Queued: 12, Sent: 345, Retried: 6, Lost: 7, Trouble: "connection refused\x1b[2J", QueuedBytes: 1, QueueBytes: 4},
		{Name: "metrics", Exporter: true, Sent: 9}, {Name: "client", Peer: "uid 0 pid 1"}}}}
	_, out, _ := vigie(t, "status", "--socket", a.start(t))
	for _, want := range []string{"EXPORTER  WAITING  FULL  SENT  RETRIED  LOST  TROUBLE", `kafka          12   25%   345        6     7  connection refused\x1b[2J`,
		"metrics         0     -     9        0     0", "SUBSCRIBER  WAITING  LOST  PEER", "client            0     0  uid 0 pid 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("status lacks %q:\n%s", want, out)
		}
	}
}

func testProcesses() []*model.Process {
	thread := proc(2, 0, 20, "kernel", "kthreadd")
	thread.KernelThread = true
	return []*model.Process{
		proc(1, 0, 10, "init.scope", "/sbin/init"), thread,
		proc(50, 1, 11, "nginx.service", "/usr/sbin/nginx", "-g", "daemon off;"),
		proc(51, 50, 12, "nginx.service", "/usr/sbin/nginx"),
		proc(60, 1, 11, "cron.service", "/usr/sbin/cron\x1b[31m"),
	}
}

func TestPSDrawsATree(t *testing.T) {
	a := &fakeAgent{processes: testProcesses(), pageSize: 2}
	socket := a.start(t)
	_, out, _ := vigie(t, "ps", "--socket", socket)
	want := `PID  WORKLOAD       UID    AGE  COMMAND
  1  init.scope       0  1h00m  init
 50  nginx.service    0  1h00m  ├─ nginx 'daemon off;'
 51  nginx.service    0  1h00m  │ └─ nginx
 60  cron.service     0  1h00m  └─ cron\x1b[31m
`
	want = strings.Replace(want, "nginx 'daemon", "nginx -g 'daemon", 1)
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if len(a.listed) != 3 || a.listed[2].PageToken != "4" {
		t.Errorf("%d pages were asked for, want 3: %v", len(a.listed), a.listed)
	}
	_, out, _ = vigie(t, "ps", "--socket", socket, "-o", "wide", "--flat", "-k")
	if !strings.Contains(out, "[kthreadd]") || !strings.Contains(out, testBoot+"-33-c-1") {
		t.Errorf("wide:\n%s", out)
	}
	_, out, _ = vigie(t, "ps", "--socket", socket, "-o", "json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var p struct {
		ExecID   string `json:"exec_id"`
		Workload struct{ Name string }
	}
	if err := json.Unmarshal([]byte(lines[2]), &p); err != nil || len(lines) != 5 || p.ExecID != testBoot+"-32-b-1" || p.Workload.Name != "nginx.service" {
		t.Errorf("%v: %d lines, %+v", err, len(lines), p)
	}
}

func TestFiltersReachTheAgent(t *testing.T) {
	a := &fakeAgent{}
	socket := a.start(t)
	args := strings.Fields("events --type exec,connect --workload web* --kind pod --binary nginx,/bin/* --pid 7,8 --path /etc/** --addr 10.0.0.0/8,:443 " +
		"--name *.example.org --uid 0,33 --exec-id x --since 10m --until 11:59 --where process.uid==0u --socket " + socket)
	if code, _, stderr := vigie(t, args...); code != 0 {
		t.Fatal(stderr)
	}
	f := a.lastStream(t).Filter
	got := fmt.Sprintln(f.Types, f.WorkloadNames, f.WorkloadKinds, f.Binaries, f.PidTrees, f.Pids, f.Paths, f.Addresses, f.Names, f.Uids, f.ExecIds, f.Where)
	want := "[exec connect] [web*] [pod] [nginx /bin/*] [7 8] [] [/etc/**] [10.0.0.0/8 :443] [*.example.org] [0 33] [x] process.uid==0u\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !f.Since.AsTime().Equal(testNow.Add(-10*time.Minute)) || !f.Until.AsTime().Equal(testNow.Add(-time.Minute)) {
		t.Errorf("since %v until %v", f.Since.AsTime(), f.Until.AsTime())
	}
	for args, want := range map[string]string{
		"events": "last 100 follow false", "events -f": "last 10 follow true", "events -f -n 3": "last 3 follow true",
		"events -n 0": "last 0 follow false since 1970", "events --since 5m": "last 0 follow false since 2026",
	} {
		ctx, cancel := context.WithCancel(context.Background())
		if strings.Contains(args, "-f") {
			a.live = make(chan []*model.Event)
			close(a.live) // the agent ends the stream
		}
		code, _, stderr := vigieWith(ctx, t, nil, append(strings.Fields(args), "--socket", socket)...)
		cancel()
		r := a.lastStream(t)
		got := fmt.Sprintf("last %d follow %v", r.Last, !r.NoFollow)
		if r.Filter.Since != nil {
			got += fmt.Sprint(" since ", r.Filter.Since.AsTime().Year())
		}
		wantCode := 0
		if strings.Contains(args, "-f") {
			wantCode = ExitFailed // it was to go on
		}
		if got != want || code != wantCode {
			t.Errorf("vigie %s: %q, want %q; exit %d %s", args, got, want, code, stderr)
		}
	}
}

func TestEventsPrintOneLineEach(t *testing.T) {
	nginx := proc(50, 1, 11, "nginx.service", "/usr/sbin/nginx", "-c", "a\nb\x1b[2J\u202e")
	folded := connectEvent(nginx, "192.0.2.1:443")
	folded.Count = 12
	a := &fakeAgent{events: []*model.Event{execEvent(nginx), folded, lossEvent(3)}}
	socket := a.start(t)
	_, out, _ := vigie(t, "events", "--socket", socket)
	want := `12:00:00.000 nginx.service        nginx(50)            exec      /usr/sbin/nginx -c 'a\nb\x1b[2J\u202e'
12:00:00.000 nginx.service        nginx(50)            connect   ×12 tcp 192.0.2.1:443
12:00:00.000  LOST  3 events at kernel: ring full  (3 since the start)
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	_, out, _ = vigie(t, "events", "--socket", socket, "-o", "json")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	var e struct {
		Type    string
		Process struct {
			ExecID string `json:"exec_id"`
			Args   []string
		}
	}
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || len(lines) != 3 || e.Type != "exec" || e.Process.ExecID != testBoot+"-32-b-1" ||
		e.Process.Args[2] != "a\nb\x1b[2J\u202e" {
		t.Errorf("%v: %d lines: %+v", err, len(lines), e)
	}
	if strings.ContainsAny(out, "\x1b\u202e") {
		t.Errorf("json holds what a terminal obeys: %q", out)
	}
	_, out, _ = vigie(t, "events", "--socket", socket, "-o", "yaml")
	dec := yaml.NewDecoder(strings.NewReader(out))
	for range 3 {
		var doc map[string]any
		if err := dec.Decode(&doc); err != nil || doc["type"] == nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if strings.ContainsAny(out, "\x1b\u202e") {
		t.Errorf("yaml holds what a terminal obeys: %q", out)
	}
	_, out, _ = vigie(t, "events", "--socket", socket, "-o", "wide")
	if !strings.Contains(out, testBoot+"-32-b-1") {
		t.Errorf("wide lacks the exec_id:\n%s", out)
	}
}

func TestFollowEndsWellWhenTheUserEndsIt(t *testing.T) {
	a := &fakeAgent{live: make(chan []*model.Event)}
	socket := a.start(t)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		a.live <- []*model.Event{execEvent(proc(7, 1, 3, "w", "/bin/true"))}
		a.live <- []*model.Event{} // the first was written when this is taken
		cancel()
	}()
	code, _, stderr := vigieWith(ctx, t, nil, "events", "-f", "--socket", socket)
	if code != 0 || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestAddressSendsTheToken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &fakeAgent{}
	a.serve(t, l)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"ps", "events"} {
		if code, _, stderr := vigie(t, command, "--address", "http://"+l.Addr().String(), "--token-file", token); code != 0 {
			t.Fatal(stderr)
		}
		if got := a.tokens[len(a.tokens)-1]; got != "Bearer s3cret" {
			t.Errorf("%s: token %q", command, got)
		}
	}
	if code, _, stderr := vigie(t, "ps", "--address", "http://x", "--token-file", token+"x"); code != 2 || !strings.Contains(stderr, "read token") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestShellCompletion(t *testing.T) {
	socket := (&fakeAgent{processes: testProcesses()}).start(t)
	for args, want := range map[string]string{
		"events --type exec,con":                      "exec,connect\n",
		"events -o ":                                  "table\nwide\njson\nyaml\n",
		"ps --socket " + socket + " --workload n":     "nginx.service\n",
		"events --socket " + socket + " --binary /us": "/usr/sbin/nginx\n",
		"events --socket /nonexistent --workload ":    "",
		"run --log-level ":                            "debug\ninfo\nwarn\nerror\n",
		"sta":                                         "status\tSay how the agent is doing, and whether it lost anything\n",
	} {
		words := strings.Split(args, " ")
		code, out, _ := vigie(t, append([]string{"__complete"}, words...)...)
		got, _, _ := strings.Cut(out, ":")
		if code != 0 || got != want {
			t.Errorf("%s: exit %d, %q, want %q", args, code, got, want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, _ := vigie(t, "completion", shell); code != 0 || !strings.Contains(out, "vigie") {
			t.Errorf("completion %s: exit %d, %d bytes", shell, code, len(out))
		}
	}
}

func TestManPagesAndVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	if code, _, stderr := vigie(t, "man", dir); code != 0 {
		t.Fatal(stderr)
	}
	for _, page := range []string{"vigie.1", "vigie-run.1", "vigie-events.1"} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil || !strings.HasPrefix(string(text), ".nh\n.TH") {
			t.Errorf("%s: %v %.40q", page, err, text)
		}
	}
	if _, out, _ := vigie(t, "version"); !strings.HasPrefix(out, "vigie 1.2.3, commit abc (go") {
		t.Errorf("version: %s", out)
	}
	if _, out, _ := vigie(t, "version", "-o", "json"); !strings.HasPrefix(out, `{"version":"1.2.3","commit":"abc",`) {
		t.Errorf("version: %s", out)
	}
}
