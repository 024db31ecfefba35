// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"

	"github.com/vigie-io/vigie/internal/model"
)

// Changes are what has become different since they were taken last. What changed several times is here once.
type Changes struct {
	// All: more has changed than is remembered (maxChanges), or it is the first time: look at everything again. The lists are empty.
	All        bool
	Pods       map[string]PodChange // by uid
	Namespaces map[string]bool      // names of those that are new, different or gone
	Nodes      map[string]bool
	Services   map[ServiceName]bool
}

// PodChange is what a pod was and what it is.
type PodChange struct {
	Old *model.Pod // nil: it is new
	New *model.Pod // nil: it is gone
}

// maxChanges bounds what is remembered for one subscriber who does not come for it.
const maxChanges = 8192

// Subscription tells one reader that something has changed, and what. Close it.
type Subscription struct {
	view *View
	wake chan struct{}

	mu      sync.Mutex
	pending Changes
}

// Subscribe begins with Changes that say All.
func (v *View) Subscribe() *Subscription {
	s := &Subscription{view: v, wake: make(chan struct{}, 1), pending: Changes{All: true}}
	s.wake <- struct{}{}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watchers[s] = struct{}{}
	return s
}

// Changed delivers when there is something to Take.
func (s *Subscription) Changed() <-chan struct{} { return s.wake }

// Take gives what has changed since it was called last.
func (s *Subscription) Take() Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.pending
	s.pending = Changes{}
	return c
}

// Close ends it.
func (s *Subscription) Close() {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	delete(s.view.watchers, s)
}

// Empty reports whether nothing has changed.
func (c *Changes) Empty() bool {
	return !c.All && len(c.Pods) == 0 && len(c.Namespaces) == 0 && len(c.Nodes) == 0 && len(c.Services) == 0
}

// changed notes a change for everybody who wants to know. Under View.mu.
func (v *View) changed(note func(*Changes)) {
	v.generation++
	for s := range v.watchers {
		s.note(note)
	}
}

func (s *Subscription) note(note func(*Changes)) {
	s.mu.Lock()
	if !s.pending.All {
		note(&s.pending)
		if c := &s.pending; len(c.Pods)+len(c.Namespaces)+len(c.Nodes)+len(c.Services) > maxChanges {
			s.pending = Changes{All: true}
		}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (c *Changes) pod(uid string, old, next *model.Pod) {
	if c.Pods == nil {
		c.Pods = make(map[string]PodChange)
	}
	if before, ok := c.Pods[uid]; ok {
		old = before.Old
	}
	c.Pods[uid] = PodChange{old, next}
}

func (c *Changes) namespace(name string) { mark(&c.Namespaces, name) }
func (c *Changes) node(name string)      { mark(&c.Nodes, name) }
func (c *Changes) service(s ServiceName) { mark(&c.Services, s) }

func mark[K comparable](m *map[K]bool, k K) {
	if *m == nil {
		*m = make(map[K]bool)
	}
	(*m)[k] = true
}
