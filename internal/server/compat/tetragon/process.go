// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"encoding/base64"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
)

// converter makes Tetragon's messages of the model's types.
type converter struct {
	backend server.Backend
	node    func() string                    // the host's name
	host    atomic.Pointer[model.Namespaces] // of process 1
	trees   initTrees
}

func newConverter(b server.Backend) *converter {
	return &converter{backend: b, node: sync.OnceValue(func() string { return b.Status().Host }), trees: initTrees{backend: b}}
}

// execID names an image as Tetragon does: "node:ktime:pid" in base64. Tetragon's ktime is when the image began. Here
// it is when the process began, plus the number of its execs in nanoseconds: that is known of every image that
// another one names as its parent, and different for each image of a process.
func (c *converter) execID(k model.ProcessKey) string {
	ktime := k.Start + uint64(k.Exec)
	if k.IsZero() {
		ktime = 1 // the kernel itself
	}
	b := append([]byte(c.node()), ':')
	b = strconv.AppendUint(b, ktime, 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(k.PID), 10)
	return base64.StdEncoding.EncodeToString(b)
}

// process is p in Tetragon's form; where there is none it is the kernel, because clients do without an event's process
// badly. Binary properties are the exec event's.
func (c *converter) process(p *model.Process) *tg.Process {
	if p == nil || p.Key.IsZero() {
		return c.kernel()
	}
	out := &tg.Process{ExecId: c.execID(p.Key), Pid: wrapperspb.UInt32(p.Key.PID), Tid: wrapperspb.UInt32(p.Key.PID),
		ParentExecId: c.execID(p.ParentKey)}
	if !p.StartTime.IsZero() {
		out.StartTime = timestamppb.New(p.StartTime)
	}
	if isUnknown(p) {
		out.Flags = "unknown"
		return out
	}
	inTree := isContainer(p.Workload) && c.trees.holds(p)
	out.Uid, out.Auid = wrapperspb.UInt32(p.Creds.EUID), wrapperspb.UInt32(p.Creds.LoginUID)
	out.Cwd, out.Binary, out.Arguments, out.Flags = p.CWD, binary(p), arguments(p.Args), flags(p, inTree)
	out.Cap = &tg.Capabilities{Permitted: capabilities(p.Creds.CapPermitted), Effective: capabilities(p.Creds.CapEffective),
		Inheritable: capabilities(p.Creds.CapInheritable)}
	out.Ns, out.ProcessCredentials = c.namespaces(&p.Namespaces), credentials(&p.Creds)
	out.InInitTree = wrapperspb.Bool(inTree)
	if isContainer(p.Workload) {
		out.Docker = p.Workload.ID[:min(len(p.Workload.ID), 15)]
	}
	out.Pod = pod(p.Workload)
	return out
}

// kernel is what Tetragon shows as the parent of the first processes.
func (c *converter) kernel() *tg.Process {
	id := c.execID(model.ProcessKey{})
	return &tg.Process{ExecId: id, ParentExecId: id, Pid: wrapperspb.UInt32(0), Tid: wrapperspb.UInt32(0), Uid: wrapperspb.UInt32(0),
		Binary: "<kernel>", Flags: "procFS"}
}

// isUnknown reports a process that was never announced: its pid and start are all there is.
func isUnknown(p *model.Process) bool { return p.Binary == "" && len(p.Args) == 0 && !p.KernelThread }

// parent is the parent of e's process. One that the table has forgotten has its names at least.
func (c *converter) parent(e *model.Event) *tg.Process {
	switch {
	case e.Parent != nil:
		return c.process(e.Parent)
	case e.Process == nil || isUnknown(e.Process):
		return nil
	case e.Process.ParentKey.IsZero():
		return c.kernel()
	}
	pid := wrapperspb.UInt32(e.Process.ParentKey.PID)
	return &tg.Process{ExecId: c.execID(e.Process.ParentKey), Pid: pid, Tid: pid, Flags: "unknown"}
}

// ancestors are those beyond the parent, the parent's parent first.
func (c *converter) ancestors(p *model.Process) []*tg.Process {
	var out []*tg.Process
	for i, a := range c.backend.Ancestors(p) {
		if i > 0 {
			out = append(out, c.process(a))
		}
	}
	return out
}

// binary is the file that runs, or for a script the script, which is what Tetragon shows.
func binary(p *model.Process) string {
	script := p.File.Script
	switch {
	case script == "":
		return p.Binary
	case path.IsAbs(script) || p.CWD == "":
		return script
	}
	return path.Join(p.CWD, script)
}

