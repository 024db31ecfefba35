// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/workload/cri"
)

func TestLookup(t *testing.T) {
	cgroups := newCgroups(map[uint64]string{1: "/", 5: "/system.slice/nginx.service", 6: "/system.slice/nginx.service/worker", 7: "/batch/job"})
	r := New(Config{Cgroups: cgroups, Runtimes: new(fakeRuntimes)})
	nginx := r.Lookup(0, 5)
	if nginx == nil || nginx.Name != "nginx.service" || nginx.Kind != model.WorkloadUnit {
		t.Fatalf("got %+v", nginx)
	}
	if w := r.Lookup(0, 6); w != nginx {
		t.Errorf("a cgroup below a unit's has another workload: %+v", w)
	}
	for _, id := range []uint64{1, 7, 99} { // the root, one that is no workload, one that is gone
		if w := r.Lookup(0, id); w != nil {
			t.Errorf("cgroup %d: got %+v, want none", id, w)
		}
	}
	before := cgroups.count()
	for _, id := range []uint64{1, 5, 6, 7, 99} {
		r.Lookup(0, id)
	}
	if after := cgroups.count(); after != before {
		t.Errorf("known cgroups were asked for %d times", after-before)
	}
	if s := r.Stats(); s.Cgroups != 5 || s.Removed != 1 || s.Workloads != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestCgroupsComeAndGo(t *testing.T) {
	cgroups := newCgroups(nil)
	r := New(Config{Cgroups: cgroups, Runtimes: new(fakeRuntimes), KeepRemoved: 2})
	for id := uint64(1); id <= 4; id++ {
		r.CgroupCreated(8, id, fmt.Sprintf("/system.slice/unit-%d.service", id))
	}
	first := r.Lookup(8, 1)
	for id := uint64(1); id <= 3; id++ {
		r.CgroupRemoved(8, id)
		r.CgroupRemoved(8, id) // told twice
	}
	r.CgroupRemoved(8, 77) // never heard of
	if w := r.Lookup(8, 3); w == nil || w.Name != "unit-3.service" {
		t.Errorf("a cgroup that has just gone: %+v", w)
	}
	if cgroups.count() != 0 {
		t.Error("the kernel was asked for a cgroup that it had told of")
	}
	if s := r.Stats(); s.Cgroups != 3 || s.Removed != 2 || s.Workloads != 3 {
		t.Errorf("stats %+v, want the oldest removed cgroup forgotten", s)
	}
	// The unit starts again while the old cgroup is remembered: the same workload.
	third := r.Lookup(8, 3)
	r.CgroupCreated(8, 30, "/system.slice/unit-3.service")
	if w := r.Lookup(8, 30); w != third {
		t.Errorf("a restarted unit is another workload: %p, %p", w, third)
	}
	// … and after it is forgotten: an equal one.
	r.CgroupCreated(8, 10, "/system.slice/unit-1.service")
	if w := r.Lookup(8, 10); w == first || !reflect.DeepEqual(w, first) {
		t.Errorf("got %+v, want a new %+v", w, first)
	}
}

// TestCutPaths: what the kernel could not tell whole is asked for.
func TestCutPaths(t *testing.T) {
	long := "/system.slice/" + strings.Repeat("a/", 600) + "docker/" + idWeb
	r := New(Config{Cgroups: newCgroups(map[uint64]string{5: long, 6: "/init.scope"}), Runtimes: new(fakeRuntimes)})
	r.CgroupCreated(0, 5, long[:maxTracedPath])
	r.CgroupCreated(0, 6, "")
	if w := r.Lookup(0, 5); w == nil || w.ID != idWeb {
		t.Errorf("a long path: %+v", w)
	}
	if w := r.Lookup(0, 6); w == nil || w.Name != "init.scope" {
		t.Errorf("no path: %+v", w)
	}
}

func TestMaxCgroups(t *testing.T) {
	losses := new(pipeline.Losses)
	cgroups := newCgroups(map[uint64]string{})
	r := New(Config{Cgroups: cgroups, Runtimes: new(fakeRuntimes), Losses: losses, MaxCgroups: 10, KeepRemoved: 5})
	for id := uint64(1); id <= 30; id++ {
		path := fmt.Sprintf("/system.slice/unit-%d.service", id)
		cgroups.paths[id] = path
		r.CgroupCreated(0, id, path)
		if id <= 5 {
			r.CgroupRemoved(0, id)
		}
	}
	if s := r.Stats(); s.Cgroups != 10 || s.Workloads != 10 || s.Removed != 0 {
		t.Errorf("stats %+v", s)
	}
	if n := losses.Counter("workload", "cgroup_evicted").Load(); n != 15 {
		t.Errorf("%d evictions counted, want 15: 30 less 10 kept less 5 that were gone", n)
	}
	for id := uint64(6); id <= 30; id++ { // forgotten ones are found again
		if w := r.Lookup(0, id); w == nil || w.Name != fmt.Sprintf("unit-%d.service", id) {
			t.Errorf("cgroup %d: %+v", id, w)
		}
	}
}

// TestNames: a container is known by its id at once, and by its name when the runtime has told it.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimes := new(fakeRuntimes)
		runtimes.set(idWeb, cri.Info{Runtime: "docker", Name: "web", Image: "nginx:1", Labels: map[string]string{"a": "b"}})
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes})
		var told recorder
		r.OnChange(told.changed)
		path := "/system.slice/docker-" + idWeb + ".scope"
		r.CgroupCreated(0, 5, path)
		before := r.Lookup(0, 5)
		if before.Name != idWeb[:12] || before.Image != "" {
			t.Errorf("before: %+v", before)
		}
		start(t, r)
		synctest.Wait()
		want := &model.Workload{Kind: model.WorkloadContainer, Name: "web", ID: idWeb, Runtime: "docker", Image: "nginx:1",
			Slice: "system.slice", Cgroup: path, Labels: map[string]string{"a": "b"}}
		after := r.Lookup(0, 5)
		if !reflect.DeepEqual(after, want) {
			t.Errorf("after: %+v\nwant %+v", after, want)
		}
		if changes := told.all(); len(changes) != 1 || changes[0] != [2]*model.Workload{before, after} {
			t.Errorf("told %v", changes)
		}
		// Another cgroup of the same container asks nobody.
		r.CgroupCreated(0, 6, path+"/init")
		synctest.Wait()
		if w := r.Lookup(0, 6); w != after || len(runtimes.questions()) != 1 {
			t.Errorf("got %p, want %p; %d questions", w, after, len(runtimes.questions()))
		}
	})
}

func TestPodNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimes := new(fakeRuntimes)
		runtimes.set(idAPI, cri.Info{Runtime: "containerd", Name: "api", Image: "api:2", PodName: "api-0",
			Namespace: "prod", PodUID: pod, Container: "api", Labels: map[string]string{"app": "api"}})
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes})
		path := "/kubepods/burstable/pod" + pod + "/" + idAPI
		r.CgroupCreated(0, 5, path)
		if w := r.Lookup(0, 5); w.Kind != model.WorkloadPod || w.Name != pod || w.PodUID != pod {
			t.Errorf("before: %+v", w)
		}
		start(t, r)
		synctest.Wait()
		want := &model.Workload{Kind: model.WorkloadPod, Name: "api-0", Namespace: "prod", ID: idAPI, Runtime: "containerd",
			Image: "api:2", Container: "api", PodUID: pod, Cgroup: path, Labels: map[string]string{"app": "api"}}
		if w := r.Lookup(0, 5); !reflect.DeepEqual(w, want) {
			t.Errorf("after: %+v\nwant %+v", w, want)
		}
	})
}

// TestRetries: a runtime that learns of a container late is asked again, less and less often, and not
// at all once the container has gone.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimes := new(fakeRuntimes)
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes})
		start(t, r)
		r.CgroupCreated(0, 5, "/docker/"+idWeb)
		r.CgroupCreated(0, 6, "/docker/"+idAPI)
		elapse(3 * time.Second) // asked at 0, 0.2, 0.8 and 2.6 s
		if n := len(runtimes.questions()); n != 8 {
			t.Errorf("%d questions in 3 s, want 4 for each", n)
		}
		r.CgroupRemoved(0, 6)
		runtimes.set(idWeb, cri.Info{Name: "web"})
		elapse(10 * time.Second)
		if w := r.Lookup(0, 5); w.Name != "web" {
			t.Errorf("got %+v", w)
		}
		n := len(runtimes.questions())
		elapse(time.Hour)
		if more := len(runtimes.questions()) - n; n != 10 || more != 0 {
			t.Errorf("%d questions, and %d more about containers that are named or gone; want 10 and 0", n, more)
		}
	})
}

