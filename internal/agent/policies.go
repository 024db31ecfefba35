// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/server"
)

// policyStore holds the policies that are in force: those of a watched directory and those that came by the API. Every
// change is all or nothing: what is new is parsed, checked, written down and brought in force, and where one of these
// fails, what was in force before still is, whole.
//
//   - A policy of the directory belongs to its file. It is changed and removed there; the API can switch its mode, which
//     holds, over restarts too, until the file says another mode than it did then.
//   - A policy of the API lives in the state directory, and is in force until the API deletes it.
//   - A name is used once, whatever the kind and wherever it comes from.
//   - A broken file keeps the whole directory as it was, also over a restart: the state directory has a copy.
type policyStore struct {
	policyOptions
	changing sync.Mutex // held by who changes
	read     string     // fingerprint of the directory's files when they were last read
	now      atomic.Pointer[policySet]
	trouble  policyTrouble
}

// policyOptions are what a policyStore needs.
type policyOptions struct {
	Dir   string // that is watched
	State string // directory for what survives a restart
	Kinds []policyKind
	Log   *slog.Logger
	Clock func() time.Time
}

// policyKind parses policies of some kinds and brings them in force. The store makes one call of Apply at a time.
type policyKind interface {
	// Kinds are the values of `kind` that it takes.
	Kinds() []string
	// Parse checks one YAML document. Its errors name the place in the file.
	Parse(*Document) (parsedPolicy, error)
	// Check says what keeps a policy from being in force here. It changes nothing.
	Check(parsedPolicy) error
	// Apply puts exactly these policies in force, in one step: on an error what was in force before still is, whole.
	Apply(context.Context, []parsedPolicy) error
	// Describer looks once at how all policies of the kind are doing, and returns what fills in what only the kind knows of
	// one: State, Message, Selector, Processes, Workloads, Rules. It may be called at any time, also for a policy that is
	// not in force.
	Describer() func(parsedPolicy, *server.Policy)
}

// parsedPolicy is one policy of a kind. It is immutable, and one pointer or comparable.
type parsedPolicy interface {
	// Name is unique among all policies.
	Name() string
	// Mode is audit or enforce.
	Mode() string
	// WithMode is the same policy in another mode.
	WithMode(mode string) (parsedPolicy, error)
}

// heldPolicy is a policy and where it came from. It is immutable once it is in a policySet.
type heldPolicy struct {
	Document
	origin  string // path of its file, fromAPI or fromCluster
	carrier policyKind
	written parsedPolicy // as it was written
	current parsedPolicy // in the mode that holds
	applied time.Time
}

// fromAPI is the origin of policies that came by the API.
const fromAPI = "api"

// fromCluster is the origin of policies that are objects of the cluster.
const fromCluster = "kubernetes"

func newPolicyStore(o policyOptions) *policyStore {
	s := &policyStore{policyOptions: o}
	s.now.Store(newPolicySet())
	s.trouble.starting = true
	return s
}

// apply brings the policies of a text in force, beside and instead of those of the API that are.
func (s *policyStore) apply(ctx context.Context, text server.PolicyText) ([]server.Policy, error) {
	return s.bringText(ctx, text, false)
}

// add is apply of policies that must be new.
func (s *policyStore) add(ctx context.Context, text server.PolicyText) ([]server.Policy, error) {
	return s.bringText(ctx, text, true)
}

func (s *policyStore) bringText(ctx context.Context, text server.PolicyText, onlyNew bool) ([]server.Policy, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.trouble.notReady(); err != nil {
		return nil, err
	}
	held, err := s.parse(text.Source, text.YAML, fromAPI)
	if err == nil && len(held) == 0 {
		err = fmt.Errorf("%s:1:1: there is no policy in it", text.Source)
	}
	if err != nil {
		return nil, server.Refuse(server.Invalid, err)
	}
	next := s.now.Load().clone()
	var errs []error
	for _, p := range held {
		switch other := next.policies[p.Name]; {
		case other == nil:
		case other.origin != fromAPI:
			errs = append(errs, fmt.Errorf("%s: policy %s is kept in %s: change it there, or give this one another name", p.NameAt, p.Name, other.origin))
		case onlyNew:
			errs = append(errs, fmt.Errorf("%s: there is a policy %s already: delete it first, or give this one another name", p.NameAt, p.Name))
		}
		next.policies[p.Name] = p
		delete(next.modes, p.Name) // what is said now is newer
	}
	if err := errors.Join(errs...); err != nil {
		return nil, server.Refuse(server.Precondition, err)
	}
	why := asked
	if text.DryRun {
		why = askedWhether
	}
	undo := s.trouble.drop(held...)
	err = s.change(ctx, next, why)
	if err != nil || text.DryRun {
		undo()
	}
	if err != nil {
		return nil, err
	}
	for i := range held {
		held[i] = next.policies[held[i].Name]
	}
	return s.describe(held), nil
}

