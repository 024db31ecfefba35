// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// A Process message is a *Subject, for the process of an event, or a *model.Process, for any other.

// processOf is the process that o stands for, or nil.
func processOf(o any) *model.Process {
	switch p := o.(type) {
	case *Subject:
		return p.process()
	case *model.Process:
		return p
	}
	return nil
}

func processText(get func(*model.Process) string) field {
	return field{text: func(o any) string {
		if p := processOf(o); p != nil {
			return get(p)
		}
		return ""
	}}
}

func processNumber(get func(*model.Process) uint64) field {
	return field{number: func(o any) uint64 {
		if p := processOf(o); p != nil {
			return get(p)
		}
		return 0
	}}
}

func processFlag(get func(*model.Process) bool) field {
	return field{flag: func(o any) bool {
		p := processOf(o)
		return p != nil && get(p)
	}}
}

// asProcess has a field of *model.Process also read from a *Subject.
func asProcess(f field) field {
	out := field{message: f.message}
	if f.text != nil {
		out.text = func(o any) string { return f.text(processOf(o)) }
	}
	if f.number != nil {
		out.number = func(o any) uint64 { return f.number(processOf(o)) }
	}
	if f.texts != nil {
		out.texts = func(o any) []string { return f.texts(processOf(o)) }
	}
	if f.part != nil {
		out.part = func(o any) any { return f.part(processOf(o)) }
	}
	if f.other != nil {
		out.other = func(o any) any { return f.other(processOf(o)) }
	}
	if f.has != nil {
		out.has = func(o any) bool { return f.has(processOf(o)) }
	}
	if f.empty != nil {
		out.empty = func(o any) bool { return f.empty(processOf(o)) }
	}
	return out
}

func processFields() map[string]field {
	fields := map[string]field{
		"exec_id":          processText(func(p *model.Process) string { return p.ExecID }),
		"pid":              processNumber(func(p *model.Process) uint64 { return uint64(p.Key.PID) }),
		"binary":           processText(func(p *model.Process) string { return p.Binary }),
		"args":             asProcess(texts(func(p *model.Process) []string { return p.Args })),
		"args_truncated":   processFlag(func(p *model.Process) bool { return p.ArgsTruncated }),
		"cwd":              processText(func(p *model.Process) string { return p.CWD }),
		"start_time":       asProcess(moment(func(p *model.Process) time.Time { return p.StartTime })),
		"end_time":         asProcess(moment(func(p *model.Process) time.Time { return p.EndTime })),
		"tty":              processText(func(p *model.Process) string { return p.TTY }),
		"file":             asProcess(inside("ExecFile", false, func(p *model.Process) *model.ExecFile { return &p.File })),
		"namespaces":       asProcess(inside("Namespaces", false, func(p *model.Process) *model.Namespaces { return &p.Namespaces })),
		"cgroup_id":        processNumber(func(p *model.Process) uint64 { return p.CgroupID }),
		"cgroup_hierarchy": processNumber(func(p *model.Process) uint64 { return uint64(p.CgroupHierarchy) }),
		"workload":         asProcess(part("Workload", func(p *model.Process) *model.Workload { return p.Workload })),
		"parent": {message: "ProcessRef", part: func(o any) any { return parentOf(o) },
			has: func(o any) bool { return parentOf(o) != nil }},
		"pre_existing":  processFlag(func(p *model.Process) bool { return p.PreExisting }),
		"forked":        processFlag(func(p *model.Process) bool { return p.Forked }),
		"kernel_thread": processFlag(func(p *model.Process) bool { return p.KernelThread }),
	}
	for name, f := range credsFields() {
		fields[name] = onCreds(f)
	}
	return fields
}

// parentOf is the parent of the process that o stands for, with no more than its exec_id when only that is known.
func parentOf(o any) *model.Process {
	if s, ok := o.(*Subject); ok && s.Event.Process != nil && s.Event.Parent != nil {
		return s.Event.Parent
	}
	if p := processOf(o); p != nil && p.ParentExecID != "" {
		return &model.Process{Key: p.ParentKey, ExecID: p.ParentExecID}
	}
	return nil
}

// onCreds has a field of *model.Creds read from a process.
func onCreds(f field) field {
	creds := func(o any) any {
		if p := processOf(o); p != nil {
			return &p.Creds
		}
		return (*model.Creds)(nil)
	}
	out := field{}
	if f.text != nil {
		out.text = func(o any) string { return f.text(creds(o)) }
	}
	if f.number != nil {
		out.number = func(o any) uint64 { return f.number(creds(o)) }
	}
	if f.has != nil {
		out.has = func(o any) bool { return f.has(creds(o)) }
	}
	if f.empty != nil {
		out.empty = func(o any) bool { return f.empty(creds(o)) }
	}
	return out
}

// referenceFields are those of ProcessRef: a process of which the API tells little.
func referenceFields() map[string]field {
	return map[string]field{
		"exec_id": text(func(p *model.Process) string { return p.ExecID }),
		"pid":     number(func(p *model.Process) uint32 { return p.Key.PID }),
		"binary":  text(func(p *model.Process) string { return p.Binary }),
		"args":    texts(func(p *model.Process) []string { return p.Args }),
	}
}

