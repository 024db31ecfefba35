// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"net/netip"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// messages are the fields of every message of vigie.v1.Event, by the message's name and the field's.
func messages() map[string]map[string]field {
	return map[string]map[string]field{
		"Event": eventFields(), "Process": processFields(), "ProcessRef": referenceFields(), "Creds": credsFields(),
		"Namespaces": namespacesFields(), "ExecFile": execFileFields(), "Workload": workloadFields(), "Controller": controllerFields(),
		"File": fileFields(), "Socket": socketFields(), "DNS": dnsFields(), "Verdict": verdictFields(),
		"DNSAnswer": answerFields(), "Alert": alertFields(), "Probe": probeFields(), "ProbeArg": probeArgFields(),
		"Flow": flowFields(), "FlowCounters": counterFields(), "Endpoint": endpointFields(), "Service": serviceFields(),
		"Request": requestFields(),
		"Exec":    {"previous": text(func(x *model.Exec) string { return x.Previous })},
		"ExecFailed": {
			"path":  text(func(x *model.ExecFailed) string { return x.Path }),
			"args":  texts(func(x *model.ExecFailed) []string { return x.Args }),
			"error": errno(func(x *model.ExecFailed) model.Errno { return x.Error }),
		},
		"Exit": {
			"code":        signed(func(x *model.Exit) int32 { return x.Code }),
			"signal":      number(func(x *model.Exit) uint32 { return x.Signal }),
			"core":        flag(func(x *model.Exit) bool { return x.Core }),
			"run_time_ns": signed(func(x *model.Exit) time.Duration { return x.RunTime }),
		},
		"Credential": {
			"call":  text(func(x *model.Credential) string { return x.Call }),
			"old":   inside("Creds", true, func(x *model.Credential) *model.Creds { return &x.Old }),
			"new":   inside("Creds", true, func(x *model.Credential) *model.Creds { return &x.New }),
			"error": errno(func(x *model.Credential) model.Errno { return x.Error }),
		},
		"Namespace": {
			"call":  text(func(x *model.Namespace) string { return x.Call }),
			"flags": texts(func(x *model.Namespace) []string { return x.Flags }),
			"old":   inside("Namespaces", false, func(x *model.Namespace) *model.Namespaces { return &x.Old }),
			"new":   inside("Namespaces", false, func(x *model.Namespace) *model.Namespaces { return &x.New }),
			"error": errno(func(x *model.Namespace) model.Errno { return x.Error }),
		},
		"Ptrace": {
			"request":    text(func(x *model.Ptrace) string { return x.Request }),
			"target_pid": number(func(x *model.Ptrace) uint32 { return x.TargetPID }),
			"target":     part("ProcessRef", func(x *model.Ptrace) *model.Process { return x.Target }),
			"error":      errno(func(x *model.Ptrace) model.Errno { return x.Error }),
		},
		"Module": {
			"op":    text(func(x *model.Module) string { return x.Op }),
			"name":  text(func(x *model.Module) string { return x.Name }),
			"taint": number(func(x *model.Module) uint64 { return x.Taint }),
			"error": errno(func(x *model.Module) model.Errno { return x.Error }),
		},
		"BPF": {
			"op":        text(func(x *model.BPF) string { return x.Op }),
			"prog_type": text(func(x *model.BPF) string { return x.ProgType }),
			"prog_name": text(func(x *model.BPF) string { return x.ProgName }),
			"prog_id":   number(func(x *model.BPF) uint32 { return x.ProgID }),
			"insns":     number(func(x *model.BPF) uint32 { return x.Insns }),
			"error":     errno(func(x *model.BPF) model.Errno { return x.Error }),
		},
		"Mount": {
			"op":      text(func(x *model.Mount) string { return x.Op }),
			"source":  text(func(x *model.Mount) string { return x.Source }),
			"target":  text(func(x *model.Mount) string { return x.Target }),
			"fs_type": text(func(x *model.Mount) string { return x.FSType }),
			"flags":   number(func(x *model.Mount) uint64 { return x.Flags }),
			"error":   errno(func(x *model.Mount) model.Errno { return x.Error }),
		},
		"Capability": {
			"cap":     text(func(x *model.Capability) string { return x.Cap.String() }),
			"granted": flag(func(x *model.Capability) bool { return x.Granted }),
		},
		"Loss": {
			"stage":  text(func(x *model.Loss) string { return x.Stage }),
			"reason": text(func(x *model.Loss) string { return x.Reason }),
			"count":  number(func(x *model.Loss) uint64 { return x.Count }),
			"total":  number(func(x *model.Loss) uint64 { return x.Total }),
		},
	}
}

