// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"

	"github.com/vigie-io/vigie/internal/model"
)

// lineage knows, of the events that it has seen, which image came from which, and who listens where.
type lineage struct {
	image    func(execID string) *model.Process // asked for images that no event told of; may be nil
	images   map[string]*model.Process
	previous map[string]string // exec_id → that of the image that it replaced
	listens  map[netip.AddrPort]*model.Workload

	unknown uint64 // execs of which it is not known what called exec
	full    bool
}

// maxImages bounds what a lineage remembers.
const maxImages = 1 << 17

func newLineage(image func(string) *model.Process) *lineage {
	return &lineage{image: image, images: map[string]*model.Process{}, previous: map[string]string{}, listens: map[netip.AddrPort]*model.Workload{}}
}

// see remembers what an event tells of processes. Events come in their order.
func (l *lineage) see(ev *model.Event) {
	if len(l.images) >= maxImages || len(l.listens) >= maxImages {
		l.full = true
		return
	}
	for _, p := range []*model.Process{ev.Parent, ev.Process} {
		if p != nil && p.ExecID != "" {
			l.images[p.ExecID] = p
		}
	}
	if ev.Process == nil {
		return
	}
	if ev.Exec != nil && ev.Exec.Previous != "" {
		l.previous[ev.Process.ExecID] = ev.Exec.Previous
	}
	if ev.Type == model.TypeListen && ev.Socket != nil && ev.Socket.Family != "unix" && ev.Process.Workload != nil {
		l.listens[plain(ev.Socket.Local)] = ev.Process.Workload
	}
}

func (l *lineage) find(execID string) *model.Process {
	if execID == "" {
		return nil
	}
	if p := l.images[execID]; p != nil {
		return p
	}
	if l.image != nil {
		return l.image(execID)
	}
	return nil
}

// before is the image that p replaced, else its parent's.
func (l *lineage) before(p *model.Process) *model.Process {
	if execID := l.previous[p.ExecID]; execID != "" {
		if old := l.find(execID); old != nil && old != p {
			return old
		}
	}
	if p.ParentExecID == p.ExecID {
		return nil
	}
	return l.find(p.ParentExecID)
}

// subject is who does what an event tells of. Of an exec it is the image before; where that is not known, the parent's,
// for a process that calls exec most often has just been forked.
func (l *lineage) subject(ev *model.Event) Subject {
	s := Subject{Binary: binaryPath(ev.Process), Parent: binaryPath(ev.Parent)}
	if v := ev.Verdict; v != nil && v.Operation == model.OpExec && v.Path == s.Binary {
		// Judged when the program was in place already: who executed it is the image before.
		if old := l.find(l.previous[ev.Process.ExecID]); old != nil {
			s.Binary = binaryPath(old)
		} else if s.Parent != "" {
			s.Binary = s.Parent
		}
		return s
	}
	if ev.Exec == nil {
		return s
	}
	if old := l.find(ev.Exec.Previous); old != nil {
		s.Binary = binaryPath(old)
		return s
	}
	if !ev.PreExisting {
		l.unknown++
	}
	s.Binary = s.Parent
	return s
}

// selects reports whether a policy selected the process when it did what an event tells of: before an exec it was another
// program, in the same workload.
func (l *lineage) selects(s *Selection, ev *model.Event, who Subject) bool {
	if ev.Exec == nil {
		return s.Selects(ev.Process, l.before)
	}
	actor := *ev.Process
	actor.Binary = who.Binary
	return s.Selects(&actor, func(p *model.Process) *model.Process {
		if p != &actor {
			return l.before(p)
		}
		if old := l.find(ev.Exec.Previous); old != nil {
			return old
		}
		return ev.Parent
	})
}

// listening finds who listens at the remote end of a connection.
func (l *lineage) listening(ev *model.Event) []*model.Workload {
	to := plain(ev.Socket.Remote)
	if w := l.listens[to]; w != nil {
		return []*model.Workload{w}
	}
	// A listener on all addresses is one on loopback too; which other addresses are this host's is not in the events.
	if to.Addr().IsLoopback() {
		for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			if w := l.listens[netip.AddrPortFrom(any, to.Port())]; w != nil {
				return []*model.Workload{w}
			}
		}
	}
	return nil
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
