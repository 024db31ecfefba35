// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/sensor"
)

// Options configure the sensor.
type Options struct {
	// Interval is how often the counts of folded opens are reported; 10 s when 0.
	Interval time.Duration
	// LowestRung leaves out the programs that need trampolines even where they load.
	LowestRung bool
	// BootTime is the clock: nanoseconds since boot; CLOCK_BOOTTIME when nil.
	BootTime func() uint64
}

// Sensor is the file sensor. Its decoder and Flush share the folds and run in one goroutine.
type Sensor struct {
	options Options
	objs    objects
	hooks   hooks
	noHooks error // why the better rung is not in use; nil when it is
	noURing bool  // the kernel has no io_uring
	folds   folds

	seenEntries, countEntries uint32 // sizes of vg_seen and vg_counts where tests want them small
}

// objects is what every rung needs, hooks what the better one adds.
type objects struct {
	ExitFD      *ebpf.Program `ebpf:"vg_exit_fd"`
	ExitPath    *ebpf.Program `ebpf:"vg_exit_path"`
	ProcessExit *ebpf.Program `ebpf:"vg_file_process_exit"`
	Uring       *ebpf.Program `ebpf:"vg_uring_complete"`
	Counts      *ebpf.Map     `ebpf:"vg_counts"`
}

type hooks struct {
	Unlink   *ebpf.Program `ebpf:"vg_path_unlink"`
	Rmdir    *ebpf.Program `ebpf:"vg_path_rmdir"`
	Mkdir    *ebpf.Program `ebpf:"vg_path_mkdir"`
	Mknod    *ebpf.Program `ebpf:"vg_path_mknod"`
	Symlink  *ebpf.Program `ebpf:"vg_path_symlink"`
	Link     *ebpf.Program `ebpf:"vg_path_link"`
	Rename   *ebpf.Program `ebpf:"vg_path_rename"`
	Truncate *ebpf.Program `ebpf:"vg_path_truncate"`
	Chmod    *ebpf.Program `ebpf:"vg_path_chmod"`
	Chown    *ebpf.Program `ebpf:"vg_path_chown"`
}

func (h *hooks) all() []*ebpf.Program {
	return []*ebpf.Program{h.Unlink, h.Rmdir, h.Mkdir, h.Mknod, h.Symlink, h.Link, h.Rename, h.Truncate, h.Chmod, h.Chown}
}

// better is the better rung.
type better struct {
	objects
	hooks
}

// Close implements io.Closer for the host, which closes what it has loaded.
func (o *objects) Close() error {
	return errors.Join(o.ExitFD.Close(), o.ExitPath.Close(), o.ProcessExit.Close(), o.Uring.Close(), o.Counts.Close())
}

// Close implements io.Closer for the host.
func (b *better) Close() error {
	err := b.objects.Close()
	for _, p := range b.all() {
		err = errors.Join(err, p.Close())
	}
	return err
}

// New returns the sensor; Start loads it.
func New(o Options) *Sensor {
	if o.Interval == 0 {
		o.Interval = 10 * time.Second
	}
	if o.BootTime == nil {
		o.BootTime = bootTime
	}
	return &Sensor{options: o, folds: newFolds(), noHooks: errNotStarted}
}

// Name implements sensor.Sensor.
func (s *Sensor) Name() string { return "file" }

// Rung implements sensor.Sensor.
func (s *Sensor) Rung() string {
	if s.noHooks == nil {
		return "sys_exit + fentry security_path_*"
	}
	return "sys_exit"
}

// Start implements sensor.Sensor.
func (s *Sensor) Start(_ context.Context, h *kernel.Host) error {
	s.folds.last = s.options.BootTime()
	if err := s.load(h); err != nil {
		return err
	}
	if err := h.AttachTracing(s.Name(), s.objs.ProcessExit); err != nil {
		return err
	}
	if !s.noURing {
		if err := h.AttachTracing(s.Name(), s.objs.Uring); err != nil {
			return err
		}
	}
	if s.noHooks == nil {
		if err := h.AttachTracing(s.Name(), s.hooks.all()...); err != nil {
			return err
		}
	}
	var byFD, byPath []int
	for _, c := range calls() {
		if c.Fd == argNone {
			byPath = append(byPath, c.nr)
		} else {
			byFD = append(byFD, c.nr)
		}
	}
	if err := h.OnSyscall(s.Name(), s.objs.ExitPath, byPath...); err != nil {
		return err
	}
	return h.OnSyscall(s.Name(), s.objs.ExitFD, byFD...)
}