func eventFields() map[string]field {
	return map[string]field{
		"type":         text(func(s *Subject) model.Type { return s.Event.Type }),
		"time":         moment(func(s *Subject) time.Time { return s.Event.Time }),
		"boot_time_ns": number(func(s *Subject) uint64 { return s.Event.BootTime }),
		"seq":          number(func(s *Subject) uint64 { return s.Event.Seq }),
		"tid":          number(func(s *Subject) uint32 { return s.Event.TID }),
		"count":        number(func(s *Subject) uint32 { return s.Event.Count }),
		"pre_existing": flag(func(s *Subject) bool { return s.Event.PreExisting }),
		"node":         text(func(s *Subject) string { return s.Event.Node }),
		"process": {message: "Process", part: func(o any) any { return of[Subject](o) }, has: func(o any) bool {
			s := of[Subject](o)
			return s != nil && s.process() != nil
		}},
		"exec":        part("Exec", func(s *Subject) *model.Exec { return s.Event.Exec }),
		"exec_failed": part("ExecFailed", func(s *Subject) *model.ExecFailed { return s.Event.ExecFailed }),
		"exit":        part("Exit", func(s *Subject) *model.Exit { return s.Event.Exit }),
		"credential":  part("Credential", func(s *Subject) *model.Credential { return s.Event.Credential }),
		"namespace":   part("Namespace", func(s *Subject) *model.Namespace { return s.Event.Namespace }),
		"ptrace":      part("Ptrace", func(s *Subject) *model.Ptrace { return s.Event.Ptrace }),
		"module":      part("Module", func(s *Subject) *model.Module { return s.Event.Module }),
		"bpf":         part("BPF", func(s *Subject) *model.BPF { return s.Event.BPF }),
		"mount":       part("Mount", func(s *Subject) *model.Mount { return s.Event.Mount }),
		"capability":  part("Capability", func(s *Subject) *model.Capability { return s.Event.Capability }),
		"file":        part("File", func(s *Subject) *model.File { return s.Event.File }),
		"socket":      part("Socket", func(s *Subject) *model.Socket { return s.Event.Socket }),
		"dns":         part("DNS", func(s *Subject) *model.DNS { return s.Event.DNS }),
		"flow":        part("Flow", func(s *Subject) *model.Flow { return s.Event.Flow }),
		"request":     part("Request", func(s *Subject) *model.Request { return s.Event.Request }),
		"verdict":     part("Verdict", func(s *Subject) *model.Verdict { return s.Event.Verdict }),
		"alert":       part("Alert", func(s *Subject) *model.Alert { return s.Event.Alert }),
		"probe":       part("Probe", func(s *Subject) *model.Probe { return s.Event.Probe }),
		"loss":        part("Loss", func(s *Subject) *model.Loss { return s.Event.Loss }),
	}
}

// partOf says which events have a part of Event: its types. Other parts are of all.
func partOf(name string) []model.Type {
	switch name {
	case "socket":
		return []model.Type{model.TypeConnect, model.TypeAccept, model.TypeListen, model.TypeClose}
	case "exec", "exec_failed", "exit", "credential", "namespace", "ptrace", "module", "bpf", "mount", "capability", "file", "dns",
		"flow", "request", "verdict", "alert", "probe", "loss":
		return []model.Type{model.Type(name)}
	}
	return nil
}

