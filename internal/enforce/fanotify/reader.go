// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy"
)

// reader takes events and answers them. One goroutine takes: it opens no file and waits for nothing but events, so that
// it can answer at once what the agent itself opens, what processes under no policy open, and what no rule speaks about.
// The rest goes to a few workers, which look at the thread that waits.
type reader struct {
	groups   groups
	cache    *cache
	page     *page
	clock    monotonic
	subjects *ebpf.Map
	tables   atomic.Pointer[tableSet]
	names    atomic.Pointer[nameSet]
	ops      atomic.Uint32 // bits: 1 << policy.FileOp
	self     int32         // the agent's pid
	decided  func(verdict)
	lost     losses
	taken    atomic.Uint64 // events so far

	wake *os.File // readable: stop
	work chan job // has room for every slot
}

// losses are what the reader could not do.
type losses struct {
	unreadable *pipeline.Counter // events that could not be opened: the kernel denied them
	tableGone  *pipeline.Counter // an entry named a table that there is not: allowed
	overflow   *pipeline.Counter
}

// job is an event that needs a closer look.
type job struct {
	slot      *slot
	pid       int32
	path      string
	key       model.ProcessKey
	judgement judgement
	rescued   bool // nothing but to wait until the watchdog has answered
}

// verdict is what was decided about an event that a rule speaks about.
type verdict struct {
	answer
	op     policy.FileOp
	exec   bool // the event was OPEN_EXEC_PERM
	killed bool
	key    model.ProcessKey
	tid    int32
	path   string
}

const workers = 4

// run takes events until stop is called and nothing waits any more.
func (r *reader) run() {
	var pool sync.WaitGroup
	for range workers {
		pool.Go(r.worker)
	}
	r.take()
	close(r.work)
	pool.Wait()
}

// take is the loop of the reading thread.
func (r *reader) take() {
	// A thread of its own: what other goroutines do with theirs does not hold it up.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var (
		who     threads
		next    int
		idle    = max(1, int(time.Duration(r.page.limit)/time.Millisecond/8))
		stopped bool
		turn    uint32 = near
	)
	for {
		s := r.free(&next)
		if s == nil {
			// All slots wait for workers. The heartbeat stands still: if that lasts, the watchdog answers.
			rest(time.Millisecond)
			continue
		}
		r.page.heartbeat.Store(r.clock.now())
		s.event = unix.FanotifyEventMetadata{}
		s.group = turn
		s.state.Store(slotReading)
		ok, err := r.groups[turn].read(&s.event)
		if turn = 1 - turn; !ok && err == nil {
			s.group = turn // in its slot before the event is
			ok, err = r.groups[turn].read(&s.event)
		}
		switch {
		case ok:
			r.handle(s, &who)
		case err != nil:
			// The kernel could not open the file for us and has denied the open.
			s.state.Store(slotFree)
			r.lost.unreadable.Add(1)
		case stopped:
			s.state.Store(slotFree)
			return
		default:
			s.state.Store(slotFree)
			stopped = r.groups.queued(int(r.wake.Fd()), idle) || stopped
		}
	}
}

// free finds a slot that is free.
func (r *reader) free(next *int) *slot {
	for range slotCount {
		s := &r.page.slots[*next]
		*next = (*next + 1) % slotCount
		if s.state.Load() == slotFree {
			return s
		}
	}
	return nil
}

// handle answers an event, or hands it to a worker. The channel has room for every slot.
func (r *reader) handle(s *slot, who *threads) {
	s.taken.Store(r.clock.now())
	r.taken.Add(1)
	if !s.state.CompareAndSwap(slotReading, slotTaken) {
		r.work <- job{slot: s, rescued: true}
		return
	}
	if s.event.Mask&unix.FAN_Q_OVERFLOW != 0 || s.event.Fd < 0 {
		// Never seen: the queue is unlimited, and a permission event that cannot be queued fails its open.
		r.lost.overflow.Add(1)
		s.state.Store(slotFree)
		return
	}
	pid := who.of(s.event.Pid)
	if pid == 0 || pid == r.self {
		r.finish(s, false)
		return
	}
	j := job{slot: s, pid: pid}
	if !r.look(&j) || !r.concerns(&j) {
		if s.group == wide {
			if j.path == "" {
				j.path = pathOf(s.event.Fd)
			}
			r.cache.offer(j.path)
		}
		r.finish(s, false)
		return
	}
	r.work <- j
}

