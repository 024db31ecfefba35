// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
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
func (h *Host) Read(ctx context.Context, fn func(Record), flush func()) error {
	security, err := ringbuf.NewReader(h.objs.VgSecurity)
	if err != nil {
		return fmt.Errorf("open the security ring: %w", err)
	}
	defer security.Close()
	telemetry, err := ringbuf.NewReader(h.objs.VgTelemetry)
	if err != nil {
		return fmt.Errorf("open the telemetry ring: %w", err)
	}
	defer telemetry.Close()

	h.setReaders(namedReader{"security ring", security}, namedReader{"telemetry ring", telemetry})
	defer h.setReaders()

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
		n, err := r.pass()
		if err != nil {
			return err
		}
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
	*ringbuf.Reader
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
	security, telemetry *ringbuf.Reader
	fn                  func(Record)
	rec                 ringbuf.Record
	held                []byte // telemetry of this pass, each record preceded by its length as a u64
	ahead               []byte // a security record that is later than the telemetry that still waits
}

// pass takes one batch of telemetry, the security records that belong before it, and, when no more telemetry waits, those
// that came after.
func (r *rings) pass() (int, error) {
	r.held = r.held[:0]
	horizon := uint64(math.MaxUint64)
	held, err := r.drain(r.telemetry, batchRecords, func(rec Record) bool {
		// Padded to eight bytes, so that the records stay aligned.
		r.held = binary.NativeEndian.AppendUint64(r.held, uint64(len(rec)))
		r.held = append(r.held, rec...)
		r.held = append(r.held, make([]byte, -len(rec)&7)...)
		if h := rec.Header(); h != nil {
			horizon = h.Time
		}
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("read the telemetry ring: %w", err)
	}
	// All that was in the security ring when the telemetry above was read was written before it. Go no further than this
	// batch yet: the processes of what waits would have ended, and be forgotten, before their turn. But never let the
	// security ring fill for it.
	if r.security.AvailableBytes() > r.security.BufferSize()/2 {
		horizon = math.MaxUint64
	}
	taken, err := r.drainSecurity(horizon)
	if err != nil {
		return 0, fmt.Errorf("read the security ring: %w", err)
	}
	for b := r.held; len(b) > 0; {
		size := binary.NativeEndian.Uint64(b)
		r.fn(Record(b[8 : 8+size]))
		b = b[8+(size+7)&^7:]
	}
	if held == batchRecords {
		return held + taken, nil // more telemetry waits
	}
	rest, err := r.drainSecurity(math.MaxUint64)
	if err != nil {
		return 0, fmt.Errorf("read the security ring: %w", err)
	}
	return held + taken + rest, nil
}

// drainSecurity hands over security records up to the first that is later than horizon.
func (r *rings) drainSecurity(horizon uint64) (int, error) {
	if len(r.ahead) > 0 {
		if Record(r.ahead).Header().Time > horizon {
			return 0, nil
		}
		r.fn(r.ahead)
		r.ahead = r.ahead[:0]
	}
	return r.drain(r.security, 16*batchRecords, func(rec Record) bool {
		if h := rec.Header(); h != nil && h.Time > horizon {
			r.ahead = append(r.ahead[:0], rec...)
			return false
		}
		r.fn(rec)
		return true
	})
}

// drain hands over what waits in a ring: at most limit records, and none after fn has said false.
func (r *rings) drain(rd *ringbuf.Reader, limit int, fn func(Record) bool) (int, error) {
	rd.SetDeadline(time.Unix(0, 1)) // long past: return at once when nothing waits
	for n := range limit {
		switch err := rd.ReadInto(&r.rec); {
		case err == nil:
			if !fn(Record(r.rec.RawSample)) {
				return n + 1, nil
			}
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringbuf.ErrFlushed):
			return n, nil
		default:
			return n, err
		}
	}
	return limit, nil
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