// delete takes a policy of the API out of force, or forgets one that could not be brought in force.
func (s *policyStore) delete(ctx context.Context, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.trouble.notReady(); err != nil {
		return err
	}
	next := s.now.Load().clone()
	p, failed := next.policies[name], s.trouble.failedPolicy(name)
	switch {
	case failed != nil:
	case p == nil:
		return noPolicy(name)
	case p.origin != fromAPI:
		return server.Refuse(server.Precondition, fmt.Errorf("policy %s is kept in %s: remove it there, or let it only watch with `vigie policy mode %s audit`",
			name, p.origin, name))
	default:
		delete(next.policies, name)
		delete(next.modes, name)
	}
	undo := s.trouble.drop(&heldPolicy{Document: Document{Name: name}})
	if err := s.change(ctx, next, asked); err != nil {
		undo()
		return err
	}
	return nil
}

// setMode switches a policy between audit and enforce.
func (s *policyStore) setMode(ctx context.Context, name, mode string) (server.Policy, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.trouble.notReady(); err != nil {
		return server.Policy{}, err
	}
	if mode != "audit" && mode != "enforce" {
		return server.Policy{}, server.Refuse(server.Invalid, fmt.Errorf("mode %q: the modes are audit and enforce", mode))
	}
	next := s.now.Load().clone()
	p := next.policies[name]
	if p == nil {
		return server.Policy{}, noPolicy(name)
	}
	next.modes[name] = modeChange{Mode: mode, Written: p.written.Mode()}
	if err := s.change(ctx, next, asked); err != nil {
		return server.Policy{}, err
	}
	return s.describe([]*heldPolicy{next.policies[name]})[0], nil
}

func noPolicy(name string) error {
	return server.Refuse(server.NotFound, fmt.Errorf("there is no policy %q: `vigie policy list` names them", name))
}

