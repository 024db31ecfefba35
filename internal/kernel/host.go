// SPDX-License-Identifier: Apache-2.0

// Package kernel is where vigie meets the kernel: it loads the sensors' objects with the maps that they
// share, attaches programs and remembers what to detach, reads the two rings in an order in which a
// process is known before what it does, and counts what the kernel had to drop.
//
// In: compiled objects from the sensors. Out: records, in batches, to the agent.
package kernel

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Options configure Open.
type Options struct {
	Log    *slog.Logger
	Losses *pipeline.Losses
	// Cgroup2 is where cgroup v2 is mounted; found in /proc/self/mountinfo when empty.
	Cgroup2 string
}

// Host is the kernel side of one agent: shared maps, attached programs.
type Host struct {
	log     *slog.Logger
	losses  *pipeline.Losses
	cgroup2 string
	objs    bpfObjects
	reasons []string // loss reasons, by number

	mu       sync.Mutex
	links    []namedLink
	programs []namedProgram
	syscalls map[int]string // system call numbers and the sensors that have them
	packets  packets
	closers  []io.Closer
	shared   map[string]*ebpf.Map // by name, offered by sensors

	readers    []namedReader // while Read runs
	types      *btf.Cache    // of the kernel, decoded once for all loads; nil after Loaded
	layoutHash hash.Hash
	since      uint64 // boot time; records from before are an earlier agent's to report
}

type namedLink struct {
	sensor string
	link.Link
	pinned string // by Pin: a handover would take it away from where it is looked for
}

type namedProgram struct {
	sensor, name string
	prog         *ebpf.Program
}

// Open loads the shared maps and the system call dispatcher. Errors say which capability or kernel
// feature is missing. The caller closes the Host.
func Open(o Options) (*Host, error) {
	if err := CheckPrivileges(); err != nil {
		return nil, err
	}
	types := btf.NewCache()
	if _, err := types.Kernel(); err != nil {
		return nil, &UnsupportedError{Feature: "observing this host", Cause: fmt.Sprintf("the kernel's type information cannot be read (%v)", err),
			Needs: "a kernel with CONFIG_DEBUG_INFO_BTF=y and /sys/kernel/btf/vmlinux readable, which Debian 11, Ubuntu 20.10, RHEL 8.2 and newer have"}
	}
	if o.Cgroup2 == "" {
		o.Cgroup2 = FindCgroup2()
	}
	h := &Host{log: o.Log, losses: o.Losses, cgroup2: o.Cgroup2, types: types, syscalls: make(map[int]string), layoutHash: sha256.New()}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the embedded system call dispatcher: %w", err)
	}
	if h.reasons, err = lossReasons(spec); err != nil {
		return nil, err
	}
	h.addLayout(spec)
	if err := spec.LoadAndAssign(&h.objs, &ebpf.CollectionOptions{Cache: h.types}); err != nil {
		return nil, Explain("load the system call dispatcher", err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: h.objs.VgSysExit})
	if err != nil {
		h.objs.Close()
		return nil, Explain("attach the system call dispatcher", err)
	}
	h.keep(DispatcherSensor, "vg_sys_exit", h.objs.VgSysExit, l)
	return h, nil
}

// Explain wraps an error of loading or attaching with what it means: cilium/ebpf calls every EPERM a
// memory limit, which it is not on the kernels that vigie runs on.
func Explain(action string, err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier):
		return fmt.Errorf("%s: the kernel's verifier refused the program, please report this with the kernel's version: %w", action, verifier)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: the kernel refused it (EPERM): CAP_BPF and CAP_PERFMON are needed, or this kernel forbids such programs; `vigie doctor` says which: %w", action, unix.EPERM)
	}
	return fmt.Errorf("%s: %w", action, err)
}

// Load loads a sensor's object into the struct `into` (bpf2go's Objects), with the shared maps in place of
// its own and vars set as its constants. The sensor keeps ownership of into; Close of the Host closes it
// when it is an io.Closer.
func (h *Host) Load(sensor string, spec *ebpf.CollectionSpec, vars map[string]any, into any) error {
	h.addLayout(spec)
	return h.LoadBeside(sensor, spec, vars, into)
}

