// SPDX-License-Identifier: Apache-2.0

// Package fanotify denies executing and opening files from user space, on kernels that let no program stand in the way:
// the kernel asks the agent, and the one who opens waits for the answer. In: the tables in force, and which process is
// under which (vg_subjects). Out: opens that fail with EPERM, and verdicts.
//
// Nobody waits for ever. A watchdog, a process of its own, answers where the agent is late, as the policy says; and when
// both are gone the kernel lets everything go on. docs/threat-model.md says what this cannot see.
package fanotify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy"
)

// Options configure New.
type Options struct {
	Log    *slog.Logger
	Losses *pipeline.Losses
	// Watchdog is the command of the watchdog, whole: a process that calls Watch.
	Watchdog []string
	// Timeout is how late an answer may be before the watchdog gives it; 0: DefaultTimeout.
	Timeout time.Duration
	// Mounts are directories, and kinds of file systems ("overlay"): opens are asked about only on mounts at or below these,
	// or of these kinds; anywhere when empty.
	Mounts []string
}

// DefaultTimeout is longer than any pause of an agent that is well, and short for who waits.
const DefaultTimeout = 500 * time.Millisecond

// What verdicts name as what carried them.
const (
	hookOpen = "fanotify OPEN_PERM"
	hookExec = "fanotify OPEN_EXEC_PERM"
)

// operations are those that the kernel asks about, by policy.FileOp.
func operations() [3]model.Operation {
	return [...]model.Operation{policy.Exec: model.OpExec, policy.Read: model.OpRead, policy.Write: model.OpWrite}
}

// Backend is the back-end. Make it with New.
type Backend struct {
	opts    Options
	tried   bool
	refused error // why the kernel has no such events; nil when it has

	tables  []enforce.Loaded
	late    enforce.Afterwards // of truncate by name, which opens nothing
	kernel  enforce.Kernel
	running *running // nil while it carries nothing
}

// running is what is there while the back-end carries something.
type running struct {
	reader *reader
	keeper *keeper
	plan   *plan
	fold   *fold
	page   *page
	file   *os.File
	stop   func() error
}

// New starts nothing.
func New(o Options) *Backend {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return &Backend{opts: o}
}

// try makes a group, marks a file that nobody else can open, and enters a mount namespace, as is done for each one with
// processes that are watched.
func try() error {
	g, err := newGroup()
	if err != nil {
		return err
	}
	defer unix.Close(g.fd)
	file, err := unix.MemfdCreate("vigie-fanotify", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("try fanotify: %w", err)
	}
	defer unix.Close(file)
	if err := unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD, maskOpen|maskExec, file, ""); err != nil {
		return unsupported(err)
	}
	if err := inside(namespace{pid: int32(os.Getpid())}, func([]Mount) {}); err != nil {
		return &kernel.UnsupportedError{Feature: feature, Cause: "files are watched from within the mount namespaces of processes, and the kernel did not let this one in: " +
			err.Error(), Needs: "CAP_SYS_CHROOT and CAP_SYS_ADMIN"}
	}
	return nil
}

// Name is "fanotify".
func (b *Backend) Name() string { return "fanotify" }

// Carries says yes to exec and to opens for reading and writing, before they happen.
func (b *Backend) Carries(op model.Operation) (enforce.Carried, error) {
	switch op {
	case model.OpExec, model.OpRead, model.OpWrite:
	case model.OpModify:
		return enforce.Carried{}, errors.New("it is asked about opening and executing files only")
	default:
		return enforce.Carried{}, enforce.ErrOtherOperations
	}
	if !b.tried {
		b.tried, b.refused = true, try()
	}
	if b.refused != nil {
		return enforce.Carried{}, b.refused
	}
	if op == model.OpExec {
		return enforce.Carried{Rung: hookExec, Guarantee: model.DeniedBefore, Limits: append(execLimits(), limits()...)}, nil
	}
	return enforce.Carried{Rung: hookOpen, Guarantee: model.DeniedBefore, Limits: append(openLimits(), limits()...)}, nil
}

// docs/threat-model.md says the same with reasons; a test holds the two together.
func execLimits() []string {
	return []string{
		"memfd: a program in memory alone is killed before its first instruction, not denied",
		"dynamic loader: one that is executed itself is killed before its first instruction, not denied",
	}
}

func openLimits() []string {
	return []string{
		"openat2, io_uring, 32-bit programs: an open counts as one for reading and writing",
		"truncate by name: killed after the fact",
		"O_CREAT: a file that does not exist is made, empty, before its open is denied",
		"open files: descriptors opened before, or passed on by another process, are not asked about",
	}
}

func limits() []string {
	return []string{
		"file systems: of the kernel, FUSE and network file systems, and device files, are not covered",
		"new mounts: a file system is covered up to a second after it was mounted where a policy's processes are",
		"replaced directories: a directory that takes the place of one with a rule is covered up to a second later",
		"agent gone: when the agent ends nothing is denied any more",
	}
}

// Attach makes it carry operations. The first ones start it; none stop it.
func (b *Backend) Attach(_ context.Context, k enforce.Kernel, ops []model.Operation) error {
	if len(ops) == 0 {
		return b.Close()
	}
	var bits uint32
	for _, op := range ops {
		if _, err := b.Carries(op); err != nil {
			return err
		}
		for i, have := range operations() {
			if have == op {
				bits |= 1 << i
			}
		}
	}
	if b.running == nil {
		r, err := b.start(k)
		if err != nil {
			return fmt.Errorf("start fanotify: %w", err)
		}
		b.running = r
	}
	b.running.reader.ops.Store(bits)
	b.kernel = k
	b.setLate()
	return b.running.plan.load(b.tables, true)
}

