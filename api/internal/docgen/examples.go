// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// meanings says what each type is, for its heading.
var meanings = map[model.Type]string{
	model.TypeExec:       "A process runs a new program. `process` is the new image.",
	model.TypeExecFailed: "An execve or execveat returned an error.",
	model.TypeFork:       "A process came to be as a copy of its parent. `process` is the child.",
	model.TypeExit:       "A process ended: all of its threads have.",
	model.TypeCredential: "A process changed its credentials other than by exec.",
	model.TypeNamespace:  "A process entered or made namespaces.",
	model.TypePtrace:     "A process took hold of another one.",
	model.TypeModule:     "A kernel module was loaded or unloaded.",
	model.TypeBPF:        "A BPF program was loaded.",
	model.TypeMount:      "A file system was mounted, moved or unmounted.",
	model.TypeCapability: "A process used a capability, or was refused one.",
	model.TypeFile:       "A file was opened or changed. Repetitions are folded: see `count`.",
	model.TypeConnect:    "A connection was made, or could not be.",
	model.TypeAccept:     "A connection was accepted.",
	model.TypeListen:     "A socket began to listen.",
	model.TypeClose:      "A socket ended, with what went over it.",
	model.TypeDNS:        "A process asked for a name.",
	model.TypeFlow:       "A conversation, reported while it goes on and at its end. It says again, with both ends, what connect, accept and close say one by one: it is sent where it is asked for by its type.",
	model.TypeRequest:    "A request and its answer on an application protocol. `process` is the client or the server, as `role` says.",
	model.TypeVerdict:    "A policy denied something, killed for it, or would have (`audited`).",
	model.TypeAlert:      "A detection found something. `process` is the one whose event raised it.",
	model.TypeProbe:      "A hook of a TracingPolicy was hit.",
	model.TypeLoss:       "Something was not seen or not delivered.",
}

const boot = "0a1b2c3d"

// exampleOf is an event of type t as a host might have it; nil for a type without an example.
func exampleOf(t model.Type) *model.Event {
	at := time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.UTC)
	e := &model.Event{Type: t, Time: at, BootTime: 91_235_567_890, Seq: 77, TID: 4242, Count: 1, Process: curl(), Parent: shell()}
	e.Key = e.Process.Key
	switch t {
	case model.TypeExec:
		e.Exec = &model.Exec{Previous: model.ProcessKey{PID: 4242, Start: 91_234_567_890, Exec: 3}.ExecID(boot)}
	case model.TypeExecFailed:
		e.ExecFailed = &model.ExecFailed{Path: "/usr/local/bin/curl", Args: []string{"curl", "--version"}, Error: 2}
	case model.TypeFork:
		e.Process.Forked = true
	case model.TypeExit:
		e.Exit = &model.Exit{Signal: 9, RunTime: 1500 * time.Millisecond}
	case model.TypeCredential:
		e.Credential = &model.Credential{Call: "setuid", Old: model.Creds{LoginUID: 1000, CapEffective: 1 << 7}, New: e.Process.Creds}
	case model.TypeNamespace:
		e.Namespace = &model.Namespace{Call: "unshare", Flags: []string{"mnt", "net"}, Old: e.Process.Namespaces,
			New: model.Namespaces{Mnt: 4026532301, PID: 4026531836, Net: 4026532304, User: 4026531837}}
	case model.TypePtrace:
		e.Ptrace = &model.Ptrace{Request: "attach", TargetPID: 812, Target: shell()}
	case model.TypeModule:
		e.Module = &model.Module{Op: "load", Name: "wireguard", Taint: 1 << 13}
	case model.TypeBPF:
		e.BPF = &model.BPF{Op: "prog_load", ProgType: "cgroup_skb", ProgName: "count", ProgID: 61, Insns: 24}
	case model.TypeMount:
		e.Mount = &model.Mount{Op: "mount", Source: "/dev/sdb1", Target: "/mnt", FSType: "ext4", Flags: 1}
	case model.TypeCapability:
		e.Capability = &model.Capability{Cap: 12}
	case model.TypeFile:
		e.Count = 12
		e.File = &model.File{Op: model.FileRead, Path: "/etc/ssl/certs/ca-certificates.crt", PathFrom: "object", Inode: 262_411,
			Device: 8<<20 | 1, Flags: 0o100000, FileType: "regular"}
	case model.TypeConnect:
		e.Socket = connection()
		e.Socket.Latency = 11 * time.Millisecond
	case model.TypeAccept:
		e.Socket = &model.Socket{Protocol: "tcp", Family: "ipv6", Local: netip.MustParseAddrPort("[2001:db8::5]:443"),
			Remote: netip.MustParseAddrPort("[2001:db8::77]:51514"), Cookie: 8210, NetNS: 4026531840, Direction: "inbound"}
	case model.TypeListen:
		e.Socket = &model.Socket{Protocol: "unix", Family: "unix", Path: "/run/example.sock", Cookie: 8211, NetNS: 4026531840,
			Backlog: 128, Direction: "listener"}
	case model.TypeClose:
		e.Socket = connection()
		e.Socket.BytesSent, e.Socket.BytesReceived, e.Socket.PacketsSent, e.Socket.PacketsReceived = 812, 15_204, 11, 16
		e.Socket.Retransmits, e.Socket.SRTT, e.Socket.Duration = 1, 10_900*time.Microsecond, 240*time.Millisecond
	case model.TypeDNS:
		e.DNS = &model.DNS{Name: "example.org", QType: "A", RCode: "NOERROR", Latency: 3 * time.Millisecond,
			Answers: []model.DNSAnswer{{Type: "A", Data: "203.0.113.9", TTL: 5 * time.Minute}},
			Server:  netip.MustParseAddrPort("192.0.2.53:53"), Protocol: "udp"}
	case model.TypeFlow:
		e.Flow = conversation(e.Process)
	case model.TypeRequest:
		e.Request = &model.Request{Protocol: "http", Version: "HTTP/1.1", Role: "client", Method: "GET", Path: "/orders/{id}",
			Host: "example.org", Status: 200, StatusText: "OK", Latency: 11 * time.Millisecond, Duration: 12 * time.Millisecond,
			ResponseBytes: 15_204, TLS: "openssl", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", ParentSpanID: "00f067aa0ba902b7",
			Sampled: true, Local: connection().Local, Remote: connection().Remote, RemoteName: "example.org", Cookie: 8209, NetNS: 4026531840}
	case model.TypeVerdict:
		e.Verdict = &model.Verdict{Action: model.VerdictDenied, Policy: "web", Rule: "files.deny[0]", Hook: "fanotify OPEN_PERM",
			Guarantee: model.DeniedBefore, Operation: model.OpRead, Path: "/etc/shadow"}
	case model.TypeAlert:
		e.Alert = &model.Alert{Rule: "shell-from-server", Title: "A server started a shell", Severity: model.SeverityHigh,
			Tags: []string{"T1059.004"}, Message: "nginx started /bin/sh -c id", Action: "alert", EventType: model.TypeExec, EventSeq: 76}
	case model.TypeProbe:
		e.Probe = &model.Probe{Policy: "open-files", Kind: "kprobe", Hook: "sys_openat", Carrier: "sys_exit", Action: "post",
			Args: []model.ProbeArg{{Label: "name", Type: "string", Text: "/etc/hosts"}, {Type: "int", Int: 524288}}}
	case model.TypeLoss:
		return &model.Event{Type: t, Time: at, Seq: 78, Count: 1, Loss: &model.Loss{Stage: "kernel", Reason: "ring buffer full", Count: 31, Total: 40}}
	default:
		return nil
	}
	return e
}

