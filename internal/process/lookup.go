// SPDX-License-Identifier: Apache-2.0

package process

import "github.com/vigie-io/vigie/internal/model"

// maxAncestors bounds a walk up the tree.
const maxAncestors = 256

// Stats is the table's size.
type Stats struct {
	Live, Exited int
	Evictions    uint64 // exited processes forgotten to make room
}

// Stats returns the table's size.
func (t *Table) Stats() Stats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return Stats{Live: t.live, Exited: t.exited.Len(), Evictions: t.evictions}
}

// List returns the processes that live and, when asked for, those that exited and are remembered, in no order.
func (t *Table) List(withExited bool) []*model.Process {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]*model.Process, 0, len(t.entries))
	for _, e := range t.entries {
		if e.exit == nil || withExited {
			out = append(out, e.current)
		}
	}
	return out
}

// ByExecID returns the image with that exec_id, also an earlier image of a process; nil when unknown.
func (t *Table) ByExecID(execID string) *model.Process {
	key, boot, ok := model.ParseExecID(execID)
	if !ok || boot != t.options.Boot {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if p := t.peek(key); p != nil && p.Key == key {
		return p
	}
	return nil
}

// ByPID returns the process that has this pid or had it last; nil when unknown.
func (t *Table) ByPID(pid uint32) *model.Process {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.byPID[pid]; e != nil {
		return e.current
	}
	return nil
}

// Get returns the image that key names, or nil.
func (t *Table) Get(key model.ProcessKey) *model.Process {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.peek(key)
}

// Ancestors returns the images that led to p, the parent first, as far as they are remembered.
func (t *Table) Ancestors(p *model.Process) []*model.Process {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ancestors(p)[1:]
}

// Children returns the processes that p's process started and that are remembered.
func (t *Table) Children(p *model.Process) []*model.Process {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []*model.Process
	for _, e := range t.entries {
		if k := e.current.ParentKey; k.PID == p.Key.PID && k.Start == p.Key.Start {
			out = append(out, e.current)
		}
	}
	return out
}

// Descends reports whether p is the process with this pid or was started by it, directly or not.
func (t *Table) Descends(p *model.Process, pid uint32) bool {
	if p == nil {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for range maxAncestors {
		if p.Key.PID == pid {
			return true
		}
		up := t.peek(p.ParentKey)
		if up == nil {
			return p.ParentKey.PID == pid && pid != 0
		}
		p = up
	}
	return false
}

// ReplaceWorkload puts a workload of which more became known in place of what the processes carry.
func (t *Table) ReplaceWorkload(old, new *model.Workload) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if e.current.Workload == old {
			p := *e.current
			p.Workload = new
			e.current = &p
		}
	}
}

// ancestors begins with p itself. The lock is held.
func (t *Table) ancestors(p *model.Process) []*model.Process {
	out := []*model.Process{p}
	for len(out) < maxAncestors && !p.ParentKey.IsZero() {
		if p = t.peek(p.ParentKey); p == nil {
			break
		}
		out = append(out, p)
	}
	return out
}
