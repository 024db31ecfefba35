// SPDX-License-Identifier: Apache-2.0

package show

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

func TestEventsInWords(t *testing.T) {
	nginx := &model.Process{Key: model.ProcessKey{PID: 7}, Binary: "/usr/sbin/nginx", Args: []string{"nginx", "-g", "daemon off;"}}
	for _, c := range []struct {
		e    model.Event
		verb string
		text string
	}{
		{model.Event{Type: model.TypeExec, Process: nginx, Exec: &model.Exec{}}, "exec", "/usr/sbin/nginx -g 'daemon off;'"},
		{model.Event{Type: model.TypeExec, PreExisting: true, Process: nginx, Exec: &model.Exec{}}, "running", "/usr/sbin/nginx -g 'daemon off;'"},
		{model.Event{Type: model.TypeExec, Exec: &model.Exec{}, Process: &model.Process{Binary: "/bin/busybox", Args: []string{"ls"}}},
			"exec", "/bin/busybox  (as ls)"},
		{model.Event{Type: model.TypeExec, Exec: &model.Exec{}, Process: &model.Process{Binary: "/bin/x", Args: []string{"x: title", "", "", ""}}},
			"exec", "/bin/x ''×3  (as 'x: title')"},
		{model.Event{Type: model.TypeExec, Exec: &model.Exec{}, Process: &model.Process{Binary: "/bin/x", Args: []string{"x", "", "a", ""}}}, "exec", "/bin/x '' a ''"},
		{model.Event{Type: model.TypeExec, Exec: &model.Exec{}, Process: &model.Process{Binary: "/usr/bin/sudo", Args: []string{"sudo"},
			Creds: model.Creds{UID: 1000}, File: model.ExecFile{SetuidGained: true}}}, "exec", "/usr/bin/sudo  SETUID 1000 → 0"},
		{model.Event{Type: model.TypeExecFailed, ExecFailed: &model.ExecFailed{Path: "/x", Args: []string{"x"}, Error: 2}}, "exec", "/x  ENOENT"},
		{model.Event{Type: model.TypeFork, Parent: nginx}, "fork", "from nginx(7)"},
		{model.Event{Type: model.TypeFork, Process: &model.Process{ParentKey: model.ProcessKey{PID: 8}}}, "fork", "from pid 8"},
		{model.Event{Type: model.TypeExit, Exit: &model.Exit{Signal: 9, RunTime: 1500 * time.Millisecond}}, "exit", "SIGKILL  after 1.5s"},
		{model.Event{Type: model.TypeCredential, Credential: &model.Credential{Call: "setuid",
			Old: model.Creds{UID: 0, EUID: 0}, New: model.Creds{UID: 33, EUID: 33}}}, "identity", "setuid  uid 0 → 33, euid 0 → 33"},
		{model.Event{Type: model.TypeNamespace, Namespace: &model.Namespace{Call: "unshare", Flags: []string{"mnt", "net"}, Error: 1}},
			"namespace", "unshare mnt,net  EPERM"},
		{model.Event{Type: model.TypePtrace, Ptrace: &model.Ptrace{Request: "attach", TargetPID: 7, Target: nginx}}, "ptrace", "attach nginx(7)"},
		{model.Event{Type: model.TypeModule, Module: &model.Module{Op: "load", Name: "dummy"}}, "module", "load dummy"},
		{model.Event{Type: model.TypeBPF, BPF: &model.BPF{ProgType: "xdp", ProgName: "p", Insns: 3}}, "bpf", "load xdp p  3 instructions"},
		{model.Event{Type: model.TypeMount, Mount: &model.Mount{Op: "mount", Source: "/dev/sda", Target: "/mnt", FSType: "ext4"}},
			"mount", "/dev/sda → /mnt  ext4"},
		{model.Event{Type: model.TypeCapability, Capability: &model.Capability{Cap: 12}}, "uses", "CAP_NET_ADMIN  refused"},
		{model.Event{Type: model.TypeFile, File: &model.File{Op: model.FileRename, Path: "/a", NewPath: "/b\nc"}}, "rename", `/a → /b\nc`},
		{model.Event{Type: model.TypeFile, File: &model.File{Op: model.FileChmod, Path: "/a", Mode: 0o4755}}, "chmod", "/a  04755"},
		{model.Event{Type: model.TypeFile, File: &model.File{Op: model.FileChown, Path: "/a", UID: 5, GID: model.NoUID}}, "chown", "/a  5:"},
		{model.Event{Type: model.TypeConnect, Socket: &model.Socket{Protocol: "tcp", Remote: netip.MustParseAddrPort("[::ffff:192.0.2.1]:443"),
			RemoteName: "example.org", Latency: 12 * time.Millisecond, Error: 111}}, "connect", "tcp example.org:443 (192.0.2.1)  12ms, ECONNREFUSED"},
		{model.Event{Type: model.TypeConnect, PreExisting: true, Socket: &model.Socket{Protocol: "unix", Path: "@x\x1b", PeerPID: 4}},
			"connected", `unix @x\x1b  served by pid 4`},
		{model.Event{Type: model.TypeListen, Socket: &model.Socket{Protocol: "tcp", Local: netip.MustParseAddrPort("[::]:80")}}, "listen", "tcp [::]:80"},
		{model.Event{Type: model.TypeClose, Socket: &model.Socket{Protocol: "tcp", Direction: "inbound",
			Local: netip.MustParseAddrPort("10.0.0.1:80"), Remote: netip.MustParseAddrPort("10.0.0.2:999"), BytesSent: 2048, Duration: time.Minute,
			SRTT: 400 * time.Microsecond, Retransmits: 2}},
			"close", "tcp 10.0.0.2:999 → 10.0.0.1:80  ↑ 2.0K ↓ 0 in 1m00s, rtt 0.4ms, 2 retransmits"},
		{model.Event{Type: model.TypeDNS, DNS: &model.DNS{Name: "a.example", QType: "A", RCode: "NOERROR",
			Answers: []model.DNSAnswer{{Data: "192.0.2.7"}}, Latency: 3 * time.Millisecond}}, "dns", "A a.example  → 192.0.2.7, 3.0ms"},
		{model.Event{Type: model.TypeDNS, DNS: &model.DNS{Name: "b", QType: "AAAA", RCode: "NXDOMAIN"}}, "dns", "AAAA b  → NXDOMAIN"},
		{model.Event{Type: model.TypeDNS, DNS: &model.DNS{Name: "b", QType: "A", Timeout: true, Server: netip.MustParseAddrPort("9.9.9.9:53")}},
			"dns", "A b  no answer from 9.9.9.9:53"},
		{model.Event{Type: model.TypeLoss, Loss: &model.Loss{Stage: "kernel", Reason: "ring full", Count: 12, Total: 40}},
			"LOST", "12 events at kernel: ring full  (40 since the start)"},
	} {
		l := Event(&c.e)
		if l.Verb != c.verb || l.Text() != c.text {
			t.Errorf("%s: got %q %q, want %q %q", c.e.Type, l.Verb, l.Text(), c.verb, c.text)
		}
		if len(l.Verb) > VerbWidth {
			t.Errorf("%q is longer than %d", l.Verb, VerbWidth)
		}
	}
}

