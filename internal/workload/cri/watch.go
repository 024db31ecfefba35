// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// watcher is a client whose runtime tells of containers by itself.
type watcher interface {
	// watch tells of a container when it has been made, which is before it is started, and of the others of its pod; and that
	// it has begun to listen. It returns when it can tell no more: errors.ErrUnsupported when the runtime does not tell.
	watch(ctx context.Context, found func(id string, info Info), connected func()) error
}

// How long until a runtime that is not there, or does not tell, is tried again.
const (
	watchAgain  = time.Second
	watchAbsent = 10 * time.Second
	watchNever  = 10 * time.Minute
)

// Watch tells of containers before they are started, where their runtime says so, until ctx ends. found and connected are called by
// several goroutines. connected: what was made while nobody listened has to be asked for.
func (s *Set) Watch(ctx context.Context, found func(id string, info Info), connected func()) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for _, c := range s.clients {
		if w, ok := c.client.(watcher); ok {
			tasks.Go(func() { c.watch(ctx, w, found, connected) })
		}
	}
}

func (g *guarded) watch(ctx context.Context, w watcher, found func(id string, info Info), connected func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := watchAbsent
		if _, err := os.Stat(g.endpoint.Socket); err == nil {
			err = w.watch(ctx, found, func() {
				g.mu.Lock()
				g.held = time.Time{} // it answers again
				g.mu.Unlock()
				connected()
			})
			if wait = watchAgain; errors.Is(err, errors.ErrUnsupported) {
				wait = watchNever
			}
		}
		timer.Reset(wait)
	}
}
