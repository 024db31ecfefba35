// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
)

// loaded is a policy in force.
type loaded struct {
	policy   *Policy
	id       uint64
	mode     Mode
	enforces bool // it has something to enforce
	attached bool
	maps     map[string]*ebpf.Map // its own: mode, tallies, what entry and return share, cgroups
	sets     map[string]*workloadSet
	hooks    []*loadedHook
	followed [maxFollowed]int // how often it uses each followed set
	asks     bool             // what processes began with
	changes  bool             // that is kept for it
}

// loadedHook is a hook with its programs.
type loadedHook struct {
	info     *hookInfo
	programs []*loadedProgram
}

type loadedProgram struct {
	*program
	collection *ebpf.Collection
	links      []link.Link
	registered []registration
}

func (l *loaded) owner() string { return "policy " + l.policy.Key().String() }

// environment is what compiling needs to know of the host.
type environment struct {
	types   *btf.Spec
	sets    map[string]*workloadSet // made while compiling
	knows   bool                    // there is somebody who knows workloads
	self    int                     // process id of the agent
	changes bool                    // what processes began with is asked for
}

// workloads makes the set that a selector's matchWorkloads is.
func (e *environment) workloads(c *compiler, path string, m *WorkloadMatch) *workloadSet {
	return e.set(c, path, newWorkloadSet(fmt.Sprintf("cgroups%d", len(e.sets)), c.p, m.PodSelector, m.ContainerSelector, m.HostSelector))
}

func (e *environment) set(c *compiler, path string, s *workloadSet) *workloadSet {
	if s == nil {
		return nil
	}
	if !e.knows {
		c.fail(path, "workloads cannot be selected: nobody here knows which cgroups are whose")
	}
	e.sets[s.spec.Name] = s
	return s
}

// prepare loads and attaches a policy beside the one that it is to replace. On an error nothing is left of it.
func (m *Manager) prepare(ctx context.Context, p *Policy, mode Mode) (*loaded, error) {
	before := m.follow.snapshot()
	l, err := m.build(ctx, p, mode)
	if err != nil {
		m.follow.release(m.follow.used(before))
		return nil, err
	}
	l.followed = m.follow.used(before)
	if err := m.start(l, btf.NewCache()); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", p.Key(), err), m.unload(l))
	}
	return l, nil
}

// commit makes a prepared policy the one of its name.
func (m *Manager) commit(l *loaded) error {
	key := l.policy.Key()
	old := m.policies[key]
	m.policies[key] = l
	m.log.Info("TracingPolicy is in force", "policy", key, "hooks", len(l.hooks), "mode", l.mode)
	if old != nil {
		if err := m.unload(old); err != nil {
			return fmt.Errorf("take the old %s out of force: %w", key, err)
		}
	}
	return nil
}

// start attaches what build has loaded.
func (m *Manager) start(l *loaded, types *btf.Cache) error {
	if l.followed != [maxFollowed]int{} {
		if err := m.updateFollowers(types); err != nil {
			return err
		}
	}
	if l.asks {
		l.changes = true
		if err := m.useChanges(types); err != nil {
			return err
		}
	}
	if len(l.sets) > 0 {
		for name, set := range l.sets {
			if err := set.fill(l.maps[name], m.workloads); err != nil {
				return err
			}
		}
	}
	return m.attach(l, types)
}

// build compiles and loads a policy; nothing is attached. On an error nothing is left.
func (m *Manager) build(ctx context.Context, p *Policy, mode Mode) (_ *loaded, err error) {
	requests, errs := plan(p)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if err := m.makeShared(); err != nil {
		return nil, err
	}
	m.lastID++
	l := &loaded{policy: p, id: m.lastID, enforces: enforces(requests), maps: make(map[string]*ebpf.Map), sets: make(map[string]*workloadSet)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.free())
		}
	}()
	l.mode = modeOf(p, l.enforces, mode)
	cache := btf.NewCache()
	types, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	shared := map[string]*ebpf.MapSpec{
		"mode":  {Name: "mode", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1},
		"tally": {Name: "tally", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: tallies()},
	}
	env := &environment{types: types, sets: l.sets, knows: m.workloads != nil, self: os.Getpid()}
	for i, r := range requests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.id = m.hooks.nextID()
		c := &compiler{builder: newBuilder(fmt.Sprintf("vg_hook%d", i)), p: p, hook: r.hookPlan, shared: shared, env: env, follow: &m.follow}
		s := &p.Document.Spec
		if i == 0 {
			l.scope(c, s)
		}
		r.scope = l.sets["workloads"]
		h, err := m.buildHook(l, c, r, cache)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.hooks = append(l.hooks, h)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	l.asks = env.changes
	return l, l.setMode(l.mode)
}

// scope makes the set of workloads that the whole policy is for.
func (l *loaded) scope(c *compiler, s *Spec) {
	if set := newWorkloadSet("workloads", c.p, s.PodSelector, s.ContainerSelector, s.HostSelector); set != nil {
		c.env.set(c, "spec.podSelector", set)
	}
}

