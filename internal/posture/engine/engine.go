// SPDX-License-Identifier: Apache-2.0

// Package engine decides as the API server's ValidatingAdmissionPolicy plug-in does, without an API server. In: policies and a
// request. Out: a verdict for each policy that applies, with the message that a user would get.
//
// Compiler, libraries, types and cost limits are the API server's own (k8s.io/apiserver). What is vigie's is how they are
// driven: programs are compiled when the first object of a kind needs them, and equal expressions once; variables that
// policies have in common are evaluated once an object. The plug-in itself cannot be used for that, and would bring all of
// client-go into the binary. A test puts every control's examples to both and requires equal verdicts and messages.
package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"

	admv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/vigie-io/vigie/internal/posture/object"
)

// Policy is a ValidatingAdmissionPolicy and what its binding would name.
type Policy struct {
	*admv1.ValidatingAdmissionPolicy
	// Params is the object that paramKind asks for, as fields. Policies that look at other objects find them here
	// too, under "related": see Request.Related.
	Params  map[string]any
	Related bool
}

// State is how a policy judged an object.
type State int

// The states. A policy that could not be evaluated is never passed, whatever its failurePolicy says.
const (
	Passed State = iota
	Failed
	Unevaluated
)

// Verdict is what one policy says of a request.
type Verdict struct {
	Policy   int // index in the list that the engine was made with
	State    State
	Failures []Failure // of Failed, and what failed before an error of Unevaluated
	Err      string    // of Unevaluated
}

// Failure is a validation that did not hold.
type Failure struct {
	Validation int // index in the policy
	Message    string
}

// Request is what the API server would be asked.
type Request struct {
	Operation   admission.Operation // Create when empty
	Object      *object.Object      // nil for Delete
	Old         *object.Object      // of Update and Delete
	Subresource string
	Namespace   *corev1.Namespace // of the object; nil outside of namespaces
	User        user.Info
	Authorizer  authorizer.UnconditionalAuthorizer // nil: policies that ask it cannot be evaluated
	// Related gives a policy with Related the objects it declared.
	Related func(policy int) Related
}

// Related is what a policy sees of other objects.
type Related struct {
	Lists map[string]any // by the name that the policy gave
	Size  object.Size    // of the largest, the lists themselves among them
}

func (r *Request) subject() *object.Object {
	if r.Object != nil {
		return r.Object
	}
	return r.Old
}

// Engine holds policies and what was compiled of them. It is safe for concurrent use.
type Engine struct {
	policies []*policy
	others   int // of the policies do not decide by the object alone
	base     *environment.EnvSet

	mu         sync.Mutex
	spaces     []*space
	candidates map[candidateKey]*candidates
}

// Version is a Kubernetes minor version.
type Version struct{ Major, Minor uint }

// String is as in "1.36".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Supported are the versions whose CEL environment this build knows. Before 1.30 policies were not generally available.
func Supported() (oldest, newest Version) { return Version{1, 30}, Version{1, 37} }

// New makes an engine that accepts the CEL of a Kubernetes version and nothing newer. Nothing is compiled yet.
func New(policies []Policy, target Version) (*Engine, error) {
	oldest, newest := Supported()
	if target.Major != 1 || target.Minor < oldest.Minor || target.Minor > newest.Minor {
		return nil, fmt.Errorf("no CEL environment for Kubernetes %s: the versions are %s to %s", target, oldest, newest)
	}
	e := &Engine{base: environment.MustBaseEnvSet(version.MajorMinor(target.Major, target.Minor)), candidates: map[candidateKey]*candidates{}}
	for i, p := range policies {
		made, err := newPolicy(i, p)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", p.Name, err)
		}
		e.policies = append(e.policies, made)
		if !made.alone {
			e.others++
		}
	}
	return e, nil
}

// Review judges a request. Policies that do not apply to it have no verdict. The order is that of the policies.
func (e *Engine) Review(ctx context.Context, r Request) []Verdict {
	return e.review(ctx, r, len(e.policies), nil)
}

// ReviewOnly is Review by some policies.
func (e *Engine) ReviewOnly(ctx context.Context, r Request, policies ...int) []Verdict {
	return e.review(ctx, r, len(policies), func(p *policy) bool { return slices.Contains(policies, p.index) })
}

// Alone reports whether a policy decides by the object alone. One that asks for the namespace, for what the user may do or
// for other objects does not.
func (e *Engine) Alone(policy int) bool { return e.policies[policy].alone }

// ReviewAlone is Review by the policies that decide by the object alone; others tells that some apply that do not.
func (e *Engine) ReviewAlone(ctx context.Context, r Request) (verdicts []Verdict, others bool) {
	verdicts = e.review(ctx, r, len(e.policies), func(p *policy) bool {
		others = others || !p.alone
		return p.alone
	})
	return verdicts, others
}

// ReviewOthers is Review by the policies that ReviewAlone leaves out.
func (e *Engine) ReviewOthers(ctx context.Context, r Request) []Verdict {
	return e.review(ctx, r, e.others, func(p *policy) bool { return !p.alone })
}

// review by some policies, of which there are at most so many.
func (e *Engine) review(ctx context.Context, r Request, most int, only func(*policy) bool) []Verdict {
	if r.Operation == "" {
		r.Operation = admission.Create
	}
	if r.User == nil {
		r.User = &user.DefaultInfo{}
	}
	attr := attributes(&r)
	if exempt(attr.GetKind()) {
		return nil
	}
	list := e.candidatesOf(&r, attr)
	s := newSession(ctx, &r, attr, list)
	out := make([]Verdict, 0, min(most, len(list.policies)))
	for i := range list.policies {
		c := &list.policies[i]
		p := c.policy
		if only != nil && !only(p) || !p.selects(&r, attr) {
			continue
		}
		if !p.named(attr.GetName(), c.rules) {
			continue
		}
		if verdict, ok := s.judge(c, e.compile(p)); ok {
			out = append(out, verdict)
		}
	}
	return out
}

// Check compiles everything that a policy holds and tells what does not compile.
func (e *Engine) Check(policy int) []error { return e.compile(e.policies[policy]).errors() }

func attributes(r *Request) admission.Attributes {
	s := r.subject()
	namespace := s.Namespace
	if s.Kind == corev1.SchemeGroupVersion.WithKind("Namespace") {
		namespace = s.Name // of a namespace the API server says that it is in itself
	}
	record := func(o *object.Object) admissionObject {
		if o == nil {
			return nil
		}
		return o.API
	}
	return admission.NewAttributesRecord(record(r.Object), record(r.Old), s.Kind, namespace, s.Name, s.Resource, r.Subresource, r.Operation, nil, false, r.User)
}

// exempt kinds are never put before policies, so that no policy can lock everybody out.
func exempt(k schema.GroupVersionKind) bool {
	if k.Group != admv1.GroupName {
		return false
	}
	switch k.Kind {
	case "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
		"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding":
		return true
	}
	return false
}
