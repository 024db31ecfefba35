// SPDX-License-Identifier: Apache-2.0

package model

// AppendJSON appends e as one line of JSON, without the newline, and returns the extended buffer. The
// names and values are those of vigie.v1.Event (docs/events.md), in a fixed order, so that protojson
// reads them back; 64-bit integers are numbers. What is zero, false or empty is left out, but for
// the fields that are documented as always present. No text can end the line, forge a field or move
// a terminal's cursor: see appendText. boot is the beginning of the boot id, used only for an event
// whose process is not known. It allocates nothing but what dst needs to grow.
func (e *Event) AppendJSON(dst []byte, boot string) []byte {
	dst = append(dst, '{')
	dst = jsonText(dst, "type", string(e.Type))
	dst = jsonTime(dst, "time", e.Time)
	dst = jsonUint(dst, "boot_time_ns", e.BootTime)
	dst = jsonUint(dst, "seq", e.Seq)
	dst = jsonUint(dst, "tid", uint64(e.TID))
	dst = jsonUintAlways(dst, "count", uint64(e.Count))
	dst = jsonBool(dst, "pre_existing", e.PreExisting)
	dst = jsonText(dst, "node", e.Node)
	switch {
	case e.Process != nil:
		dst = append(dst, `"process":`...)
		dst = append(e.Process.appendJSON(dst, e.Parent), ',')
	case !e.Key.IsZero():
		dst = append(dst, `"process":{"exec_id":"`...)
		dst = e.Key.AppendExecID(dst, boot)
		dst = append(dst, '"', ',')
		dst = jsonUint(dst, "pid", uint64(e.Key.PID))
		dst = append(jsonClose(dst), ',')
	}
	return jsonClose(e.appendParts(dst))
}

// AppendJSON appends p as JSON in the form of vigie.v1.Process, under the rules of Event.AppendJSON.
func (p *Process) AppendJSON(dst []byte) []byte { return p.appendJSON(dst, nil) }

// AppendNodeJSON is AppendJSON with the node where p is in front, unless that is empty.
func (p *Process) AppendNodeJSON(dst []byte, node string) []byte {
	return p.appendFields(jsonText(append(dst, '{'), "node", node), nil)
}

func (p *Process) appendJSON(dst []byte, parent *Process) []byte {
	return p.appendFields(append(dst, '{'), parent)
}

func (p *Process) appendFields(dst []byte, parent *Process) []byte {
	dst = jsonText(dst, "exec_id", p.ExecID)
	dst = jsonUintAlways(dst, "pid", uint64(p.Key.PID))
	dst = jsonTextAlways(dst, "binary", p.Binary)
	dst = jsonTextsAlways(dst, "args", p.Args)
	dst = jsonBool(dst, "args_truncated", p.ArgsTruncated)
	dst = jsonTextAlways(dst, "cwd", p.CWD)
	dst = p.Creds.appendFields(dst)
	dst = jsonTime(dst, "start_time", p.StartTime)
	if !p.EndTime.IsZero() {
		dst = jsonTime(dst, "end_time", p.EndTime)
	}
	dst = jsonText(dst, "tty", p.TTY)
	dst = p.appendPlace(dst)
	switch {
	case parent != nil:
		dst = append(dst, `"parent":`...)
		dst = append(parent.appendRef(dst), ',')
	case p.ParentExecID != "":
		dst = append(dst, `"parent":{`...)
		dst = jsonText(dst, "exec_id", p.ParentExecID)
		dst = jsonUint(dst, "pid", uint64(p.ParentKey.PID))
		dst = append(jsonClose(dst), ',')
	}
	dst = jsonBool(dst, "pre_existing", p.PreExisting)
	dst = jsonBool(dst, "forked", p.Forked)
	dst = jsonBool(dst, "kernel_thread", p.KernelThread)
	return jsonClose(dst)
}

// AppendContextJSON appends what of p its siblings mostly share, in the form of AppendJSON: credentials, file, namespaces,
// cgroup and workload.
func (p *Process) AppendContextJSON(dst []byte) []byte {
	return jsonClose(p.appendPlace(p.Creds.appendFields(append(dst, '{'))))
}

// appendPlace appends what p was made of and where it is.
func (p *Process) appendPlace(dst []byte) []byte {
	if p.File != (ExecFile{}) {
		dst = append(dst, `"file":`...)
		dst = append(p.File.appendJSON(dst), ',')
	}
	dst = p.Namespaces.appendField(dst, "namespaces")
	dst = jsonUint(dst, "cgroup_id", p.CgroupID)
	dst = jsonUint(dst, "cgroup_hierarchy", uint64(p.CgroupHierarchy))
	if p.Workload != nil {
		dst = append(dst, `"workload":`...)
		dst = append(p.Workload.appendJSON(dst), ',')
	}
	return dst
}