// TestRetryForever: a runtime that comes up much later is noticed.
func TestRetryForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimes := new(fakeRuntimes)
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes})
		start(t, r)
		r.CgroupCreated(0, 5, "/docker/"+idWeb)
		elapse(24 * time.Hour)
		if n := len(runtimes.questions()); n < 24*6 || n > 24*6+10 {
			t.Errorf("%d questions in a day, want one every 10 minutes", n)
		}
		runtimes.set(idWeb, cri.Info{Name: "web"})
		elapse(10 * time.Minute)
		if w := r.Lookup(0, 5); w.Name != "web" {
			t.Errorf("got %+v", w)
		}
	})
}

// TestQueueFull: what found no place is counted, and asked for later all the same.
func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimes, losses := new(fakeRuntimes), new(pipeline.Losses)
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes, Losses: losses, Queue: 2})
		for i := range 5 {
			id := fmt.Sprintf("%064x", i)
			runtimes.set(id, cri.Info{Name: fmt.Sprintf("c%d", i)})
			r.CgroupCreated(0, uint64(i), "/docker/"+id)
		}
		if n := losses.Counter("workload", "queue_full").Load(); n != 3 {
			t.Errorf("%d lost, want 3", n)
		}
		start(t, r)
		elapse(5 * time.Minute)
		for i := range 5 {
			if w := r.Lookup(0, uint64(i)); w.Name != fmt.Sprintf("c%d", i) {
				t.Errorf("container %d: %+v", i, w)
			}
		}
	})
}

// TestSlowRuntime: a question that hangs holds up neither Lookup nor other containers.
func TestSlowRuntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimes := &fakeRuntimes{block: make(chan struct{})}
		runtimes.set(idWeb, cri.Info{Name: "web"})
		runtimes.set(idAPI, cri.Info{Name: "api"})
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes})
		start(t, r)
		r.CgroupCreated(0, 5, "/docker/"+idWeb)
		synctest.Wait()
		r.CgroupCreated(0, 6, "/docker/"+idAPI)
		synctest.Wait()
		if w := r.Lookup(0, 5); w.Name != idWeb[:12] {
			t.Errorf("the one that waits: %+v", w)
		}
		if w := r.Lookup(0, 6); w.Name != "api" {
			t.Errorf("the other: %+v", w)
		}
		close(runtimes.block)
		synctest.Wait()
		if w := r.Lookup(0, 5); w.Name != "web" {
			t.Errorf("after: %+v", w)
		}
	})
}

// TestWhoIsAsked: containers that somebody else than the system made must not get the system's names.
func TestWhoIsAsked(t *testing.T) {
	nested := "/docker/" + idAPI + "/docker/" + idWeb
	rootless := "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + idWeb + ".scope"
	for _, c := range []struct {
		path   string
		nested bool
		want   []cri.Query
	}{
		{"/docker/" + idWeb, false, []cri.Query{{ID: idWeb, Runtime: "docker", Owner: model.NoUID}}},
		{"/kubepods/pod" + pod + "/" + idWeb, false, []cri.Query{{ID: idWeb, Owner: model.NoUID}}},
		{rootless, false, []cri.Query{{ID: idWeb, Runtime: "podman", Owner: 1000}}},
		{nested, false, nil},
		{nested, true, []cri.Query{{ID: idWeb, Runtime: "docker", Owner: model.NoUID}}},
		{"/lxc.payload.web", false, nil},
		{"/system.slice/nginx.service", false, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			runtimes := new(fakeRuntimes)
			runtimes.set(idWeb, cri.Info{Name: "web"})
			r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes, AskNested: c.nested})
			start(t, r)
			r.CgroupCreated(0, 5, c.path)
			synctest.Wait()
			if got := runtimes.questions(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: asked %+v, want %+v", c.path, got, c.want)
			}
		})
	}
}

