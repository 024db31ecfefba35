// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	admv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"

	"github.com/vigie-io/vigie/internal/posture/engine"
)

// Types are the schemas of a version of Kubernetes: of its own kinds, and of custom resources as far as they are known.
type Types interface {
	resolver.SchemaResolver
	// KindOf is the kind of a resource; ok is false when it is not known.
	KindOf(schema.GroupVersionResource) (kind schema.GroupVersionKind, ok bool)
}

// expression is one of a policy, and where it stands.
type expression struct{ where, text string }

// typed is what an API server looks at when it checks the types of a policy.
type typed struct {
	match       *admv1.MatchResources
	params      *admv1.ParamKind
	variables   []plugincel.NamedExpressionAccessor
	expressions []expression
}

// typeDoubts checks the expressions of a policy against the schema of each kind that it is about, as the API server's own check does, but with the
// language of a version. A kind without a schema, and rules with wildcards, are passed over: there an API server checks nothing either.
//
// What is wrong for each of the kinds is wrong. What is wrong for some is a note: the expression may ask for the kind before.
func typeDoubts(policy string, p typed, target engine.Version, types Types) ([]Doubt, error) {
	kinds := p.kinds(types)
	found := map[string][]string{} // what is wrong → kinds
	var order []string
	checked := 0
	for _, kind := range kinds {
		faults, known, err := p.check(kind, target, types)
		if err != nil {
			return nil, fmt.Errorf("check the types of %s for %s: %w", policy, kind, err)
		}
		if known {
			checked++
		}
		for _, fault := range faults {
			if found[fault] == nil {
				order = append(order, fault)
			}
			found[fault] = append(found[fault], strings.TrimPrefix(kind.GroupVersion().String()+" "+kind.Kind, "/"))
		}
	}
	byPlace := map[string]int{} // expression → kinds for which it is wrong in one way or another
	for _, fault := range order {
		where, _, _ := strings.Cut(fault, ":")
		byPlace[where] += len(found[fault])
	}
	var out []Doubt
	for _, fault := range order {
		where, _, _ := strings.Cut(fault, ":")
		out = append(out, Doubt{Policy: policy, Message: fault + "\n(of " + strings.Join(found[fault], ", ") + ")", Types: true, Note: byPlace[where] < checked})
	}
	return out, nil
}

// kinds are those that the rules name, each once.
func (p typed) kinds(types Types) []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	if p.match == nil {
		return nil
	}
	for _, rule := range p.match.ResourceRules {
		for _, group := range rule.APIGroups {
			for _, v := range rule.APIVersions {
				for _, resource := range rule.Resources {
					if strings.ContainsAny(group+v+resource, "*/") {
						continue
					}
					kind, ok := types.KindOf(schema.GroupVersionResource{Group: group, Version: v, Resource: resource})
					if ok && !slices.Contains(out, kind) {
						out = append(out, kind)
					}
				}
			}
		}
	}
	return out
}

// check is the check for one kind; known is false when there is no schema of it.
func (p typed) check(kind schema.GroupVersionKind, target engine.Version, types Types) (faults []string, known bool, err error) {
	object, err := declared(types, kind)
	if object == nil || err != nil {
		return nil, false, err
	}
	var params *apiservercel.DeclType
	if p.params != nil {
		if params, err = declared(types, schema.FromAPIVersionAndKind(p.params.APIVersion, p.params.Kind)); err != nil {
			return nil, false, err
		}
	}
	compiler, err := typedCompiler(target, object, params, p.params != nil)
	if err != nil {
		return nil, false, err
	}
	// Which variables there are is in the environment: the options say nothing more.
	options := plugincel.OptionalVariableDeclarations{}
	note := func(where string, r plugincel.CompilationResult) {
		if r.Error != nil {
			faults = append(faults, where+": "+r.Error.Detail)
		}
	}
	for _, v := range p.variables {
		note("variable "+v.GetName(), compiler.CompileAndStoreVariable(v, options, environment.StoredExpressions))
	}
	for _, e := range p.expressions {
		note(e.where, compiler.CompileCELExpression(mutation{text: e.text}, options, environment.StoredExpressions))
	}
	return faults, true, nil
}