var (
	errNotStarted = errors.New("the sensor has not been started")
	errLowestRung = errors.New("the lowest rung was asked for")
)

// load loads the better rung where the kernel lets it, else the lowest.
func (s *Sensor) load(h *kernel.Host) error {
	s.noHooks = errLowestRung
	if !s.options.LowestRung {
		s.noHooks = probeHooks()
	}
	if s.noHooks == nil {
		var both better
		if s.noHooks = s.loadObject(h, true, &both); s.noHooks == nil {
			s.objs, s.hooks = both.objects, both.hooks
			return nil
		}
	}
	return s.loadObject(h, false, &s.objs)
}

// probeHooks loads the least program of the kind: a kernel that refuses trampolines says so before the
// verifier has gone through the real ones.
func probeHooks() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "vg_probe", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: "security_path_unlink",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "Dual BSD/GPL",
	})
	if err != nil {
		return kernel.Explain("load a fentry program on security_path_unlink", err)
	}
	return p.Close()
}

func (s *Sensor) loadObject(h *kernel.Host, withHooks bool, into any) error {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	var table [512]bpfVgCall
	for _, c := range calls() {
		table[c.nr] = c.bpfVgCall
	}
	if !withHooks {
		spec.Maps["vg_captures"].MaxEntries = 1
	}
	if !hasTracepoint("io_uring_complete") {
		// A kernel without io_uring: something in its place that loads, and is not attached.
		p := spec.Programs["vg_uring_complete"]
		p.AttachTo, p.Instructions = "sys_exit", asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
		s.noURing = true
	}
	if s.seenEntries > 0 {
		spec.Maps["vg_seen"].MaxEntries = s.seenEntries
	}
	if s.countEntries > 0 {
		spec.Maps["vg_counts"].MaxEntries = s.countEntries
	}
	return h.Load(s.Name(), spec, map[string]any{"vg_calls": table, "vg_hooks": withHooks}, into)
}

// hasTracepoint tells by the kernel's types whether it has a tracepoint.
func hasTracepoint(name string) bool {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return false // then nothing loads, and the loader says why
	}
	_, err = spec.AnyTypeByName("btf_trace_" + name)
	return err == nil
}

// Decoders implements sensor.Sensor.
func (s *Sensor) Decoders() map[kernel.RecordType]sensor.Decode {
	return map[kernel.RecordType]sensor.Decode{kernel.RecordFile: s.decode}
}

// decode also keeps what begins a count, and notes the processes that have ended, for Flush.
func (s *Sensor) decode(r kernel.Record, ev *model.Event) (bool, error) {
	f, tail, err := kernel.View[bpfVgFile](r)
	if err != nil {
		return false, err
	}
	if f.Kind&kindGone != 0 {
		s.folds.gone(ev.Key)
		return false, nil
	}
	file, err := decodeFile(f, tail)
	if err != nil {
		return false, err
	}
	if f.Kind&kindHeld != 0 {
		s.folds.hold(f, ev, file)
		return false, nil
	}
	ev.Type, ev.File = model.TypeFile, file
	return true, nil
}

// Flush implements sensor.Flusher: the counts of the processes that have ended, and once an interval, and at
// the end, all others. The time of such an event is that of the report: its Count opens happened since the
// event of the same kind before it.
func (s *Sensor) Flush(emit func(*model.Event), final bool) error {
	return s.folds.flush(counts{s.objs.Counts}, s.options.BootTime(), s.options.Interval, final, emit)
}

func bootTime() uint64 {
	now, _ := kernel.BootTime() // cannot fail on any kernel that runs BPF
	return now
}
