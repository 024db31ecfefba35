// SPDX-License-Identifier: Apache-2.0

package exec

import "github.com/vigie-io/vigie/internal/model"

func imageKey(i *bpfVgImage) model.ProcessKey {
	return model.ProcessKey{PID: i.Pid, Start: i.Start, Exec: i.Exec}
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