// TestWithoutHandles: where cgroups cannot be opened by id, a walk finds them and the change is told.
func TestWithoutHandles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cgroups := newCgroups(map[uint64]string{5: "/system.slice/nginx.service", 6: "/batch/job"})
		cgroups.err = errors.New("operation not permitted")
		r := New(Config{Cgroups: cgroups, Runtimes: new(fakeRuntimes)})
		var told recorder
		r.OnChange(told.changed)
		start(t, r)
		unknown, gone := r.Lookup(0, 5), r.Lookup(0, 99)
		if unknown == nil || unknown.Kind != model.WorkloadUnknown || unknown == gone {
			t.Fatalf("before the walk: %+v, %+v", unknown, gone)
		}
		synctest.Wait()
		nginx := r.Lookup(0, 5)
		if nginx.Name != "nginx.service" || r.Lookup(0, 6) != nil || r.Lookup(0, 99) != gone {
			t.Errorf("after the walk: %+v, %+v, %+v", nginx, r.Lookup(0, 6), r.Lookup(0, 99))
		}
		if changes := told.all(); len(changes) != 1 || changes[0] != [2]*model.Workload{unknown, nginx} {
			t.Errorf("told %v", changes)
		}
		// Many unknown cgroups share walks.
		for id := uint64(100); id < 200; id++ {
			r.Lookup(0, id)
		}
		elapse(time.Minute)
		if n := r.Stats().Walks; n < 2 || n > 3 {
			t.Errorf("%d walks", n)
		}
	})
}

// TestHierarchyMountedLater: a hierarchy that is mounted while vigie runs is found, by ever rarer tries.
func TestHierarchyMountedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cgroups := newCgroups(map[uint64]string{5: "/system.slice/nginx.service"})
		cgroups.mounted = false
		r := New(Config{Cgroups: cgroups, Runtimes: new(fakeRuntimes)})
		start(t, r)
		for i := range uint64(600) {
			r.Lookup(0, 1000+i)
			elapse(time.Second)
		}
		if n := r.Stats().Walks; n > 20 {
			t.Errorf("%d walks in ten minutes without success", n)
		}
		cgroups.set(func() { cgroups.mounted = true })
		if w := r.Lookup(0, 5); w.Name != "nginx.service" {
			t.Errorf("got %+v", w)
		}
	})
}

// TestKernelTellsLate: the record of a new cgroup comes after the first record of a process in it.
func TestKernelTellsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cgroups := newCgroups(nil)
		cgroups.mounted = false
		r := New(Config{Cgroups: cgroups, Runtimes: new(fakeRuntimes)})
		var told recorder
		r.OnChange(told.changed)
		unknown, accounting := r.Lookup(0, 5), r.Lookup(0, 6)
		r.CgroupCreated(0, 5, "/system.slice/nginx.service")
		r.CgroupCreated(0, 6, "/process_api/0123")
		start(t, r)
		synctest.Wait()
		changes := told.all()
		if len(changes) != 2 || changes[0] != [2]*model.Workload{unknown, r.Lookup(0, 5)} || changes[1][0] != accounting {
			t.Fatalf("told %v", changes)
		}
		if w := changes[1][1]; w.Kind != model.WorkloadProcess || w.Name != "/process_api/0123" {
			t.Errorf("a cgroup that is no workload: %+v", w)
		}
	})
}

func TestPreload(t *testing.T) {
	cgroups := newCgroups(map[uint64]string{1: "/", 5: "/init.scope"})
	r := New(Config{Cgroups: cgroups, Runtimes: new(fakeRuntimes)})
	r.Preload(context.Background())
	if w := r.Lookup(0, 5); w == nil || w.Name != "init.scope" || cgroups.count() != 0 {
		t.Errorf("got %+v, asked for %d", w, cgroups.count())
	}
}

// elapse lets time pass on the clock of a synctest bubble, and what it starts come to rest.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func BenchmarkLookup(b *testing.B) {
	r := New(Config{Cgroups: newCgroups(nil), Runtimes: new(fakeRuntimes)})
	for id := range uint64(5000) {
		r.CgroupCreated(0, id, fmt.Sprintf("/system.slice/unit-%d.service", id))
	}
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			if r.Lookup(0, i%5000) == nil {
				b.Fatal("no workload")
			}
		}
	})
	b.Run("hit-parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for i := uint64(0); p.Next(); i++ {
				if r.Lookup(0, i%5000) == nil {
					b.Error("no workload")
				}
			}
		})
	})
}
