// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/policy"
)

// DefaultMaxPolicies is how many policies there can be unless Options say otherwise.
const DefaultMaxPolicies = 1024

// Options configure an Enforcer.
type Options struct {
	Log    *slog.Logger
	Losses *pipeline.Losses
	Host   *kernel.Host
	// Backends are what can carry operations, best first.
	Backends []Backend
	// Cgroups tells which workload each cgroup is of.
	Cgroups Cgroups
	// Listeners knows where workloads listen; nil: rules about workloads match nothing.
	Listeners *Listeners
	// MaxPolicies is how many policies there can be, at most 32767; DefaultMaxPolicies when 0.
	MaxPolicies int
	// PinDir is a directory of bpffs, or one that is to be, for policies that outlive the agent; empty: none can.
	PinDir string
	// Clock gives nanoseconds since boot.
	Clock func() (uint64, error)
}

// Cgroups knows the cgroups of the host.
type Cgroups interface {
	// Each calls fn for every cgroup that is known, with its workload; hierarchy 0 is cgroup v2.
	Each(fn func(hierarchy uint32, id uint64, w *model.Workload))
}

// Enforcer puts tables in force. Nothing is attached before the first.
type Enforcer struct {
	options  Options
	started  uint64 // boot time
	reports  chan Report
	overflow *pipeline.Counter
	// workloads, applied and peers hold a value when Run has something to do.
	workloads, applied, peers chan struct{}

	mu       sync.Mutex // held while tables change
	subjects *subject.Subjects
	loader   *loader
	numbers  map[string]uint32 // policy numbers by name
	freed    []uint32          // numbers below the highest that no policy has
	inForce  map[string]*loaded
	attached map[string][]model.Operation // by back-end
	carriers map[model.Operation]carrier  // by the answers of back-ends at the time asked
	plans    map[planned]*Carried         // made of them
	planned  map[string][]*Carried        // and of those, by the kinds of a table's rules
	needless *Carried                     // by no rung: of rules that only permit
	asked    uint64
	carried  map[string]map[string]uint64 // hits of earlier tables, by policy and rule
	lists    map[subject.CgroupRef][subject.Slots]uint16

	// known are the tables that verdicts may name, also retired ones whose number nobody has yet.
	known atomic.Pointer[map[uint16]*loaded]
}

// New makes an Enforcer. Close it.
func New(o Options) *Enforcer {
	if o.MaxPolicies <= 0 {
		o.MaxPolicies = DefaultMaxPolicies
	}
	if o.Clock == nil {
		o.Clock = kernel.BootTime
	}
	e := &Enforcer{options: o, workloads: make(chan struct{}, 1), applied: make(chan struct{}, 1),
		peers: make(chan struct{}, 1), reports: make(chan Report, 4096), overflow: o.Losses.Counter("enforce", "queue of verdicts full"),
		numbers: make(map[string]uint32), inForce: make(map[string]*loaded), attached: make(map[string][]model.Operation),
		carried: make(map[string]map[string]uint64), needless: new(Carried), lists: make(map[subject.CgroupRef][subject.Slots]uint16)}
	e.started, _ = o.Clock()
	e.known.Store(&map[uint16]*loaded{})
	return e
}

// Apply puts exactly these tables in force, each policy's name once. From one moment to the next each process is judged by
// the new ones, with no moment without any. On an error what was in force before still is, whole.
func (e *Enforcer) Apply(ctx context.Context, tables []*policy.Table) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(tables) == 0 && len(e.inForce) == 0 {
		return nil
	}
	if len(tables) > e.options.MaxPolicies {
		return fmt.Errorf("%d policies are more than the %d that this agent was started for: raise --max-policies", len(tables), e.options.MaxPolicies)
	}
	if err := e.start(); err != nil {
		return err
	}
	next, fresh, err := e.load(tables)
	if err != nil {
		return err
	}
	lists, err := e.cgroupLists(next)
	if err == nil {
		err = e.prepare(ctx, next)
	}
	if err != nil {
		e.unload(fresh)
		return errors.Join(err, e.attach(context.WithoutCancel(ctx), e.inForce), e.tell(context.WithoutCancel(ctx), e.inForce))
	}
	// From here on there is no way back: what fails is said, and the rest is done.
	return e.switchTo(context.WithoutCancel(ctx), next, lists)
}

