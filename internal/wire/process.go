// SPDX-License-Identifier: Apache-2.0

package wire

import (
	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// ProcessToProto is the message for p. Its parent carries no more than p knows of it: the exec_id.
func ProcessToProto(p *model.Process) *pb.Process {
	c := &p.Creds
	m := &pb.Process{
		ExecId: text(p.ExecID), Pid: p.Key.PID, Binary: text(p.Binary), Args: texts(p.Args), ArgsTruncated: p.ArgsTruncated,
		Cwd: text(p.CWD), Uid: c.UID, Gid: c.GID, Euid: c.EUID, Egid: c.EGID, Suid: c.SUID, Sgid: c.SGID,
		Fsuid: c.FSUID, Fsgid: c.FSGID, LoginUid: unlessUnset(c.LoginUID),
		CapPermitted: capSet(c.CapPermitted), CapEffective: capSet(c.CapEffective),
		CapInheritable: capSet(c.CapInheritable), CapBounding: capSet(c.CapBounding), CapAmbient: capSet(c.CapAmbient),
		StartTime: timestamp(p.StartTime), EndTime: timestamp(p.EndTime), Tty: text(p.TTY), File: execFileToProto(&p.File),
		Namespaces: namespacesToProto(&p.Namespaces), CgroupId: p.CgroupID, CgroupHierarchy: p.CgroupHierarchy, Workload: WorkloadToProto(p.Workload),
		PreExisting: p.PreExisting, Forked: p.Forked, KernelThread: p.KernelThread,
	}
	if p.ParentExecID != "" {
		m.Parent = &pb.ProcessRef{ExecId: text(p.ParentExecID), Pid: p.ParentKey.PID}
	}
	return m
}

// ProcessFromProto is the process that m stands for. Its key is read from exec_id.
func ProcessFromProto(m *pb.Process) *model.Process {
	p := &model.Process{
		ExecID: m.GetExecId(), Key: key(m.GetExecId(), m.GetPid()), Binary: m.GetBinary(), Args: m.GetArgs(),
		ArgsTruncated: m.GetArgsTruncated(), CWD: m.GetCwd(),
		Creds: model.Creds{UID: m.GetUid(), GID: m.GetGid(), EUID: m.GetEuid(), EGID: m.GetEgid(), SUID: m.GetSuid(),
			SGID: m.GetSgid(), FSUID: m.GetFsuid(), FSGID: m.GetFsgid(), LoginUID: orUnset(m.LoginUid),
			CapPermitted: model.ParseCapSet(m.GetCapPermitted()), CapEffective: model.ParseCapSet(m.GetCapEffective()),
			CapInheritable: model.ParseCapSet(m.GetCapInheritable()), CapBounding: model.ParseCapSet(m.GetCapBounding()),
			CapAmbient: model.ParseCapSet(m.GetCapAmbient())},
		StartTime: moment(m.GetStartTime()), EndTime: moment(m.GetEndTime()), TTY: m.GetTty(), File: execFileFromProto(m.GetFile()),
		Namespaces: namespacesFromProto(m.GetNamespaces()), CgroupID: m.GetCgroupId(), CgroupHierarchy: m.GetCgroupHierarchy(), Workload: WorkloadFromProto(m.GetWorkload()),
		PreExisting: m.GetPreExisting(), Forked: m.GetForked(), KernelThread: m.GetKernelThread(),
	}
	if ref := m.GetParent(); ref != nil {
		p.ParentExecID, p.ParentKey = ref.GetExecId(), key(ref.GetExecId(), ref.GetPid())
	}
	return p
}

// key reads a process key from an exec_id, or at least keeps the pid.
func key(execID string, pid uint32) model.ProcessKey {
	if k, _, ok := model.ParseExecID(execID); ok {
		return k
	}
	return model.ProcessKey{PID: pid}
}

func refToProto(p *model.Process) *pb.ProcessRef {
	if p == nil {
		return nil
	}
	return &pb.ProcessRef{ExecId: text(p.ExecID), Pid: p.Key.PID, Binary: text(p.Binary), Args: texts(p.Args)}
}

func refFromProto(m *pb.ProcessRef) *model.Process {
	if m == nil {
		return nil
	}
	return &model.Process{ExecID: m.GetExecId(), Key: key(m.GetExecId(), m.GetPid()), Binary: m.GetBinary(), Args: m.GetArgs()}
}

// WorkloadToProto is the message for w; nil for nil.
func WorkloadToProto(w *model.Workload) *pb.Workload {
	if w == nil {
		return nil
	}
	m := &pb.Workload{Kind: text(string(w.Kind)), Name: text(w.Name), Namespace: text(w.Namespace), Id: text(w.ID),
		Runtime: text(w.Runtime), Image: text(w.Image), Container: text(w.Container), PodUid: text(w.PodUID),
		User: text(w.User), Slice: text(w.Slice), Cgroup: text(w.Cgroup),
		ServiceAccount: text(w.ServiceAccount), Node: text(w.Node)}
	if c := w.Controller; c != (model.Controller{}) {
		m.Controller = &pb.Controller{Kind: text(c.Kind), Name: text(c.Name)}
	}
	if len(w.Labels) > 0 {
		m.Labels = make(map[string]string, len(w.Labels))
		for k, v := range w.Labels {
			m.Labels[text(k)] = text(v)
		}
	}
	return m
}

// WorkloadFromProto is the workload that m stands for; nil for nil.
func WorkloadFromProto(m *pb.Workload) *model.Workload {
	if m == nil {
		return nil
	}
	return &model.Workload{Kind: model.WorkloadKind(m.GetKind()), Name: m.GetName(), Namespace: m.GetNamespace(),
		ID: m.GetId(), Runtime: m.GetRuntime(), Image: m.GetImage(), Container: m.GetContainer(), PodUID: m.GetPodUid(),
		User: m.GetUser(), Slice: m.GetSlice(), Labels: m.GetLabels(), Cgroup: m.GetCgroup(),
		Controller:     model.Controller{Kind: m.GetController().GetKind(), Name: m.GetController().GetName()},
		ServiceAccount: m.GetServiceAccount(), Node: m.GetNode()}
}

func credsToProto(c *model.Creds) *pb.Creds {
	return &pb.Creds{Uid: c.UID, Gid: c.GID, Euid: c.EUID, Egid: c.EGID, Suid: c.SUID, Sgid: c.SGID, Fsuid: c.FSUID,
		Fsgid: c.FSGID, LoginUid: unlessUnset(c.LoginUID), CapPermitted: capSet(c.CapPermitted),
		CapEffective: capSet(c.CapEffective), CapInheritable: capSet(c.CapInheritable),
		CapBounding: capSet(c.CapBounding), CapAmbient: capSet(c.CapAmbient)}
}

func credsFromProto(m *pb.Creds) model.Creds {
	if m == nil {
		return model.Creds{}
	}
	return model.Creds{UID: m.GetUid(), GID: m.GetGid(), EUID: m.GetEuid(), EGID: m.GetEgid(), SUID: m.GetSuid(),
		SGID: m.GetSgid(), FSUID: m.GetFsuid(), FSGID: m.GetFsgid(), LoginUID: orUnset(m.LoginUid),
		CapPermitted: model.ParseCapSet(m.GetCapPermitted()), CapEffective: model.ParseCapSet(m.GetCapEffective()),
		CapInheritable: model.ParseCapSet(m.GetCapInheritable()), CapBounding: model.ParseCapSet(m.GetCapBounding()),
		CapAmbient: model.ParseCapSet(m.GetCapAmbient())}
}

// namespacesToProto is nil when none is known.
func namespacesToProto(n *model.Namespaces) *pb.Namespaces {
	if *n == (model.Namespaces{}) {
		return nil
	}
	return &pb.Namespaces{Uts: n.UTS, Ipc: n.IPC, Mnt: n.Mnt, Pid: n.PID, Net: n.Net, Cgroup: n.Cgroup, User: n.User, Time: n.Time}
}

func namespacesFromProto(m *pb.Namespaces) model.Namespaces {
	return model.Namespaces{UTS: m.GetUts(), IPC: m.GetIpc(), Mnt: m.GetMnt(), PID: m.GetPid(), Net: m.GetNet(),
		Cgroup: m.GetCgroup(), User: m.GetUser(), Time: m.GetTime()}
}

// execFileToProto is nil when nothing is known of the file.
func execFileToProto(f *model.ExecFile) *pb.ExecFile {
	if *f == (model.ExecFile{}) {
		return nil
	}
	return &pb.ExecFile{Inode: f.Inode, Device: device(f.Device), Mode: mode(uint32(f.Mode)), Uid: f.UID, Gid: f.GID,
		Memfd: f.Memfd, Deleted: f.Deleted, OverlayUpper: f.OverlayUpper, Script: text(f.Script),
		Interpreter: text(f.Interpreter), SetuidGained: f.SetuidGained, CapsGained: f.CapsGained.Names(), SecureExec: f.SecureExec}
}

func execFileFromProto(m *pb.ExecFile) model.ExecFile {
	return model.ExecFile{Inode: m.GetInode(), Device: model.ParseDevice(m.GetDevice()),
		Mode: uint16(model.ParseMode(m.GetMode())), UID: m.GetUid(), GID: m.GetGid(), Memfd: m.GetMemfd(),
		Deleted: m.GetDeleted(), OverlayUpper: m.GetOverlayUpper(), Script: m.GetScript(), Interpreter: m.GetInterpreter(),
		SetuidGained: m.GetSetuidGained(), CapsGained: capSetOf(m.GetCapsGained()), SecureExec: m.GetSecureExec()}
}
