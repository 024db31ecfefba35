// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/policy"
)

// plan keeps the marks where the tables in force and the mounts of their processes want them.
//
// A new table's places are marked in every mount namespace of the host before any process is judged by it, because which
// processes it selects is not known yet. Later passes mark where processes have come, and take back what nobody needs.
type plan struct {
	reader *reader
	marks  *marks
	log    *slog.Logger
	tick   []func() // also done at each pass

	mu      sync.Mutex
	tables  map[uint16]*loadedTable
	spaces  map[string]*space // by mount namespace, where marks were placed
	trimmed time.Time
	own     []Mount // as the cache knows them
	others  [][]Mount
	failed  string // the last error of a pass, told once

	quit chan struct{}
	done sync.WaitGroup
}

type loadedTable struct {
	table *policy.Table
	needs []need
	since time.Time
}

// space is a mount namespace and what was placed in it.
type space struct {
	namespace
	tables []uint16
	at     time.Time
	wanted *wanted
}

const (
	passInterval = 100 * time.Millisecond // how soon processes in a new mount namespace are noticed
	lookInterval = time.Second            // how soon new mounts and directories in a known one are
	// settling is how long a new table counts in every mount namespace: its processes are entered only after Load.
	settling = 5 * time.Second
)

func newPlan(r *reader, m *marks, log *slog.Logger) *plan {
	return &plan{reader: r, marks: m, log: log, tables: make(map[uint16]*loadedTable), spaces: make(map[string]*space), quit: make(chan struct{})}
}

func (p *plan) start() {
	p.done.Go(func() {
		t := time.NewTicker(passInterval)
		defer t.Stop()
		for {
			select {
			case <-p.quit:
				return
			case <-t.C:
				p.pass()
			}
		}
	})
}

func (p *plan) stop() {
	close(p.quit)
	p.done.Wait()
	for _, f := range p.tick {
		f()
	}
}

// load marks what the tables need everywhere, then has events judged by them. renew: other operations are asked about.
func (p *plan) load(tables []enforce.Loaded, renew bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, set := make(map[uint16]*loadedTable, len(tables)), make(tableSet, len(tables))
	fresh := false
	for _, t := range tables {
		set[t.Number] = t.Table
		if old := p.tables[t.Number]; old != nil && old.table == t.Table && !renew {
			next[t.Number] = old
			continue
		}
		next[t.Number] = &loadedTable{table: t.Table, needs: needsOf(t.Table, p.reader.judges), since: time.Now()}
		fresh = true
	}
	if fresh {
		if err := p.everywhere(next); err != nil {
			return err
		}
	}
	p.tables = next
	p.reader.page.setDenies(func(n int) bool {
		t := next[uint16(n)]
		return t != nil && t.table.Policy.OnTimeout == policy.TimeoutDeny
	})
	p.reader.tables.Store(&set)
	p.refreshCache(true)
	return nil
}

// refreshCache tells the cache what changed, if it did.
func (p *plan) refreshCache(tables bool) {
	own, err := ownMounts()
	if err != nil {
		p.tell(err)
		own = nil // nothing is kept
	}
	var others [][]Mount
	for _, id := range slices.Sorted(maps.Keys(p.spaces)) {
		others = append(others, p.spaces[id].wanted.mounts)
	}
	if !tables && slices.Equal(own, p.own) && slices.EqualFunc(others, p.others, slices.Equal[[]Mount]) {
		return
	}
	p.own, p.others = own, others
	var list []*policy.Table
	for _, t := range p.tables {
		list = append(list, t.table)
	}
	p.marks.cache.set(list, own, others)
}

// everywhere places marks for tables in every mount namespace of the host.
func (p *plan) everywhere(tables map[uint16]*loadedTable) error {
	if len(tables) == 0 {
		return nil
	}
	all, err := allNamespaces()
	if err != nil {
		return err
	}
	for _, ns := range all {
		p.look(ns, slices.Sorted(maps.Keys(tables)), tables)
		if s := p.spaces[ns.id]; s != nil && s.wanted.err != nil {
			return s.wanted.err
		}
	}
	p.publish()
	return nil
}