// LoadBeside is Load for an object that is no sensor: what it writes need not be understood by a successor.
func (h *Host) LoadBeside(name string, spec *ebpf.CollectionSpec, vars map[string]any, into any) error {
	if err := setVariables(name, spec, vars); err != nil {
		return err
	}
	if err := spec.LoadAndAssign(into, h.prepare(spec)); err != nil {
		return Explain("load "+name, err)
	}
	if c, ok := into.(io.Closer); ok {
		h.mu.Lock()
		h.closers = append(h.closers, c)
		h.mu.Unlock()
	}
	return nil
}

func setVariables(sensor string, spec *ebpf.CollectionSpec, vars map[string]any) error {
	for name, value := range vars {
		v := spec.Variables[name]
		if v == nil {
			return fmt.Errorf("load %s: object has no constant %q", sensor, name)
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("load %s: set %s: %w", sensor, name, err)
		}
	}
	return nil
}

// prepare gives spec the shared maps in place of its own.
func (h *Host) prepare(spec *ebpf.CollectionSpec) *ebpf.CollectionOptions {
	replace := h.sharedIn(spec)
	for name, m := range map[string]*ebpf.Map{"vg_security": h.objs.VgSecurity, "vg_telemetry": h.objs.VgTelemetry, "vg_losses": h.objs.VgLosses, "vg_state": h.objs.VgState,
		"vg_packets_egress": h.objs.VgPacketsEgress, "vg_packets_ingress": h.objs.VgPacketsIngress} {
		if shared := spec.Maps[name]; shared != nil {
			// The host's own size: an object made before the last loss reason was added fits all the same.
			shared.MaxEntries = m.MaxEntries()
			replace[name] = m
		}
	}
	for name, m := range replace {
		spec.Maps[name].MaxEntries = m.MaxEntries() // the agent may have made it larger
	}
	return &ebpf.CollectionOptions{MapReplacements: replace, Cache: h.types}
}

// Loaded says that all sensors are loaded: the kernel's type information, some 20 MB decoded, can go.
func (h *Host) Loaded() { h.types = nil }

// Share offers a sensor's map to the sensors that are loaded later: a map of that name in their objects is
// replaced by m, which must have the same type and sizes. m is closed by its owner, not before the Host.
func (h *Host) Share(name string, m *ebpf.Map) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shared == nil {
		h.shared = make(map[string]*ebpf.Map)
	}
	h.shared[name] = m
}

// sharedIn is the shared maps that spec has too.
func (h *Host) sharedIn(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	h.mu.Lock()
	defer h.mu.Unlock()
	in := make(map[string]*ebpf.Map)
	for name, m := range h.shared {
		if spec.Maps[name] != nil {
			in[name] = m
		}
	}
	return in
}

func (h *Host) keep(sensor, name string, p *ebpf.Program, l link.Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l != nil {
		h.links = append(h.links, namedLink{sensor: sensor, Link: l})
	}
	h.programs = append(h.programs, namedProgram{sensor, name, p})
}

// AttachTracing attaches tp_btf, fentry, fexit and LSM programs where their section says.
func (h *Host) AttachTracing(sensor string, progs ...*ebpf.Program) error {
	for _, p := range progs {
		l, err := attachTracing(p)
		if err != nil {
			return Explain(fmt.Sprintf("attach %s of sensor %s", progName(p), sensor), err)
		}
		h.keep(sensor, progName(p), p, l)
	}
	return nil
}

func attachTracing(p *ebpf.Program) (link.Link, error) {
	if p.Type() == ebpf.LSM {
		return link.AttachLSM(link.LSMOptions{Program: p})
	}
	return link.AttachTracing(link.TracingOptions{Program: p})
}

// AttachCgroup attaches a program to the root of cgroup v2, beside whatever is there.
func (h *Host) AttachCgroup(sensor string, p *ebpf.Program, at ebpf.AttachType) error {
	if h.cgroup2 == "" {
		return &UnsupportedError{Feature: "cgroup v2", Cause: "no cgroup2 file system is mounted",
			Needs: "mount -t cgroup2 none /sys/fs/cgroup/unified (or boot with systemd's unified hierarchy)"}
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: h.cgroup2, Attach: at, Program: p})
	if err != nil {
		return Explain(fmt.Sprintf("attach %s of sensor %s to %s", progName(p), sensor, h.cgroup2), err)
	}
	h.keep(sensor, progName(p), p, l)
	return nil
}

