// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/workload/cri"
	"github.com/vigie-io/vigie/internal/workload/host"
)

const (
	idWeb = "3f4e1c5a9b7d2e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7"
	idAPI = "b0c1d2e3f405162738495a6b7c8d9eaf0b1c2d3e4f5061728394a5b6c7d8e9f0"
	pod   = "0c8b2f4e-6d1a-4a3b-9c5d-7e8f90a1b2c3"
)

// fakeCgroups is a host with one hierarchy.
type fakeCgroups struct {
	mu      sync.Mutex
	paths   map[uint64]string
	err     error // of Path, in place of an answer
	mounted bool
	asked   int
}

func newCgroups(paths map[uint64]string) *fakeCgroups {
	return &fakeCgroups{paths: paths, mounted: true}
}

func (f *fakeCgroups) Path(hierarchy uint32, id uint64) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if hierarchy != 0 || !f.mounted {
		return "", host.ErrNoHierarchy
	}
	if f.err != nil {
		return "", f.err
	}
	if path, ok := f.paths[id]; ok {
		return path, nil
	}
	return "", host.ErrGone
}

func (f *fakeCgroups) Walk(_ context.Context, hierarchy uint32, found func(uint64, string)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if hierarchy != 0 || !f.mounted {
		return host.ErrNoHierarchy
	}
	for id, path := range f.paths {
		found(id, path)
	}
	return nil
}

func (f *fakeCgroups) Refresh() error { return nil }
func (f *fakeCgroups) Close() error   { return nil }

func (f *fakeCgroups) Hierarchies() []host.Hierarchy {
	return []host.Hierarchy{{Mount: "/sys/fs/cgroup", Root: "/"}}
}

func (f *fakeCgroups) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeCgroups) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// fakeRuntimes answers with what it has been given.
type fakeRuntimes struct {
	mu    sync.Mutex
	infos map[string]cri.Info
	asked []cri.Query
	block chan struct{} // when set, questions about idWeb wait for it

	watching chan watching // when set, gets what Watch was called with
}

// watching is how a runtime tells.
type watching struct {
	found     func(string, cri.Info)
	connected func()
}

// fakePods is what Kubernetes knows.
type fakePods struct {
	mu   sync.Mutex
	pods map[string]*model.Pod

	ended []string
}

func (f *fakePods) PodByUID(uid string) *model.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[uid]
}

func (f *fakePods) PodEnded(uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, uid)
}

func (f *fakePods) set(uid string, p *model.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pods == nil {
		f.pods = make(map[string]*model.Pod)
	}
	f.pods[uid] = p
}

// fakeNames is kubelet's directory.
type fakeNames map[string][2]string

func (f fakeNames) Find(uid string) (namespace, name string, ok bool) {
	n, ok := f[uid]
	return n[0], n[1], ok
}

func (f *fakeRuntimes) Inspect(ctx context.Context, q cri.Query) (cri.Info, error) {
	f.mu.Lock()
	f.asked = append(f.asked, q)
	info, ok := f.infos[q.ID]
	block := f.block
	f.mu.Unlock()
	if block != nil && q.ID == idWeb {
		select {
		case <-block:
		case <-ctx.Done():
			return cri.Info{}, ctx.Err()
		}
	}
	if !ok {
		return cri.Info{}, cri.ErrNotFound
	}
	return info, nil
}

func (f *fakeRuntimes) Watch(ctx context.Context, found func(string, cri.Info), connected func()) {
	if f.watching != nil {
		f.watching <- watching{found, connected}
	}
	<-ctx.Done()
}

func (f *fakeRuntimes) Close() error { return nil }

func (f *fakeRuntimes) set(id string, info cri.Info) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.infos == nil {
		f.infos = make(map[string]cri.Info)
	}
	f.infos[id] = info
}

func (f *fakeRuntimes) questions() []cri.Query {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]cri.Query(nil), f.asked...)
}

// recorder keeps what OnChange told.
type recorder struct {
	mu      sync.Mutex
	changes [][2]*model.Workload
}

func (c *recorder) changed(old, next *model.Workload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes = append(c.changes, [2]*model.Workload{old, next})
}

func (c *recorder) all() [][2]*model.Workload {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([][2]*model.Workload(nil), c.changes...)
}

// start runs r until the test ends.
func start(t *testing.T, r *Resolver) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, r.Close()); err != nil {
			t.Error(err)
		}
	})
}