// start loads the kernel side when it is needed for the first time.
func (e *Enforcer) start() error {
	if e.subjects != nil {
		return nil
	}
	s, err := subject.Start(e.options.Host, uint32(2*e.options.MaxPolicies+1))
	if err != nil {
		return fmt.Errorf("start enforcing: %w", err)
	}
	if err := s.Policies.Put(uint32(0), &subject.Policies{Agent: agentPID()}); err != nil {
		return kernel.Explain("start enforcing", err)
	}
	e.subjects, e.loader = s, newLoader(&s.Maps)
	return nil
}

// load writes the tables that are not there yet. next is all that are to be in force, fresh those of them that are new.
func (e *Enforcer) load(tables []*policy.Table) (next map[string]*loaded, fresh []*loaded, err error) {
	next = make(map[string]*loaded, len(tables))
	for _, t := range tables {
		name := t.Policy.Name
		if next[name] != nil {
			e.unload(fresh)
			return nil, nil, fmt.Errorf("policy %s: there are two of that name", name)
		}
		if before := e.inForce[name]; before != nil && before.Table == t {
			next[name] = before
			continue
		}
		carried, err := e.plan(t)
		var in *loaded
		if err == nil {
			in, err = e.loader.load(t, e.policyNumber(name))
		}
		if err != nil {
			if e.inForce[name] == nil {
				e.forgetNumber(name)
			}
			e.unload(fresh)
			return nil, nil, fmt.Errorf("policy %s: %w", name, err)
		}
		in.carried = carried
		next[name], fresh = in, append(fresh, in)
	}
	return next, fresh, nil
}

// unload takes back tables that never came in force.
func (e *Enforcer) unload(tables []*loaded) {
	for _, in := range tables {
		e.loader.unload(in)
		if name := in.Table.Policy.Name; e.inForce[name] == nil {
			e.forgetNumber(name)
		}
	}
}

// policyNumber is the number by which the kernel knows a policy, through all its tables.
func (e *Enforcer) policyNumber(name string) uint32 {
	n, ok := e.numbers[name]
	if ok {
		return n
	}
	if last := len(e.freed) - 1; last >= 0 {
		n, e.freed = e.freed[last], e.freed[:last]
	} else {
		n = uint32(len(e.numbers)) + 1
	}
	e.numbers[name] = n
	return n
}

// forgetNumber gives a policy's number to the next that needs one.
func (e *Enforcer) forgetNumber(name string) {
	if n, ok := e.numbers[name]; ok {
		delete(e.numbers, name)
		e.freed = append(e.freed, n)
	}
}

// prepare has every hook in place that the tables need, and every back-end know them.
func (e *Enforcer) prepare(ctx context.Context, next map[string]*loaded) error {
	both := maps.Clone(next)
	for name, in := range e.inForce {
		if next[name] != in {
			both["\x00"+name] = in // still in force until the switch
		}
	}
	if err := e.tell(ctx, both); err != nil {
		return err
	}
	e.remember(both)
	if err := e.attach(ctx, both); err != nil {
		return err
	}
	return errors.Join(e.subjects.WatchUsers(selectsByUser(both)), e.setPeers(both))
}

// tell has every back-end know the tables.
func (e *Enforcer) tell(ctx context.Context, tables map[string]*loaded) error {
	list := make([]Loaded, 0, len(tables))
	for _, in := range tables {
		list = append(list, in.Loaded)
	}
	slices.SortFunc(list, func(a, b Loaded) int { return int(a.Number) - int(b.Number) })
	for _, b := range e.options.Backends {
		if err := b.Load(ctx, list); err != nil {
			return fmt.Errorf("back-end %s: %w", b.Name(), err)
		}
	}
	return nil
}

