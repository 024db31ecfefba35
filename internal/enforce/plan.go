// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// WeakerError is a rule that this kernel carries by less than it asks for.
type WeakerError struct {
	Policy, Field string
	Operation     model.Operation
	Asked, Best   model.Guarantee
	Rung          string // the best there is; empty when there is none
	Cause         string // why nothing better works
}

// Error names the rule, what carries it here and what to do.
func (e *WeakerError) Error() string {
	best := "nothing here carries that"
	if e.Rung != "" {
		best = fmt.Sprintf("the best here is %s (%s)", e.Best, e.Rung)
	}
	return fmt.Sprintf("spec.%s asks for %s to be %s, but %s, because %s; write weaker: accept on the rule to take that, or mode: audit",
		e.Field, e.Operation, e.Asked, best, e.Cause)
}

// Plan says for each rule of a table, by its number, what will carry it here. Error: *WeakerError.
func (e *Enforcer) Plan(t *policy.Table) ([]*Carried, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.plan(t)
}

// plan's answers are shared by tables whose rules are alike, of which a host can have thousands.
func (e *Enforcer) plan(t *policy.Table) ([]*Carried, error) {
	e.freshen()
	key := append(make([]byte, 0, 16+5*len(t.Rules)), asks(t)...)
	for _, r := range t.Rules {
		kind := byte(0)
		if r.Weaker {
			kind = 1
		}
		if r.Allows {
			kind |= 2
		}
		key = append(binary.LittleEndian.AppendUint32(key, uint32(r.Operations)), kind)
	}
	if known, ok := e.planned[string(key)]; ok {
		return known, nil
	}
	out := make([]*Carried, len(t.Rules))
	for i, r := range t.Rules {
		if i == 0 || r.Allows {
			out[i] = e.needless
			continue
		}
		var err error
		if out[i], err = e.planRule(t, &r); err != nil {
			return nil, err
		}
	}
	e.planned[string(key)] = out
	return out, nil
}

// planned names what the answer to a rule depends on: rules that are alike share one.
type planned struct {
	operations policy.Operations
	asked      model.Guarantee
	weaker     bool
}

func (e *Enforcer) planRule(t *policy.Table, r *policy.Rule) (*Carried, error) {
	key := planned{operations: r.Operations, asked: asks(t), weaker: r.Weaker}
	if c, ok := e.plans[key]; ok {
		return c, nil
	}
	c, err := e.carry(t, r)
	if err != nil {
		return nil, err
	}
	e.plans[key] = &c
	return &c, nil
}

// carry joins what carries each operation of a rule: the weakest guarantee counts.
func (e *Enforcer) carry(t *policy.Table, r *policy.Rule) (Carried, error) {
	var out Carried
	var rungs []string
	asked := asks(t)
	for op := range r.Operations.All() {
		b, c, cause := e.best(op)
		if sideDoors[op] {
			// Nobody writes a rule for these: they are the other ways to what the rule is about.
			if b == nil || c.Guarantee.Strength() < asked.Strength() {
				out.Limits = append(out.Limits, sideDoorLimit(op, b != nil, c, cause))
			} else {
				out.Limits = append(out.Limits, c.Limits...)
			}
			continue
		}
		if b == nil || c.Guarantee.Strength() < asked.Strength() {
			if !r.Weaker {
				return Carried{}, &WeakerError{Policy: t.Policy.Name, Field: r.Field(), Operation: op, Asked: asked, Best: c.Guarantee, Rung: c.Rung, Cause: cause}
			}
			if b == nil {
				c = Carried{Rung: "none", Guarantee: model.SeenOnly}
			}
		}
		if out.Guarantee == "" || c.Guarantee.Strength() < out.Guarantee.Strength() {
			out.Guarantee = c.Guarantee
		}
		rungs = addRung(rungs, c.Rung)
		for _, l := range c.Limits {
			if !slices.Contains(out.Limits, l) {
				out.Limits = append(out.Limits, l)
			}
		}
	}
	out.Rung = strings.Join(rungs, ", ")
	return out, nil
}

