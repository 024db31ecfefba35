// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// AfterwardsHook is what verdicts of Afterwards name as what carried them.
const AfterwardsHook = "SIGKILL after the event"

// Afterwards looks at events of what nothing could deny, and carries out what tables say about them: SIGKILL to the image
// that did it. The zero value does nothing. Set and See are for two goroutines.
type Afterwards struct{ state atomic.Pointer[afterwards] }

// Set says what to judge from the next event on.
func (j *Afterwards) Set(k Kernel, ops []model.Operation, tables []Loaded) {
	if len(ops) == 0 || len(tables) == 0 {
		j.state.Store(nil)
		return
	}
	s := &afterwards{kernel: k, ops: make(map[model.Operation]bool), tables: tables, byNumber: make(map[uint16]int, len(tables))}
	for _, op := range ops {
		s.ops[op] = true
	}
	for i, t := range tables {
		s.byNumber[t.Number] = i
	}
	j.state.Store(s)
}

// See judges what an event tells, if it happened.
func (j *Afterwards) See(ev *model.Event) {
	if s := j.state.Load(); s != nil && ev.Process != nil && !ev.PreExisting {
		s.see(ev)
	}
}

// afterwards is what events are judged by. It is immutable.
type afterwards struct {
	kernel   Kernel
	ops      map[model.Operation]bool
	tables   []Loaded
	byNumber map[uint16]int
}

// deed is one thing that an event tells of.
type deed struct {
	op        model.Operation
	path      string
	privilege int    // capability or policy.Privilege*, where there is no path
	text      string // of it, for people
}

// strongest is the strongest decision, and the table that it is of.
type strongest struct {
	decision policy.Decision
	table    uint16
}

func (s *afterwards) see(ev *model.Event) {
	for _, a := range deeds(ev) {
		if !s.ops[a.op] {
			continue
		}
		var e subject.Entry
		alive := s.entry(ev.Key, &e)
		var best strongest
		if alive {
			best = s.byEntry(&e, a)
		} else {
			best = s.bySelection(ev, a)
		}
		if best.decision.Action() != policy.ActAllow {
			s.carryOut(ev, a, best, alive)
		}
	}
}

// entry finds the entry of the image that did something; false when it is gone, or was under no policy.
func (s *afterwards) entry(key model.ProcessKey, e *subject.Entry) bool {
	const tries = 2 // the kernel's hash maps can miss a key while its element is replaced
	for range tries {
		err := s.kernel.Subjects.Lookup(key.PID, e)
		if err == nil {
			return e.Start == key.Start && e.Exec == key.Exec
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return false
		}
	}
	return false
}

func (s *afterwards) byEntry(e *subject.Entry, a deed) (best strongest) {
	for _, slot := range e.Slots[:min(e.Count, subject.Slots)] {
		i, ok := s.byNumber[slot.Table]
		if !ok {
			continue // a table that came or went since: it is judged by the others
		}
		best.stronger(slot.Table, decide(s.tables[i].Table, a, uint32(slot.Subject)))
	}
	return best
}

// bySelection is for an image that has ended since: nobody can be killed, but it is told. One that runs and has no entry
// is under no policy.
func (s *afterwards) bySelection(ev *model.Event, a deed) (best strongest) {
	if !ended(ev.Key.PID) && !s.replaced(ev.Key) {
		return best
	}
	before := func(p *model.Process) *model.Process {
		if p == ev.Process {
			return ev.Parent
		}
		return nil
	}
	for _, t := range s.tables {
		if t.Table.Selection != nil && t.Table.Selection.Selects(ev.Process, before) {
			parent := ""
			if ev.Parent != nil {
				parent = ev.Parent.Binary
			}
			best.stronger(t.Number, decide(t.Table, a, t.Table.Subject(ev.Process.Binary, parent)))
		}
	}
	return best
}

// ended: there is no such process, or nobody has waited for it yet, or it is on its way out: then its entry is gone already.
func ended(pid uint32) bool {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return errors.Is(err, unix.ESRCH)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0 || exiting(pid)
}

// exiting reads the flags of a process, the ninth field of /proc/PID/stat (proc_pid_stat(5)).
func exiting(pid uint32) bool {
	const pfExiting = 0x4 // PF_EXITING, include/linux/sched.h
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the name in brackets can hold anything
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 32)
	return err == nil && flags&pfExiting != 0
}