// appendRef appends the short form of a process.
func (p *Process) appendRef(dst []byte) []byte {
	dst = append(dst, '{')
	dst = jsonText(dst, "exec_id", p.ExecID)
	dst = jsonUint(dst, "pid", uint64(p.Key.PID))
	dst = jsonText(dst, "binary", p.Binary)
	dst = jsonTexts(dst, "args", p.Args)
	return jsonClose(dst)
}

func (c *Creds) appendFields(dst []byte) []byte {
	dst = jsonUintAlways(dst, "uid", uint64(c.UID))
	dst = jsonUintAlways(dst, "gid", uint64(c.GID))
	dst = jsonUintAlways(dst, "euid", uint64(c.EUID))
	dst = jsonUintAlways(dst, "egid", uint64(c.EGID))
	dst = jsonUint(dst, "suid", uint64(c.SUID))
	dst = jsonUint(dst, "sgid", uint64(c.SGID))
	dst = jsonUint(dst, "fsuid", uint64(c.FSUID))
	dst = jsonUint(dst, "fsgid", uint64(c.FSGID))
	if c.LoginUID != NoUID {
		dst = jsonUintAlways(dst, "login_uid", uint64(c.LoginUID))
	}
	dst = jsonCapSet(dst, "cap_permitted", c.CapPermitted)
	dst = jsonCapSet(dst, "cap_effective", c.CapEffective)
	dst = jsonCapSet(dst, "cap_inheritable", c.CapInheritable)
	dst = jsonCapSet(dst, "cap_bounding", c.CapBounding)
	return jsonCapSet(dst, "cap_ambient", c.CapAmbient)
}

func (c *Creds) appendJSON(dst []byte) []byte { return jsonClose(c.appendFields(append(dst, '{'))) }

// appendField appends the namespaces under name, or nothing when none is known.
func (n *Namespaces) appendField(dst []byte, name string) []byte {
	if *n == (Namespaces{}) {
		return dst
	}
	dst = append(jsonName(dst, name), '{')
	dst = jsonUint(dst, "uts", uint64(n.UTS))
	dst = jsonUint(dst, "ipc", uint64(n.IPC))
	dst = jsonUint(dst, "mnt", uint64(n.Mnt))
	dst = jsonUint(dst, "pid", uint64(n.PID))
	dst = jsonUint(dst, "net", uint64(n.Net))
	dst = jsonUint(dst, "cgroup", uint64(n.Cgroup))
	dst = jsonUint(dst, "user", uint64(n.User))
	dst = jsonUint(dst, "time", uint64(n.Time))
	return append(jsonClose(dst), ',')
}

func (f *ExecFile) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	dst = jsonUint(dst, "inode", f.Inode)
	dst = jsonDevice(dst, "device", f.Device)
	if f.Mode != 0 {
		dst = jsonMode(dst, "mode", uint32(f.Mode))
	}
	dst = jsonUint(dst, "uid", uint64(f.UID))
	dst = jsonUint(dst, "gid", uint64(f.GID))
	dst = jsonBool(dst, "memfd", f.Memfd)
	dst = jsonBool(dst, "deleted", f.Deleted)
	dst = jsonBool(dst, "overlay_upper", f.OverlayUpper)
	dst = jsonText(dst, "script", f.Script)
	dst = jsonText(dst, "interpreter", f.Interpreter)
	dst = jsonBool(dst, "setuid_gained", f.SetuidGained)
	dst = jsonCapNames(dst, "caps_gained", f.CapsGained)
	dst = jsonBool(dst, "secure_exec", f.SecureExec)
	return jsonClose(dst)
}

// AppendJSON appends w as JSON in the form of vigie.v1.Workload, under the rules of Event.AppendJSON.
func (w *Workload) AppendJSON(dst []byte) []byte { return w.appendJSON(dst) }

func (w *Workload) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	dst = jsonTextAlways(dst, "kind", string(w.Kind))
	dst = jsonTextAlways(dst, "name", w.Name)
	dst = jsonText(dst, "namespace", w.Namespace)
	dst = jsonText(dst, "id", w.ID)
	dst = jsonText(dst, "runtime", w.Runtime)
	dst = jsonText(dst, "image", w.Image)
	dst = jsonText(dst, "container", w.Container)
	dst = jsonText(dst, "pod_uid", w.PodUID)
	if c := w.Controller; c != (Controller{}) {
		dst = append(jsonName(dst, "controller"), '{')
		dst = jsonText(dst, "kind", c.Kind)
		dst = jsonText(dst, "name", c.Name)
		dst = append(jsonClose(dst), ',')
	}
	dst = jsonText(dst, "service_account", w.ServiceAccount)
	dst = jsonText(dst, "node", w.Node)
	dst = jsonText(dst, "user", w.User)
	dst = jsonText(dst, "slice", w.Slice)
	dst = jsonLabels(dst, "labels", w.Labels)
	dst = jsonText(dst, "cgroup", w.Cgroup)
	return jsonClose(dst)
}
