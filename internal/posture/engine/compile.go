// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"regexp"
	"slices"
	"sync"

	celgo "github.com/google/cel-go/cel"
	admv1 "k8s.io/api/admissionregistration/v1"
)

// program is one expression, compiled.
type program struct {
	text   string
	output *celgo.Type
	err    error // why there is none

	space *space
	env   *celgo.Env
	ast   *celgo.Ast
	bound bound
	plain celgo.Program // does not count its cost; nil when nothing bounds that

	once    sync.Once
	counted celgo.Program // counts its cost, as the API server's do; made when it is needed
	planErr error
}

// counting is the program that counts its cost.
func (p *program) counting() (celgo.Program, error) {
	p.once.Do(func() {
		p.space.mu.RLock()
		defer p.space.mu.RUnlock()
		p.counted, p.planErr = p.env.Program(p.ast)
	})
	return p.counted, p.planErr
}

// compile makes a program. Its error has the words of the API server.
func (s *space) compile(text string, d declared, returns ...*celgo.Type) *program {
	p := &program{text: text, space: s}
	fail := func(format string, args ...any) *program {
		p.err = fmt.Errorf("compilation error: "+format, args...)
		return p
	}
	var err error
	if p.env, err = s.env(d); err != nil {
		return fail("unexpected error loading CEL environment: %w", err)
	}
	ast, issues := p.env.Compile(text)
	if issues != nil {
		return fail("compilation failed: %s", issues)
	}
	p.ast, p.output = ast, ast.OutputType()
	returned := func(t *celgo.Type) bool { return p.output.IsExactType(t) || celgo.AnyType.IsExactType(t) }
	switch {
	case slices.ContainsFunc(returns, returned):
	case len(returns) == 1:
		return fail("must evaluate to %v but got %v", returns[0], p.output)
	default:
		return fail("must evaluate to one of %v but got %v", returns, p.output)
	}
	if p.bound = s.boundOf(ast); !p.bound.ok {
		return p
	}
	plain, err := s.plainEnv(p.env)
	if err != nil {
		return fail("%w", err)
	}
	if p.plain, err = plain.Program(ast, celgo.EvalOptions(celgo.OptOptimize)); err != nil {
		return fail("program instantiation failed: %w", err)
	}
	return p
}

// compiled is a policy's programs.
type compiled struct {
	space       *space
	variables   []*variable
	names       names
	conditions  []*program
	validations []*program
	messages    []*program // nil where there is none
	annotations []*program
	ownParams   bool // some variable's value is the policy's own
	err         error
}

var (
	mentionsParams = regexp.MustCompile(`\bparams\b`)
	mentionsVar    = regexp.MustCompile(`\bvariables\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)`)
)

// compile makes a policy's programs, or finds them.
func (e *Engine) compile(p *policy) *compiled {
	if have := p.compiled.Load(); have != nil {
		return have
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if have := p.compiled.Load(); have != nil {
		return have
	}
	made := e.compileNew(p)
	p.compiled.Store(made)
	return made
}

func (e *Engine) compileNew(p *policy) *compiled {
	if err := undeclared(&p.spec); err != nil {
		return &compiled{err: err}
	}
	s := e.spaceFor(p.spec.Variables)
	c := &compiled{space: s}
	withAuth := declared{params: p.spec.ParamKind != nil || p.Related, authorizer: true}
	without := declared{params: withAuth.params}
	for _, v := range p.spec.Variables {
		made := s.variable(v, withAuth)
		c.variables = append(c.variables, made)
		c.names.add(made)
		c.ownParams = c.ownParams || made.ownParams
	}
	for _, m := range p.spec.MatchConditions {
		c.conditions = append(c.conditions, s.program(m.Expression, withAuth, celgo.BoolType))
	}
	for _, v := range p.spec.Validations {
		c.validations = append(c.validations, s.program(v.Expression, withAuth, celgo.BoolType))
		var message *program
		if v.MessageExpression != "" {
			message = s.program(v.MessageExpression, without, celgo.StringType)
		}
		c.messages = append(c.messages, message)
	}
	for _, a := range p.spec.AuditAnnotations {
		c.annotations = append(c.annotations, s.program(a.ValueExpression, withAuth, celgo.StringType, celgo.NullType))
	}
	return c
}

func (e *Engine) spaceFor(variables []admv1.Variable) *space {
	for _, s := range e.spaces {
		if s.agrees(variables) {
			return s
		}
	}
	s := newSpace(e.base.NewExpressionsEnv())
	e.spaces = append(e.spaces, s)
	return s
}

// undeclared finds a variable that is used and not declared before: in a shared space it could be another policy's.
func undeclared(spec *admv1.ValidatingAdmissionPolicySpec) error {
	declared := map[string]bool{}
	check := func(text string) error {
		for _, m := range mentionsVar.FindAllStringSubmatch(text, -1) {
			if !declared[m[1]] {
				return fmt.Errorf("variables.%s is used and not declared before", m[1])
			}
		}
		return nil
	}
	for _, v := range spec.Variables {
		if err := check(v.Expression); err != nil {
			return err
		}
		declared[v.Name] = true
	}
	for _, text := range deciding(spec) {
		if err := check(text); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiled) errors() []error {
	if c.err != nil {
		return []error{c.err}
	}
	var out []error
	add := func(where string, p *program) {
		if p != nil && p.err != nil {
			out = append(out, fmt.Errorf("%s: %w", where, p.err))
		}
	}
	for _, v := range c.variables {
		add("variable "+v.name, v.program)
	}
	for i, p := range c.conditions {
		add(fmt.Sprintf("matchConditions[%d]", i), p)
	}
	for i, p := range c.validations {
		add(fmt.Sprintf("validations[%d].expression", i), p)
		add(fmt.Sprintf("validations[%d].messageExpression", i), c.messages[i])
	}
	for i, p := range c.annotations {
		add(fmt.Sprintf("auditAnnotations[%d]", i), p)
	}
	return out
}