// replaced: the number is another process's now, or the process executes another program, as far as entries tell.
func (s *afterwards) replaced(key model.ProcessKey) bool {
	var e subject.Entry
	return s.kernel.Subjects.Lookup(key.PID, &e) == nil && (e.Start != key.Start || e.Exec != key.Exec)
}

func decide(t *policy.Table, a deed, subject uint32) policy.Decision {
	if subject >= t.Subjects {
		return 0
	}
	switch a.op {
	case model.OpModify:
		return t.File(policy.Modify, a.path, subject)
	case model.OpWrite:
		return t.File(policy.Write, a.path, subject)
	}
	return t.Privilege(a.privilege, subject)
}

func (b *strongest) stronger(table uint16, d policy.Decision) {
	if d.Action() > b.decision.Action() {
		b.decision, b.table = d, table
	}
}

// carryOut kills the image, unless the policy only watches, and reports.
func (s *afterwards) carryOut(ev *model.Event, a deed, best strongest, alive bool) {
	s.kernel.Hit(best.table, best.decision.Rule())
	r := Report{Key: ev.Key, TID: ev.TID, Count: ev.Count, Table: best.table, Decision: best.decision, Hook: AfterwardsHook, Op: a.op,
		Path: a.path, Subject: a.text, Action: model.VerdictAudited, Guarantee: model.SeenOnly}
	if best.decision.Action() >= policy.ActDeny && alive && s.kill(ev.Key) {
		r.Action, r.Guarantee = model.VerdictKilled, model.KilledAfter
	}
	s.kernel.Report(r)
}

// kill ends the process of an image. Its entry is looked up when the process is held: as the kernel takes it away at the
// process's end, it is of the process that the number named then.
func (s *afterwards) kill(key model.ProcessKey) bool {
	fd, err := unix.PidfdOpen(int(key.PID), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var e subject.Entry
	return s.entry(key, &e) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// deeds are what an event tells of that can be killed for: what failed is none. What it says of paths is what policy
// judges in the same words when it looks at history (internal/policy/observe.go).
func deeds(ev *model.Event) []deed {
	switch {
	case ev.File != nil && ev.File.Error == 0:
		return deedsOfFile(ev.File)
	case ev.Capability != nil && ev.Capability.Granted:
		return []deed{{op: model.OpCapability, privilege: int(ev.Capability.Cap), text: ev.Capability.Cap.String()}}
	case ev.Ptrace != nil && ev.Ptrace.Error == 0:
		text := ev.Ptrace.Request
		if ev.Ptrace.Target != nil {
			text += " " + ev.Ptrace.Target.Binary
		}
		return []deed{{op: model.OpPtrace, privilege: policy.PrivilegePtrace, text: text}}
	case ev.BPF != nil && ev.BPF.Error == 0:
		return []deed{{op: model.OpBPF, privilege: policy.PrivilegeBPF, text: strings.TrimSpace(ev.BPF.ProgType + " " + ev.BPF.ProgName)}}
	case ev.Mount != nil && ev.Mount.Error == 0:
		return []deed{{op: model.OpMount, privilege: policy.PrivilegeMount, text: ev.Mount.Op + " " + ev.Mount.Target}}
	case ev.Module != nil && ev.Module.Error == 0:
		return []deed{{op: model.OpModule, privilege: policy.PrivilegeModule, text: ev.Module.Op + " " + ev.Module.Name}}
	}
	return nil
}

func deedsOfFile(f *model.File) (out []deed) {
	add := func(op model.Operation, path string) {
		if path = strings.TrimSuffix(path, " (deleted)"); strings.HasPrefix(path, "/") {
			out = append(out, deed{op: op, path: path})
		}
	}
	switch f.Op {
	case model.FileRename, model.FileLink, model.FileUnlink, model.FileChmod, model.FileChown:
		add(model.OpModify, f.Path)
		add(model.OpModify, f.NewPath)
	case model.FileCreate: // mkdir, mknod, symlink; what open creates is a write, which is asked about before
		if f.Flags&unix.O_CREAT == 0 && !strings.HasPrefix(f.Path, "/memfd:") {
			add(model.OpModify, f.Path)
		}
	case model.FileTruncate: // by name
		if f.Flags&unix.O_TRUNC == 0 && f.PathFrom == "argument" {
			add(model.OpWrite, f.Path)
		}
	}
	return out
}
