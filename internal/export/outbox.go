// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"sync"
	"time"
)

// outbox is the queue between encoding and sending, bounded by the bytes of what is in it and of what was taken
// and not released yet. One goroutine puts, one takes.
type outbox[T any] struct {
	limit int // bytes

	mu     sync.Mutex
	items  []boxed[T]
	bytes  int // of items, and of what was taken and not released
	queued int // bytes of items alone
	closed bool

	ready chan struct{} // something was put, or the box was closed
	space chan struct{} // something was released
}

type boxed[T any] struct {
	item  T
	bytes int
}

func newOutbox[T any](limit int) *outbox[T] {
	return &outbox[T]{limit: limit, ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

// put adds an item, unless there is no room for it. An empty box takes an item of any size.
func (b *outbox[T]) put(item T, bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes > 0 && b.bytes+bytes > b.limit {
		return false
	}
	b.items = append(b.items, boxed[T]{item, bytes})
	b.bytes += bytes
	b.queued += bytes
	signal(b.ready)
	return true
}

// take waits for a batch: as much as it may hold, or what there is when linger has passed since something was.
// It returns nothing when ctx ended, or the box is closed and empty. The caller releases the bytes.
func (b *outbox[T]) take(ctx context.Context, maxItems, maxBytes int, linger time.Duration) (batch []T, bytes int) {
	var timer *time.Timer
	var due <-chan time.Time
	for late := false; ; {
		b.mu.Lock()
		n := len(b.items)
		if n > 0 && (late || b.closed || n >= maxItems || b.queued >= maxBytes) {
			batch, bytes = b.cut(maxItems, maxBytes)
		}
		end := b.closed && n == 0
		b.mu.Unlock()
		if batch != nil || end {
			if timer != nil {
				timer.Stop()
			}
			return batch, bytes
		}
		if n > 0 && timer == nil {
			timer = time.NewTimer(linger)
			due = timer.C
		}
		select {
		case <-b.ready:
		case <-due:
			late = true
		case <-ctx.Done():
			return nil, 0
		}
	}
}

// cut takes items off the front, at least one. Called with b.mu held.
func (b *outbox[T]) cut(maxItems, maxBytes int) (batch []T, bytes int) {
	n := 0
	for n < len(b.items) && n < maxItems && (n == 0 || bytes+b.items[n].bytes <= maxBytes) {
		batch = append(batch, b.items[n].item)
		bytes += b.items[n].bytes
		n++
	}
	clear(b.items[:n]) // a burst's items are not kept by the array under the slice
	b.items = b.items[n:]
	if len(b.items) == 0 {
		b.items = nil
	}
	b.queued -= bytes
	return batch, bytes
}

// release makes room of what was taken.
func (b *outbox[T]) release(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes -= bytes
	signal(b.space)
}

// close lets what is inside be taken at once, and nothing wait for more.
func (b *outbox[T]) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	signal(b.ready)
}

// empty throws away what was not taken and says how much that was.
func (b *outbox[T]) empty() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.items)
	b.items, b.bytes, b.queued = nil, b.bytes-b.queued, 0
	return n
}

func (b *outbox[T]) size() (items, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items), b.bytes
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
