// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"math"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/lazy"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/vigie-io/vigie/internal/posture/object"
)

// session is one request, with what policies have in common evaluated once. Not safe for concurrent use.
type session struct {
	request *Request
	attr    admission.Attributes
	space   *space // whose variables are shared
	common  activation
	costs   map[string]int64 // of each shared variable that was evaluated
}

// activation is what expressions can name.
type activation struct {
	ctx context.Context // of the evaluation, for the variables in it

	object, oldObject, params, request, namespace, authorizer, resourceAuthorizer, variables any
}

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case plugincel.ObjectVarName:
		return a.object, true
	case plugincel.OldObjectVarName:
		return a.oldObject, true
	case plugincel.ParamsVarName:
		return a.params, true
	case plugincel.RequestVarName:
		return a.request, true
	case plugincel.NamespaceVarName:
		return a.namespace, true
	case plugincel.AuthorizerVarName:
		return a.authorizer, a.authorizer != nil
	case plugincel.RequestResourceAuthorizerVarName:
		return a.resourceAuthorizer, a.resourceAuthorizer != nil
	case plugincel.VariableVarName:
		return a.variables, true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }

func newSession(ctx context.Context, r *Request, attr admission.Attributes, c *candidates) *session {
	s := &session{request: r, attr: attr, space: c.space, costs: make(map[string]int64, len(c.variables))}
	s.common = activation{ctx: ctx, object: valueOrNil(r.Object), oldObject: valueOrNil(r.Old),
		namespace: common.SchemalessTypedToVal(plugincel.CreateNamespaceObject(r.Namespace))}
	if r.Authorizer != nil {
		s.common.authorizer = library.NewAuthorizerVal(r.User, r.Authorizer)
		s.common.resourceAuthorizer = library.NewResourceAuthorizerVal(r.User, r.Authorizer, attr)
	}
	s.common.request = s.admissionRequest(attr.GetResource(), attr.GetKind())
	s.common.variables = lazily(c.variables, &s.common, s.costs)
	return s
}

func (s *session) admissionRequest(r schema.GroupVersionResource, k schema.GroupVersionKind) ref.Val {
	return common.SchemalessTypedToVal(plugincel.CreateAdmissionRequest(s.attr, metav1.GroupVersionResource(r), metav1.GroupVersionKind(k)))
}

// Value is an object as CEL sees it. It fills itself in while it is used: one goroutine at a time may have it.
func Value(o *object.Object) ref.Val { return ValueOf(o.API) }

// ValueOf is a part of an object as CEL sees it: a struct of the API, or fields as JSON has them.
func ValueOf(part any) ref.Val {
	switch part := part.(type) {
	case *unstructured.Unstructured:
		return types.DefaultTypeAdapter.NativeToValue(part.Object)
	case map[string]any, []any:
		return types.DefaultTypeAdapter.NativeToValue(part)
	}
	return common.SchemalessTypedToVal(part)
}

func valueOrNil(o *object.Object) any {
	if o == nil {
		return nil
	}
	return Value(o)
}

// lazily are variables that are evaluated when an expression first uses them. What that cost goes into costs.
func lazily(variables []*variable, a *activation, costs map[string]int64) *lazy.MapValue {
	values := lazy.NewMapValue(apiservercel.NewObjectType("kubernetes.variables", nil))
	for _, v := range variables {
		values.Append(v.name, func(*lazy.MapValue) ref.Val {
			if v.result.Error != nil {
				return types.NewErr("composited variable %q fails to compile: %v", v.name, v.result.Error)
			}
			out, details, err := v.result.Program.ContextEval(a.ctx, a)
			if details == nil || details.ActualCost() == nil {
				return types.NewErr("unable to calculate cost of variable %q", v.name)
			}
			costs[v.name] = clamp(*details.ActualCost())
			if err != nil {
				return types.NewErr("composited variable %q fails to evaluate: %v", v.name, err)
			}
			return out
		})
	}
	return values
}

func clamp(cost uint64) int64 { return int64(min(cost, math.MaxInt64)) }

// run is the evaluation of one policy.
type run struct {
	activation
	declared []*variable
	costs    map[string]int64 // of variables; those of other policies may be in it
	shared   bool             // the variables were perhaps evaluated for another policy
	spent    int64            // on expressions
}

// cost is what the policy has used of its budget. When variables are shared it may be more than the API server would count, never less.
func (r *run) cost() int64 {
	sum := r.spent
	for _, v := range r.declared {
		sum += r.costs[v.name]
	}
	return sum
}

// sharing evaluates a policy with the variables of others; own does it alone, exactly as the plug-in.
func (s *session) sharing(p *policy, c *compiled) *run {
	r := &run{activation: s.common, declared: c.variables, costs: s.costs, shared: true}
	r.params = s.params(p)
	return r
}

func (s *session) own(p *policy, c *compiled, cand *candidate) *run {
	r := &run{activation: s.common, declared: c.variables, costs: map[string]int64{}}
	r.params = s.params(p)
	if cand.resource != s.attr.GetResource() {
		r.request = s.admissionRequest(cand.resource, cand.kind)
	}
	r.variables = lazily(c.variables, &r.activation, r.costs)
	return r
}

// params are those of the binding, with the objects that a policy of several objects looks at.
func (s *session) params(p *policy) any {
	if !p.Related {
		if p.Params == nil {
			return nil
		}
		return types.DefaultTypeAdapter.NativeToValue(p.Params)
	}
	all := make(map[string]any, len(p.Params)+1)
	for k, v := range p.Params {
		all[k] = v
	}
	related := map[string]any{}
	if s.request.Related != nil {
		related = s.request.Related(p.index)
	}
	all["related"] = related
	return types.DefaultTypeAdapter.NativeToValue(all)
}
