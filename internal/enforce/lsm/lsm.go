// SPDX-License-Identifier: Apache-2.0

// Package lsm is the back-end on the kernel's security hooks, in two rungs: as a BPF security module, and by fmod_ret on the
// security_* functions. In: the operations to carry. Out: calls that fail with EPERM before anything has happened. The
// programs are the same (hooks.h).
package lsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/kernel/probe"
	"github.com/vigie-io/vigie/internal/model"
)

// Backend is one of the two rungs. Make it with New or NewModRet.
type Backend struct {
	name   string
	prefix string // of its programs' names
	load   func() (*ebpf.CollectionSpec, error)
	prober Prober
	// features by operation
	needs    func(hooks) []probe.Feature
	attached map[model.Operation]*ebpf.Collection
	host     *kernel.Host
}

// Prober answers what the kernel can do; *probe.Prober does.
type Prober interface {
	Probe(ctx context.Context, names ...probe.Feature) ([]probe.Result, error)
}

// New is the rung of the security module.
func New(p Prober) *Backend {
	return &Backend{name: "lsm", prefix: "vg_lsm_", load: loadLsm, prober: p, attached: make(map[model.Operation]*ebpf.Collection),
		needs: func(h hooks) []probe.Feature { return append([]probe.Feature{probe.LSM}, h.lsm...) }}
}

// NewModRet is the rung of fmod_ret.
func NewModRet(p Prober) *Backend {
	return &Backend{name: "fmod_ret", prefix: "vg_ret_", load: loadModret, prober: p, attached: make(map[model.Operation]*ebpf.Collection),
		needs: func(h hooks) []probe.Feature { return append([]probe.Feature{probe.FmodRet}, h.modret...) }}
}

// hooks is what carries an operation: the programs of hooks.h, and the features that they take.
type hooks struct {
	programs    []string
	hook        string // in words
	lsm, modret []probe.Feature
	limits      []string
}

// carriers are the hooks of each operation.
func carriers(op model.Operation) (hooks, bool) {
	switch op {
	case model.OpExec:
		return hooks{programs: []string{"exec", "mmap"}, hook: "bprm_check", lsm: []probe.Feature{probe.HookExec}, modret: []probe.Feature{probe.DenyExec},
			limits: []string{"what an interpreter reads as a script is a file that it reads, not an exec"}}, true
	case model.OpRead:
		return hooks{programs: []string{"open"}, hook: "file_open", lsm: []probe.Feature{probe.HookFileOpen}, modret: []probe.Feature{probe.DenyFileOpen}}, true
	case model.OpWrite:
		return hooks{programs: []string{"open", "mknod", "truncate"}, hook: "file_open, path_mknod, path_truncate",
			lsm: []probe.Feature{probe.HookFileOpen, probe.HookPathRename}, modret: []probe.Feature{probe.DenyFileOpen, probe.DenyPathRename}}, true
	case model.OpModify:
		return hooks{programs: []string{"unlink", "rmdir", "mkdir", "symlink", "mknod", "chmod", "chown", "link", "rename"}, hook: "path_*",
			lsm: []probe.Feature{probe.HookPathRename}, modret: []probe.Feature{probe.DenyPathRename},
			limits: []string{"extended attributes and ACLs are not covered"}}, true
	case model.OpCapability:
		return hooks{programs: []string{"capable"}, hook: "capable", lsm: []probe.Feature{probe.HookCapable}, modret: []probe.Feature{probe.DenyCapable}}, true
	case model.OpPtrace:
		return hooks{programs: []string{"ptrace", "traceme"}, hook: "ptrace_access_check", lsm: []probe.Feature{probe.HookPtrace}, modret: []probe.Feature{probe.DenyPtrace}}, true
	case model.OpBPF:
		return hooks{programs: []string{"bpf"}, hook: "bpf", lsm: []probe.Feature{probe.HookBPF}, modret: []probe.Feature{probe.DenyBPF}}, true
	case model.OpMount:
		return hooks{programs: []string{"mount", "umount", "pivot", "move"}, hook: "sb_mount", lsm: []probe.Feature{probe.HookMount}, modret: []probe.Feature{probe.DenyMount}}, true
	case model.OpModule:
		return hooks{programs: []string{"module_file", "module_data"}, hook: "kernel_read_file", lsm: []probe.Feature{probe.HookModule}, modret: []probe.Feature{probe.DenyModule}}, true
	}
	return hooks{}, false
}

