// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"regexp"

	celgo "github.com/google/cel-go/cel"
	admv1 "k8s.io/api/admissionregistration/v1"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// space is one set of names for variables, with the compiler that knows them. The controls of one library share a space: a
// name means the same in all of them. A policy that means something else by a name gets a space of its own.
type space struct {
	compiler  *plugincel.CompositedCompiler
	variables map[string]*variable
	programs  map[programKey]plugincel.CompilationResult
}

type programKey struct {
	text    string
	options plugincel.OptionalVariableDeclarations
	returns string
}

// variable is one entry of spec.variables.
type variable struct {
	name, text string
	result     plugincel.CompilationResult
	space      *space
	ownParams  bool // it, or a variable in it, looks at params: its value is a policy's own
}

// compiled is a policy's programs.
type compiled struct {
	space       *space
	variables   []*variable
	conditions  []plugincel.CompilationResult
	validations []plugincel.CompilationResult
	messages    []*plugincel.CompilationResult // nil where there is none
	annotations []plugincel.CompilationResult
	ownParams   bool // some variable's value is the policy's own
	err         error
}

// expression implements the interfaces of the API server's compiler.
type expression struct {
	name, text string
	returns    []*celgo.Type
}

func (e *expression) GetExpression() string      { return e.text }
func (e *expression) GetName() string            { return e.name }
func (e *expression) ReturnTypes() []*celgo.Type { return e.returns }

var (
	mentionsParams = regexp.MustCompile(`\bparams\b`)
	mentionsVar    = regexp.MustCompile(`\bvariables\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)`)
)

// compile makes a policy's programs, or finds them.
func (e *Engine) compile(p *policy) *compiled {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.compiled == nil {
		p.compiled = e.compileNew(p)
	}
	return p.compiled
}

func (e *Engine) compileNew(p *policy) *compiled {
	if err := undeclared(&p.spec); err != nil {
		return &compiled{err: err}
	}
	s, err := e.spaceFor(p.spec.Variables)
	if err != nil {
		return &compiled{err: err}
	}
	c := &compiled{space: s}
	withAuth := plugincel.OptionalVariableDeclarations{HasParams: p.spec.ParamKind != nil || p.Related, HasAuthorizer: true}
	without := plugincel.OptionalVariableDeclarations{HasParams: withAuth.HasParams}
	for _, v := range p.spec.Variables {
		made := s.variable(v, withAuth)
		c.variables = append(c.variables, made)
		c.ownParams = c.ownParams || made.ownParams
	}
	for _, m := range p.spec.MatchConditions {
		c.conditions = append(c.conditions, s.program(m.Expression, withAuth, celgo.BoolType))
	}
	for _, v := range p.spec.Validations {
		c.validations = append(c.validations, s.program(v.Expression, withAuth, celgo.BoolType))
		var message *plugincel.CompilationResult
		if v.MessageExpression != "" {
			made := s.program(v.MessageExpression, without, celgo.StringType)
			message = &made
		}
		c.messages = append(c.messages, message)
	}
	for _, a := range p.spec.AuditAnnotations {
		c.annotations = append(c.annotations, s.program(a.ValueExpression, withAuth, celgo.StringType, celgo.NullType))
	}
	return c
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

func (e *Engine) spaceFor(variables []admv1.Variable) (*space, error) {
	for _, s := range e.spaces {
		if s.agrees(variables) {
			return s, nil
		}
	}
	compiler, err := plugincel.NewCompositedCompiler(e.base)
	if err != nil {
		return nil, fmt.Errorf("make a CEL environment: %w", err)
	}
	s := &space{compiler: compiler, variables: map[string]*variable{}, programs: map[programKey]plugincel.CompilationResult{}}
	e.spaces = append(e.spaces, s)
	return s, nil
}

func (s *space) agrees(variables []admv1.Variable) bool {
	for _, v := range variables {
		if have, ok := s.variables[v.Name]; ok && have.text != v.Expression {
			return false
		}
	}
	return true
}

func (s *space) variable(v admv1.Variable, options plugincel.OptionalVariableDeclarations) *variable {
	if have, ok := s.variables[v.Name]; ok {
		return have
	}
	made := &variable{name: v.Name, text: v.Expression, space: s, ownParams: mentionsParams.MatchString(v.Expression)}
	for _, m := range mentionsVar.FindAllStringSubmatch(v.Expression, -1) {
		if other := s.variables[m[1]]; other != nil {
			made.ownParams = made.ownParams || other.ownParams
		}
	}
	e := &expression{name: v.Name, text: v.Expression, returns: []*celgo.Type{celgo.AnyType, celgo.DynType}}
	made.result = s.compiler.CompileAndStoreVariable(e, options, environment.NewExpressions)
	s.variables[v.Name] = made
	return made
}

// program compiles an expression once for all policies that have it.
func (s *space) program(text string, options plugincel.OptionalVariableDeclarations, returns ...*celgo.Type) plugincel.CompilationResult {
	key := programKey{text, options, fmt.Sprint(returns)}
	if have, ok := s.programs[key]; ok {
		return have
	}
	made := s.compiler.CompileCELExpression(&expression{text: text, returns: returns}, options, environment.NewExpressions)
	s.programs[key] = made
	return made
}

func (c *compiled) errors() []error {
	if c.err != nil {
		return []error{c.err}
	}
	var out []error
	add := func(where string, r plugincel.CompilationResult) {
		if r.Error != nil {
			out = append(out, fmt.Errorf("%s: %w", where, r.Error))
		}
	}
	for _, v := range c.variables {
		add("variable "+v.name, v.result)
	}
	for i, r := range c.conditions {
		add(fmt.Sprintf("matchConditions[%d]", i), r)
	}
	for i, r := range c.validations {
		add(fmt.Sprintf("validations[%d].expression", i), r)
		if m := c.messages[i]; m != nil {
			add(fmt.Sprintf("validations[%d].messageExpression", i), *m)
		}
	}
	for i, r := range c.annotations {
		add(fmt.Sprintf("auditAnnotations[%d]", i), r)
	}
	return out
}
