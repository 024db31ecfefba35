// SPDX-License-Identifier: Apache-2.0

// Package tracing carries out TracingPolicies (cilium.io/v1alpha1, Tetragon's format). In: their YAML. Out: programs in the
// kernel, one for each hook, made of instructions that hold the policy's values, and what they report as model.Probe.
//
//	YAML → Parse → plan (lists, macros, types) → compile (instructions) → load and attach, all of a policy or nothing
//	record of the security ring → Manager.Decode → event
//
// The ways to carry a hook are tried in order, best first (hooks*.go); what no way carries on this kernel is an error that
// names the field and the reason.
package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/pipeline"
)

var (
	// ErrNotFound: there is none.
	ErrNotFound = errors.New("there is no such TracingPolicy")
	// ErrNothingToEnforce: a policy without enforcing actions cannot be set to enforce.
	ErrNothingToEnforce = errors.New("the policy has nothing to enforce: it only monitors")
)

// Key names a policy.
type Key struct{ Namespace, Name string }

// String is "NAMESPACE/NAME", or the name alone.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// Key is the policy's name.
func (p *Policy) Key() Key { return Key{p.Namespace, p.Name} }

// Options are what a Manager needs.
type Options struct {
	Host   *kernel.Host
	Log    *slog.Logger
	Losses *pipeline.Losses
	// Workloads says which cgroups a policy's workloads are. Nil: policies that select workloads are refused.
	Workloads Workloads
}

// Manager keeps the TracingPolicies that are in force. Safe for concurrent use; Decode belongs to one goroutine.
type Manager struct {
	host      *kernel.Host
	log       *slog.Logger
	workloads Workloads
	only      string // tests: the one way to carry a hook that may be taken
	object    *ebpf.CollectionSpec
	library   *library
	shared    map[string]*ebpf.Map // of all policies

	mu       sync.Mutex
	policies map[Key]*loaded
	calls    dispatchers
	follow   followers
	changes  changes
	lastID   uint64
	closed   bool

	noticed chan struct{}

	hooks hookTable
}

// sharedMaps are those that all policies have together.
func sharedMaps() []string {
	return []string{"vg_probe_scratches", "vg_follow", "vg_tracked", "vg_baselines"}
}

// New makes a Manager without policies. Nothing is attached before there is one. The caller closes it before the Host.
func New(o Options) (*Manager, error) {
	m := &Manager{host: o.Host, log: o.Log, workloads: o.Workloads, policies: make(map[Key]*loaded), shared: make(map[string]*ebpf.Map),
		noticed: make(chan struct{}, 1)}
	if err := m.hooks.init(o.Losses); err != nil {
		return nil, err
	}
	var err error
	if m.object, err = loadBpf(); err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	if m.library, err = newLibrary(m.object); err != nil {
		return nil, err
	}
	m.calls = dispatchers{load: m.host.LoadCollection, spec: m.object}
	return m, nil
}

// makeShared makes the maps that all policies have together, when the first one comes.
func (m *Manager) makeShared() error {
	for _, name := range sharedMaps() {
		if m.shared[name] != nil {
			continue
		}
		made, err := ebpf.NewMap(m.object.Maps[name].Copy())
		if err != nil {
			return kernel.Explain("make the map "+name+" of TracingPolicies", err)
		}
		m.shared[name] = made
	}
	return nil
}

// load loads a collection with the shared maps.
func (m *Manager) load(what string, spec *ebpf.CollectionSpec, types *btf.Cache) (*ebpf.Collection, error) {
	replace := make(map[string]*ebpf.Map)
	for name, shared := range m.shared {
		if own := spec.Maps[name]; own != nil {
			replace[name] = shared
		}
	}
	spec.ByteOrder = m.object.ByteOrder
	return m.host.LoadCollection(what, spec, replace, types)
}

// Desired is a policy that is to be in force, in a mode; empty is the policy's own.
type Desired struct {
	Policy *Policy
	Mode   Mode
}

// Replace puts exactly these policies in force, all or none: on an error those that were in force still are. One that is in
// force already with the same text stays as it is, but for its mode. Of another, the old one goes when the new one is
// attached, so for a moment both report. Errors join a *FieldError for everything that cannot be carried here.
func (m *Manager) Replace(ctx context.Context, want []Desired) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := make(map[Key]bool)
	var fresh []*loaded
	var errs []error
	for _, d := range want {
		key := d.Policy.Key()
		old := m.policies[key]
		keep[key] = true
		if old != nil && bytes.Equal(old.policy.Source, d.Policy.Source) {
			continue
		}
		l, err := m.prepare(ctx, d.Policy, d.Mode)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fresh = append(fresh, l)
	}
	if len(errs) > 0 {
		for _, l := range fresh {
			errs = append(errs, m.unload(l))
		}
		return errors.Join(errs...)
	}
	for _, l := range fresh {
		errs = append(errs, m.commit(l))
	}
	for key, l := range m.policies {
		if !keep[key] {
			delete(m.policies, key)
			errs = append(errs, m.unload(l))
		}
	}
	for _, d := range want {
		l := m.policies[d.Policy.Key()]
		if mode := modeOf(d.Policy, l.enforces, d.Mode); mode != l.mode {
			errs = append(errs, l.setMode(mode))
		}
	}
	return errors.Join(errs...)
}

// Check says what keeps a policy from being in force here. It loads the policy's programs and attaches none.
func (m *Manager) Check(ctx context.Context, p *Policy) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.follow.snapshot()
	l, err := m.build(ctx, p, "")
	m.follow.release(m.follow.used(before))
	if err != nil {
		return err
	}
	for _, h := range l.hooks {
		m.hooks.retire(h.info)
	}
	return l.free()
}

// SetEnabled attaches a policy's programs, or detaches them and keeps them.
func (m *Manager) SetEnabled(key Key, enabled bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.policies[key]
	switch {
	case l == nil:
		return fmt.Errorf("enable or disable %s: %w", key, ErrNotFound)
	case enabled == l.attached:
		return nil
	case enabled:
		return m.attach(l, btf.NewCache())
	}
	return m.detach(l)
}

// Status is how one policy is doing; false when it is not in force.
func (m *Manager) Status(key Key) (Status, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.policies[key]
	if l == nil {
		return Status{}, false
	}
	return l.status(), true
}

// List is all policies in force, in the order in which they came.
func (m *Manager) List() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.SortedFunc(maps.Values(m.policies), func(a, b *loaded) int { return int(a.id) - int(b.id) })
	out := make([]Status, len(list))
	for i, l := range list {
		out[i] = l.status()
	}
	return out
}

// NoticeWorkloads says that a cgroup has appeared or changed its workload. It does not wait.
func (m *Manager) NoticeWorkloads() {
	select {
	case m.noticed <- struct{}{}:
	default: // one is waiting already, and will see this too
	}
}

// Run brings the policies that select workloads up to date when that is noticed, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.noticed:
			if err := m.refresh(); err != nil {
				m.log.Error("a policy is not in force in all the workloads that it selects", "error", err)
			}
		}
	}
}

func (m *Manager) refresh() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, l := range m.policies {
		for name, set := range l.sets {
			errs = append(errs, set.fill(l.maps[name], m.workloads))
		}
	}
	return errors.Join(errs...)
}

// Close takes all policies out of force.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	var errs []error
	for key, l := range m.policies {
		errs = append(errs, m.unload(l))
		delete(m.policies, key)
	}
	for _, shared := range m.shared {
		errs = append(errs, shared.Close())
	}
	return errors.Join(errs...)
}
