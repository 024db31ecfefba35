// SPDX-License-Identifier: Apache-2.0

// Package privilege is the sensor of what a process may do and of its taking more: changes of credentials and
// namespaces, ptrace, modules, BPF programs, mounts and the use of capabilities. In: the records of
// privilege.bpf.c. Out: one event for each, or for many of the same that were folded.
package privilege

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sensor"
)

// Options configure the sensor.
type Options struct {
	// Without lists the event types that are not to be observed: their programs are not loaded.
	Without []model.Type
	// Losses counts folded events whose entry was evicted before they were reported. May be nil.
	Losses *pipeline.Losses
	// Self is the process whose BPF program loads are not reported, the agent's own: this process
	// when 0. It is the number in the root pid namespace; an agent in another has to say it.
	Self uint32
	// FoldInterval is how often folded counts are reported; 5 s when 0.
	FoldInterval time.Duration
}

// Sensor is the privilege sensor.
type Sensor struct {
	options Options
	fold    fold
	rung    []string
}

// New returns the sensor; Start loads it.
func New(o Options) *Sensor {
	if o.Self == 0 {
		o.Self = uint32(os.Getpid())
	}
	if o.FoldInterval == 0 {
		o.FoldInterval = 5 * time.Second
	}
	if o.Losses == nil {
		o.Losses = new(pipeline.Losses)
	}
	return &Sensor{options: o, fold: fold{interval: o.FoldInterval, evicted: o.Losses.Counter("kernel", "fold evicted")}}
}

// Name implements sensor.Sensor.
func (s *Sensor) Name() string { return "privilege" }

// Rung implements sensor.Sensor. It also says what is not seen on this kernel.
func (s *Sensor) Rung() string {
	return strings.Join(s.rung, "; ")
}

// Decoders implements sensor.Sensor.
func (s *Sensor) Decoders() map[kernel.RecordType]sensor.Decode {
	return map[kernel.RecordType]sensor.Decode{
		kernel.RecordCredential: decodeCredential,
		kernel.RecordNamespace:  decodeNamespace,
		kernel.RecordPtrace:     decodePtrace,
		kernel.RecordModule:     decodeModule,
		kernel.RecordBPF:        decodeBPF,
		kernel.RecordMount:      decodeMount,
		kernel.RecordCapability: decodeCapability,
	}
}

// basePrograms work on every kernel; those of a type that is off are loaded and not attached.
type basePrograms struct {
	Credential   *ebpf.Program `ebpf:"vg_exit_credential"`
	Setfsuid     *ebpf.Program `ebpf:"vg_exit_setfsuid"`
	Setfsgid     *ebpf.Program `ebpf:"vg_exit_setfsgid"`
	Unshare      *ebpf.Program `ebpf:"vg_exit_unshare"`
	Setns        *ebpf.Program `ebpf:"vg_exit_setns"`
	Clone        *ebpf.Program `ebpf:"vg_exit_clone"`
	Clone3       *ebpf.Program `ebpf:"vg_exit_clone3"`
	Fork         *ebpf.Program `ebpf:"vg_clone_namespaces"`
	Ptrace       *ebpf.Program `ebpf:"vg_exit_ptrace"`
	ProcessVM    *ebpf.Program `ebpf:"vg_exit_process_vm"`
	InitModule   *ebpf.Program `ebpf:"vg_exit_init_module"`
	FinitModule  *ebpf.Program `ebpf:"vg_exit_finit_module"`
	DeleteModule *ebpf.Program `ebpf:"vg_exit_delete_module"`
	BPF          *ebpf.Program `ebpf:"vg_exit_bpf"`
	Mount        *ebpf.Program `ebpf:"vg_exit_mount"`
	Fold         *ebpf.Map     `ebpf:"vg_fold"`
	Folded       *ebpf.Map     `ebpf:"vg_folded"`
}