// Load puts tables where the next event finds them, when every place is marked of which they speak.
func (b *Backend) Load(_ context.Context, tables []enforce.Loaded) error {
	b.tables = tables
	if b.running == nil {
		return nil
	}
	b.setLate()
	return b.running.plan.load(tables, false)
}

// setLate says what Learn judges.
func (b *Backend) setLate() {
	var ops []model.Operation
	if b.running.reader.judges(policy.Write) {
		ops = append(ops, model.OpWrite)
	}
	b.late.Set(b.kernel, ops, b.tables)
}

// Learn judges what is seen of truncate by name. For one goroutine, which is not that of the other methods.
func (b *Backend) Learn(ev *model.Event) error {
	b.late.See(ev)
	return nil
}

// markable says whether opens may be asked about on a mount.
func (b *Backend) markable(m Mount) bool {
	at := func(place string) bool {
		if strings.HasPrefix(place, "/") {
			return below(m.Point, path.Clean(place))
		}
		return m.FSType == place
	}
	// A container's /dev is an ordinary file system with devices in it, and its /dev/tty cannot be opened for an event.
	return canAnswer(m.FSType) && m.Point != "/dev" && (len(b.opts.Mounts) == 0 || slices.ContainsFunc(b.opts.Mounts, at))
}

// Close stops it: marks are taken back, what waits is answered.
func (b *Backend) Close() error {
	if b.running == nil {
		return nil
	}
	b.late.Set(enforce.Kernel{}, nil, nil)
	err := b.running.stop()
	b.running = nil
	return err
}

// start runs the reader, the watchdog and the pass over mounts.
func (b *Backend) start(k enforce.Kernel) (_ *running, err error) {
	if len(b.opts.Watchdog) == 0 {
		return nil, errors.New("no command for the watchdog was given")
	}
	var undo []func()
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				undo[i]()
			}
		}
	}()
	clock, err := newMonotonic()
	if err != nil {
		return nil, err
	}
	g, err := newGroups()
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { g.close() })
	// While the agent starts a program, the Go runtime can be held until that has been opened: nobody could answer.
	for i := range g {
		if err := g[i].ignore(b.opts.Watchdog[0]); err != nil {
			return nil, fmt.Errorf("leave the watchdog's program out: %w", err)
		}
	}
	p, file, err := newPage(b.opts.Timeout)
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { _ = errors.Join(file.Close(), p.unmap()) })
	wakeRead, wakeWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	undo = append(undo, func() { wakeRead.Close(); wakeWrite.Close() })

	cache := newCache(g, b.opts.Watchdog[0])
	undo = append(undo, func() { _ = cache.stop() })
	loss := func(reason string) *pipeline.Counter { return b.opts.Losses.Counter("fanotify", reason) }
	f := newFold(k.Report, time.Now)
	decided := func(v verdict) {
		k.Hit(v.table, v.decision.Rule())
		f.add(v)
	}
	r := &reader{groups: g, cache: cache, page: p, clock: clock, subjects: k.Subjects, self: int32(os.Getpid()), decided: decided,
		wake: wakeRead, work: make(chan job, slotCount),
		lost: losses{unreadable: loss("events that could not be opened, denied"), tableGone: loss("policy's table gone, allowed"),
			overflow: loss("queue overflow")}}
	r.tables.Store(&tableSet{})
	r.names.Store(&nameSet{})
	p.heartbeat.Store(clock.now())
	keeper := &keeper{command: b.opts.Watchdog, groups: g, exempt: &cache.mu, subjects: k.Subjects, pageFile: file, page: p,
		restarts: func(err error) {
			loss("watchdog ended, started again").Add(1)
			b.opts.Log.Error("the watchdog of fanotify ended and is started again", "error", err)
		}}
	if err := keeper.start(); err != nil {
		return nil, err
	}
	cache.start()
	var reading sync.WaitGroup
	reading.Go(r.run)
	plan := newPlan(r, &marks{groups: g, cache: cache, markable: b.markable, placed: make(map[markKey]mark), uncovered: make(map[string]bool),
		warn: func(place string, err error) {
			loss("places with a rule that could not be watched").Add(1)
			b.opts.Log.Warn("fanotify cannot watch a place that a policy has a rule about", "path", place, "error", err)
		}}, b.opts.Log)
	plan.tick = append(plan.tick, func() { f.flush(false) }, func() {
		loss("answered late by the watchdog, allowed").Raise(p.allowed.Load())
		loss("answered late by the watchdog, denied").Raise(p.denied.Load())
	})
	plan.start()
	run := &running{reader: r, keeper: keeper, plan: plan, fold: f, page: p, file: file}
	run.stop = func() error {
		plan.stop()
		errs := []error{g.flush()}
		wakeWrite.Close() // the reader answers what is queued, then ends
		reading.Wait()
		f.flush(true)
		errs = append(errs, cache.stop(), keeper.stop(), g.close(), p.unmap(), file.Close(), wakeRead.Close())
		return errors.Join(errs...)
	}
	return run, nil
}