func fileFields() map[string]field {
	owner := func(get func(*model.File) uint32) field {
		return uid(func(f *model.File) uint32 {
			if f.Op != model.FileChown {
				return model.NoUID
			}
			return get(f)
		})
	}
	return map[string]field{
		"op":        text(func(f *model.File) model.FileOp { return f.Op }),
		"path":      text(func(f *model.File) string { return f.Path }),
		"new_path":  text(func(f *model.File) string { return f.NewPath }),
		"path_from": text(func(f *model.File) string { return f.PathFrom }),
		"inode":     number(func(f *model.File) uint64 { return f.Inode }),
		"device":    device(func(f *model.File) uint32 { return f.Device }),
		"flags":     number(func(f *model.File) uint32 { return f.Flags }),
		"mode": text(func(f *model.File) string {
			if f.Op == model.FileChmod {
				return string(model.AppendMode(nil, f.Mode)) // chmod 0 is a mode too
			}
			return mode(f.Mode)
		}),
		"uid":       owner(func(f *model.File) uint32 { return f.UID }),
		"gid":       owner(func(f *model.File) uint32 { return f.GID }),
		"file_type": text(func(f *model.File) string { return f.FileType }),
		"error":     errno(func(f *model.File) model.Errno { return f.Error }),
	}
}

func socketFields() map[string]field {
	local := func(s *model.Socket) netip.AddrPort { return s.Local }
	remote := func(s *model.Socket) netip.AddrPort { return s.Remote }
	return map[string]field{
		"protocol":         text(func(s *model.Socket) string { return s.Protocol }),
		"family":           text(func(s *model.Socket) string { return s.Family }),
		"local_address":    address(local),
		"local_port":       port(local),
		"remote_address":   address(remote),
		"remote_port":      port(remote),
		"remote_name":      text(func(s *model.Socket) string { return s.RemoteName }),
		"path":             text(func(s *model.Socket) string { return s.Path }),
		"cookie":           number(func(s *model.Socket) uint64 { return s.Cookie }),
		"net_ns":           number(func(s *model.Socket) uint32 { return s.NetNS }),
		"peer_pid":         number(func(s *model.Socket) uint32 { return s.PeerPID }),
		"backlog":          number(func(s *model.Socket) uint32 { return s.Backlog }),
		"latency_ns":       signed(func(s *model.Socket) time.Duration { return s.Latency }),
		"error":            errno(func(s *model.Socket) model.Errno { return s.Error }),
		"bytes_sent":       number(func(s *model.Socket) uint64 { return s.BytesSent }),
		"bytes_received":   number(func(s *model.Socket) uint64 { return s.BytesReceived }),
		"packets_sent":     number(func(s *model.Socket) uint64 { return s.PacketsSent }),
		"packets_received": number(func(s *model.Socket) uint64 { return s.PacketsReceived }),
		"retransmits":      number(func(s *model.Socket) uint32 { return s.Retransmits }),
		"srtt_ns":          signed(func(s *model.Socket) time.Duration { return s.SRTT }),
		"duration_ns":      signed(func(s *model.Socket) time.Duration { return s.Duration }),
		"direction":        text(func(s *model.Socket) string { return s.Direction }),
	}
}

func dnsFields() map[string]field {
	server := func(d *model.DNS) netip.AddrPort { return d.Server }
	return map[string]field{
		"name":  text(func(d *model.DNS) string { return d.Name }),
		"qtype": text(func(d *model.DNS) string { return d.QType }),
		"rcode": text(func(d *model.DNS) string { return d.RCode }),
		"answers": other("DNSAnswer", []*model.DNSAnswer(nil), func(d *model.DNS) any { return pointers(d.Answers) },
			func(d *model.DNS) bool { return len(d.Answers) > 0 }),
		"latency_ns":     signed(func(d *model.DNS) time.Duration { return d.Latency }),
		"server_address": address(server),
		"server_port":    port(server),
		"protocol":       text(func(d *model.DNS) string { return d.Protocol }),
		"timeout":        flag(func(d *model.DNS) bool { return d.Timeout }),
		"truncated":      flag(func(d *model.DNS) bool { return d.Truncated }),
	}
}

func answerFields() map[string]field {
	return map[string]field{
		"type": text(func(a *model.DNSAnswer) string { return a.Type }),
		"data": text(func(a *model.DNSAnswer) string { return a.Data }),
		"ttl":  number(func(a *model.DNSAnswer) uint32 { return uint32(a.TTL / time.Second) }),
	}
}

// pointers are the elements of a list, as messages.
func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}