// onSyscall says which program runs at the return of which system calls, for which type of event.
func (p *basePrograms) onSyscall() []syscallHook {
	return []syscallHook{
		{model.TypeCredential, p.Credential, []int{unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID,
			unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_CAPSET}},
		{model.TypeCredential, p.Setfsuid, []int{unix.SYS_SETFSUID}},
		{model.TypeCredential, p.Setfsgid, []int{unix.SYS_SETFSGID}},
		{model.TypeNamespace, p.Unshare, []int{unix.SYS_UNSHARE}},
		{model.TypeNamespace, p.Setns, []int{unix.SYS_SETNS}},
		{model.TypeNamespace, p.Clone, []int{unix.SYS_CLONE}},
		{model.TypeNamespace, p.Clone3, []int{unix.SYS_CLONE3}},
		{model.TypePtrace, p.Ptrace, []int{unix.SYS_PTRACE}},
		{model.TypePtrace, p.ProcessVM, []int{unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV}},
		{model.TypeModule, p.InitModule, []int{unix.SYS_INIT_MODULE}},
		{model.TypeModule, p.FinitModule, []int{unix.SYS_FINIT_MODULE}},
		{model.TypeModule, p.DeleteModule, []int{unix.SYS_DELETE_MODULE}},
		{model.TypeBPF, p.BPF, []int{unix.SYS_BPF}},
		{model.TypeMount, p.Mount, []int{unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_MOVE_MOUNT,
			unix.SYS_MOUNT_SETATTR}},
	}
}

type syscallHook struct {
	typ     model.Type
	program *ebpf.Program
	numbers []int
}

// Close implements io.Closer, for the host.
func (p *basePrograms) Close() error {
	closers := []io.Closer{p.Fork, p.Fold, p.Folded}
	for _, h := range p.onSyscall() {
		closers = append(closers, h.program)
	}
	return closeAll(closers...)
}

// moduleTracepoints exist where the kernel has modules.
type moduleTracepoints struct {
	Load *ebpf.Program `ebpf:"vg_module_load"`
	Free *ebpf.Program `ebpf:"vg_module_free"`
}

func (p *moduleTracepoints) Close() error { return closeAll(p.Load, p.Free) }

// capableFexit and capableTracepoint are the two rungs for the use of capabilities.
type capableFexit struct {
	Capable *ebpf.Program `ebpf:"vg_cap_capable_exit"`
}

func (p *capableFexit) Close() error { return p.Capable.Close() }

type capableTracepoint struct {
	Capable *ebpf.Program `ebpf:"vg_cap_capable"`
}

func (p *capableTracepoint) Close() error { return p.Capable.Close() }

func closeAll(closers ...io.Closer) error {
	var errs []error
	for _, c := range closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Start implements sensor.Sensor.
func (s *Sensor) Start(_ context.Context, h *kernel.Host) error {
	base := new(basePrograms)
	if err := s.load(h, base); err != nil {
		return err
	}
	s.fold.counts, s.fold.folded = base.Fold, base.Folded
	h.Share("vg_fold", base.Fold)
	h.Share("vg_folded", base.Folded)
	s.rung = []string{"sys_exit"}
	for _, hook := range base.onSyscall() {
		if !s.on(hook.typ) {
			continue
		}
		if err := h.OnSyscall(s.Name(), hook.program, hook.numbers...); err != nil {
			return err
		}
	}
	if s.on(model.TypeNamespace) {
		if err := h.AttachTracing(s.Name(), base.Fork); err != nil {
			return err
		}
	}
	if s.on(model.TypeModule) {
		s.rung = append(s.rung, s.startModules(h))
	}
	if s.on(model.TypeCapability) {
		s.rung = append(s.rung, s.startCapability(h))
	}
	return nil
}

func (s *Sensor) on(t model.Type) bool { return !slices.Contains(s.options.Without, t) }

// startModules and startCapability attach what not every kernel has, and say what came of it.
func (s *Sensor) startModules(h *kernel.Host) string {
	p := new(moduleTracepoints)
	err := s.load(h, p)
	if err == nil {
		err = h.AttachTracing(s.Name(), p.Load, p.Free)
	}
	if err != nil {
		return "modules: only failed calls are seen, this kernel has no tracepoint module_load (CONFIG_MODULES)"
	}
	return "modules: tp_btf"
}

func (s *Sensor) startCapability(h *kernel.Host) string {
	exit := new(capableFexit)
	if err := s.load(h, exit); err == nil {
		if err = h.AttachTracing(s.Name(), exit.Capable); err == nil {
			return "capability use: fexit"
		}
	}
	point := new(capableTracepoint)
	err := s.load(h, point)
	if err == nil {
		err = h.AttachTracing(s.Name(), point.Capable)
	}
	if err != nil {
		return "capability use: not seen on this kernel, it takes Linux 6.13 (tracepoint cap_capable) or trampoline programs"
	}
	return "capability use: tp_btf"
}

// load loads a group of programs.
func (s *Sensor) load(h *kernel.Host, into any) error {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	return h.Load(s.Name(), spec, map[string]any{"vg_self": s.options.Self}, into)
}
