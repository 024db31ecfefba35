// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce/subject"
)

// What the watchdog inherits, by number.
const (
	watchdogNear = 3 + iota
	watchdogWide
	watchdogSubjects
	watchdogPage
	watchdogPipe // its other end is the agent's: closed when that has ended, whatever ended it
)

// maxReserved is how many numbers the watchdog leaves to the agent: its own events have descriptors above them. The kernel
// matches an answer to an event by that number alone, across the processes that read a group.
const maxReserved = 1 << 15

// Watch is the watchdog: it answers in the agent's place when that is late, by what the policies of the process say of
// such a case, until the agent has ended. In: the descriptors that the agent's back-end passes on. Then the last
// descriptor of the group is gone and the kernel lets everything go on that still waits.
func Watch() error {
	w, err := newWatchdog()
	if err != nil {
		return fmt.Errorf("start the watchdog (the agent starts it, it is no command for people): %w", err)
	}
	return w.run()
}

type watchdog struct {
	groups   groups
	page     *page
	subjects *ebpf.Map
	clock    monotonic
	who      threads
}

func newWatchdog() (*watchdog, error) {
	// First, so that nothing of the runtime's comes to lie among them.
	if err := occupy(maxReserved); err != nil {
		return nil, err
	}
	clock, err := newMonotonic()
	if err != nil {
		return nil, err
	}
	m, err := ebpf.NewMapFromFD(watchdogSubjects)
	if err != nil {
		return nil, fmt.Errorf("take over the processes under policies: %w", err)
	}
	p, err := mapPage(os.NewFile(watchdogPage, "page"))
	if err != nil {
		return nil, err
	}
	return &watchdog{groups: groups{{watchdogNear}, {watchdogWide}}, page: p, subjects: m, clock: clock}, nil
}

// occupy leaves no free descriptor below a number, or below what the limit of open files leaves of it.
func occupy(below int) error {
	const own = 1024 // descriptors of the watchdog's own above it
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Max < 2*own {
		return fmt.Errorf("at most %d files can be open, and the watchdog needs %d: raise the limit (LimitNOFILE=)", limit.Max, 2*own)
	}
	limit.Cur = min(limit.Max, uint64(below+own))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the number of open files to %d: %w", limit.Cur, err)
	}
	below = int(limit.Cur) - own
	for {
		fd, err := unix.FcntlInt(watchdogPipe, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("reserve numbers of open files: %w", err)
		}
		if fd >= below {
			return unix.Close(fd)
		}
	}
}

// run looks several times within the limit, and all the time while the agent is late.
func (w *watchdog) run() error {
	limit := time.Duration(w.page.limit)
	calm := max(1, int(limit/5/time.Millisecond))
	for {
		late := w.clock.now() > w.page.heartbeat.Load()+w.page.limit
		if late {
			w.drain(w.groups[near])
			w.drain(w.groups[wide])
		}
		w.rescue(late)
		var gone bool
		if late {
			gone = w.groups.queued(watchdogPipe, calm)
		} else {
			gone = readable(watchdogPipe, calm)
		}
		if gone {
			return nil
		}
	}
}

// readable waits until there is something at a descriptor, an end included.
func readable(fd, timeout int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, timeout)
	return err == nil && n > 0
}

// drain answers what waits in the kernel, which the agent has not taken.
func (w *watchdog) drain(g group) {
	for {
		var e unix.FanotifyEventMetadata
		ok, err := g.read(&e)
		if err != nil {
			w.page.denied.Add(1) // it could not be opened for us: the kernel has denied it
			continue
		}
		if !ok {
			return
		}
		if e.Fd < 0 {
			continue
		}
		w.answer(g, &e)
		unix.Close(int(e.Fd))
	}
}

// rescue answers what the agent has taken and not answered in time. An event that the kernel has written into a slot
// that is still being read is the agent's too, which was stopped on its way back from the kernel.
func (w *watchdog) rescue(late bool) {
	for i := range w.page.slots {
		s := &w.page.slots[i]
		switch s.state.Load() {
		case slotReading:
			if !late || s.event.Event_len == 0 || !s.state.CompareAndSwap(slotReading, slotRescuing) {
				continue
			}
		case slotTaken:
			if w.clock.now() <= s.taken.Load()+w.page.limit || !s.state.CompareAndSwap(slotTaken, slotRescuing) {
				continue
			}
		default:
			continue
		}
		w.answer(w.groups[s.group&1], &s.event)
		s.state.Store(slotRescued)
	}
}

func (w *watchdog) answer(g group, e *unix.FanotifyEventMetadata) {
	deny := w.denies(e.Pid)
	if !g.answer(e.Fd, deny) {
		return // the agent was faster, or the process has been killed
	}
	if deny {
		w.page.denied.Add(1)
	} else {
		w.page.allowed.Add(1)
	}
}

// denies: a policy of the thread's process wants a denial where the agent does not answer.
func (w *watchdog) denies(tid int32) bool {
	pid := w.who.of(tid)
	var e subject.Entry
	if pid == 0 || !lookUp(w.subjects, pid, &e) {
		return false
	}
	for i := range min(e.Count, subject.Slots) {
		if w.page.timeoutDenies(e.Slots[i].Table) {
			return true
		}
	}
	return false
}

var errNoWatchdog = errors.New("the watchdog has ended")