// declared is the type of a kind in CEL; nil when no schema is known.
func declared(types Types, kind schema.GroupVersionKind) (*apiservercel.DeclType, error) {
	s, err := types.ResolveSchema(kind)
	switch {
	case errors.Is(err, resolver.ErrSchemaNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	made := common.SchemaDeclType(&openapi.Schema{Schema: s}, true)
	if made == nil {
		return nil, nil
	}
	return made.MaybeAssignTypeName(strings.NewReplacer("/", "_", ".", "_", "-", "_").Replace("object_" + kind.GroupVersion().String() + "_" + kind.Kind)), nil
}

// typedCompiler compiles for a version in which object and params have types. params nil with hasParams is of any type.
func typedCompiler(target engine.Version, object, params *apiservercel.DeclType, hasParams bool) (*plugincel.CompositedCompiler, error) {
	request, namespace := plugincel.BuildRequestType(), plugincel.BuildNamespaceType()
	variables := []celgo.EnvOption{
		celgo.Variable(plugincel.ObjectVarName, object.CelType()), celgo.Variable(plugincel.OldObjectVarName, object.CelType()),
		celgo.Variable(plugincel.RequestVarName, request.CelType()), celgo.Variable(plugincel.NamespaceVarName, namespace.CelType()),
		celgo.Variable(plugincel.AuthorizerVarName, library.AuthorizerType), celgo.Variable(plugincel.RequestResourceAuthorizerVarName, library.ResourceCheckType),
	}
	declTypes := []*apiservercel.DeclType{request, namespace, object}
	if hasParams {
		of := celgo.DynType
		if params != nil {
			of = params.CelType()
			declTypes = append(declTypes, params)
		}
		variables = append(variables, celgo.Variable(plugincel.ParamsVarName, of))
	}
	env, err := environment.MustBaseEnvSet(version.MajorMinor(target.Major, target.Minor)).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: variables, DeclTypes: declTypes})
	if err != nil {
		return nil, fmt.Errorf("make a CEL environment: %w", err)
	}
	made, err := plugincel.NewCompositedCompilerForTypeChecking(env)
	if err != nil {
		return nil, fmt.Errorf("make a CEL environment: %w", err)
	}
	made.Compiler = typeChecker{made}
	return made, nil
}

// typeChecker compiles and makes no program, and wants no type of the result: it was compiled as what it is before.
type typeChecker struct{ within *plugincel.CompositedCompiler }

// CompileCELExpression implements plugincel.Compiler.
func (c typeChecker) CompileCELExpression(e plugincel.ExpressionAccessor, _ plugincel.OptionalVariableDeclarations, mode environment.Type) plugincel.CompilationResult {
	failed := func(kind apiservercel.ErrorType, detail string) plugincel.CompilationResult {
		return plugincel.CompilationResult{ExpressionAccessor: e, Error: &apiservercel.Error{Type: kind, Detail: detail}}
	}
	env, err := c.within.Env(mode)
	if err != nil {
		return failed(apiservercel.ErrorTypeInternal, err.Error())
	}
	ast, issues := env.Compile(e.GetExpression())
	if issues != nil {
		return failed(apiservercel.ErrorTypeInvalid, issues.String())
	}
	return plugincel.CompilationResult{ExpressionAccessor: e, OutputType: ast.OutputType()}
}

func typedValidating(p *admv1.ValidatingAdmissionPolicy) typed {
	out := typed{match: p.Spec.MatchConstraints, params: p.Spec.ParamKind, variables: variablesOf(p.Spec.Variables)}
	for i, m := range p.Spec.MatchConditions {
		out.add(fmt.Sprintf("matchConditions[%d]", i), m.Expression)
	}
	for i, v := range p.Spec.Validations {
		out.add(fmt.Sprintf("validations[%d].expression", i), v.Expression)
		out.add(fmt.Sprintf("validations[%d].messageExpression", i), v.MessageExpression)
	}
	for i, a := range p.Spec.AuditAnnotations {
		out.add(fmt.Sprintf("auditAnnotations[%d]", i), a.ValueExpression)
	}
	return out
}

func typedMutating(p *admv1.MutatingAdmissionPolicy) typed {
	out := typed{match: p.Spec.MatchConstraints, params: p.Spec.ParamKind, variables: variablesOf(p.Spec.Variables)}
	for i, m := range p.Spec.MatchConditions {
		out.add(fmt.Sprintf("matchConditions[%d]", i), m.Expression)
	}
	return out
}

func (p *typed) add(where, text string) {
	if text != "" {
		p.expressions = append(p.expressions, expression{where, text})
	}
}

func variablesOf(list []admv1.Variable) []plugincel.NamedExpressionAccessor {
	var out []plugincel.NamedExpressionAccessor
	for _, v := range list {
		out = append(out, mutation{v.Name, v.Expression, nil})
	}
	return out
}
