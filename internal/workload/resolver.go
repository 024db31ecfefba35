// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/workload/cri"
	"github.com/vigie-io/vigie/internal/workload/host"
)

// Resolver maps cgroups to workloads. Safe for concurrent use.
type Resolver struct {
	cfg  Config
	loss struct{ queue, evicted *pipeline.Counter }

	mu       sync.RWMutex
	cgroups  map[key]*entry
	byPath   map[string]*record // by the path of the workload's cgroup
	pods     index              // records by the uid of their pod
	named    index              // records by the id of their container
	told     toldContainers     // that a runtime told of before they were asked for
	removed  []key              // oldest first: cgroups that are gone but still known
	watchers []func(old, new *model.Workload)
	toWalk   map[uint32]bool // hierarchies with cgroups that only a walk can find
	changes  []change        // not told yet

	walkWanted chan struct{}
	changed    chan struct{} // there are changes
	asks       chan *record
	again      chan struct{} // a runtime answers that did not
	walks      atomic.Uint64
	asked      atomic.Uint64
}

type key struct {
	hierarchy uint32
	id        uint64
}

// entry is one cgroup. Its fields change under Resolver.mu only.
type entry struct {
	record  *record
	removed bool
}

// record is one workload, that several cgroups can be of: those below its own, those of other
// hierarchies with the same path, and a restarted unit's new one.
type record struct {
	path    string // key in byPath; empty for a cgroup that could not be found
	none    bool   // the path names no workload; current says so, Lookup gives nil
	current atomic.Pointer[model.Workload]
	parts   parts     // of current; under Resolver.mu
	podUID  string    // of the pod that Kubernetes can be asked for; empty where its cgroup could be anybody's
	query   cri.Query // ID is empty where there is nobody to ask
	cgroups int       // how many entries; under Resolver.mu
	live    int       // how many of these are not removed; under Resolver.mu
	waiting bool      // known to Run or named; under Resolver.mu
	failed  int       // how often it was asked for in vain; of Run's schedule
}

// change is a workload whose place a record's current one takes.
type change struct {
	old    *model.Workload
	record *record
}

// New makes a Resolver. Lookup works at once; names from runtimes need Run.
func New(cfg Config) *Resolver {
	cfg = cfg.withDefaults()
	r := &Resolver{
		cfg:        cfg,
		cgroups:    make(map[key]*entry),
		byPath:     make(map[string]*record),
		pods:       make(index),
		named:      make(index),
		told:       newTold(cfg.MaxTold),
		toWalk:     make(map[uint32]bool),
		walkWanted: make(chan struct{}, 1),
		changed:    make(chan struct{}, 1),
		asks:       make(chan *record, cfg.Queue),
		again:      make(chan struct{}, 1),
	}
	r.loss.queue = cfg.Losses.Counter("workload", "queue_full")
	r.loss.evicted = cfg.Losses.Counter("workload", "cgroup_evicted")
	return r
}

// Lookup is the workload of the cgroup with an id in a hierarchy (0 is v2); nil when the cgroup says
// nothing about one. For a cgroup that is known it is a map look-up; an unknown one takes some system
// calls, once. A caller that keeps the pointer and holds, from Lookup until it is kept, the lock that
// its OnChange function takes misses no change.
func (r *Resolver) Lookup(hierarchy uint32, cgroupID uint64) *model.Workload {
	r.mu.RLock()
	e, ok := r.cgroups[key{hierarchy, cgroupID}]
	if !ok {
		r.mu.RUnlock()
		return r.find(key{hierarchy, cgroupID})
	}
	w := e.record.workload()
	r.mu.RUnlock()
	return w
}

// maxTracedPath is the length from which on the kernel's cgroup tracepoints cut paths short
// (TRACE_CGROUP_PATH_LEN, 1024 with the final NUL).
const maxTracedPath = 1023

// CgroupCreated tells of a new cgroup before any process can be in it. A path that is missing or may
// be cut short is not used: Lookup finds the whole one.
func (r *Resolver) CgroupCreated(hierarchy uint32, id uint64, path string) {
	if path == "" || len(path) >= maxTracedPath {
		return
	}
	r.add(key{hierarchy, id}, path, true)
}

// CgroupRemoved tells that a cgroup is gone. It stays known for a while: the exits of its processes
// can come later.
func (r *Resolver) CgroupRemoved(hierarchy uint32, id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setRemoved(key{hierarchy, id})
}

// OnChange registers a function that is told of every workload that takes the place of another: all
// processes of old belong to new from now on. Run calls it, one call at a time; it may block for as
// long as changes can wait. Register before Run.
func (r *Resolver) OnChange(changed func(old, new *model.Workload)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers = append(r.watchers, changed)
}

// Each calls fn for every cgroup that is known and not removed, with its workload; nil for one that says nothing about
// any. fn must not call the Resolver.
func (r *Resolver) Each(fn func(hierarchy uint32, id uint64, w *model.Workload)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for k, e := range r.cgroups {
		if !e.removed {
			fn(k.hierarchy, k.id, e.record.workload())
		}
	}
}

// Stats are the Resolver's sizes and counts for status and metrics.
type Stats struct {
	Cgroups   int    // known
	Removed   int    // of these, gone
	Workloads int    // that these belong to
	Walks     uint64 // through a whole hierarchy, since the start
	Asked     uint64 // questions to container runtimes, since the start
}

// Stats counts.
func (r *Resolver) Stats() Stats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := Stats{Cgroups: len(r.cgroups), Removed: len(r.removed), Walks: r.walks.Load(), Asked: r.asked.Load()}
	for _, rec := range r.byPath {
		if !rec.none {
			s.Workloads++
		}
	}
	return s
}