// attach has each back-end carry what the tables leave to it.
func (e *Enforcer) attach(ctx context.Context, tables map[string]*loaded) error {
	wanted := e.operations(tables)
	for _, b := range e.options.Backends {
		ops := wanted[b.Name()]
		if slices.Equal(ops, e.attached[b.Name()]) {
			continue
		}
		if err := b.Attach(ctx, Kernel{Host: e.options.Host, Subjects: e.subjects.Subjects, Hit: e.hit, Report: e.report}, ops); err != nil {
			return fmt.Errorf("back-end %s: %w", b.Name(), err)
		}
		e.attached[b.Name()] = ops
	}
	return nil
}

// switchTo makes the tables those by which processes are judged, and retires the others.
func (e *Enforcer) switchTo(ctx context.Context, next map[string]*loaded, lists cgroupLists) error {
	var errs []error
	var retired []*loaded
	for name, in := range e.inForce {
		if next[name] != in {
			retired = append(retired, in)
		}
		if next[name] == nil {
			errs = append(errs, e.setLive(in.policy, 0))
		}
	}
	errs = append(errs, e.writeState(next), e.writeSelectors(next))
	for _, in := range next {
		errs = append(errs, e.setLive(in.policy, in.Number))
	}
	errs = append(errs, e.writeLists(lists), e.subjects.EnterAll())
	e.inForce = next
	errs = append(errs, e.tell(ctx, next), e.attach(ctx, next), e.pin(next), e.cut(ctx))
	e.retire(retired)
	notice(e.applied)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the policies are in force, but not all of it could be done: %w", err)
	}
	return nil
}

// retire frees tables that judge no process any more.
func (e *Enforcer) retire(tables []*loaded) {
	if len(tables) == 0 {
		return
	}
	hits := e.allHits()
	byNumber := make(map[uint16]*loaded, len(tables))
	for _, in := range tables {
		byNumber[in.Number] = in
	}
	for key, n := range hits {
		if in := byNumber[key.Table]; in != nil && int(key.Rule) < len(in.Table.Rules) {
			name := in.Table.Policy.Name
			if e.carried[name] == nil {
				e.carried[name] = make(map[string]uint64)
			}
			e.carried[name][hitName(in.Table, int(key.Rule))] += n
			_ = e.subjects.Hits.Delete(&key) // the number is another table's next
		}
	}
	for _, in := range tables {
		if e.inForce[in.Table.Policy.Name] == nil {
			e.forgetNumber(in.Table.Policy.Name)
			delete(e.carried, in.Table.Policy.Name)
		}
		e.loader.unload(in)
	}
}

// Learner is a back-end that learns from what is seen: answers of name servers, say.
type Learner interface {
	Learn(ev *model.Event) error
}

// Learn has the back-ends look at an enriched event. For the goroutine that decodes.
func (e *Enforcer) Learn(ev *model.Event) {
	for _, b := range e.options.Backends {
		if l, ok := b.(Learner); ok {
			if err := l.Learn(ev); err != nil {
				e.options.Log.Warn("a back-end could not learn from an event", "back_end", b.Name(), "type", ev.Type, "error", err)
			}
		}
	}
}

// Cutter is a back-end that can end conversations which the tables in force no longer allow.
type Cutter interface {
	Cut(ctx context.Context) error
}

func (e *Enforcer) cut(ctx context.Context) error {
	var errs []error
	for _, b := range e.options.Backends {
		if c, ok := b.(Cutter); ok && len(e.attached[b.Name()]) > 0 {
			if err := c.Cut(ctx); err != nil {
				errs = append(errs, fmt.Errorf("end what became forbidden: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

func (e *Enforcer) setLive(number uint32, table uint16) error {
	if err := e.subjects.Live.Put(number, uint32(table)); err != nil {
		return kernel.Explain("put a policy in force", err)
	}
	return nil
}

// Close takes everything out of force but the policies that outlive the agent (onAgentExit: keep).
func (e *Enforcer) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, b := range e.options.Backends {
		errs = append(errs, b.Close())
	}
	if e.subjects != nil {
		errs = append(errs, e.subjects.WatchUsers(false), e.options.Host.Detach(subject.Name), e.loader.close())
	}
	e.subjects = nil
	return errors.Join(errs...)
}
