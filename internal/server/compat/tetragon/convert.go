// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"strconv"
	"syscall"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/vigie-io/vigie/internal/model"
)

// eventType is the type under which Tetragon's clients get e; UNDEF for what Tetragon has no type for, which is not sent.
func eventType(e *model.Event) tg.EventType {
	switch e.Type {
	case model.TypeExec:
		return tg.EventType_PROCESS_EXEC
	case model.TypeExit:
		return tg.EventType_PROCESS_EXIT
	case model.TypeVerdict:
		return tg.EventType_PROCESS_LSM
	case model.TypeProbe:
		switch e.Probe.Kind {
		case "tracepoint":
			return tg.EventType_PROCESS_TRACEPOINT
		case "uprobe":
			return tg.EventType_PROCESS_UPROBE
		case "usdt":
			return tg.EventType_PROCESS_USDT
		case "lsm":
			return tg.EventType_PROCESS_LSM
		}
		return tg.EventType_PROCESS_KPROBE // also fentry, as with Tetragon
	}
	return tg.EventType_UNDEF
}

// event is e in Tetragon's form, with its own copies of everything; nil when there is none. A loss is the wish's.
func (c *converter) event(e *model.Event, ancestors bool) *tg.GetEventsResponse {
	if eventType(e) == tg.EventType_UNDEF {
		return nil
	}
	out := &tg.GetEventsResponse{NodeName: c.node(), Time: timestamppb.New(e.Time)}
	if e.Count > 1 {
		out.AggregationInfo = &tg.AggregationInfo{Count: uint64(e.Count)}
	}
	parts := actors{process: c.process(e.Process), parent: c.parent(e)}
	if ancestors && e.Process != nil {
		parts.ancestors = c.ancestors(e.Process)
	}
	switch e.Type {
	case model.TypeExec:
		if e.Process != nil {
			parts.process.BinaryProperties = binaryProperties(e.Process)
		}
		out.Event = &tg.GetEventsResponse_ProcessExec{ProcessExec: &tg.ProcessExec{Process: parts.process, Parent: parts.parent, Ancestors: parts.ancestors}}
	case model.TypeExit:
		out.Event = &tg.GetEventsResponse_ProcessExit{ProcessExit: exit(e, parts)}
	case model.TypeVerdict:
		parts.thread(e)
		out.Event = &tg.GetEventsResponse_ProcessLsm{ProcessLsm: verdict(e.Verdict, parts)}
	case model.TypeProbe:
		parts.thread(e)
		probe(out, e.Probe, parts)
	}
	return out
}

// actors are who an event is about.
type actors struct {
	process, parent *tg.Process
	ancestors       []*tg.Process // beyond the parent
}

// thread names the thread that did it.
func (a *actors) thread(e *model.Event) {
	if e.TID != 0 {
		a.process.Tid = wrapperspb.UInt32(e.TID)
	}
}

func exit(e *model.Event, a actors) *tg.ProcessExit {
	return &tg.ProcessExit{Process: a.process, Parent: a.parent, Ancestors: a.ancestors, Signal: signalName(e.Exit.Signal),
		Status: uint32(e.Exit.Code) & 0xff, Time: timestamppb.New(e.Time)}
}

// signalName is "SIGKILL", or "SIG34" for one that has no name; empty for none.
func signalName(n uint32) string {
	if n == 0 {
		return ""
	}
	if name := unix.SignalName(syscall.Signal(n)); name != "" {
		return name
	}
	return "SIG" + strconv.FormatUint(uint64(n), 10)
}

// binaryProperties says what is peculiar about the file of an exec; nil when nothing is.
func binaryProperties(p *model.Process) *tg.BinaryProperties {
	out, found := &tg.BinaryProperties{}, false
	changed := func(how tg.ProcessPrivilegesChanged) {
		out.PrivilegesChanged = append(out.PrivilegesChanged, how)
		found = true
	}
	if p.File.SetuidGained && p.File.Mode&unix.S_ISUID != 0 {
		out.Setuid = wrapperspb.UInt32(p.Creds.EUID)
		changed(tg.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_SETUID)
	}
	if p.File.SetuidGained && p.File.Mode&unix.S_ISGID != 0 {
		out.Setgid = wrapperspb.UInt32(p.Creds.EGID)
		changed(tg.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_SETGID)
	}
	if p.File.CapsGained != 0 && !p.File.SetuidGained {
		changed(tg.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_CAP)
	}
	if p.File.Memfd || p.File.Deleted {
		out.File = &tg.FileProperties{Inode: &tg.InodeProperties{Number: p.File.Inode, Links: wrapperspb.UInt32(0)}}
		found = true
	}
	if !found {
		return nil
	}
	return out
}
