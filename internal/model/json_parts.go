// SPDX-License-Identifier: Apache-2.0

package model

import (
	"net/netip"
	"time"
)

// AppendPartsJSON appends the parts of e that are set, without the fields that all events have: {"ptrace":{…}}.
func (e *Event) AppendPartsJSON(dst []byte) []byte { return jsonClose(e.appendParts(append(dst, '{'))) }

// appendParts appends the parts of e that are set, each under its name.
func (e *Event) appendParts(dst []byte) []byte {
	if e.Exec != nil {
		dst = append(dst, `"exec":{`...)
		dst = jsonText(dst, "previous", e.Exec.Previous)
		dst = append(jsonClose(dst), ',')
	}
	if e.ExecFailed != nil {
		dst = append(dst, `"exec_failed":{`...)
		dst = jsonText(dst, "path", e.ExecFailed.Path)
		dst = jsonTexts(dst, "args", e.ExecFailed.Args)
		dst = jsonErrno(dst, e.ExecFailed.Error)
		dst = append(jsonClose(dst), ',')
	}
	if e.Exit != nil {
		dst = append(dst, `"exit":{`...)
		dst = jsonIntAlways(dst, "code", int64(e.Exit.Code))
		dst = jsonUint(dst, "signal", uint64(e.Exit.Signal))
		dst = jsonBool(dst, "core", e.Exit.Core)
		dst = jsonDuration(dst, "run_time_ns", e.Exit.RunTime)
		dst = append(jsonClose(dst), ',')
	}
	if e.Credential != nil {
		dst = append(dst, `"credential":{`...)
		dst = jsonText(dst, "call", e.Credential.Call)
		dst = append(dst, `"old":`...)
		dst = e.Credential.Old.appendJSON(dst)
		dst = append(dst, `,"new":`...)
		dst = append(e.Credential.New.appendJSON(dst), ',')
		dst = jsonErrno(dst, e.Credential.Error)
		dst = append(jsonClose(dst), ',')
	}
	if e.Namespace != nil {
		dst = append(dst, `"namespace":{`...)
		dst = jsonText(dst, "call", e.Namespace.Call)
		dst = jsonTexts(dst, "flags", e.Namespace.Flags)
		dst = e.Namespace.Old.appendField(dst, "old")
		dst = e.Namespace.New.appendField(dst, "new")
		dst = jsonErrno(dst, e.Namespace.Error)
		dst = append(jsonClose(dst), ',')
	}
	if e.Ptrace != nil {
		dst = append(dst, `"ptrace":{`...)
		dst = jsonText(dst, "request", e.Ptrace.Request)
		dst = jsonUint(dst, "target_pid", uint64(e.Ptrace.TargetPID))
		if e.Ptrace.Target != nil {
			dst = append(dst, `"target":`...)
			dst = append(e.Ptrace.Target.appendRef(dst), ',')
		}
		dst = jsonErrno(dst, e.Ptrace.Error)
		dst = append(jsonClose(dst), ',')
	}
	if e.Module != nil {
		dst = append(dst, `"module":{`...)
		dst = jsonText(dst, "op", e.Module.Op)
		dst = jsonText(dst, "name", e.Module.Name)
		dst = jsonUint(dst, "taint", e.Module.Taint)
		dst = jsonErrno(dst, e.Module.Error)
		dst = append(jsonClose(dst), ',')
	}
	if e.BPF != nil {
		dst = append(dst, `"bpf":{`...)
		dst = jsonText(dst, "op", e.BPF.Op)
		dst = jsonText(dst, "prog_type", e.BPF.ProgType)
		dst = jsonText(dst, "prog_name", e.BPF.ProgName)
		dst = jsonUint(dst, "prog_id", uint64(e.BPF.ProgID))
		dst = jsonUint(dst, "insns", uint64(e.BPF.Insns))
		dst = jsonErrno(dst, e.BPF.Error)
		dst = append(jsonClose(dst), ',')
	}
	if e.Mount != nil {
		dst = append(dst, `"mount":{`...)
		dst = jsonText(dst, "op", e.Mount.Op)
		dst = jsonText(dst, "source", e.Mount.Source)
		dst = jsonText(dst, "target", e.Mount.Target)
		dst = jsonText(dst, "fs_type", e.Mount.FSType)
		dst = jsonUint(dst, "flags", e.Mount.Flags)
		dst = jsonErrno(dst, e.Mount.Error)
		dst = append(jsonClose(dst), ',')
	}
	if e.Capability != nil {
		dst = append(dst, `"capability":{"cap":"`...)
		dst = append(e.Capability.Cap.append(dst), '"', ',')
		dst = jsonBoolAlways(dst, "granted", e.Capability.Granted)
		dst = append(jsonClose(dst), ',')
	}
	if e.File != nil {
		dst = e.File.appendField(dst)
	}
	if e.Socket != nil {
		dst = e.Socket.appendField(dst)
	}
	if e.DNS != nil {
		dst = e.DNS.appendField(dst)
	}
	if e.Flow != nil {
		dst = e.Flow.appendField(dst)
	}
	if e.Request != nil {
		dst = e.Request.appendField(dst)
	}
	if e.Verdict != nil {
		dst = e.Verdict.appendField(dst)
	}
	if e.Alert != nil {
		dst = e.Alert.appendField(dst)
	}
	if e.Probe != nil {
		dst = e.Probe.appendField(dst)
	}
	if e.Loss != nil {
		dst = append(dst, `"loss":{`...)
		dst = jsonText(dst, "stage", e.Loss.Stage)
		dst = jsonText(dst, "reason", e.Loss.Reason)
		dst = jsonUintAlways(dst, "count", e.Loss.Count)
		dst = jsonUint(dst, "total", e.Loss.Total)
		dst = append(jsonClose(dst), ',')
	}
	return dst
}

