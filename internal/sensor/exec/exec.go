// SPDX-License-Identifier: Apache-2.0

// Package exec is the process sensor: exec, fork, exit, failed execs, and cgroups as they come and go. In:
// the records of exec.bpf.c. Out: events whose Process is a whole image (exec) or names its parent (fork); cgroup
// changes go to the function that the agent gives.
package exec

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/sensor"
)

// Options configure the sensor.
type Options struct {
	// ArgsLimit is how many bytes of argv are kept, at most 8191; 4096 when 0.
	ArgsLimit uint32
	// OnCgroup is told of each cgroup that is made or removed; hierarchy 0 is cgroup v2. May be nil.
	OnCgroup func(c CgroupChange)
}

// CgroupChange is a cgroup that was made or removed.
type CgroupChange struct {
	Hierarchy uint32 // 0 is cgroup v2
	ID        uint64 // kernfs node id
	Path      string // below the hierarchy's root
	Removed   bool
}

// Ref names a cgroup in the kernel; Process.CgroupID holds the id, this also the hierarchy.
type Ref struct {
	Hierarchy uint32
	ID        uint64
}

// Sensor is the process sensor.
type Sensor struct {
	options Options
	objs    bpfObjects
	known   *interned
}

// New returns the sensor; Start loads it.
func New(o Options) *Sensor {
	if o.ArgsLimit == 0 {
		o.ArgsLimit = 4096
	}
	return &Sensor{options: o, known: newInterned()}
}

// Name implements sensor.Sensor.
func (s *Sensor) Name() string { return "exec" }

// Rung implements sensor.Sensor.
func (s *Sensor) Rung() string { return "tp_btf" }

// Start implements sensor.Sensor.
func (s *Sensor) Start(_ context.Context, h *kernel.Host) error {
	if s.options.ArgsLimit > 8191 {
		return fmt.Errorf("argument limit of %d bytes is more than the 8191 that a record holds", s.options.ArgsLimit)
	}
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	if err := h.Load(s.Name(), spec, map[string]any{"vg_args_limit": s.options.ArgsLimit}, &s.objs); err != nil {
		return err
	}
	if err := h.AttachTracing(s.Name(), s.objs.VgProcessFork, s.objs.VgProcessExec, s.objs.VgProcessExit,
		s.objs.VgCgroupMkdir, s.objs.VgCgroupRmdir); err != nil {
		return err
	}
	if err := h.OnSyscall(s.Name(), s.objs.VgExitExecve, unix.SYS_EXECVE); err != nil {
		return err
	}
	return h.OnSyscall(s.Name(), s.objs.VgExitExecveat, unix.SYS_EXECVEAT)
}

// Inventory implements sensor.Inventory: one exec record for each process, argv not included (see FillArgs).
func (s *Sensor) Inventory(_ context.Context, h *kernel.Host, fn func(kernel.Record) error) error {
	return h.Iterate(s.objs.VgInventory, fn)
}

// Decoders implements sensor.Sensor.
func (s *Sensor) Decoders() map[kernel.RecordType]sensor.Decode {
	return map[kernel.RecordType]sensor.Decode{
		kernel.RecordExec:       s.decodeExec,
		kernel.RecordFork:       decodeFork,
		kernel.RecordExit:       decodeExit,
		kernel.RecordExecFailed: decodeExecFailed,
		kernel.RecordCgroup:     s.decodeCgroup,
	}
}

func (s *Sensor) decodeExec(r kernel.Record, ev *model.Event) (bool, error) {
	e, tail, err := kernel.View[bpfVgExec](r)
	if err != nil {
		return false, err
	}
	var binary, cwd, args, script, interp []byte
	for _, part := range []struct {
		dst *[]byte
		n   uint16
	}{{&binary, e.BinaryLen}, {&cwd, e.CwdLen}, {&args, e.ArgsLen}, {&script, e.ScriptLen}, {&interp, e.InterpLen}} {
		if *part.dst, tail, err = kernel.Take(tail, int(part.n)); err != nil {
			return false, err
		}
	}
	cut := e.H.Flags&kernel.FlagCut != 0
	p := &model.Process{
		Key:             ev.Key,
		ParentKey:       imageKey(&e.Parent),
		Creds:           creds(&e.Cred),
		Namespaces:      namespaces(&e.Ns),
		CgroupID:        e.Cgroup.Id,
		CgroupHierarchy: e.Cgroup.Hierarchy,
		TTY:             kernel.CStringInt8(e.Tty[:]),
		PreExisting:     ev.PreExisting,
		ArgsTruncated:   e.Kind&execArgsCut != 0,
	}
	if e.Kind&execKthread != 0 {
		p.KernelThread = true
		p.Binary = "[" + kernel.CStringInt8(e.Comm[:]) + "]"
	} else {
		p.Binary = s.known.path(binary, cut)
		if p.CWD = s.known.path(cwd, cut); len(binary) == 0 {
			p.Binary = kernel.CStringInt8(e.Comm[:])
		}
		p.Args = s.known.split(args)
	}
	p.File = model.ExecFile{Inode: e.Inode, Device: e.Dev, Mode: e.FileMode, UID: e.FileUid, GID: e.FileGid,
		Memfd: e.Kind&execMemfd != 0, Deleted: e.Kind&(execDeleted|execMemfd) == execDeleted, OverlayUpper: e.Kind&execUpper != 0,
		SecureExec: e.Kind&execSecure != 0, Script: kernel.CString(script), Interpreter: kernel.CString(interp)}
	ev.Type, ev.Process, ev.Exec = model.TypeExec, p, &model.Exec{}
	return true, nil
}

