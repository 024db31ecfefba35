// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
)

func testOptions() Options {
	return Options{Boot: modeltest.Boot, Host: "web-1", Kernel: "6.12.0", Version: "1.0"}
}

// examples are events as hosts have them, one of each type at least.
func examples(t *testing.T) []*model.Event {
	t.Helper()
	here, there := netip.MustParseAddrPort("10.0.0.5:41000"), netip.MustParseAddrPort("203.0.113.9:443")
	pod := &model.Workload{Kind: model.WorkloadPod, Name: "web-5c4", Namespace: "shop", ID: "0123abcdef", Runtime: "containerd",
		Image: "docker.io/library/nginx:1.29", Container: "nginx", PodUID: "3f2a-11"}
	parts := []model.Event{
		{Type: model.TypeExec, Exec: &model.Exec{}},
		{Type: model.TypeExecFailed, ExecFailed: &model.ExecFailed{Path: "/bin/none", Args: []string{"none"}, Error: 2}},
		{Type: model.TypeFork},
		{Type: model.TypeExit, Exit: &model.Exit{Code: 3, RunTime: time.Second}},
		{Type: model.TypeCredential, Credential: &model.Credential{Call: "setuid", New: model.Creds{EUID: 33}}},
		{Type: model.TypeNamespace, Namespace: &model.Namespace{Call: "unshare", Flags: []string{"mnt"}}},
		{Type: model.TypePtrace, Ptrace: &model.Ptrace{Request: "attach", TargetPID: 9}},
		{Type: model.TypeModule, Module: &model.Module{Op: "load", Name: "dummy"}},
		{Type: model.TypeBPF, BPF: &model.BPF{Op: "prog_load", ProgType: "xdp", ProgName: "p"}},
		{Type: model.TypeMount, Mount: &model.Mount{Op: "umount", Target: "/mnt"}},
		{Type: model.TypeCapability, Capability: &model.Capability{Cap: 21}},
		{Type: model.TypeConnect, Socket: &model.Socket{Protocol: "tcp", Family: "ipv4", Local: here, Remote: there, RemoteName: "example.org", Error: 111}},
		{Type: model.TypeAccept, Socket: &model.Socket{Protocol: "tcp", Family: "ipv4", Local: here, Remote: there, Direction: "inbound"}},
		{Type: model.TypeListen, Socket: &model.Socket{Protocol: "tcp", Family: "ipv4", Local: here}},
		{Type: model.TypeClose, Socket: &model.Socket{Protocol: "tcp", Family: "ipv4", Local: here, Remote: there, BytesSent: 10, BytesReceived: 20, Direction: "inbound"}},
		{Type: model.TypeConnect, Socket: &model.Socket{Protocol: "unix", Family: "unix", Path: "/run/x"}},
		{Type: model.TypeDNS, DNS: &model.DNS{Name: "example.org", QType: "A", RCode: "NOERROR", Protocol: "udp", Server: netip.MustParseAddrPort("10.0.0.1:53"),
			Answers: []model.DNSAnswer{{Type: "CNAME", Data: "e.example.net", TTL: time.Minute}, {Type: "A", Data: "203.0.113.9", TTL: time.Minute}}, Latency: time.Millisecond}},
		{Type: model.TypeDNS, DNS: &model.DNS{Name: "example.org", QType: "A", Timeout: true, Protocol: "udp"}},
		{Type: model.TypeVerdict, Verdict: &model.Verdict{Action: model.VerdictDenied, Policy: "web", Rule: "egress.deny[0]", Operation: model.OpConnect, Protocol: "tcp", Remote: there}},
		{Type: model.TypeVerdict, Verdict: &model.Verdict{Action: model.VerdictAudited, Policy: "web", Rule: "files.deny[0]", Operation: model.OpRead, Path: "/etc/shadow"}},
		{Type: model.TypeAlert, Alert: &model.Alert{Rule: "reverse-shell", Title: "Reverse shell", Severity: model.SeverityHigh, Tags: []string{"T1059.004", "shell"}, Message: "bash talks to 203.0.113.9"}},
		{Type: model.TypeProbe, Probe: &model.Probe{Policy: "p", Kind: "kprobe", Hook: "sys_openat"}},
		{Type: model.TypeLoss, Loss: &model.Loss{Stage: "kernel", Reason: "ring full", Count: 3, Total: 9}},
	}
	for _, op := range []model.FileOp{model.FileRead, model.FileWrite, model.FileCreate, model.FileTruncate, model.FileRename, model.FileLink, model.FileUnlink,
		model.FileChmod, model.FileChown} {
		parts = append(parts, model.Event{Type: model.TypeFile, File: &model.File{Op: op, Path: "/var/www/a", NewPath: "/var/www/b", FileType: "regular", Inode: 12, Mode: 0o644}})
	}
	for _, f := range []model.Flow{
		{Report: 1, State: model.FlowOpen, Verdict: model.FlowAllowed},
		{Report: 2, State: model.FlowOpen, Verdict: model.FlowAllowed},
		{Report: 3, State: model.FlowClosed, Verdict: model.FlowAllowed, Close: model.CloseFin, End: time.Unix(1_700_000_009, 0)},
		{Report: 1, State: model.FlowClosed, Verdict: model.FlowDenied, Close: model.CloseDenied, Policy: "web", Rule: "egress.deny[0]", Reason: "policy web, egress.deny[0]"},
		{Report: 1, State: model.FlowClosed, Verdict: model.FlowFailed, Close: model.CloseRefused, Error: 111},
	} {
		f.ID, f.Protocol, f.Family, f.Direction, f.Start = 7, "tcp", "ipv4", model.FlowOutbound, time.Unix(1_700_000_000, 0)
		f.Source, f.Destination = model.Endpoint{Address: here, Workload: pod}, model.Endpoint{Address: there, Name: "example.org"}
		f.Total = model.FlowCounters{BytesSent: 100, BytesReceived: 5000, PacketsSent: 4, PacketsReceived: 6}
		parts = append(parts, model.Event{Type: model.TypeFlow, Flow: &f})
	}
	for _, r := range []model.Request{
		{Protocol: "http", Version: "HTTP/1.1", Role: "server", Method: "GET", Path: "/orders/{id}", Host: "shop.example:8080", Status: 200, StatusText: "OK"},
		{Protocol: "http", Version: "HTTP/1.1", Role: "client", Method: "BREW", Path: "/", Status: 418, Failed: true},
		{Protocol: "http", Version: "HTTP/1.1", Role: "client", Method: "GET", Path: "/", NoAnswer: true},
		{Protocol: "grpc", Version: "HTTP/2", Role: "client", Path: "/a.B/C", Status: 14, StatusText: "UNAVAILABLE", Failed: true},
		{Protocol: "postgresql", Role: "client", Method: "SELECT", Resource: "orders"},
		{Protocol: "redis", Role: "client", Method: "GET"},
		{Protocol: "kafka", Role: "client", Method: "Produce", Resource: "topic"},
	} {
		r.Local, r.Remote, r.Latency, r.Duration, r.TraceID = here, there, time.Millisecond, 2*time.Millisecond, "0af7651916cd43dd8448eb211c80319c"
		parts = append(parts, model.Event{Type: model.TypeRequest, Request: &r})
	}
	list := make([]*model.Event, 0, len(parts))
	for i := range parts {
		e := modeltest.Exec()
		full := parts[i]
		full.Time, full.BootTime, full.Seq, full.Count, full.TID = e.Time, e.BootTime, uint64(i+1), 1, 4242
		if full.Type != model.TypeLoss {
			p := *e.Process
			p.Workload = pod
			full.Key, full.Process, full.Parent = e.Key, &p, e.Parent
		}
		list = append(list, &full)
	}
	seen := make(map[model.Type]bool)
	for _, e := range list {
		seen[e.Type] = true
	}
	for _, typ := range model.Types() {
		if !seen[typ] {
			t.Errorf("no example of %s: add one", typ)
		}
	}
	return list
}

