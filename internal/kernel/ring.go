// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads a ring buffer of the kernel. It maps the data once, where others map it twice in a row to have each record in one piece:
// every mapped page of it counts as the agent's memory. And nobody waits on it, so it needs no epoll. Not safe for concurrent use,
// but for waiting.
type ring struct {
	consumer, producer []byte // as they are mapped: a page that is ours to write; a page of the kernel's, and the data
	consumed, produced *uint64
	data               []byte
	record             []byte // that was read last
}

// The header of a record is its length and flags, then what only the kernel reads (include/uapi/linux/bpf.h).
const (
	ringBusy    = 1 << 31 // it is being written
	ringDiscard = 1 << 30
	ringHeader  = 8
)

// openRing maps a ring. Close it.
func openRing(m *ebpf.Map) (*ring, error) {
	page := os.Getpagesize()
	consumer, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map where a ring is read: %w", err)
	}
	producer, err := unix.Mmap(m.FD(), int64(page), page+int(m.MaxEntries()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map a ring's data: %w", err), unix.Munmap(consumer))
	}
	return &ring{consumer: consumer, producer: producer, consumed: (*uint64)(unsafe.Pointer(&consumer[0])),
		produced: (*uint64)(unsafe.Pointer(&producer[0])), data: producer[page:]}, nil
}

// next is the record that waits longest, valid until the next call; false when none does.
func (r *ring) next() ([]byte, bool) {
	mask := uint64(len(r.data) - 1)
	for {
		consumed := atomic.LoadUint64(r.consumed)
		if consumed == atomic.LoadUint64(r.produced) {
			return nil, false
		}
		// Headers and records begin at multiples of eight: a header is in one piece. The kernel sets its flags last.
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[consumed&mask])))
		if header&ringBusy != 0 {
			return nil, false
		}
		size := uint64(header &^ (ringBusy | ringDiscard))
		wanted := header&ringDiscard == 0
		if wanted {
			r.record = r.record[:0]
			begin := (consumed + ringHeader) & mask
			first := min(size, uint64(len(r.data))-begin)
			r.record = append(append(r.record, r.data[begin:begin+first]...), r.data[:size-first]...)
		}
		atomic.StoreUint64(r.consumed, consumed+ringHeader+(size+7)&^7)
		if wanted {
			return r.record, true
		}
	}
}

// waiting is how many bytes have been written and not read. Safe for concurrent use.
func (r *ring) waiting() uint64 {
	consumed := atomic.LoadUint64(r.consumed) // first: it never passes what is loaded then
	return atomic.LoadUint64(r.produced) - consumed
}

// size is how many bytes fit.
func (r *ring) size() int { return len(r.data) }

// close unmaps it.
func (r *ring) close() error { return errors.Join(unix.Munmap(r.consumer), unix.Munmap(r.producer)) }