// arguments joins argv without its first word as Tetragon does: an argument with a space in quotes, nothing escaped,
// and a space before each quote, also the first.
func arguments(argv []string) string {
	var b strings.Builder
	for _, a := range argv[min(len(argv), 1):] {
		switch {
		case strings.Contains(a, " "):
			b.WriteString(` "` + a + `"`)
		case b.Len() == 0:
			b.WriteString(a)
		default:
			b.WriteString(" " + a)
		}
	}
	return b.String()
}

// flags says in Tetragon's words where the knowledge of a process comes from.
func flags(p *model.Process, inTree bool) string {
	var words []string
	add := func(when bool, word string) {
		if when {
			words = append(words, word)
		}
	}
	add(!p.PreExisting && !p.Forked, "execve")
	add(p.PreExisting, "procFS")
	add(p.ArgsTruncated, "truncArgs")
	add(p.CWD == "", "nocwd")
	add(p.CWD == "/", "rootcwd")
	// A fork has the number of execs that its parent had: one more is its first.
	add(!p.PreExisting && (p.Forked || p.Key.Exec <= p.ParentKey.Exec+1), "clone")
	add(inTree, "inInitTree")
	return strings.Join(words, " ")
}

func isContainer(w *model.Workload) bool {
	return w != nil && (w.Kind == model.WorkloadContainer || w.Kind == model.WorkloadPod)
}

func pod(w *model.Workload) *tg.Pod {
	if w == nil || w.Kind != model.WorkloadPod {
		return nil
	}
	id := w.ID
	if w.Runtime != "" {
		id = w.Runtime + "://" + id // as in a pod's status
	}
	return &tg.Pod{Namespace: w.Namespace, Name: w.Name, Uid: w.PodUID, PodLabels: w.Labels, Workload: w.Controller.Name, WorkloadKind: w.Controller.Kind,
		Container: &tg.Container{Id: id, Name: w.Container, Image: &tg.Image{Name: w.Image}}}
}

// capabilities lists a set's members. Tetragon's numbers are the kernel's.
func capabilities(s model.CapSet) []tg.CapabilitiesType {
	var out []tg.CapabilitiesType
	for i := range 64 {
		if s&(1<<i) != 0 {
			out = append(out, tg.CapabilitiesType(i))
		}
	}
	return out
}

func credentials(c *model.Creds) *tg.ProcessCredentials {
	return &tg.ProcessCredentials{Uid: wrapperspb.UInt32(c.UID), Gid: wrapperspb.UInt32(c.GID), Euid: wrapperspb.UInt32(c.EUID),
		Egid: wrapperspb.UInt32(c.EGID), Suid: wrapperspb.UInt32(c.SUID), Sgid: wrapperspb.UInt32(c.SGID),
		Fsuid: wrapperspb.UInt32(c.FSUID), Fsgid: wrapperspb.UInt32(c.FSGID)}
}

// The inode numbers of the host's first namespaces, which Linux fixes (include/linux/proc_ns.h); those of net and mnt
// since 6.18 only.
const (
	initIPC    = 0xEFFFFFFF
	initUTS    = 0xEFFFFFFE
	initUser   = 0xEFFFFFFD
	initPID    = 0xEFFFFFFC
	initCgroup = 0xEFFFFFFB
	initTime   = 0xEFFFFFFA
	initNet    = 0xEFFFFFF9
	initMnt    = 0xEFFFFFF8
)

// namespaces marks those that are the host's.
func (c *converter) namespaces(n *model.Namespaces) *tg.Namespaces {
	host := c.hostNamespaces()
	ns := func(inum, ofInit, ofHost uint32) *tg.Namespace {
		if inum == 0 {
			return nil
		}
		return &tg.Namespace{Inum: inum, IsHost: inum == ofInit || inum == ofHost}
	}
	return &tg.Namespaces{Uts: ns(n.UTS, initUTS, 0), Ipc: ns(n.IPC, initIPC, 0), Mnt: ns(n.Mnt, initMnt, host.Mnt),
		Pid: ns(n.PID, initPID, 0), Net: ns(n.Net, initNet, host.Net), Time: ns(n.Time, initTime, 0),
		Cgroup: ns(n.Cgroup, initCgroup, 0), User: ns(n.User, initUser, 0)}
}

// hostNamespaces are those of process 1, once it is known.
func (c *converter) hostNamespaces() model.Namespaces {
	if known := c.host.Load(); known != nil {
		return *known
	}
	first := c.backend.ProcessByPID(1)
	if first == nil {
		return model.Namespaces{}
	}
	c.host.Store(&first.Namespaces)
	return first.Namespaces
}
