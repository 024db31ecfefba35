// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// errBudget has the API server's words.
var errBudget = errors.New("validation failed due to running out of cost budget, no further validation rules will be run")

// judge evaluates one policy; ok is false when its matchConditions say that it does not apply.
func (s *session) judge(cand *candidate, c *compiled) (v Verdict, ok bool) {
	p := cand.policy
	v.Policy = p.index
	if c.err != nil {
		v.State, v.Err = Unevaluated, c.err.Error()
		return v, true
	}
	if len(c.conditions) > 0 {
		applies, err := s.applies(cand, c)
		if err != nil {
			v.State, v.Err = Unevaluated, err.Error()
			return v, true
		}
		if !applies {
			return v, false
		}
	}
	if s.shares(cand, c) {
		r := s.sharing(p, c)
		r.counted = len(c.variables)+2*len(c.validations) > plainPrograms
		if c.ownParams {
			r.values.counted = r.counted
		}
		failures, err := r.validate(p, c)
		if !errors.Is(err, errBudget) {
			return verdict(v, failures, err), true
		}
	}
	failures, err := s.own(p, c, cand).validate(p, c)
	return verdict(v, failures, err), true
}

func verdict(v Verdict, failures []Failure, err error) Verdict {
	v.Failures = failures
	switch {
	case err != nil:
		v.State, v.Err = Unevaluated, err.Error()
	case len(failures) > 0:
		v.State = Failed
	}
	return v
}

func (s *session) shares(cand *candidate, c *compiled) bool {
	return c.space == s.space && cand.resource == s.attr.GetResource()
}

// applies holds the matchConditions: one that is false decides, even beside one with an error. They do not see the namespace.
func (s *session) applies(cand *candidate, c *compiled) (bool, error) {
	r := s.own(cand.policy, c, &candidate{resource: s.attr.GetResource()})
	r.namespace = types.NullValue
	r.counted = len(c.conditions) > plainConditions
	var errs []error
	for _, program := range c.conditions {
		out, err := r.evaluate(program, celconfig.RuntimeCELCostBudgetMatchConditions)
		switch {
		case errors.Is(err, errBudget):
			return false, err
		case err != nil:
			errs = append(errs, err)
		case out == types.False:
			return false, nil
		}
	}
	return true, errors.Join(errs...)
}

// validate runs the validations of a policy.
func (r *run) validate(p *policy, c *compiled) (failures []Failure, err error) {
	var errs []error
	for i, program := range c.validations {
		out, err := r.evaluate(program, celconfig.RuntimeCELCostBudget)
		switch {
		case errors.Is(err, errBudget):
			return failures, err
		case err != nil:
			errs = append(errs, err)
		case out != types.True:
			message, err := r.message(p, c, i)
			if err != nil {
				return failures, err
			}
			failures = append(failures, Failure{Validation: i, Message: message})
		}
	}
	for i, program := range c.annotations {
		out, err := r.evaluate(program, celconfig.RuntimeCELCostBudget)
		if err == nil && out.Type() != types.StringType && out.Type() != types.NullType {
			err = fmt.Errorf("auditAnnotations[%d] is a %s: want a string or null", i, out.Type())
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return failures, errors.Join(errs...)
}

// evaluate runs one expression within what is left of the policy's budget.
func (r *run) evaluate(p *program, budget int64) (ref.Val, error) {
	if p.err != nil {
		return nil, p.err
	}
	if !r.counted && p.cheap(r.size) {
		out, _, err := p.plain.Eval(&r.activation)
		if err != nil {
			return nil, fmt.Errorf("expression '%s' resulted in error: %w", p.text, err)
		}
		return out, nil
	}
	counting, err := p.counting()
	if err != nil {
		return nil, fmt.Errorf("compilation error: program instantiation failed: %w", err)
	}
	ctx := r.session.ctx
	out, details, err := counting.ContextEval(ctx, &r.activation)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if details == nil || details.ActualCost() == nil {
		return nil, fmt.Errorf("%w: no cost for expression %s", errBudget, p.text)
	}
	p.counts(r.size, *details.ActualCost())
	r.spent += clamp(*details.ActualCost())
	if r.spent < 0 || r.cost() > budget {
		return nil, errBudget
	}
	if err != nil {
		return nil, fmt.Errorf("expression '%s' resulted in error: %w", p.text, err)
	}
	return out, nil
}

// message is what a user is told: the messageExpression if it gives one line of text, else the message, else the expression.
func (r *run) message(p *policy, c *compiled, i int) (string, error) {
	v := p.spec.Validations[i]
	if program := c.messages[i]; program != nil {
		out, err := r.evaluate(program, celconfig.RuntimeCELCostBudget)
		if errors.Is(err, errBudget) {
			return "", fmt.Errorf("failed messageExpression: %w", err)
		}
		if err == nil {
			text, _ := out.Value().(string)
			text = strings.TrimSpace(text)
			if text != "" && len(text) <= celconfig.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(text, "\n") {
				return text, nil
			}
		}
	}
	if text := strings.TrimSpace(v.Message); text != "" {
		return text, nil
	}
	return "failed expression: " + strings.TrimSpace(v.Expression), nil
}
