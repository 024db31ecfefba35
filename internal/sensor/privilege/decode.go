// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
)

func decodeCredential(r kernel.Record, ev *model.Event) (bool, error) {
	c, _, err := kernel.View[bpfVgCredential](r)
	if err != nil {
		return false, err
	}
	ev.Type = model.TypeCredential
	ev.Credential = &model.Credential{Call: callName(c.Nr), New: creds(&c.Cred), Error: model.Errno(c.Error)}
	return true, nil
}

func decodeNamespace(r kernel.Record, ev *model.Event) (bool, error) {
	n, _, err := kernel.View[bpfVgNamespace](r)
	if err != nil {
		return false, err
	}
	ns := &model.Namespace{Call: callName(n.Nr), New: namespaces(&n.Ns), Error: model.Errno(n.Error)}
	switch {
	case n.Nr == 0:
		children := namespaces(&n.Children)
		ns.Call, ns.Flags = "clone", changed(&children, &ns.New)
		if len(ns.Flags) == 0 {
			return false, nil // a new set of the same namespaces
		}
	case n.Flags != 0:
		ns.Flags = flagNames(n.Flags)
	case n.Inode != 0 && n.Error == 0:
		children := namespaces(&n.Children)
		ns.Flags = joined(&children, n.Inode)
	}
	ev.Type, ev.Namespace = model.TypeNamespace, ns
	return true, nil
}

func decodePtrace(r kernel.Record, ev *model.Event) (bool, error) {
	p, _, err := kernel.View[bpfVgPtrace](r)
	if err != nil {
		return false, err
	}
	ev.Type = model.TypePtrace
	ev.Ptrace = &model.Ptrace{Request: ptraceRequest(p.Nr, p.Request), TargetPID: p.Target, Error: model.Errno(p.Error)}
	return true, nil
}

func ptraceRequest(nr, request uint32) string {
	switch {
	case nr != unix.SYS_PTRACE:
		return callName(nr)
	case request == unix.PTRACE_TRACEME:
		return "traceme"
	case request == unix.PTRACE_ATTACH:
		return "attach"
	case request == unix.PTRACE_SEIZE:
		return "seize"
	}
	return number(request)
}

func decodeModule(r kernel.Record, ev *model.Event) (bool, error) {
	m, _, err := kernel.View[bpfVgModule](r)
	if err != nil {
		return false, err
	}
	mod := &model.Module{Op: "load", Name: kernel.CStringInt8(m.Name[:]), Taint: m.Taints, Error: model.Errno(m.Error)}
	if m.Unload != 0 {
		mod.Op = "unload"
	}
	ev.Type, ev.Module = model.TypeModule, mod
	return true, nil
}

func decodeBPF(r kernel.Record, ev *model.Event) (bool, error) {
	b, _, err := kernel.View[bpfVgBpf](r)
	if err != nil {
		return false, err
	}
	ev.Type = model.TypeBPF
	ev.BPF = &model.BPF{Op: "prog_load", ProgType: progType(b.ProgType), ProgName: kernel.CStringInt8(b.Name[:]),
		ProgID: b.ProgId, Insns: b.Insns, Error: model.Errno(b.Error)}
	return true, nil
}

func decodeCapability(r kernel.Record, ev *model.Event) (bool, error) {
	c, _, err := kernel.View[bpfVgCapability](r)
	if err != nil {
		return false, err
	}
	ev.Type = model.TypeCapability
	ev.Capability = &model.Capability{Cap: model.Cap(c.Cap), Granted: c.Granted != 0}
	return true, nil
}

func decodeMount(r kernel.Record, ev *model.Event) (bool, error) {
	m, tail, err := kernel.View[bpfVgMount](r)
	if err != nil {
		return false, err
	}
	var source, target, fstype, base []byte
	parts := []tailPart{{&source, m.SourceLen}, {&target, m.TargetLen}, {&fstype, m.FstypeLen}, {&base, m.BaseLen}}
	if m.Nr == unix.SYS_MOVE_MOUNT {
		parts[1], parts[2] = parts[2], parts[1]
	}
	for _, part := range parts {
		if *part.to, tail, err = kernel.Take(tail, int(part.bytes)); err != nil {
			return false, err
		}
	}
	dir := kernel.Path(base, m.H.Flags&kernel.FlagCut != 0)
	out := &model.Mount{Op: callName(m.Nr), Source: kernel.CString(source), Target: absolute(kernel.CString(target), dir),
		FSType: kernel.CString(fstype), Flags: m.Flags, Error: model.Errno(m.Error)}
	if m.Nr == unix.SYS_PIVOT_ROOT || (m.Nr == unix.SYS_MOUNT && m.Flags&(unix.MS_BIND|unix.MS_MOVE) != 0) {
		out.Source = absolute(out.Source, dir)
	}
	ev.Type, ev.Mount = model.TypeMount, out
	return true, nil
}

type tailPart struct {
	to    *[]byte
	bytes uint16
}

// absolute is the path that an argument names, seen from dir. Symbolic links stay as they are.
func absolute(p, dir string) string {
	if strings.HasPrefix(p, "/") {
		return path.Clean(p)
	}
	return path.Join(dir, p)
}

func creds(c *bpfVgCred) model.Creds {
	return model.Creds{UID: c.Uid, GID: c.Gid, EUID: c.Euid, EGID: c.Egid, SUID: c.Suid, SGID: c.Sgid,
		FSUID: c.Fsuid, FSGID: c.Fsgid, LoginUID: c.Loginuid, CapPermitted: model.CapSet(c.Permitted),
		CapEffective: model.CapSet(c.Effective), CapInheritable: model.CapSet(c.Inheritable),
		CapBounding: model.CapSet(c.Bounding), CapAmbient: model.CapSet(c.Ambient)}
}

func namespaces(n *bpfVgNs) model.Namespaces {
	return model.Namespaces{UTS: n.Uts, IPC: n.Ipc, Mnt: n.Mnt, PID: n.Pid, Net: n.Net, Cgroup: n.Cgroup,
		User: n.User, Time: n.Time}
}