// look places marks in one mount namespace.
func (p *plan) look(ns namespace, numbers []uint16, tables map[uint16]*loadedTable) {
	var (
		list  []*policy.Table
		needs []need
	)
	for _, n := range numbers {
		list = append(list, tables[n].table)
		needs = append(needs, tables[n].needs...)
	}
	slices.SortFunc(needs, compareNeeds)
	w := &wanted{marks: make(map[markKey]mark), names: make(nameSet)}
	if err := p.marks.place(w, ns, list, slices.Compact(needs)); err != nil {
		p.tell(err)
		return // its last process has ended, or it is looked at again with the next pass
	}
	p.spaces[ns.id] = &space{namespace: ns, tables: numbers, at: time.Now(), wanted: w}
}

// pass follows the processes that are under policies.
func (p *plan) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	inUse, err := p.inUse(now)
	if err != nil {
		p.tell(err)
		return
	}
	changed := false
	for id, use := range inUse {
		numbers := slices.Sorted(maps.Keys(use.tables))
		s := p.spaces[id]
		if s == nil || !slices.Equal(s.tables, numbers) || now.Sub(s.at) >= lookInterval {
			p.look(use.namespace, numbers, p.tables)
			changed = true
		}
	}
	for id := range p.spaces {
		if inUse[id] == nil {
			delete(p.spaces, id)
			changed = true
		}
	}
	if changed {
		p.publish()
		p.refreshCache(false)
	}
	if changed || now.Sub(p.trimmed) >= lookInterval {
		p.trimmed = now
		p.trim(now)
	}
	for _, f := range p.tick {
		f()
	}
}

type use struct {
	namespace
	tables map[uint16]bool
}

// inUse is the mount namespaces that processes under policies are in, with the tables of these. Tables that are new count
// everywhere.
func (p *plan) inUse(now time.Time) (map[string]*use, error) {
	out := make(map[string]*use)
	at := func(ns namespace) *use {
		if out[ns.id] == nil {
			out[ns.id] = &use{namespace: ns, tables: make(map[uint16]bool)}
		}
		return out[ns.id]
	}
	fresh := false
	for _, t := range p.tables {
		fresh = fresh || now.Sub(t.since) < settling
	}
	if fresh {
		all, err := allNamespaces()
		if err != nil {
			return nil, err
		}
		for _, ns := range all {
			for n, t := range p.tables {
				if now.Sub(t.since) < settling {
					at(ns).tables[n] = true
				}
			}
		}
	}
	err := eachSubject(p.reader.subjects, func(pid uint32, e *subject.Entry) {
		id, ok := namespaceOf(int32(pid))
		if !ok {
			return
		}
		u := at(namespace{id: id, pid: int32(pid)})
		for i := range min(e.Count, subject.Slots) {
			if n := e.Slots[i].Table; p.tables[n] != nil {
				u.tables[n] = true
			}
		}
	})
	return out, err
}

// eachSubject goes through the processes under policies, many in one system call.
func eachSubject(m *ebpf.Map, fn func(pid uint32, e *subject.Entry)) error {
	const batch = 512
	var (
		cursor  ebpf.MapBatchCursor
		pids    [batch]uint32
		entries [batch]subject.Entry
	)
	for {
		n, err := m.BatchLookup(&cursor, pids[:], entries[:], nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("list the processes under policies: %w", err)
		}
		for i := range n {
			fn(pids[i], &entries[i])
		}
		if err != nil {
			return nil
		}
	}
}

// publish has events judged by the names under which files are marked now.
func (p *plan) publish() {
	names := make(nameSet)
	for _, s := range p.spaces {
		for i, n := range s.wanted.names {
			for _, name := range n {
				if !slices.Contains(names[i], name) {
					names[i] = append(names[i], name)
				}
			}
		}
	}
	p.reader.names.Store(&names)
}

func (p *plan) trim(now time.Time) {
	var w []*wanted
	for _, s := range p.spaces {
		w = append(w, s.wanted)
	}
	p.marks.trim(w, now, allNamespaces)
}

// tell says what went wrong, once.
func (p *plan) tell(err error) {
	if text := err.Error(); text != p.failed {
		p.failed = text
		p.log.Warn("fanotify cannot look at a mount namespace", "error", err)
	}
}