// look finds what the tables say about the file of an event; false when its process is under no policy. An entry that
// is replaced meanwhile is looked up again: its table may be gone.
func (r *reader) look(j *job) bool {
	const tries = 16
	for range tries {
		before := r.tables.Load()
		var e subject.Entry
		if !lookUp(r.subjects, j.pid, &e) {
			return false
		}
		if r.tables.Load() != before {
			continue // the entry may be of tables that came or went in between
		}
		j.key = model.ProcessKey{PID: uint32(j.pid), Start: e.Start, Exec: e.Exec}
		if j.path == "" {
			j.path = pathOf(j.slot.event.Fd)
		}
		j.judgement.n = 0
		if j.judgement.judge(*before, &e, j.path, r.names.Load().of(j.slot.event.Fd)) {
			return true
		}
		runtime.Gosched()
	}
	r.lost.tableGone.Add(1)
	return false
}

// lookUp finds the entry of a process. The kernel's hash maps can miss a key for a moment while another CPU replaces its
// element and uses the old one again for something else, so what is not there is looked up again.
func lookUp(m *ebpf.Map, pid int32, e *subject.Entry) bool {
	const tries = 2
	for range tries {
		if m.Lookup(uint32(pid), e) == nil {
			return true
		}
	}
	return false
}

// concerns: a worker has to look at the event.
func (r *reader) concerns(j *job) bool {
	if j.slot.event.Mask&maskExec != 0 {
		// The kernel opens a program's loader like a program. A loader that is started itself, with another program as
		// its argument, is judged at sched_process_exec (subject.bpf.c), which knows the one from the other.
		return r.judges(policy.Exec) && j.judgement.of(policy.Exec).decision.Action() != policy.ActAllow && !isLoader(j.path)
	}
	return !j.judgement.silent()
}

func (r *reader) judges(op policy.FileOp) bool { return r.ops.Load()&(1<<op) != 0 }

func (r *reader) worker() {
	for j := range r.work {
		if j.rescued {
			r.finish(j.slot, false)
			continue
		}
		r.decide(&j)
	}
}

// decide answers an event that a rule may speak about, and reports it.
func (r *reader) decide(j *job) {
	v := r.verdictOf(j)
	action := v.decision.Action()
	if action == policy.ActKill {
		// Before the answer: while the thread waits, its process cannot be another one.
		v.killed = kill(j.pid, v.tid)
	}
	answered := r.finish(j.slot, action >= policy.ActDeny)
	if action != policy.ActAllow && (answered || v.killed) {
		r.decided(v)
	}
}

// verdictOf finds the strongest answer about the operations that an open may be.
func (r *reader) verdictOf(j *job) verdict {
	e := &j.slot.event
	v := verdict{key: j.key, tid: e.Pid, path: j.path, exec: e.Mask&maskExec != 0}
	consider := func(op policy.FileOp) {
		if a := j.judgement.of(op); r.judges(op) && a.decision.Action() > v.decision.Action() {
			v.answer, v.op = a, op
		}
	}
	if v.exec {
		consider(policy.Exec)
		return v
	}
	c := callOf(e.Pid, time.Duration(r.page.limit/2)) // then there is still time before the watchdog answers
	if c.exec {
		return v // OPEN_EXEC_PERM was asked about it before
	}
	if c.read {
		consider(policy.Read)
	}
	if c.write {
		consider(policy.Write)
	}
	if j.judgement.of(policy.Exec).decision.Action() != policy.ActAllow && isLoader(exeOf(j.pid)) && isProgram(e.Fd) {
		consider(policy.Exec)
	}
	return v
}

// finish answers an event and frees its slot. False when the watchdog had answered it, or nobody waited any more.
func (r *reader) finish(s *slot, deny bool) bool {
	fd := s.event.Fd
	answered := r.groups[s.group].answer(fd, deny)
	for !s.state.CompareAndSwap(slotTaken, slotRescued) {
		if s.state.Load() == slotRescued {
			break
		}
		rest(time.Millisecond) // the watchdog writes its answer: not before it has may the number be another event's
		if s.state.Load() == slotTaken {
			answered = r.groups[s.group].answer(fd, deny) || answered // the watchdog died over it
		}
	}
	unix.Close(int(fd))
	s.state.Store(slotFree)
	return answered
}

// kill ends a process one of whose threads waits.
func kill(pid, tid int32) bool {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if unix.Tgkill(int(pid), int(tid), 0) != nil {
		return false // it has ended, and the number may be another's
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}