func credsFields() map[string]field {
	return map[string]field{
		"uid":             number(func(c *model.Creds) uint32 { return c.UID }),
		"gid":             number(func(c *model.Creds) uint32 { return c.GID }),
		"euid":            number(func(c *model.Creds) uint32 { return c.EUID }),
		"egid":            number(func(c *model.Creds) uint32 { return c.EGID }),
		"suid":            number(func(c *model.Creds) uint32 { return c.SUID }),
		"sgid":            number(func(c *model.Creds) uint32 { return c.SGID }),
		"fsuid":           number(func(c *model.Creds) uint32 { return c.FSUID }),
		"fsgid":           number(func(c *model.Creds) uint32 { return c.FSGID }),
		"login_uid":       uid(func(c *model.Creds) uint32 { return c.LoginUID }),
		"cap_permitted":   capSet(func(c *model.Creds) model.CapSet { return c.CapPermitted }),
		"cap_effective":   capSet(func(c *model.Creds) model.CapSet { return c.CapEffective }),
		"cap_inheritable": capSet(func(c *model.Creds) model.CapSet { return c.CapInheritable }),
		"cap_bounding":    capSet(func(c *model.Creds) model.CapSet { return c.CapBounding }),
		"cap_ambient":     capSet(func(c *model.Creds) model.CapSet { return c.CapAmbient }),
	}
}

func namespacesFields() map[string]field {
	return map[string]field{
		"uts":    number(func(n *model.Namespaces) uint32 { return n.UTS }),
		"ipc":    number(func(n *model.Namespaces) uint32 { return n.IPC }),
		"mnt":    number(func(n *model.Namespaces) uint32 { return n.Mnt }),
		"pid":    number(func(n *model.Namespaces) uint32 { return n.PID }),
		"net":    number(func(n *model.Namespaces) uint32 { return n.Net }),
		"cgroup": number(func(n *model.Namespaces) uint32 { return n.Cgroup }),
		"user":   number(func(n *model.Namespaces) uint32 { return n.User }),
		"time":   number(func(n *model.Namespaces) uint32 { return n.Time }),
	}
}

func execFileFields() map[string]field {
	return map[string]field{
		"inode":         number(func(f *model.ExecFile) uint64 { return f.Inode }),
		"device":        device(func(f *model.ExecFile) uint32 { return f.Device }),
		"mode":          text(func(f *model.ExecFile) string { return mode(uint32(f.Mode)) }),
		"uid":           number(func(f *model.ExecFile) uint32 { return f.UID }),
		"gid":           number(func(f *model.ExecFile) uint32 { return f.GID }),
		"memfd":         flag(func(f *model.ExecFile) bool { return f.Memfd }),
		"deleted":       flag(func(f *model.ExecFile) bool { return f.Deleted }),
		"overlay_upper": flag(func(f *model.ExecFile) bool { return f.OverlayUpper }),
		"script":        text(func(f *model.ExecFile) string { return f.Script }),
		"interpreter":   text(func(f *model.ExecFile) string { return f.Interpreter }),
		"setuid_gained": flag(func(f *model.ExecFile) bool { return f.SetuidGained }),
		"caps_gained":   texts(func(f *model.ExecFile) []string { return f.CapsGained.Names() }),
		"secure_exec":   flag(func(f *model.ExecFile) bool { return f.SecureExec }),
	}
}

func workloadFields() map[string]field {
	return map[string]field{
		"kind":      text(func(w *model.Workload) model.WorkloadKind { return w.Kind }),
		"name":      text(func(w *model.Workload) string { return w.Name }),
		"namespace": text(func(w *model.Workload) string { return w.Namespace }),
		"id":        text(func(w *model.Workload) string { return w.ID }),
		"runtime":   text(func(w *model.Workload) string { return w.Runtime }),
		"image":     text(func(w *model.Workload) string { return w.Image }),
		"container": text(func(w *model.Workload) string { return w.Container }),
		"pod_uid":   text(func(w *model.Workload) string { return w.PodUID }),
		"user":      text(func(w *model.Workload) string { return w.User }),
		"slice":     text(func(w *model.Workload) string { return w.Slice }),
		"labels": other("", map[string]string{}, func(w *model.Workload) any { return w.Labels },
			func(w *model.Workload) bool { return len(w.Labels) > 0 }),
		"cgroup":          text(func(w *model.Workload) string { return w.Cgroup }),
		"controller":      inside("Controller", false, func(w *model.Workload) *model.Controller { return &w.Controller }),
		"service_account": text(func(w *model.Workload) string { return w.ServiceAccount }),
		"node":            text(func(w *model.Workload) string { return w.Node }),
	}
}

func controllerFields() map[string]field {
	return map[string]field{
		"kind": text(func(c *model.Controller) string { return c.Kind }),
		"name": text(func(c *model.Controller) string { return c.Name }),
	}
}
