// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/workload/cri"
	"github.com/vigie-io/vigie/internal/workload/host"
)

// sweepEvery is how often containers that found the queue full are looked for.
const sweepEvery = time.Minute

// Run asks the runtimes for names and looks for cgroups that could not be found by id, until ctx ends.
func (r *Resolver) Run(ctx context.Context) error {
	due := make(chan *record)
	answers := make(chan answer)
	var tasks sync.WaitGroup
	for range r.cfg.Askers {
		tasks.Go(func() { r.asker(ctx, due, answers) })
	}
	tasks.Go(func() { r.walker(ctx) })
	tasks.Go(func() { r.teller(ctx) })
	tasks.Go(func() { r.cfg.Runtimes.Watch(ctx, r.container, r.askAgain) })
	r.schedule(ctx, due, answers)
	tasks.Wait()
	return nil
}

// answer is the outcome of asking for one container.
type answer struct {
	record *record
	named  bool
}

// schedule hands containers to the askers when they are due, first for the first time and then, while
// their cgroups are there, again after longer and longer waits: a runtime may know a container only
// after its cgroup was made, or come up later.
func (r *Resolver) schedule(ctx context.Context, due chan<- *record, answers <-chan answer) {
	var waiting attempts
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var next *record
		var out chan<- *record // nil, so never ready, unless one is due
		if len(waiting) > 0 {
			if wait := time.Until(waiting[0].at); wait <= 0 {
				next, out = waiting[0].record, due
			} else {
				timer.Reset(wait)
			}
		}
		select {
		case <-ctx.Done():
			return
		case rec := <-r.asks:
			heap.Push(&waiting, attempt{time.Now(), rec})
		case out <- next:
			heap.Pop(&waiting)
		case a := <-answers:
			if !a.named && r.stillLive(a.record) {
				heap.Push(&waiting, attempt{time.Now().Add(r.retryAfter(a.record.failed)), a.record})
				a.record.failed++
			}
		case <-r.again:
			for i := range waiting {
				waiting[i].at = time.Now()
			}
		case <-timer.C:
		case <-sweep.C:
			r.sweep()
		}
	}
}

func (r *Resolver) retryAfter(failed int) time.Duration {
	wait := r.cfg.RetryFirst
	for range failed {
		if wait *= 3; wait >= r.cfg.RetryMax {
			return r.cfg.RetryMax
		}
	}
	return wait
}

// stillLive reports whether a container has a cgroup that is not removed. Where it has none it may be
// asked for again if one comes.
func (r *Resolver) stillLive(rec *record) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.waiting = rec.live > 0
	return rec.waiting
}

// sweep queues the containers that found the queue full.
func (r *Resolver) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.byPath {
		if rec.live > 0 && len(r.asks) < cap(r.asks) {
			r.ask(rec)
		}
	}
}

func (r *Resolver) asker(ctx context.Context, due <-chan *record, answers chan<- answer) {
	for {
		select {
		case <-ctx.Done():
			return
		case rec := <-due:
			r.asked.Add(1)
			info, err := r.cfg.Runtimes.Inspect(ctx, rec.query)
			switch {
			case err == nil:
				r.name(rec, info)
			case errors.Is(err, cri.ErrNotFound), ctx.Err() != nil:
			default:
				r.cfg.Logger.Debug("container is not named yet", "container", rec.query.ID, "error", err)
			}
			select {
			case answers <- answer{rec, err == nil}:
			case <-ctx.Done():
				return
			}
		}
	}
}

// walker walks through the hierarchies in which cgroups could not be found by id. Walks that find
// nothing new come less and less often.
func (r *Resolver) walker(ctx context.Context) {
	pause := r.cfg.WalkPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.walkWanted:
		}
		if r.walkAll(ctx) {
			pause = r.cfg.WalkPause
		} else {
			pause = min(2*pause, time.Minute)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// walkAll reports whether any cgroup was found that was asked for.
func (r *Resolver) walkAll(ctx context.Context) bool {
	r.mu.Lock()
	wanted := r.toWalk
	r.toWalk = make(map[uint32]bool)
	r.mu.Unlock()
	if err := r.cfg.Cgroups.Refresh(); err != nil {
		r.cfg.Logger.Debug("cannot read the cgroup mounts", "error", err)
	}
	progress := false
	for h := range wanted {
		unknown := r.unknown(h)
		err := r.walk(ctx, h)
		if err != nil && !errors.Is(err, host.ErrNoHierarchy) && ctx.Err() == nil {
			r.cfg.Logger.Warn("cannot look for unknown cgroups", "hierarchy", h, "error", err)
		}
		r.mu.Lock()
		for _, k := range unknown {
			e, ok := r.cgroups[k]
			if ok && e.record.path != "" {
				progress = true
			} else if ok {
				r.setRemoved(k) // gone, or nowhere to be seen
			}
		}
		r.mu.Unlock()
	}
	return progress
}

// unknown lists the cgroups of a hierarchy whose path is not known and that are not known to be gone.
func (r *Resolver) unknown(hierarchy uint32) []key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []key
	for k, e := range r.cgroups {
		if k.hierarchy == hierarchy && e.record.path == "" && !e.removed {
			out = append(out, k)
		}
	}
	return out
}

func (r *Resolver) walk(ctx context.Context, hierarchy uint32) error {
	r.walks.Add(1)
	return r.cfg.Cgroups.Walk(ctx, hierarchy, func(id uint64, path string) {
		r.add(key{hierarchy, id}, path, false)
	})
}

// teller tells the watchers of changes, in order. What waits here is bounded by the workloads: each is
// named once, and each unknown cgroup is found once.
func (r *Resolver) teller(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		}
		r.mu.Lock()
		changes, watchers := r.changes, r.watchers
		r.changes = nil
		r.mu.Unlock()
		for _, c := range changes {
			next := c.record.current.Load()
			for _, watcher := range watchers {
				watcher(c.old, next)
			}
		}
	}
}

// attempts is a heap of containers by the time at which they are to be asked for.
type attempts []attempt

type attempt struct {
	at     time.Time
	record *record
}

func (a attempts) Len() int           { return len(a) }
func (a attempts) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a attempts) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *attempts) Push(x any)        { *a = append(*a, x.(attempt)) }
func (a *attempts) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	*a = (*a)[:last]
	return x
}