// policies lists all, ordered by name: those in force, and what could not be brought in force.
func (s *policyStore) policies() []server.Policy {
	list := append(s.describe(s.now.Load().sorted()), s.trouble.list(s.now.Load())...)
	slices.SortStableFunc(list, func(a, b server.Policy) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// occasion is why something is changed.
type occasion int

const (
	asked         occasion = iota // by the API: it must survive a restart
	askedWhether                  // by the API: it is not done, only checked
	fromDirectory                 // it is written in the directory
)

// change brings next in force instead of what is. On an error all is as before.
func (s *policyStore) change(ctx context.Context, next *policySet, why occasion) error {
	now := s.now.Load()
	if err := next.settle(now, s.Clock()); err != nil {
		return server.Refuse(server.Invalid, err)
	}
	if err := s.check(now, next); err != nil || why == askedWhether {
		return err
	}
	prepared := s.prepare(next)
	// Who asked may go away; half a change is not what they leave behind.
	ctx = context.WithoutCancel(ctx)
	for i, kind := range s.Kinds {
		if err := s.bring(ctx, kind, now, next); err != nil {
			file, _ := prepared()
			file.discard()
			return errors.Join(err, s.back(ctx, s.Kinds[:i], now, next))
		}
	}
	file, err := prepared()
	if err == nil {
		err = file.commit()
	}
	file.discard()
	switch {
	case err != nil && why == asked:
		return errors.Join(err, s.back(ctx, s.Kinds, now, next))
	case err != nil:
		s.Log.Error("if the agent restarts while the policy directory is broken, its policies will not be in force", "error", err)
	}
	s.now.Store(next)
	return nil
}

// check asks the kinds whether what is new could be in force. The error lists all problems, each with its place.
func (s *policyStore) check(now, next *policySet) error {
	var errs []error
	kind := server.Precondition
	for _, p := range next.sorted() {
		if before := now.policies[p.Name]; before != nil && before.current == p.current {
			continue
		}
		if err := p.carrier.Check(p.current); err != nil {
			if invalid(err) {
				kind = server.Invalid
			}
			errs = append(errs, placeOf(p, err))
		}
	}
	return server.Refuse(kind, errors.Join(errs...))
}

// bring has a kind carry what it has in a set.
func (s *policyStore) bring(ctx context.Context, kind policyKind, before, after *policySet) error {
	list := after.of(kind)
	if slices.Equal(before.of(kind), list) {
		return nil
	}
	if err := kind.Apply(ctx, list); err != nil {
		return fmt.Errorf("bring policies in force: %w; what was in force before still is", err)
	}
	return nil
}

// back has kinds carry what they did before.
func (s *policyStore) back(ctx context.Context, kinds []policyKind, now, next *policySet) error {
	var errs []error
	for _, kind := range kinds {
		if err := s.bring(ctx, kind, next, now); err != nil {
			s.Log.Error("what was in force before could not be brought back: restart the agent", "kinds", kind.Kinds(), "error", err)
			errs = append(errs, fmt.Errorf("take the change back: %w", err))
		}
	}
	return errors.Join(errs...)
}

// parse reads the policies of a text. The error lists all problems.
func (s *policyStore) parse(source, text, origin string) ([]*heldPolicy, error) {
	docs, err := Documents(source, text)
	if err != nil {
		return nil, err
	}
	var held []*heldPolicy
	var errs []error
	at := make(map[string]string)
	now := s.now.Load()
	for _, d := range docs {
		if d.Kind == testKind {
			continue // for `vigie policy test`: it may stand beside what it tests
		}
		if same := now.policies[d.Name]; same != nil && same.origin == origin && same.Text == d.Text && at[d.Name] == "" {
			held, at[d.Name] = append(held, same), d.NameAt
			continue
		}
		carrier := s.kind(d.Kind)
		if carrier == nil {
			errs = append(errs, fmt.Errorf("%s: kind: there is no kind of policy %q here: known are %s", d.KindAt, d.Kind, strings.Join(s.kinds(), ", ")))
			continue
		}
		p, err := carrier.Parse(&d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d.Name, d.KindAt, d.root = p.Name(), "", nil // kept for as long as the policy is there, by the thousand
		if at[d.Name] != "" {
			errs = append(errs, fmt.Errorf("%s: policy %s is also at %s: give one of them another name", d.NameAt, d.Name, at[d.Name]))
			continue
		}
		held, at[d.Name] = append(held, &heldPolicy{Document: d, origin: origin, carrier: carrier, written: p, current: p}), d.NameAt
	}
	return held, errors.Join(errs...)
}

// testKind is the kind of the documents of `vigie policy test`.
const testKind = "PolicyTest"

func (s *policyStore) kind(name string) policyKind {
	for _, k := range s.Kinds {
		if slices.Contains(k.Kinds(), name) {
			return k
		}
	}
	return nil
}

func (s *policyStore) kinds() []string {
	var names []string
	for _, k := range s.Kinds {
		names = append(names, k.Kinds()...)
	}
	return names
}

// describe says how policies are doing.
func (s *policyStore) describe(list []*heldPolicy) []server.Policy {
	out := make([]server.Policy, 0, len(list))
	describers := make(map[policyKind]func(parsedPolicy, *server.Policy), len(s.Kinds))
	for _, p := range list {
		describe := describers[p.carrier]
		if describe == nil {
			describe = p.carrier.Describer()
			describers[p.carrier] = describe
		}
		d := server.Policy{Name: p.Name, Kind: p.Kind, Mode: p.current.Mode(), Source: p.origin, YAML: p.Text, State: server.PolicyInForce,
			Applied: p.applied}
		describe(p.current, &d)
		if p.current.Mode() != p.written.Mode() {
			d.Message = andThen(d.Message, fmt.Sprintf("switched to %s by the API, its YAML says %s", p.current.Mode(), p.written.Mode()))
		}
		if refused := s.trouble.ofFile(p.origin); refused != "" {
			d.Message = andThen(d.Message, "as it was before its file changed: "+refused)
		}
		out = append(out, d)
	}
	return out
}

func andThen(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// policySet is what is in force at one moment. It is immutable once it is.
type policySet struct {
	policies map[string]*heldPolicy
	modes    map[string]modeChange
}

// modeChange is a mode that the API gave a policy.
type modeChange struct {
	Mode    string `json:"mode"`
	Written string `json:"written"` // the mode that the policy itself said then
}

func newPolicySet() *policySet {
	return &policySet{policies: make(map[string]*heldPolicy), modes: make(map[string]modeChange)}
}

func (s *policySet) clone() *policySet {
	return &policySet{policies: maps.Clone(s.policies), modes: maps.Clone(s.modes)}
}

// settle gives every policy its mode, and what is new its time.
func (s *policySet) settle(before *policySet, now time.Time) error {
	for name, m := range s.modes {
		if p := s.policies[name]; p == nil || p.written.Mode() != m.Written || m.Mode == m.Written {
			delete(s.modes, name)
		}
	}
	for name, p := range s.policies {
		mode := p.written.Mode()
		if m, ok := s.modes[name]; ok {
			mode = m.Mode
		}
		if p == before.policies[name] && p.current.Mode() == mode {
			continue
		}
		settled := *p
		if p.current.Mode() != mode {
			var err error
			if settled.current, err = p.written.WithMode(mode); err != nil {
				return placeOf(p, err)
			}
		}
		if b := before.policies[name]; b != nil || settled.applied.IsZero() {
			settled.applied = now
		}
		s.policies[name] = &settled
	}
	return nil
}

func (s *policySet) sorted() []*heldPolicy {
	return slices.SortedFunc(maps.Values(s.policies), func(a, b *heldPolicy) int { return strings.Compare(a.Name, b.Name) })
}

// of is what a kind has in the set, ordered by name.
func (s *policySet) of(kind policyKind) []parsedPolicy {
	var list []parsedPolicy
	for _, p := range s.sorted() {
		if p.carrier == kind {
			list = append(list, p.current)
		}
	}
	return list
}
