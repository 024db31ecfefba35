// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"time"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// Each part of an event, to its message and back; nil for nil.

func execToProto(x *model.Exec) *pb.Exec {
	if x == nil {
		return nil
	}
	return &pb.Exec{Previous: text(x.Previous)}
}

func execFromProto(m *pb.Exec) *model.Exec {
	if m == nil {
		return nil
	}
	return &model.Exec{Previous: m.GetPrevious()}
}

func execFailedToProto(x *model.ExecFailed) *pb.ExecFailed {
	if x == nil {
		return nil
	}
	return &pb.ExecFailed{Path: text(x.Path), Args: texts(x.Args), Error: x.Error.String()}
}

func execFailedFromProto(m *pb.ExecFailed) *model.ExecFailed {
	if m == nil {
		return nil
	}
	return &model.ExecFailed{Path: m.GetPath(), Args: m.GetArgs(), Error: model.ParseErrno(m.GetError())}
}

func exitToProto(x *model.Exit) *pb.Exit {
	if x == nil {
		return nil
	}
	return &pb.Exit{Code: x.Code, Signal: x.Signal, Core: x.Core, RunTimeNs: int64(x.RunTime)}
}

func exitFromProto(m *pb.Exit) *model.Exit {
	if m == nil {
		return nil
	}
	return &model.Exit{Code: m.GetCode(), Signal: m.GetSignal(), Core: m.GetCore(), RunTime: time.Duration(m.GetRunTimeNs())}
}

func credentialToProto(x *model.Credential) *pb.Credential {
	if x == nil {
		return nil
	}
	return &pb.Credential{Call: text(x.Call), Old: credsToProto(&x.Old), New: credsToProto(&x.New), Error: x.Error.String()}
}

func credentialFromProto(m *pb.Credential) *model.Credential {
	if m == nil {
		return nil
	}
	return &model.Credential{Call: m.GetCall(), Old: credsFromProto(m.GetOld()), New: credsFromProto(m.GetNew()),
		Error: model.ParseErrno(m.GetError())}
}

func namespaceToProto(x *model.Namespace) *pb.Namespace {
	if x == nil {
		return nil
	}
	return &pb.Namespace{Call: text(x.Call), Flags: texts(x.Flags), Old: namespacesToProto(&x.Old),
		New: namespacesToProto(&x.New), Error: x.Error.String()}
}

func namespaceFromProto(m *pb.Namespace) *model.Namespace {
	if m == nil {
		return nil
	}
	return &model.Namespace{Call: m.GetCall(), Flags: m.GetFlags(), Old: namespacesFromProto(m.GetOld()),
		New: namespacesFromProto(m.GetNew()), Error: model.ParseErrno(m.GetError())}
}

func ptraceToProto(x *model.Ptrace) *pb.Ptrace {
	if x == nil {
		return nil
	}
	return &pb.Ptrace{Request: text(x.Request), TargetPid: x.TargetPID, Target: refToProto(x.Target), Error: x.Error.String()}
}

func ptraceFromProto(m *pb.Ptrace) *model.Ptrace {
	if m == nil {
		return nil
	}
	return &model.Ptrace{Request: m.GetRequest(), TargetPID: m.GetTargetPid(), Target: refFromProto(m.GetTarget()),
		Error: model.ParseErrno(m.GetError())}
}

func moduleToProto(x *model.Module) *pb.Module {
	if x == nil {
		return nil
	}
	return &pb.Module{Op: text(x.Op), Name: text(x.Name), Taint: x.Taint, Error: x.Error.String()}
}

func moduleFromProto(m *pb.Module) *model.Module {
	if m == nil {
		return nil
	}
	return &model.Module{Op: m.GetOp(), Name: m.GetName(), Taint: m.GetTaint(), Error: model.ParseErrno(m.GetError())}
}

func bpfToProto(x *model.BPF) *pb.BPF {
	if x == nil {
		return nil
	}
	return &pb.BPF{Op: text(x.Op), ProgType: text(x.ProgType), ProgName: text(x.ProgName), ProgId: x.ProgID,
		Insns: x.Insns, Error: x.Error.String()}
}

func bpfFromProto(m *pb.BPF) *model.BPF {
	if m == nil {
		return nil
	}
	return &model.BPF{Op: m.GetOp(), ProgType: m.GetProgType(), ProgName: m.GetProgName(), ProgID: m.GetProgId(),
		Insns: m.GetInsns(), Error: model.ParseErrno(m.GetError())}
}

func mountToProto(x *model.Mount) *pb.Mount {
	if x == nil {
		return nil
	}
	return &pb.Mount{Op: text(x.Op), Source: text(x.Source), Target: text(x.Target), FsType: text(x.FSType),
		Flags: x.Flags, Error: x.Error.String()}
}

func mountFromProto(m *pb.Mount) *model.Mount {
	if m == nil {
		return nil
	}
	return &model.Mount{Op: m.GetOp(), Source: m.GetSource(), Target: m.GetTarget(), FSType: m.GetFsType(),
		Flags: m.GetFlags(), Error: model.ParseErrno(m.GetError())}
}

func capabilityToProto(x *model.Capability) *pb.Capability {
	if x == nil {
		return nil
	}
	return &pb.Capability{Cap: x.Cap.String(), Granted: x.Granted}
}