// buildHook tries the ways to carry a hook, best first, until one loads.
func (m *Manager) buildHook(l *loaded, c *compiler, r *request, types *btf.Cache) (*loadedHook, error) {
	ways := c.candidates(r)
	if err := errors.Join(c.errs...); err != nil {
		return nil, err
	}
	for i := range ways {
		w := &ways[i]
		if w.err != nil || m.only != "" && !strings.HasPrefix(w.carrier, m.only) {
			continue
		}
		h := &loadedHook{info: newHookInfo(l.policy, r, w)}
		for _, p := range w.programs {
			var loadedP *loadedProgram
			if loadedP, w.err = m.loadProgram(l, p, types); w.err != nil {
				w.err = errors.Join(w.err, h.free())
				break
			}
			h.programs = append(h.programs, loadedP)
		}
		if w.err == nil {
			m.hooks.add(h.info)
			return h, nil
		}
	}
	return nil, l.policy.problem(r.path, "%s", refusal(r, ways))
}

// refusal says why a hook cannot be carried here, way by way.
func refusal(r *request, ways []candidate) string {
	var reasons []string
	for _, w := range ways {
		if w.err == nil {
			continue
		}
		why := oneLine(w.err)
		switch {
		case errors.Is(w.err, unix.EPERM):
			why = "the kernel refuses to load such a program (EPERM)"
		case strings.Contains(why, "is not modifiable"): // the verifier's words
			why = "this kernel does not let the function's result be changed (CONFIG_FUNCTION_ERROR_INJECTION)"
		}
		reasons = append(reasons, w.carrier+": "+why)
	}
	what, instead := r.name, ""
	if r.overrides() {
		what += " with Override"
		if r.function != nil && r.function.syscall {
			instead = ", or Override of the security_* function that the call asks, or a WorkloadPolicy"
		}
	}
	return fmt.Sprintf("%s cannot be carried on this kernel (%s); it takes a kernel that loads one of these, which `vigie doctor` lists%s",
		what, strings.Join(reasons, "; "), instead)
}

// loadProgram loads a program with the maps that the policy has already.
func (m *Manager) loadProgram(l *loaded, p *program, types *btf.Cache) (*loadedProgram, error) {
	spec, err := m.library.collection(p.spec, p.code, p.maps)
	if err != nil {
		return nil, err
	}
	replace := make(map[string]*ebpf.Map)
	for name := range spec.Maps {
		if shared := m.shared[name]; shared != nil {
			replace[name] = shared
		} else if own := l.maps[name]; own != nil {
			replace[name] = own
		}
	}
	spec.ByteOrder = m.object.ByteOrder
	c, err := m.host.LoadCollection("a program of "+l.policy.Key().String(), spec, replace, types)
	if err != nil {
		return nil, err
	}
	for name := range p.maps {
		if l.maps[name] == nil {
			own, err := c.Maps[name].Clone()
			if err != nil {
				c.Close()
				return nil, fmt.Errorf("keep the map %s: %w", name, err)
			}
			l.maps[name] = own
		}
	}
	return &loadedProgram{program: p, collection: c}, nil
}

// attach makes all programs of a policy run. On an error none does.
func (m *Manager) attach(l *loaded, types *btf.Cache) error {
	l.attached = true
	for _, h := range l.hooks {
		for _, p := range h.programs {
			if err := m.attachProgram(p, types); err != nil {
				return errors.Join(l.policy.problem(h.info.path, "%s could not be attached: %s", h.info.carrier, oneLine(kernel.Explain("attach", err))), m.detach(l))
			}
			m.host.Account(l.owner(), p.spec.Name, p.collection.Programs[p.spec.Name])
		}
	}
	return nil
}

func (m *Manager) attachProgram(p *loadedProgram, types *btf.Cache) (err error) {
	prog := p.collection.Programs[p.spec.Name]
	if p.attach == nil {
		p.registered, err = m.calls.register(prog, p.calls, p.exit, types)
		return err
	}
	p.links, err = p.attach(prog)
	return err
}

// detach stops all programs of a policy and keeps them loaded.
func (m *Manager) detach(l *loaded) error {
	l.attached = false
	errs := []error{m.host.Detach(l.owner())}
	for _, h := range l.hooks {
		for _, p := range h.programs {
			for _, lnk := range p.links {
				errs = append(errs, lnk.Close())
			}
			errs = append(errs, m.calls.remove(p.registered))
			p.links, p.registered = nil, nil
		}
	}
	return errors.Join(errs...)
}

// unload takes a policy away.
func (m *Manager) unload(l *loaded) error {
	err := errors.Join(m.detach(l), l.free())
	for _, h := range l.hooks {
		m.hooks.retire(h.info)
	}
	m.follow.release(l.followed)
	if l.changes {
		err = errors.Join(err, m.releaseChanges())
	}
	if l.followed != [maxFollowed]int{} && !m.closed {
		err = errors.Join(err, m.updateFollowers(btf.NewCache()))
	}
	return err
}

// free closes programs and maps.
func (l *loaded) free() error {
	var errs []error
	for _, h := range l.hooks {
		errs = append(errs, h.free())
	}
	for _, m := range l.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

func (h *loadedHook) free() error {
	for _, p := range h.programs {
		p.collection.Close()
	}
	h.programs = nil
	return nil
}