func TestEveryTypeHasAVerb(t *testing.T) {
	for _, typ := range model.Types() {
		if l := Event(&model.Event{Type: typ}); l.Verb == "" {
			t.Errorf("%s: no verb", typ)
		}
	}
}

func TestNamesOfProcessesAndWorkloads(t *testing.T) {
	for want, p := range map[string]*model.Process{
		"?": nil, "bash": {Binary: "/bin/bash"}, "run.sh": {Binary: "/bin/sh", File: model.ExecFile{Script: "/opt/run.sh"}},
		"[kworker/0]": {Args: []string{"kworker/0"}, KernelThread: true}, `a\x1bb`: {Binary: "/x/a\x1bb"},
	} {
		if got := Process(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for want, w := range map[string]*model.Workload{
		"-": nil, "unknown": {Kind: model.WorkloadUnknown}, "ssh.service": {Kind: model.WorkloadUnit, Name: "ssh.service"},
		"default/web-1/nginx": {Kind: model.WorkloadPod, Namespace: "default", Name: "web-1", Container: "nginx"},
	} {
		if got := Workload(w); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := Command(&model.Process{Binary: "/bin/bash", Args: []string{"-bash"}}); got != "/bin/bash" {
		t.Errorf("login shell: %q", got)
	}
}

func TestShortKeepsUnusualPlaces(t *testing.T) {
	for in, want := range map[string]string{"/usr/bin/ls -l": "ls -l", "/tmp/ls": "/tmp/ls", "/usr/bin": "/usr/bin"} {
		if got := Short(in); got != want {
			t.Errorf("Short(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNumbersAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0ns", 42 * time.Microsecond: "42µs", 400 * time.Microsecond: "0.4ms",
		250 * time.Millisecond: "250ms", 3100 * time.Millisecond: "3.1s", 125 * time.Second: "2m05s", 25 * time.Hour: "1d01h",
		-time.Second: "-1.0s"} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-1: "0s", 8900 * time.Millisecond: "8s", 125 * time.Second: "2m05s"} {
		if got := Age(d); got != want {
			t.Errorf("Age(%d) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 1023: "1023", 1228: "1.2K", 35 << 20: "35M", 1 << 63: "8.0E"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{9999: "9999", 12345: "12k", 3_400_000: "3.4M"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func FuzzEventStaysOneLine(f *testing.F) {
	f.Add("/bin/sh", "a\x1b[2Jb", "/tmp/x\ny")
	f.Fuzz(func(t *testing.T, binary, arg, path string) {
		p := &model.Process{Binary: binary, Args: []string{arg, path}, File: model.ExecFile{Script: path}}
		for _, e := range []*model.Event{
			{Type: model.TypeExec, Process: p, Exec: &model.Exec{}},
			{Type: model.TypeExecFailed, ExecFailed: &model.ExecFailed{Path: path, Args: []string{arg}}},
			{Type: model.TypeFile, File: &model.File{Op: model.FileOp(arg), Path: path, NewPath: arg}},
			{Type: model.TypeMount, Mount: &model.Mount{Op: arg, Source: binary, Target: path, FSType: arg}},
			{Type: model.TypeDNS, DNS: &model.DNS{Name: arg, QType: path, RCode: binary, Answers: []model.DNSAnswer{{Data: arg}}}},
			{Type: model.TypeConnect, Socket: &model.Socket{Protocol: "unix", Path: path, RemoteName: arg}},
			{Type: model.Type(arg)},
		} {
			l := Event(e)
			if s := l.Verb + l.Text() + Process(p); strings.ContainsFunc(s, func(r rune) bool {
				return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0x2028
			}) {
				t.Fatalf("%s: %q", e.Type, s)
			}
		}
	})
}