// vg_exec.kind (exec.bpf.c)
const (
	execKthread = 0x1
	execMemfd   = 0x2
	execDeleted = 0x4
	execUpper   = 0x8
	execSecure  = 0x10
	execArgsCut = 0x40
)

func decodeFork(r kernel.Record, ev *model.Event) (bool, error) {
	f, _, err := kernel.View[bpfVgFork](r)
	if err != nil {
		return false, err
	}
	ev.Type = model.TypeFork
	ev.Process = &model.Process{Key: ev.Key, ParentKey: imageKey(&f.Parent), CgroupID: f.Cgroup.Id,
		CgroupHierarchy: f.Cgroup.Hierarchy, Namespaces: namespaces(&f.Ns), Forked: true}
	return true, nil
}

func decodeExit(r kernel.Record, ev *model.Event) (bool, error) {
	x, _, err := kernel.View[bpfVgExit](r)
	if err != nil {
		return false, err
	}
	ws := syscall.WaitStatus(x.Status)
	exit := &model.Exit{Core: ws.CoreDump()}
	if ws.Signaled() {
		exit.Signal = uint32(ws.Signal())
	} else {
		exit.Code = int32(ws.ExitStatus())
	}
	if ev.BootTime > ev.Key.Start {
		exit.RunTime = time.Duration(ev.BootTime - ev.Key.Start)
	}
	ev.Type, ev.Exit = model.TypeExit, exit
	return true, nil
}

func decodeExecFailed(r kernel.Record, ev *model.Event) (bool, error) {
	f, tail, err := kernel.View[bpfVgExecFailed](r)
	if err != nil {
		return false, err
	}
	path, tail, err := kernel.Take(tail, int(f.PathLen))
	if err != nil {
		return false, err
	}
	args, _, err := kernel.Take(tail, int(f.ArgsLen))
	if err != nil {
		return false, err
	}
	ev.Type = model.TypeExecFailed
	ev.ExecFailed = &model.ExecFailed{Path: kernel.CString(path), Args: SplitArgs(args), Error: model.Errno(f.Error)}
	return true, nil
}

func (s *Sensor) decodeCgroup(r kernel.Record, _ *model.Event) (bool, error) {
	c, tail, err := kernel.View[bpfVgCgroupChange](r)
	if err != nil {
		return false, err
	}
	path, _, err := kernel.Take(tail, int(c.PathLen))
	if err != nil {
		return false, err
	}
	if s.options.OnCgroup != nil {
		s.options.OnCgroup(CgroupChange{Hierarchy: c.Cgroup.Hierarchy, ID: c.Cgroup.Id,
			Path: kernel.CString(path), Removed: c.Removed != 0})
	}
	return false, nil
}

// FillArgs reads argv of a process of the inventory, which lies in memory that only the process or /proc can
// reach. A process that is gone by now keeps none. Like decoding, for one goroutine.
func (s *Sensor) FillArgs(p *model.Process) {
	if p.KernelThread {
		return
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(int(p.Key.PID)) + "/cmdline")
	if err != nil {
		return
	}
	if limit := int(s.options.ArgsLimit); len(b) > limit {
		b, p.ArgsTruncated = b[:limit], true
	}
	p.Args = s.known.split(b)
}

// SplitArgs cuts NUL-separated arguments apart.
func SplitArgs(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	if b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	// One string for all, cut into pieces: one allocation instead of one for each argument.
	all := model.CleanString(b)
	args := make([]string, 0, bytes.Count(b, []byte{0})+1)
	for {
		i := strings.IndexByte(all, 0)
		if i < 0 {
			return append(args, all)
		}
		args = append(args, all[:i])
		all = all[i+1:]
	}
}
