// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"sync"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/server"
)

// initTrees finds the first process of each pid namespace, which is the root of a container's own tree: what was put
// into the container from outside does not descend from it. Safe for concurrent use.
type initTrees struct {
	backend server.Backend

	mu    sync.Mutex
	roots map[uint32]model.ProcessKey // by the namespace's inode number
}

// maxRoots bounds what is remembered; a root that was forgotten is looked for again.
const maxRoots = 4096

// holds reports whether p is in the tree of its pid namespace's first process.
func (t *initTrees) holds(p *model.Process) bool {
	root := t.root(p)
	if root == nil {
		return false
	}
	if sameProcess(p.Key, root.Key) {
		return true
	}
	for _, a := range t.backend.Ancestors(p) {
		if sameProcess(a.Key, root.Key) {
			return true
		}
	}
	return false
}

// root is the first process of p's pid namespace; nil when it is not known.
func (t *initTrees) root(p *model.Process) *model.Process {
	ns := p.Namespaces.PID
	if ns == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if key, ok := t.roots[ns]; ok {
		// The kernel gives an inode number to another namespace when the first is gone.
		if r := t.backend.ProcessByPID(key.PID); r != nil && sameProcess(r.Key, key) && lived(r, p) {
			return r
		}
	}
	var first *model.Process
	for _, r := range t.backend.Processes(true) {
		if r.Namespaces.PID == ns && lived(r, p) && (first == nil || r.Key.Start < first.Key.Start) {
			first = r
		}
	}
	if first == nil {
		return nil
	}
	if t.roots == nil || len(t.roots) >= maxRoots {
		t.roots = make(map[uint32]model.ProcessKey)
	}
	t.roots[ns] = first.Key
	return first
}

// lived reports whether r had not ended when p began.
func lived(r, p *model.Process) bool { return r.EndTime.IsZero() || !r.EndTime.Before(p.StartTime) }

func sameProcess(a, b model.ProcessKey) bool { return a.PID == b.PID && a.Start == b.Start }