// Name implements enforce.Backend.
func (b *Backend) Name() string { return b.name }

// AuditsExec says that every exec is seen here, so that what is only audited is reported from here.
func (b *Backend) AuditsExec() bool { return true }

// Carries implements enforce.Backend.
func (b *Backend) Carries(op model.Operation) (enforce.Carried, error) {
	h, ok := carriers(op)
	if !ok {
		return enforce.Carried{}, enforce.ErrOtherOperations
	}
	results, err := b.prober.Probe(context.Background(), b.needs(h)...)
	if err != nil {
		return enforce.Carried{}, err
	}
	for _, r := range results {
		if !r.Works {
			return enforce.Carried{}, errors.New(r.Cause)
		}
	}
	return enforce.Carried{Rung: b.name + " " + h.hook, Guarantee: model.DeniedBefore, Limits: h.limits}, nil
}

// Attach implements enforce.Backend. Each operation has a collection of its own, so that one is added or taken back without
// touching another.
func (b *Backend) Attach(_ context.Context, k enforce.Kernel, ops []model.Operation) error {
	b.host = k.Host
	for _, op := range ops {
		if b.attached[op] == nil {
			if err := b.attach(op); err != nil {
				return err
			}
		}
	}
	var errs []error
	for op := range b.attached {
		if !slices.Contains(ops, op) {
			errs = append(errs, b.detach(op))
		}
	}
	return errors.Join(errs...)
}

// sensor is the name under which an operation's programs are listed.
func (b *Backend) sensor(op model.Operation) string { return b.name + " " + string(op) }

func (b *Backend) attach(op model.Operation) error {
	h, _ := carriers(op)
	spec, err := b.load()
	if err != nil {
		return fmt.Errorf("read the embedded object: %w", err)
	}
	for name := range spec.Programs {
		if short, ok := strings.CutPrefix(name, b.prefix); ok && !slices.Contains(h.programs, short) {
			delete(spec.Programs, name)
		}
	}
	if err := spec.Variables["vg_accesses"].Set(accesses(op)); err != nil {
		return fmt.Errorf("load %s: %w", b.sensor(op), err)
	}
	c, err := b.host.LoadCollection(b.sensor(op), spec, nil, nil)
	if err != nil {
		return err
	}
	for _, p := range c.Programs {
		if err := b.host.AttachTracing(b.sensor(op), p); err != nil {
			err = errors.Join(err, b.host.Detach(b.sensor(op)))
			c.Close()
			return err
		}
	}
	b.attached[op] = c
	return nil
}

// accesses are the accesses to files that an operation's programs judge (enum vg_file_access): the same hook serves several
// operations, each with programs of its own.
func accesses(op model.Operation) uint32 {
	for i, o := range []model.Operation{model.OpExec, model.OpRead, model.OpWrite, model.OpModify} {
		if o == op {
			return 1 << i
		}
	}
	return 0
}

func (b *Backend) detach(op model.Operation) error {
	err := b.host.Detach(b.sensor(op))
	b.attached[op].Close()
	delete(b.attached, op)
	if err != nil {
		return fmt.Errorf("detach %s: %w", b.sensor(op), err)
	}
	return nil
}

// Load implements enforce.Backend: the tables are in the maps.
func (b *Backend) Load(context.Context, []enforce.Loaded) error { return nil }

// Close implements enforce.Backend.
func (b *Backend) Close() error {
	var errs []error
	for op := range b.attached {
		errs = append(errs, b.detach(op))
	}
	return errors.Join(errs...)
}