// encoded decodes what an encoder makes of an event.
func encoded(t *testing.T, name string, e *model.Event) map[string]any {
	t.Helper()
	encode, err := New(name, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	line := encode([]byte("before"), e)
	rest, ok := bytes.CutPrefix(line, []byte("before"))
	if !ok || bytes.ContainsAny(rest, "\n\r\x00\x1b") {
		t.Fatalf("%s of %s: %q", name, e.Type, line)
	}
	dec := json.NewDecoder(bytes.NewReader(rest))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		t.Fatalf("%s of %s: %v: %s", name, e.Type, err, rest)
	}
	return m
}

func TestUnknownEncoding(t *testing.T) {
	if _, err := New("cef", Options{}); err == nil || !strings.Contains(err.Error(), "vigie, ocsf, ecs") {
		t.Errorf("got %v", err)
	}
}

// Whatever an event holds, what is made of it is one line of JSON, and knows no field that the schema has not.
func TestAnyEventEncodes(t *testing.T) {
	schema, fields := readOCSF(t), readECS(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		e := modeltest.Event(rng, 0.7)
		onePart(e)
		encoded(t, Vigie, e)
		schema.check(t, e, encoded(t, OCSF, e))
		fields.check(t, e, encoded(t, ECS, e))
		if t.Failed() {
			t.FailNow()
		}
	}
}

// onePart makes a random event one that can be: with the part that its type names.
func onePart(e *model.Event) {
	whole := *e
	*e = model.Event{Type: whole.Type, Time: whole.Time, BootTime: whole.BootTime, Seq: whole.Seq, Key: whole.Key, TID: whole.TID, Process: whole.Process,
		Parent: whole.Parent, Count: whole.Count, PreExisting: whole.PreExisting}
	if e.Time.IsZero() {
		e.Time = time.Unix(1, 0)
	}
	switch {
	case whole.File != nil:
		e.Type, e.File = model.TypeFile, whole.File
	case whole.Socket != nil && whole.Seq%2 == 0:
		e.Type, e.Socket = model.TypeClose, whole.Socket
	case whole.DNS != nil && whole.Seq%3 == 0:
		e.Type, e.DNS = model.TypeDNS, whole.DNS
	case whole.Verdict != nil && whole.Seq%5 == 0:
		e.Type, e.Verdict = model.TypeVerdict, whole.Verdict
	case whole.Alert != nil && whole.Seq%7 == 0:
		e.Type, e.Alert = model.TypeAlert, whole.Alert
	case whole.Flow != nil && whole.Seq%11 == 0:
		e.Type, e.Flow = model.TypeFlow, whole.Flow
	case whole.Request != nil && whole.Seq%13 == 0:
		e.Type, e.Request = model.TypeRequest, whole.Request
	case whole.Exit != nil:
		e.Type, e.Exit = model.TypeExit, whole.Exit
	default:
		e.Type = model.TypeFork
	}
}