func shell() *model.Process {
	p := &model.Process{Key: model.ProcessKey{PID: 812, Start: 51_000_000_000, Exec: 3}, Binary: "/usr/bin/bash", Args: []string{"-bash"}}
	p.ExecID = p.Key.ExecID(boot)
	return p
}

func curl() *model.Process {
	key := model.ProcessKey{PID: 4242, Start: 91_234_567_890, Exec: 4}
	return &model.Process{Key: key, ExecID: key.ExecID(boot), StartTime: time.Date(2026, 3, 1, 12, 30, 15, 122456789, time.UTC),
		Binary: "/usr/bin/curl", Args: []string{"curl", "-sS", "https://example.org/"}, CWD: "/home/alice", TTY: "pts/0",
		Creds: model.Creds{UID: 1000, GID: 1000, EUID: 1000, EGID: 1000, SUID: 1000, SGID: 1000, FSUID: 1000, FSGID: 1000,
			LoginUID: 1000, CapBounding: 0x1ffffffffff},
		Namespaces: model.Namespaces{Mnt: 4026531841, PID: 4026531836, Net: 4026531840, User: 4026531837},
		File:       model.ExecFile{Inode: 131_234, Device: 8<<20 | 1, Mode: 0o100755}, CgroupID: 5120,
		Workload: &model.Workload{Kind: model.WorkloadSession, Name: "session-3 (alice)", ID: "session-3.scope", User: "alice",
			Slice: "user-1000.slice", Cgroup: "/user.slice/user-1000.slice/session-3.scope"}}
}

func connection() *model.Socket {
	return &model.Socket{Protocol: "tcp", Family: "ipv4", Local: netip.MustParseAddrPort("192.0.2.10:40022"),
		Remote: netip.MustParseAddrPort("203.0.113.9:443"), RemoteName: "example.org", Cookie: 8209, NetNS: 4026531840,
		Direction: "outbound"}
}

func conversation(p *model.Process) *model.Flow {
	c := model.FlowCounters{BytesSent: 812, BytesReceived: 15_204, PacketsSent: 11, PacketsReceived: 16, Retransmits: 1}
	return &model.Flow{ID: 410, Report: 1, State: model.FlowClosed, Protocol: "tcp", Family: "ipv4", Direction: model.FlowOutbound,
		Source:      model.Endpoint{Address: connection().Local, Process: p, Workload: p.Workload},
		Destination: model.Endpoint{Address: connection().Remote, Name: "example.org"}, Verdict: model.FlowAllowed,
		Start: time.Date(2026, 3, 1, 12, 30, 14, 883456789, time.UTC), End: time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.UTC),
		Total: c, Interval: c, SRTT: 10_900 * time.Microsecond, Latency: 11 * time.Millisecond, Close: model.CloseFin, Cookie: 8209,
		NetNS: 4026531840}
}