// OnSyscall has p, a tp_btf/sys_exit program, run at the return of each of the system calls, whose numbers
// are the running architecture's. A number can have one owner.
func (h *Host) OnSyscall(sensor string, p *ebpf.Program, numbers ...int) error {
	for _, nr := range numbers {
		h.mu.Lock()
		owner, taken := h.syscalls[nr]
		h.syscalls[nr] = sensor
		h.mu.Unlock()
		if taken {
			return fmt.Errorf("register %s of sensor %s: system call %d is the sensor %s's", progName(p), sensor, nr, owner)
		}
		if err := h.objs.VgSyscalls.Update(uint32(nr), p, ebpf.UpdateAny); err != nil {
			return Explain(fmt.Sprintf("register %s of sensor %s for system call %d", progName(p), sensor, nr), err)
		}
	}
	h.keep(sensor, progName(p), p, nil)
	return nil
}

// Detach takes everything back that a sensor attached, for one that could not start in full: its records
// would have nobody to decode them.
func (h *Host) Detach(sensor string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	h.links = slices.DeleteFunc(h.links, func(l namedLink) bool {
		if l.sensor != sensor {
			return false
		}
		errs = append(errs, l.Close())
		return true
	})
	for nr, owner := range h.syscalls {
		if owner == sensor {
			errs = append(errs, h.objs.VgSyscalls.Delete(uint32(nr)))
			delete(h.syscalls, nr)
		}
	}
	errs = append(errs, h.offPackets(sensor))
	h.programs = slices.DeleteFunc(h.programs, func(p namedProgram) bool { return p.sensor == sensor })
	return errors.Join(errs...)
}

// Iterate runs a BPF iterator program to its end. The program writes records, each preceded by its length
// as a u32; each is handed to fn and valid only until fn returns.
func (h *Host) Iterate(p *ebpf.Program, fn func(Record) error) error {
	return h.IterateMap(p, nil, fn)
}

// IterateMap is Iterate over the entries of a map.
func (h *Host) IterateMap(p *ebpf.Program, m *ebpf.Map, fn func(Record) error) error {
	it, err := link.AttachIter(link.IterOptions{Program: p, Map: m})
	if err != nil {
		return Explain("attach iterator "+progName(p), err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return Explain("open iterator "+progName(p), err)
	}
	defer r.Close()
	return eachRecord(r, fn)
}

// OnClose has c closed with the Host, before what was loaded.
func (h *Host) OnClose(c io.Closer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closers = slices.Insert(h.closers, 0, c)
}

// Cgroup2 is the path of the cgroup v2 mount that programs are attached to; empty when there is none.
func (h *Host) Cgroup2() string { return h.cgroup2 }

// Close detaches and frees everything. It can be called twice.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, l := range h.links {
		errs = append(errs, l.Close())
	}
	for _, c := range h.closers {
		errs = append(errs, c.Close())
	}
	h.links, h.closers, h.programs = nil, nil, nil
	return errors.Join(append(errs, h.objs.Close())...)
}

// ReadLosses brings the kernel's own loss counts up to date in the table of losses.
func (h *Host) ReadLosses() error {
	var perCPU []uint64
	for i, reason := range h.reasons {
		if err := h.objs.VgLosses.Lookup(uint32(i), &perCPU); err != nil {
			return fmt.Errorf("read the kernel's loss counters: %w", err)
		}
		h.losses.Counter("kernel", reason).Raise(sum(perCPU))
	}
	h.losses.Counter("kernel", "program interrupted itself").Raise(h.recursionMisses())
	return nil
}

// lossReasons reads the names of enum vg_lost from the object, so that bpf/reasons.h is the only list.
func lossReasons(spec *ebpf.CollectionSpec) ([]string, error) {
	var enum *btf.Enum
	if err := spec.Types.TypeByName("vg_lost", &enum); err != nil {
		return nil, fmt.Errorf("embedded object has no list of loss reasons: %w", err)
	}
	names := make([]string, len(enum.Values)-1)
	for _, v := range enum.Values {
		if int(v.Value) < len(names) {
			names[v.Value] = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(v.Name, "VG_LOST_"), "_", " "))
		}
	}
	return names, nil
}

// FindCgroup2 is where cgroup v2 is mounted, or "".
func FindCgroup2() string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		if f := strings.Fields(before); ok && len(f) > 4 && strings.HasPrefix(after, "cgroup2 ") {
			return f[4]
		}
	}
	return ""
}

func progName(p *ebpf.Program) string {
	if info, err := p.Info(); err == nil && info.Name != "" {
		return info.Name
	}
	return p.String()
}