func (f *File) appendField(dst []byte) []byte {
	dst = append(dst, `"file":{`...)
	dst = jsonText(dst, "op", string(f.Op))
	dst = jsonText(dst, "path", f.Path)
	dst = jsonText(dst, "new_path", f.NewPath)
	dst = jsonText(dst, "path_from", f.PathFrom)
	dst = jsonUint(dst, "inode", f.Inode)
	dst = jsonDevice(dst, "device", f.Device)
	dst = jsonUint(dst, "flags", uint64(f.Flags))
	if f.Mode != 0 || f.Op == FileChmod {
		dst = jsonMode(dst, "mode", f.Mode)
	}
	if f.Op == FileChown {
		if f.UID != NoUID {
			dst = jsonUintAlways(dst, "uid", uint64(f.UID))
		}
		if f.GID != NoUID {
			dst = jsonUintAlways(dst, "gid", uint64(f.GID))
		}
	}
	dst = jsonText(dst, "file_type", f.FileType)
	dst = jsonErrno(dst, f.Error)
	return append(jsonClose(dst), ',')
}

func (s *Socket) appendField(dst []byte) []byte {
	dst = append(dst, `"socket":{`...)
	dst = jsonText(dst, "protocol", s.Protocol)
	dst = jsonText(dst, "family", s.Family)
	dst = jsonAddrPort(dst, "local_address", "local_port", s.Local)
	dst = jsonAddrPort(dst, "remote_address", "remote_port", s.Remote)
	dst = jsonText(dst, "remote_name", s.RemoteName)
	dst = jsonText(dst, "path", s.Path)
	dst = jsonUint(dst, "cookie", s.Cookie)
	dst = jsonUint(dst, "net_ns", uint64(s.NetNS))
	dst = jsonUint(dst, "peer_pid", uint64(s.PeerPID))
	dst = jsonUint(dst, "backlog", uint64(s.Backlog))
	dst = jsonDuration(dst, "latency_ns", s.Latency)
	dst = jsonErrno(dst, s.Error)
	dst = jsonUint(dst, "bytes_sent", s.BytesSent)
	dst = jsonUint(dst, "bytes_received", s.BytesReceived)
	dst = jsonUint(dst, "packets_sent", s.PacketsSent)
	dst = jsonUint(dst, "packets_received", s.PacketsReceived)
	dst = jsonUint(dst, "retransmits", uint64(s.Retransmits))
	dst = jsonDuration(dst, "srtt_ns", s.SRTT)
	dst = jsonDuration(dst, "duration_ns", s.Duration)
	dst = jsonText(dst, "direction", s.Direction)
	return append(jsonClose(dst), ',')
}

func (d *DNS) appendField(dst []byte) []byte {
	dst = append(dst, `"dns":{`...)
	dst = jsonText(dst, "name", d.Name)
	dst = jsonText(dst, "qtype", d.QType)
	dst = jsonText(dst, "rcode", d.RCode)
	if len(d.Answers) > 0 {
		dst = append(dst, `"answers":[`...)
		for i := range d.Answers {
			dst = append(dst, '{')
			dst = jsonText(dst, "type", d.Answers[i].Type)
			dst = jsonText(dst, "data", d.Answers[i].Data)
			dst = jsonUint(dst, "ttl", uint64(uint32(d.Answers[i].TTL/time.Second)))
			dst = append(jsonClose(dst), ',')
		}
		dst[len(dst)-1] = ']'
		dst = append(dst, ',')
	}
	dst = jsonDuration(dst, "latency_ns", d.Latency)
	dst = jsonAddrPort(dst, "server_address", "server_port", d.Server)
	dst = jsonText(dst, "protocol", d.Protocol)
	dst = jsonBool(dst, "timeout", d.Timeout)
	dst = jsonBool(dst, "truncated", d.Truncated)
	return append(jsonClose(dst), ',')
}

func jsonAddrPort(dst []byte, addr, port string, ap netip.AddrPort) []byte {
	if a := ap.Addr(); a.Zone() != "" {
		dst = jsonText(dst, addr, a.String()) // a zone is text from outside
	} else if a.IsValid() {
		dst = append(jsonName(dst, addr), '"')
		dst = append(a.AppendTo(dst), '"', ',')
	}
	return jsonUint(dst, port, uint64(ap.Port()))
}
