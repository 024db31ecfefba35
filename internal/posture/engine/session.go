// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/vigie-io/vigie/internal/posture/object"
)

// session is one request, with what policies have in common evaluated once. Not safe for concurrent use.
type session struct {
	ctx     context.Context // of the evaluation
	request *Request
	attr    admission.Attributes
	space   *space // whose variables are shared
	size    object.Size
	common  activation
	shared  *values
	scratch run // of the policy that is judged with the variables of others
}

// activation is what expressions can name. What is not needed most of the time is made when it is asked for.
type activation struct {
	session *session
	size    object.Size // of what they can name

	object, oldObject, params, variables any
	request, namespace                   ref.Val // nil: not made yet
	resource                             schema.GroupVersionResource
	kind                                 schema.GroupVersionKind
}

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case plugincel.ObjectVarName:
		return a.object, true
	case plugincel.VariableVarName:
		return a.variables, true
	case plugincel.OldObjectVarName:
		return a.oldObject, true
	case plugincel.ParamsVarName:
		return a.params, true
	case plugincel.RequestVarName:
		if a.request == nil {
			a.request = common.SchemalessTypedToVal(plugincel.CreateAdmissionRequest(a.session.attr, metav1.GroupVersionResource(a.resource), metav1.GroupVersionKind(a.kind)))
		}
		return a.request, true
	case plugincel.NamespaceVarName:
		if a.namespace == nil {
			a.namespace = common.SchemalessTypedToVal(plugincel.CreateNamespaceObject(a.session.request.Namespace))
		}
		return a.namespace, true
	case plugincel.AuthorizerVarName:
		if r := a.session.request; r.Authorizer != nil {
			return library.NewAuthorizerVal(r.User, r.Authorizer), true
		}
	case plugincel.RequestResourceAuthorizerVarName:
		if r := a.session.request; r.Authorizer != nil {
			return library.NewResourceAuthorizerVal(r.User, r.Authorizer, a.session.attr), true
		}
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }

func newSession(ctx context.Context, r *Request, attr admission.Attributes, c *candidates) *session {
	s := &session{ctx: ctx, request: r, attr: attr, space: c.space, size: sizeOf(r)}
	s.common = activation{session: s, size: s.size, object: valueOrNil(r.Object), oldObject: valueOrNil(r.Old), resource: attr.GetResource(), kind: attr.GetKind()}
	s.shared = newValues(&s.common, &c.names)
	s.common.variables = s.shared
	return s
}

func sizeOf(r *Request) object.Size {
	var size object.Size
	for _, o := range []*object.Object{r.Object, r.Old} {
		if o != nil {
			size = size.With(o.Size)
		}
	}
	if ns := r.Namespace; ns != nil {
		for _, texts := range []map[string]string{ns.Labels, ns.Annotations} {
			size.List = max(size.List, len(texts)+object.LeastList)
			for k, v := range texts {
				size.Text = max(size.Text, len(k), len(v))
			}
		}
	}
	return size
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

// run is the evaluation of one policy.
type run struct {
	activation
	values   *values
	declared []*variable
	counted  bool  // what it costs is counted
	spent    int64 // on expressions
}

// cost is what the policy has used of its budget. When variables are shared it may be more than the API server would count, never less.
func (r *run) cost() int64 {
	sum := r.spent
	for _, v := range r.declared {
		sum += r.values.cost(v)
	}
	return sum
}

// sharing evaluates a policy with the variables of others, except those that look at its params; own does it alone, exactly as the plug-in.
func (s *session) sharing(p *policy, c *compiled) *run {
	r := &s.scratch
	*r = run{activation: s.common, values: s.shared, declared: c.variables}
	r.setParams(s, p)
	if c.ownParams {
		r.values = newValues(&r.activation, &c.names)
		r.values.shared = s.shared
		r.variables = r.values
	}
	return r
}

func (s *session) own(p *policy, c *compiled, cand *candidate) *run {
	r := &run{activation: s.common, declared: c.variables, counted: true}
	r.setParams(s, p)
	if cand.resource != s.attr.GetResource() {
		r.request, r.resource, r.kind = nil, cand.resource, cand.kind
	}
	r.values = newValues(&r.activation, &c.names)
	r.values.counted = true
	r.variables = r.values
	return r
}

// setParams gives an activation those of the binding, with the objects that a policy of several objects looks at.
func (a *activation) setParams(s *session, p *policy) {
	a.params, a.size = p.paramsValue, a.size.With(p.paramsSize)
	if !p.Related {
		return
	}
	all := make(map[string]any, len(p.Params)+1)
	for k, v := range p.Params {
		all[k] = v
	}
	related := Related{}
	if s.request.Related != nil {
		related = s.request.Related(p.index)
	}
	if related.Lists == nil {
		related.Lists = map[string]any{}
	}
	all["related"] = related.Lists
	a.params, a.size = types.DefaultTypeAdapter.NativeToValue(all), a.size.With(related.Size)
}
