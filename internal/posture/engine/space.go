// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"sync"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/decls"
	"github.com/google/cel-go/common/types/traits"
	admv1 "k8s.io/api/admissionregistration/v1"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/library"
)

// space is one set of names for variables, with the environments that know them. The controls of one library share a space: a
// name means the same in all of them. A policy that means something else by a name gets a space of its own.
//
// The environments are the API server's for the target's version, with the variables that its compiler declares. It
// makes all sixteen of them at once; here each is made when an expression needs it.
type space struct {
	base      *celgo.Env
	envs      map[declared]*celgo.Env
	plain     *celgo.Env   // for programs that do not count their cost
	mu        sync.RWMutex // of types' fields: the engine adds one at a time, planning a program looks them up at any time
	types     *apiservercel.DeclType
	variables map[string]*variable
	programs  map[programKey]*program
}

// declared are the variables that only some expressions see.
type declared struct{ params, authorizer bool }

type programKey struct {
	text string
	declared
	returns string
}

// variable is one entry of spec.variables.
type variable struct {
	*program
	name      string
	index     int // in its space
	space     *space
	ownParams bool // it, or a variable in it, looks at params: its value is a policy's own
}

func newSpace(base *celgo.Env) *space {
	return &space{base: base, envs: map[declared]*celgo.Env{}, types: apiservercel.NewObjectType("kubernetes.variables", map[string]*apiservercel.DeclField{}),
		variables: map[string]*variable{}, programs: map[programKey]*program{}}
}

// env is the environment of expressions that see these variables.
func (s *space) env(d declared) (*celgo.Env, error) {
	if have, ok := s.envs[d]; ok {
		return have, nil
	}
	request, namespace := plugincel.BuildRequestType(), plugincel.BuildNamespaceType()
	options := []celgo.EnvOption{
		celgo.Variable(plugincel.ObjectVarName, celgo.DynType), celgo.Variable(plugincel.OldObjectVarName, celgo.DynType),
		celgo.Variable(plugincel.NamespaceVarName, namespace.CelType()), celgo.Variable(plugincel.RequestVarName, request.CelType()),
		celgo.Variable(plugincel.VariableVarName, s.types.CelType()),
	}
	if d.params {
		options = append(options, celgo.Variable(plugincel.ParamsVarName, celgo.DynType))
	}
	if d.authorizer {
		options = append(options, celgo.Variable(plugincel.AuthorizerVarName, library.AuthorizerType),
			celgo.Variable(plugincel.RequestResourceAuthorizerVarName, library.ResourceCheckType))
	}
	provider := apiservercel.NewDeclTypeProvider(namespace, request, s.types)
	provider.SetRecognizeKeywordAsFieldName(true) // since 1.31; before, such a field could not be named
	known, err := provider.EnvOptions(s.base.CELTypeProvider())
	if err != nil {
		return nil, fmt.Errorf("make a CEL environment: %w", err)
	}
	made, err := s.base.Extend(append(options, known...)...)
	if err != nil {
		return nil, fmt.Errorf("make a CEL environment: %w", err)
	}
	s.envs[d] = made
	return made, nil
}

// plainEnv plans programs that do not count what they cost. It has the functions and types of the environment that they are checked in; of
// the functions only those that such programs may call: every program keeps a table of all of them.
func (s *space) plainEnv(checked *celgo.Env) (*celgo.Env, error) {
	if s.plain != nil {
		return s.plain, nil
	}
	var functions []*decls.FunctionDecl
	for name, f := range checked.Functions() {
		if _, ok := weightOf(name); ok || name == "join" {
			functions = append(functions, f)
		}
	}
	made, err := celgo.NewCustomEnv(celgo.FunctionDecls(functions...), celgo.OptionalTypes(), celgo.CrossTypeNumericComparisons(true), celgo.DefaultUTCTimeZone(true),
		celgo.CustomTypeAdapter(checked.CELTypeAdapter()), celgo.CustomTypeProvider(checked.CELTypeProvider()))
	if err != nil {
		return nil, fmt.Errorf("make a CEL environment: %w", err)
	}
	s.plain = made
	return made, nil
}

// agrees reports whether a policy means nothing else by the names of the space.
func (s *space) agrees(variables []admv1.Variable) bool {
	for _, v := range variables {
		if have, ok := s.variables[v.Name]; ok && have.text != v.Expression {
			return false
		}
	}
	return true
}

func (s *space) variable(v admv1.Variable, d declared) *variable {
	if have, ok := s.variables[v.Name]; ok {
		return have
	}
	made := &variable{name: v.Name, index: len(s.variables), space: s, ownParams: mentionsParams.MatchString(v.Expression)}
	for _, m := range mentionsVar.FindAllStringSubmatch(v.Expression, -1) {
		if other := s.variables[m[1]]; other != nil {
			made.ownParams = made.ownParams || other.ownParams
		}
	}
	made.program = s.compile(v.Expression, d, celgo.AnyType, celgo.DynType)
	s.variables[v.Name] = made
	field := apiservercel.NewDeclField(v.Name, declType(made.output), true, nil, nil)
	s.mu.Lock()
	s.types.Fields[v.Name] = field
	s.mu.Unlock()
	return made
}

// program compiles an expression once for all policies that have it.
func (s *space) program(text string, d declared, returns ...*celgo.Type) *program {
	key := programKey{text, d, fmt.Sprint(returns)}
	have, ok := s.programs[key]
	if !ok {
		have = s.compile(text, d, returns...)
		s.programs[key] = have
	}
	return have
}

// declType is the type of a variable for the expressions that use it. A type that has no name there is dynamic.
func declType(t *celgo.Type) *apiservercel.DeclType {
	switch t {
	case celgo.AnyType:
		return apiservercel.AnyType
	case celgo.BoolType:
		return apiservercel.BoolType
	case celgo.BytesType:
		return apiservercel.BytesType
	case celgo.DoubleType:
		return apiservercel.DoubleType
	case celgo.DurationType:
		return apiservercel.DurationType
	case celgo.IntType:
		return apiservercel.IntType
	case celgo.NullType:
		return apiservercel.NullType
	case celgo.StringType:
		return apiservercel.StringType
	case celgo.TimestampType:
		return apiservercel.TimestampType
	case celgo.UintType:
		return apiservercel.UintType
	case nil: // it does not compile
		return apiservercel.DynType
	}
	parameters := t.Parameters()
	switch {
	case !t.HasTrait(traits.ContainerType) || !t.HasTrait(traits.IndexerType):
	case len(parameters) == 1:
		return apiservercel.NewListType(declType(parameters[0]), -1)
	case len(parameters) == 2:
		return apiservercel.NewMapType(declType(parameters[0]), declType(parameters[1]), -1)
	}
	return apiservercel.DynType
}
