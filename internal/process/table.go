// SPDX-License-Identifier: Apache-2.0

// Package process keeps the process table: which image each process runs, who started it, which
// workload it belongs to. In: decoded events, in the order in which the kernel wrote them. Out: the same
// events with Process and Parent set; and look-ups for the API.
//
// The table is bounded: processes that live are pinned, of those that exited the latest are kept, so that
// what arrives late still finds its process. What is evicted is counted.
package process

import (
	"container/list"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// DefaultExited is how many exited processes are remembered.
const DefaultExited = 4096

// Records can arrive after the exec that replaced their image: so many earlier images of a process are
// remembered, for so long by the time of the records.
const (
	oldImages   = 4
	oldImageAge = 3 * time.Second
)

// Workloads resolves a process's cgroup; internal/workload does it for the agent.
type Workloads interface {
	// Lookup returns the workload of a cgroup, or nil when the cgroup says nothing about one.
	Lookup(hierarchy uint32, cgroupID uint64) *model.Workload
	// FromProcessTree names the workload of a process whose cgroup says nothing; ancestors begins with the
	// process itself.
	FromProcessTree(ancestors []*model.Process) *model.Workload
}

// Options configure a table.
type Options struct {
	Boot      string // first eight hexadecimal digits of the boot id
	Exited    int    // how many exited processes are remembered; DefaultExited when 0
	Workloads Workloads
	Losses    *pipeline.Losses
	// Wall converts nanoseconds since boot to wall-clock time.
	Wall func(boot uint64) time.Time
}

// Table is the process table. Enrich is called from one goroutine, everything else from any.
type Table struct {
	options Options
	unknown *pipeline.Counter

	mu        sync.RWMutex
	entries   map[id]*entry
	byPID     map[uint32]*entry // the latest of each pid
	exited    *list.List        // of *entry, oldest exit first
	live      int
	evictions uint64
	replaced  *list.List // of replacement, oldest first
	settled   uint64     // boot time; processes that are unknown later count as lost
}

// id is a process over all its images.
type id struct {
	pid   uint32
	start uint64
}

type entry struct {
	current *model.Process
	old     []*model.Process // latest last
	exit    *list.Element    // in exited; nil while it lives
}

// replacement is a process that has an earlier image to forget, and since when.
type replacement struct {
	entry *entry
	at    uint64 // boot time
}

// New returns an empty table.
func New(o Options) *Table {
	if o.Exited <= 0 {
		o.Exited = DefaultExited
	}
	return &Table{options: o, unknown: o.Losses.Counter("enrich", "process unknown"),
		entries: make(map[id]*entry), byPID: make(map[uint32]*entry), exited: list.New(), replaced: list.New()}
}

// Settle says that the start-up inventory is complete. What ended while it was made is in no list: until now (ns since
// boot) an unknown process is no loss.
func (t *Table) Settle(now uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settled = now
}

// Enrich completes ev: Process, Parent, and what only the process's past tells, such as the credentials before a change.
// It reports whether the event is news: an inventory record of a process that is known already is not.
func (t *Table) Enrich(ev *model.Event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch ev.Type {
	case model.TypeExec:
		if !t.exec(ev) {
			return false
		}
	case model.TypeFork:
		t.fork(ev)
	case model.TypeLoss:
		return true
	default:
		ev.Process = t.image(ev.Key, ev.BootTime)
	}
	ev.Parent = t.peek(ev.Process.ParentKey)
	switch ev.Type {
	case model.TypeExit:
		t.exit(ev)
	case model.TypeCredential:
		t.credential(ev)
	case model.TypeNamespace:
		t.namespace(ev)
	case model.TypePtrace:
		if e := t.byPID[ev.Ptrace.TargetPID]; e != nil {
			ev.Ptrace.Target = e.current
		}
	}
	return true
}

func (t *Table) exec(ev *model.Event) bool {
	p := ev.Process
	e := t.entries[id{p.Key.PID, p.Key.Start}]
	if e != nil && ev.PreExisting && (e.current.Key.Exec >= p.Key.Exec) && !e.current.Forked {
		return false
	}
	t.complete(p)
	if e == nil {
		t.add(p)
	} else {
		before := e.current
		ev.Exec.Previous = before.ExecID
		p.ParentKey, p.ParentExecID = before.ParentKey, before.ParentExecID
		p.File.SetuidGained = p.Creds.EUID != before.Creds.EUID || p.Creds.EGID != before.Creds.EGID
		p.File.CapsGained = p.Creds.CapPermitted &^ before.Creds.CapPermitted
		e.replace(p)
		t.replaced.PushBack(replacement{e, ev.BootTime})
		t.forget(ev.BootTime)
	}
	t.assignWorkload(p)
	return true
}

// forget drops earlier images that were replaced long before now. Each replacement drops one image, the oldest.
func (t *Table) forget(now uint64) {
	for front := t.replaced.Front(); front != nil; front = t.replaced.Front() {
		r := front.Value.(replacement)
		if r.at+uint64(oldImageAge) >= now {
			return
		}
		t.replaced.Remove(front)
		if old := r.entry.old; len(old) > 1 {
			r.entry.old = append(old[:0:0], old[1:]...)
		} else {
			r.entry.old = nil
		}
	}
}

func (t *Table) fork(ev *model.Event) {
	record := ev.Process
	if e := t.entries[id{record.Key.PID, record.Key.Start}]; e != nil {
		// The inventory saw it first.
		ev.Process = e.current
		return
	}
	child := record
	if parent := t.peek(record.ParentKey); parent != nil {
		c := *parent
		c.Key, c.ParentKey, c.Namespaces = record.Key, record.ParentKey, record.Namespaces
		c.CgroupID, c.CgroupHierarchy = record.CgroupID, record.CgroupHierarchy
		c.Forked, c.PreExisting = true, false
		c.File.SetuidGained, c.File.CapsGained = false, 0
		c.ParentExecID = parent.ExecID
		child = &c
		if c.CgroupID != parent.CgroupID || c.CgroupHierarchy != parent.CgroupHierarchy {
			c.Workload = nil
		}
	}
	child.StartTime, child.ExecID = t.options.Wall(child.Key.Start), child.Key.ExecID(t.options.Boot)
	if child.ParentExecID == "" && !child.ParentKey.IsZero() {
		child.ParentExecID = t.execID(child.ParentKey)
	}
	t.add(child)
	if child.Workload == nil {
		t.assignWorkload(child)
	}
	ev.Process = child
}

func (t *Table) exit(ev *model.Event) {
	e := t.entries[id{ev.Key.PID, ev.Key.Start}]
	if e == nil || e.exit != nil {
		return
	}
	t.live--
	ended := *e.current
	ended.EndTime = ev.Time
	e.current, ev.Process = &ended, &ended
	e.exit = t.exited.PushBack(e)
	for t.exited.Len() > t.options.Exited {
		t.evict(t.exited.Front())
	}
}

func (t *Table) evict(oldest *list.Element) {
	e := t.exited.Remove(oldest).(*entry)
	key := e.current.Key
	delete(t.entries, id{key.PID, key.Start})
	if t.byPID[key.PID] == e {
		delete(t.byPID, key.PID)
	}
	t.evictions++
}

func (t *Table) credential(ev *model.Event) {
	ev.Credential.Old = ev.Process.Creds
	if ev.Credential.Error == 0 {
		t.amend(ev, func(p *model.Process) { p.Creds = ev.Credential.New })
	}
}

func (t *Table) namespace(ev *model.Event) {
	ev.Namespace.Old = ev.Process.Namespaces
	if ev.Namespace.Error == 0 && ev.Namespace.Call != "clone" {
		t.amend(ev, func(p *model.Process) { p.Namespaces = ev.Namespace.New })
	}
}

// amend puts a changed copy of the event's image in place of it.
func (t *Table) amend(ev *model.Event, change func(*model.Process)) {
	e := t.entries[id{ev.Key.PID, ev.Key.Start}]
	if e == nil || e.current != ev.Process {
		return
	}
	p := *e.current
	change(&p)
	e.current, ev.Process = &p, &p
}

// complete fills what the table knows better than the record.
func (t *Table) complete(p *model.Process) {
	p.ExecID = p.Key.ExecID(t.options.Boot)
	p.StartTime = t.options.Wall(p.Key.Start)
	if p.ParentKey.PID == 0 || p.ParentKey.PID == p.Key.PID {
		p.ParentKey = model.ProcessKey{} // the kernel itself
	} else {
		p.ParentExecID = t.execID(p.ParentKey)
	}
}

// execID is the exec_id of an image, the table's own string when it is known: a tree has many children of few.
func (t *Table) execID(key model.ProcessKey) string {
	if p := t.peek(key); p != nil && p.Key == key {
		return p.ExecID
	}
	return key.ExecID(t.options.Boot)
}

func (t *Table) add(p *model.Process) *entry {
	e := &entry{current: p}
	t.entries[id{p.Key.PID, p.Key.Start}] = e
	t.byPID[p.Key.PID] = e
	t.live++
	return e
}

func (e *entry) replace(p *model.Process) {
	e.old = append(e.old, e.current)
	if len(e.old) > oldImages {
		e.old = append(e.old[:0:0], e.old[1:]...)
	}
	e.current = p
}

func (t *Table) assignWorkload(p *model.Process) {
	if t.options.Workloads == nil {
		return
	}
	if p.Workload = t.options.Workloads.Lookup(p.CgroupHierarchy, p.CgroupID); p.Workload == nil {
		p.Workload = t.options.Workloads.FromProcessTree(t.ancestors(p))
	}
}

// image returns the image that key names, for a record from that boot time. A process that was never announced gets a placeholder, counted, so that
// an event always says whose it is as far as the kernel did.
func (t *Table) image(key model.ProcessKey, at uint64) *model.Process {
	if p := t.peek(key); p != nil {
		return p
	}
	p := &model.Process{Key: key}
	if key.IsZero() {
		return p
	}
	t.complete(p)
	if at < t.settled {
		p.PreExisting = true
	} else {
		t.unknown.Add(1)
	}
	return p
}

// peek returns the image that key names, or the process's current one when that image is forgotten; nil
// when the process is unknown.
func (t *Table) peek(key model.ProcessKey) *model.Process {
	e := t.entries[id{key.PID, key.Start}]
	if e == nil {
		return nil
	}
	if e.current.Key.Exec == key.Exec {
		return e.current
	}
	for i := len(e.old) - 1; i >= 0; i-- {
		if e.old[i].Key.Exec == key.Exec {
			return e.old[i]
		}
	}
	return e.current
}

// Restore takes in an event that was enriched before, from a capture: its process and parent are facts.
func (t *Table) Restore(ev *model.Event) {
	if ev.Process == nil || ev.Key.IsZero() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := t.entries[id{ev.Key.PID, ev.Key.Start}]; {
	case e == nil:
		t.add(ev.Process)
	case e.current.Key.Exec < ev.Key.Exec:
		e.replace(ev.Process)
	case e.current.Key.Exec == ev.Key.Exec:
		e.current = ev.Process
	}
	if ev.Type == model.TypeExit {
		t.exit(ev)
	}
}