func capabilityFromProto(m *pb.Capability) *model.Capability {
	if m == nil {
		return nil
	}
	c, _ := model.ParseCap(m.GetCap())
	return &model.Capability{Cap: c, Granted: m.GetGranted()}
}

func fileToProto(x *model.File) *pb.File {
	if x == nil {
		return nil
	}
	m := &pb.File{Op: text(string(x.Op)), Path: text(x.Path), NewPath: text(x.NewPath), PathFrom: text(x.PathFrom),
		Inode: x.Inode, Device: device(x.Device), Flags: x.Flags, Mode: mode(x.Mode), FileType: text(x.FileType),
		Error: x.Error.String()}
	switch x.Op {
	case model.FileChown:
		m.Uid, m.Gid = unlessUnset(x.UID), unlessUnset(x.GID)
	case model.FileChmod:
		m.Mode = string(model.AppendMode(nil, x.Mode)) // chmod 0 is a mode too
	}
	return m
}

func fileFromProto(m *pb.File) *model.File {
	if m == nil {
		return nil
	}
	x := &model.File{Op: model.FileOp(m.GetOp()), Path: m.GetPath(), NewPath: m.GetNewPath(), PathFrom: m.GetPathFrom(),
		Inode: m.GetInode(), Device: model.ParseDevice(m.GetDevice()), Flags: m.GetFlags(), Mode: model.ParseMode(m.GetMode()),
		FileType: m.GetFileType(), Error: model.ParseErrno(m.GetError())}
	if x.Op == model.FileChown {
		x.UID, x.GID = orUnset(m.Uid), orUnset(m.Gid)
	}
	return x
}

func socketToProto(x *model.Socket) *pb.Socket {
	if x == nil {
		return nil
	}
	m := &pb.Socket{Protocol: text(x.Protocol), Family: text(x.Family), RemoteName: text(x.RemoteName), Path: text(x.Path),
		Cookie: x.Cookie, NetNs: x.NetNS, PeerPid: x.PeerPID, Backlog: x.Backlog, LatencyNs: int64(x.Latency),
		Error: x.Error.String(), BytesSent: x.BytesSent, BytesReceived: x.BytesReceived, PacketsSent: x.PacketsSent,
		PacketsReceived: x.PacketsReceived, Retransmits: x.Retransmits, SrttNs: int64(x.SRTT),
		DurationNs: int64(x.Duration), Direction: text(x.Direction)}
	m.LocalAddress, m.LocalPort = address(x.Local)
	m.RemoteAddress, m.RemotePort = address(x.Remote)
	return m
}

func socketFromProto(m *pb.Socket) *model.Socket {
	if m == nil {
		return nil
	}
	return &model.Socket{Protocol: m.GetProtocol(), Family: m.GetFamily(),
		Local:  addrPort(m.GetLocalAddress(), m.GetLocalPort()),
		Remote: addrPort(m.GetRemoteAddress(), m.GetRemotePort()), RemoteName: m.GetRemoteName(), Path: m.GetPath(),
		Cookie: m.GetCookie(), NetNS: m.GetNetNs(), PeerPID: m.GetPeerPid(), Backlog: m.GetBacklog(),
		Latency: time.Duration(m.GetLatencyNs()), Error: model.ParseErrno(m.GetError()), BytesSent: m.GetBytesSent(),
		BytesReceived: m.GetBytesReceived(), PacketsSent: m.GetPacketsSent(), PacketsReceived: m.GetPacketsReceived(),
		Retransmits: m.GetRetransmits(), SRTT: time.Duration(m.GetSrttNs()), Duration: time.Duration(m.GetDurationNs()),
		Direction: m.GetDirection()}
}

func dnsToProto(x *model.DNS) *pb.DNS {
	if x == nil {
		return nil
	}
	m := &pb.DNS{Name: text(x.Name), Qtype: text(x.QType), Rcode: text(x.RCode), LatencyNs: int64(x.Latency),
		Protocol: text(x.Protocol), Timeout: x.Timeout, Truncated: x.Truncated}
	m.ServerAddress, m.ServerPort = address(x.Server)
	for _, a := range x.Answers {
		m.Answers = append(m.Answers, &pb.DNSAnswer{Type: text(a.Type), Data: text(a.Data), Ttl: uint32(a.TTL / time.Second)})
	}
	return m
}

func dnsFromProto(m *pb.DNS) *model.DNS {
	if m == nil {
		return nil
	}
	x := &model.DNS{Name: m.GetName(), QType: m.GetQtype(), RCode: m.GetRcode(), Latency: time.Duration(m.GetLatencyNs()),
		Server: addrPort(m.GetServerAddress(), m.GetServerPort()), Protocol: m.GetProtocol(), Timeout: m.GetTimeout(),
		Truncated: m.GetTruncated()}
	for _, a := range m.GetAnswers() {
		x.Answers = append(x.Answers, model.DNSAnswer{Type: a.GetType(), Data: a.GetData(), TTL: time.Duration(a.GetTtl()) * time.Second})
	}
	return x
}

func lossToProto(x *model.Loss) *pb.Loss {
	if x == nil {
		return nil
	}
	return &pb.Loss{Stage: text(x.Stage), Reason: text(x.Reason), Count: x.Count, Total: x.Total}
}

func lossFromProto(m *pb.Loss) *model.Loss {
	if m == nil {
		return nil
	}
	return &model.Loss{Stage: m.GetStage(), Reason: m.GetReason(), Count: m.GetCount(), Total: m.GetTotal()}
}