// addRung adds the hooks of one operation, unless those of another begin with them ("file_open" and "file_open, path_mknod").
func addRung(rungs []string, rung string) []string {
	if slices.ContainsFunc(rungs, func(r string) bool { return r == rung || strings.HasPrefix(r, rung+", ") }) {
		return rungs
	}
	return append(slices.DeleteFunc(rungs, func(r string) bool { return strings.HasPrefix(rung, r+", ") }), rung)
}

// sideDoors are operations that rules about others take along.
var sideDoors = map[model.Operation]bool{model.OpListen: true, model.OpSocket: true, model.OpReceive: true}

func sideDoorLimit(op model.Operation, carried bool, c Carried, cause string) string {
	what := map[model.Operation]string{model.OpListen: "listening on a port that the kernel chose",
		model.OpSocket: "raw, packet and other sockets beside TCP and UDP", model.OpReceive: "a connection that another process passes on"}[op]
	if !carried {
		return what + " is not covered: " + cause
	}
	return fmt.Sprintf("%s is %s (%s)", what, c.Guarantee, c.Rung)
}

// asks is what a table's denials ask for.
func asks(t *policy.Table) model.Guarantee {
	switch {
	case t.Mode == policy.Audit:
		return model.SeenOnly
	case t.Policy.OnDenied == policy.Kill:
		return model.KilledBefore
	}
	return model.DeniedBefore
}

// carrier is what carries an operation, and why others do not.
type carrier struct {
	backend Backend
	carried Carried
	causes  string
}

// carriersAge is for how long answers of back-ends are good, in nanoseconds: asking costs system calls, a set of policies has
// thousands of rules, and what a kernel can do changes hardly ever (a cgroup2 file system is mounted, say).
const carriersAge = 2e9

// best is the back-end that carries an operation with the strongest guarantee, the first of equals; and why others do not.
func (e *Enforcer) best(op model.Operation) (Backend, Carried, string) {
	e.freshen()
	c, ok := e.carriers[op]
	if !ok {
		c = e.ask(op)
		e.carriers[op] = c
	}
	return c.backend, c.carried, c.causes
}

// freshen forgets answers that are too old.
func (e *Enforcer) freshen() {
	if now, err := e.options.Clock(); err != nil || now-e.asked > carriersAge || e.plans == nil {
		e.carriers, e.plans, e.asked = make(map[model.Operation]carrier), make(map[planned]*Carried), now
		e.planned = make(map[string][]*Carried)
	}
}

func (e *Enforcer) ask(op model.Operation) (found carrier) {
	var why causes
	for _, b := range e.options.Backends {
		c, err := b.Carries(op)
		switch {
		case errors.Is(err, ErrOtherOperations):
		case err != nil:
			why.add(b.Name(), err.Error())
		case found.backend == nil || c.Guarantee.Strength() > found.carried.Guarantee.Strength():
			found.backend, found.carried = b, c
		}
	}
	found.causes = why.String()
	return found
}

// causes are why back-ends do not carry something: each reason once, with those that it holds for.
type causes struct{ names, reasons []string }

func (c *causes) add(name, reason string) {
	if i := slices.Index(c.reasons, reason); i >= 0 {
		c.names[i] += ", " + name
		return
	}
	c.names, c.reasons = append(c.names, name), append(c.reasons, reason)
}

func (c *causes) String() string {
	if len(c.names) == 0 {
		return "no other back-end is about that"
	}
	out := make([]string, len(c.names))
	for i := range out {
		out[i] = c.names[i] + ": " + c.reasons[i]
	}
	return strings.Join(out, "; ")
}

// operations are what each back-end has to carry for some tables, in the order of model.Operations.
func (e *Enforcer) operations(tables map[string]*loaded) map[string][]model.Operation {
	var needed policy.Operations
	for _, in := range tables {
		for _, r := range in.Table.Rules {
			if !r.Allows {
				needed |= r.Operations
			}
		}
	}
	out := make(map[string][]model.Operation)
	for op := range needed.All() {
		if b, _, _ := e.best(op); b != nil {
			out[b.Name()] = append(out[b.Name()], op)
		}
	}
	return out
}
