// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is what the agent and its watchdog share: one piece of memory that both have mapped. The agent reads each event
// straight into a slot, so there is no moment at which an event is taken from the kernel and in no slot.
type page struct {
	heartbeat atomic.Uint64 // when the agent's reader was last seen at work, CLOCK_MONOTONIC, ns
	limit     uint64        // how late the heartbeat or an answer may be, ns
	// What the watchdog answered, which the agent reports when it is back.
	allowed, denied atomic.Uint64
	// denies has a bit for each table whose policy wants a denial where the agent does not answer.
	denies [tables / 64]atomic.Uint64
	slots  [slotCount]slot
}

const (
	tables    = 65536 // VG_TABLES
	slotCount = 512   // opens that can be in the agent's hands at once; more wait in the kernel
	eventSize = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
)

// slot is an event in the agent's hands.
type slot struct {
	event unix.FanotifyEventMetadata // written by the kernel
	taken atomic.Uint64              // when, CLOCK_MONOTONIC, ns
	state atomic.Uint32
	group uint32 // which of the two the event is of: near or wide
}

// The states of a slot. Only the agent closes an event's descriptor, and never while the state is rescuing: the kernel
// knows an event by its descriptor's number, so that an answer of the watchdog could reach the next event with that number.
const (
	slotFree     uint32 = iota
	slotReading         // the kernel may write an event into it
	slotTaken           // the agent is to answer it
	slotRescuing        // the watchdog is answering it
	slotRescued         // the watchdog has answered it
)

// newPage makes a page in a file that has no name; the caller closes the file.
func newPage(limit time.Duration) (*page, *os.File, error) {
	fd, err := unix.MemfdCreate("vigie-watchdog", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("make the memory that is shared with the watchdog: %w", err)
	}
	f := os.NewFile(uintptr(fd), "watchdog page")
	if err := f.Truncate(int64(unsafe.Sizeof(page{}))); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("make the memory that is shared with the watchdog: %w", err)
	}
	p, err := mapPage(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	p.limit = uint64(limit)
	return p, f, nil
}

func mapPage(f *os.File) (*page, error) {
	size := int(unsafe.Sizeof(page{}))
	if info, err := f.Stat(); err != nil || info.Size() < int64(size) {
		return nil, fmt.Errorf("the memory that is shared with the watchdog is not that of this version")
	}
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the memory that is shared with the watchdog: %w", err)
	}
	return (*page)(unsafe.Pointer(unsafe.SliceData(b))), nil
}

func (p *page) unmap() error {
	return unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(page{})))
}

// setDenies says for which tables the watchdog denies.
func (p *page) setDenies(deny func(table int) bool) {
	for w := range p.denies {
		var bits uint64
		for b := range 64 {
			if deny(w*64 + b) {
				bits |= 1 << b
			}
		}
		if p.denies[w].Load() != bits {
			p.denies[w].Store(bits)
		}
	}
}

func (p *page) timeoutDenies(table uint16) bool {
	return p.denies[table/64].Load()&(1<<(table%64)) != 0
}

// monotonic is a clock that two processes share.
type monotonic struct {
	base  uint64
	start time.Time
}

func newMonotonic() (monotonic, error) {
	var ts unix.Timespec
	start := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return monotonic{}, fmt.Errorf("read the clock: %w", err)
	}
	return monotonic{base: uint64(ts.Nano()), start: start}, nil
}

// now is CLOCK_MONOTONIC in ns, without a system call.
func (m monotonic) now() uint64 { return m.base + uint64(time.Since(m.start)) }