// workload is what Lookup answers.
func (rec *record) workload() *model.Workload {
	if rec.none {
		return nil
	}
	return rec.current.Load()
}

// find asks the kernel for the path of a cgroup that nobody told of. One that it cannot tell of now is
// unknown until a walk has looked for it; one that is gone stays without a workload.
func (r *Resolver) find(k key) *model.Workload {
	path, err := r.cfg.Cgroups.Path(k.hierarchy, k.id)
	if err == nil {
		return r.add(k, path, false)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.cgroups[k]; ok { // told meanwhile
		return e.record.workload()
	}
	name := "cgroup:" + strconv.FormatUint(uint64(k.hierarchy), 10) + ":" + strconv.FormatUint(k.id, 10)
	rec := &record{none: errors.Is(err, host.ErrGone)}
	rec.current.Store(&model.Workload{Kind: model.WorkloadUnknown, Name: name, ID: name})
	r.insert(k, rec)
	if rec.none {
		r.setRemoved(k)
	} else {
		r.wantWalk(k.hierarchy)
	}
	return rec.workload()
}

// add makes a cgroup's path known; announced: it was made just now.
func (r *Resolver) add(k key, path string, announced bool) *model.Workload {
	fresh := r.parse(path)
	r.mu.Lock()
	defer r.mu.Unlock()
	e, known := r.cgroups[k]
	if known && e.record.path != "" {
		return e.record.workload()
	}
	rec := r.byPath[fresh.path]
	if rec == nil {
		rec = fresh
		r.byPath[rec.path] = rec
		r.learn(rec)
		if announced {
			r.announced(rec)
		}
	}
	if !known {
		r.insert(k, rec)
	} else {
		old := e.record
		e.record = rec
		rec.cgroups++
		if !e.removed {
			rec.live++
		}
		r.tell(old.workload(), rec)
	}
	r.ask(rec)
	return rec.workload()
}

// parse makes the record of a path.
func (r *Resolver) parse(path string) *record {
	found, ok := host.Parse(path, r.cfg.Login)
	rec := new(record)
	if !ok {
		found.Workload = model.Workload{Kind: model.WorkloadProcess, Name: path, ID: "cgroup:" + path, Cgroup: path}
		rec.path, rec.none = "none:"+path, true
	} else {
		rec.path = found.Workload.Cgroup
		if found.ContainerID != "" && (!found.Nested || r.cfg.AskNested) {
			rec.query = cri.Query{ID: found.ContainerID, Runtime: found.Workload.Runtime, Owner: found.Owner}
		}
		// A user can make cgroups of any name in their slice, and so can a container.
		if found.Owner == model.NoUID && (!found.Nested || r.cfg.AskNested) {
			rec.podUID = found.Workload.PodUID
		}
	}
	rec.parts.path = &found.Workload
	rec.current.Store(&found.Workload)
	return rec
}

// insert adds an entry, and drops others when there are too many. Under mu.
func (r *Resolver) insert(k key, rec *record) {
	for len(r.cgroups) >= r.cfg.MaxCgroups {
		if len(r.removed) > 0 {
			r.dropOldest()
			continue
		}
		for victim := range r.cgroups { // any: it is found again by its id when it is asked for
			r.drop(victim)
			r.loss.evicted.Add(1)
			break
		}
	}
	r.cgroups[k] = &entry{record: rec}
	rec.cgroups++
	rec.live++
}

func (r *Resolver) setRemoved(k key) {
	e, ok := r.cgroups[k]
	if !ok || e.removed {
		return
	}
	e.removed = true
	e.record.live--
	if r.cfg.Pods != nil && e.record.podUID != "" && e.record.current.Load().Container == sandbox {
		r.cfg.Pods.PodEnded(e.record.podUID)
	}
	r.removed = append(r.removed, k)
	for len(r.removed) > r.cfg.KeepRemoved {
		r.dropOldest()
	}
}

func (r *Resolver) dropOldest() {
	k := r.removed[0]
	r.removed = r.removed[1:]
	r.drop(k)
}

func (r *Resolver) drop(k key) {
	e := r.cgroups[k]
	delete(r.cgroups, k)
	e.record.cgroups--
	if !e.removed {
		e.record.live--
	}
	if e.record.cgroups == 0 && r.byPath[e.record.path] == e.record {
		delete(r.byPath, e.record.path)
		r.pods.remove(e.record.podUID, e.record)
		r.named.remove(e.record.query.ID, e.record)
	}
}

// wantWalk has Run look for the unknown cgroups of a hierarchy. Under mu.
func (r *Resolver) wantWalk(hierarchy uint32) {
	r.toWalk[hierarchy] = true
	select {
	case r.walkWanted <- struct{}{}:
	default:
	}
}

// ask queues a container for its runtime to be asked. Under mu.
func (r *Resolver) ask(rec *record) {
	if rec.query.ID == "" || rec.waiting || rec.parts.info != nil {
		return
	}
	select {
	case r.asks <- rec:
		rec.waiting = true
	default:
		r.loss.queue.Add(1) // Run's sweep finds it again
	}
}

// tell has Run tell the watchers. What a record's workload is at that time is told, so that no later
// change is undone by an earlier one. Under mu.
func (r *Resolver) tell(old *model.Workload, rec *record) {
	if old == nil || len(r.watchers) == 0 {
		return
	}
	r.changes = append(r.changes, change{old, rec})
	select {
	case r.changed <- struct{}{}:
	default:
	}
}
