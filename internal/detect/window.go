// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"container/list"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/expression"
)

// Bounds of what a rule remembers. Of more keys the one that was used longest ago is forgotten: its count begins again, so
// that a rate limit rather tells too much, and a threshold too little.
const (
	maxKeys      = 1024
	maxCount     = 100_000
	maxDifferent = 256 // values of `different` for a key
	maxWindow    = 24 * time.Hour
)

// limit is "N/DURATION by FIELD, FIELD": so many, in so long, for each value of the fields.
type limit struct {
	n      uint64
	window time.Duration
	by     []*expression.Text
}

// parseLimit reads a limit; at is where in s an expression is that the error is about.
func parseLimit(l *expression.Language, s string) (_ *limit, at int, _ error) {
	amount, fields, keyed := strings.Cut(s, " by ")
	count, window, ok := strings.Cut(strings.TrimSpace(amount), "/")
	if !ok {
		return nil, 0, fmt.Errorf("%q: write it as 1/1m by process.binary", s)
	}
	out := new(limit)
	var err error
	if out.n, err = strconv.ParseUint(count, 10, 64); err != nil || out.n == 0 || out.n > maxCount {
		return nil, 0, fmt.Errorf("%q is no count: write a number from 1 to %d", count, maxCount)
	}
	if window != "" && (window[0] < '0' || window[0] > '9') {
		window = "1" + window // 5/s
	}
	if out.window, err = time.ParseDuration(window); err != nil || out.window <= 0 || out.window > maxWindow {
		return nil, 0, fmt.Errorf("%q is no time: write 10s, 1m or 1h, at most %s", window, maxWindow)
	}
	if !keyed {
		return out, 0, nil
	}
	at = len(amount) + len(" by ")
	for field := range strings.SplitSeq(fields, ",") {
		lead := len(field) - len(strings.TrimLeft(field, " "))
		x, err := l.Text(strings.TrimSpace(field))
		if err != nil {
			return nil, at + lead, err
		}
		out.by, at = append(out.by, x), at+len(field)+1
	}
	return out, 0, nil
}

// key is the subject's value of the fields.
func (l *limit) key(s *expression.Subject) (string, error) {
	switch len(l.by) {
	case 0:
		return "", nil
	case 1:
		return l.by[0].Of(s)
	}
	var parts []string
	var errs []error
	for _, by := range l.by {
		v, err := by.Of(s)
		parts, errs = append(parts, v), append(errs, err)
	}
	return strings.Join(parts, "\x00"), errors.Join(errs...)
}

// keyed holds a T for each of at most maxKeys keys, those that were used last.
type keyed[T any] struct {
	entries map[string]*list.Element
	order   *list.List // of *keyedEntry[T], used last at the front
}

type keyedEntry[T any] struct {
	key   string
	value T
}

// of is the entry of a key, a new one when there is none.
func (k *keyed[T]) of(key string) *T {
	if k.entries == nil {
		k.entries, k.order = make(map[string]*list.Element), list.New()
	}
	if e := k.entries[key]; e != nil {
		k.order.MoveToFront(e)
		return &e.Value.(*keyedEntry[T]).value
	}
	if len(k.entries) >= maxKeys {
		oldest := k.order.Remove(k.order.Back()).(*keyedEntry[T])
		delete(k.entries, oldest.key)
	}
	e := &keyedEntry[T]{key: strings.Clone(key)}
	k.entries[e.key] = k.order.PushFront(e)
	return &e.value
}

// rate holds back alerts beyond a limit.
type rate struct {
	limit
	keys keyed[struct {
		since            time.Duration
		raised, heldBack uint64
	}]
}

// allow reports whether one more alert may be raised now, and how many were held back before it.
func (r *rate) allow(key string, now time.Duration) (allowed bool, heldBack uint64) {
	k := r.keys.of(key)
	if k.raised == 0 || now-k.since >= r.window {
		k.since, k.raised = now, 0
	}
	if k.raised >= r.n {
		k.heldBack++
		return false, 0
	}
	k.raised++
	heldBack, k.heldBack = k.heldBack, 0
	return true, heldBack
}

// slots is into how many parts the window of a threshold is divided: what is older than a window leaves it a part at a time.
const slots = 8

// threshold counts until there are n within the window, then begins again.
type threshold struct {
	limit
	different *expression.Text // count the different values of this; nil counts events
	seed      maphash.Seed
	keys      keyed[tally]
}

type tally struct {
	counts [slots]uint64
	latest int64 // number of the slot that is counted in
	seen   map[uint64]time.Duration
}

// reached adds an event and reports whether the threshold is.
func (t *threshold) reached(key, value string, count uint64, now time.Duration) bool {
	k := t.keys.of(key)
	if t.different == nil {
		return t.reachedCount(k, count, now)
	}
	if k.seen == nil {
		k.seen = make(map[uint64]time.Duration)
	}
	k.seen[maphash.String(t.seed, value)] = now
	if uint64(len(k.seen)) < t.n {
		return false
	}
	for h, at := range k.seen {
		if now-at >= t.window {
			delete(k.seen, h)
		}
	}
	if uint64(len(k.seen)) < t.n {
		return false
	}
	k.seen = nil
	return true
}

func (t *threshold) reachedCount(k *tally, count uint64, now time.Duration) bool {
	// What was folded is reported late: an event can be older than the one before it.
	slot := max(int64(now/max(t.window/slots, 1)), k.latest)
	if gone := slot - k.latest; gone >= slots {
		k.counts = [slots]uint64{}
	} else {
		for i := range gone {
			k.counts[(k.latest+1+i)%slots] = 0
		}
	}
	k.latest = slot
	k.counts[slot%slots] += count
	var sum uint64
	for _, n := range k.counts {
		sum += n
	}
	if sum < t.n {
		return false
	}
	k.counts = [slots]uint64{}
	return true
}
