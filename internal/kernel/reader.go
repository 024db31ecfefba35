// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Reader timing: the kernel never wakes the reader, because a wake-up costs it more than the event
// (bpf/abi.h). Busy or idle, this bounds how late an event is shown.
const (
	busyInterval = 20 * time.Millisecond  // after a tick that brought records
	idleInterval = 100 * time.Millisecond // after several that brought none
	batchRecords = 4096                   // records taken from one ring before the other gets its turn
)

// Read hands every record of both rings to fn until ctx ends, then drains what is left and returns nil.
// flush is called after each batch. Both run in the caller's goroutine; records are valid only until fn
// returns.
//
// Order: within a ring, as written. Across the rings, telemetry is taken first and handed over only after
// the security records that were written before it: so the exec of a process comes before its files.
func (h *Host) Read(ctx context.Context, fn func(Record), flush func()) (err error) {
	security, err := openRing(h.objs.VgSecurity)
	if err != nil {
		return fmt.Errorf("open the security ring: %w", err)
	}
	telemetry, err := openRing(h.objs.VgTelemetry)
	if err != nil {
		return errors.Join(fmt.Errorf("open the telemetry ring: %w", err), security.close())
	}

	h.setReaders(namedReader{"security ring", security}, namedReader{"telemetry ring", telemetry})
	defer func() {
		h.setReaders() // before there is nothing to look at any more
		err = errors.Join(err, security.close(), telemetry.close())
	}()

	r := rings{security: security, telemetry: telemetry, fn: fn}
	if h.since != 0 {
		r.fn = func(rec Record) {
			if hdr := rec.Header(); hdr == nil || hdr.Time >= h.since {
				fn(rec)
			}
		}
	}
	interval := busyInterval
	for {
		n := r.pass()
		flush()
		if ctx.Err() != nil && n == 0 {
			return nil
		}
		if n > 0 {
			interval = busyInterval
		} else if interval < idleInterval {
			interval += busyInterval
		}
		if ctx.Err() == nil && n < batchRecords {
			// Let records gather: one pass over many costs far less than many passes over few.
			sleep(ctx, interval)
		}
	}
}

// namedReader is a ring's reader, kept to tell how full the ring is.
type namedReader struct {
	name string
	*ring
}

func (h *Host) setReaders(r ...namedReader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readers = r
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

type rings struct {
	security, telemetry *ring
	fn                  func(Record)
	held                []byte // telemetry of this pass, each record preceded by its length as a u64
	ahead               []byte // a security record that is later than the telemetry that still waits
}

// pass takes one batch of telemetry, the security records that belong before it, and, when no more telemetry waits, those
// that came after.
func (r *rings) pass() int {
	r.held = r.held[:0]
	horizon := uint64(math.MaxUint64)
	held := drain(r.telemetry, batchRecords, func(rec Record) bool {
		// Padded to eight bytes, so that the records stay aligned.
		r.held = binary.NativeEndian.AppendUint64(r.held, uint64(len(rec)))
		r.held = append(r.held, rec...)
		r.held = append(r.held, make([]byte, -len(rec)&7)...)
		if h := rec.Header(); h != nil {
			horizon = h.Time
		}
		return true
	})
	// All that was in the security ring when the telemetry above was read was written before it. Go no further than this
	// batch yet: the processes of what waits would have ended, and be forgotten, before their turn. But never let the
	// security ring fill for it.
	if r.security.waiting() > uint64(r.security.size()/2) {
		horizon = math.MaxUint64
	}
	taken := r.drainSecurity(horizon)
	for b := r.held; len(b) > 0; {
		size := binary.NativeEndian.Uint64(b)
		r.fn(Record(b[8 : 8+size]))
		b = b[8+(size+7)&^7:]
	}
	if held == batchRecords {
		return held + taken // more telemetry waits
	}
	return held + taken + r.drainSecurity(math.MaxUint64)
}

// drainSecurity hands over security records up to the first that is later than horizon.
func (r *rings) drainSecurity(horizon uint64) int {
	if len(r.ahead) > 0 {
		if Record(r.ahead).Header().Time > horizon {
			return 0
		}
		r.fn(r.ahead)
		r.ahead = r.ahead[:0]
	}
	return drain(r.security, 16*batchRecords, func(rec Record) bool {
		if h := rec.Header(); h != nil && h.Time > horizon {
			r.ahead = append(r.ahead[:0], rec...)
			return false
		}
		r.fn(rec)
		return true
	})
}

// drain hands over what waits in a ring: at most limit records, and none after fn has said false.
func drain(from *ring, limit int, fn func(Record) bool) int {
	for n := range limit {
		rec, ok := from.next()
		if !ok {
			return n
		}
		if !fn(rec) {
			return n + 1
		}
	}
	return limit
}

// eachRecord reads length-prefixed records from an iterator.
func eachRecord(r io.Reader, fn func(Record) error) error {
	var size [4]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(r, size[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read from the iterator: %w", err)
		}
		n := int(binary.NativeEndian.Uint32(size[:]))
		if cap(buf) < n {
			buf = make([]byte, n, 2*n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			return fmt.Errorf("read from the iterator: %w", err)
		}
		if err := fn(Record(buf)); err != nil {
			return err
		}
	}
}
