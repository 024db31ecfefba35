// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// Judge puts objects before controls. It is safe for concurrent use.
type Judge struct {
	Controls []*control.Control
	engine   *engine.Engine
	decoder  *object.Decoder
	related  map[string]bool // kinds that some control looks for, see Related.Kinds

	exceptions *exception.Set // nil: none
	now        time.Time      // of which the exceptions' ends are measured
	scope      func(control string, namespaceLabels map[string]string) bool
}

// NewJudge takes the controls in the CEL of a Kubernetes version; set are values of parameters: control id → name → value.
func NewJudge(controls []*control.Control, target engine.Version, set map[string]map[string]string) (*Judge, error) {
	policies := make([]engine.Policy, len(controls))
	related := map[string]bool{}
	for i, c := range controls {
		for _, r := range c.Related {
			for _, kind := range r.Kinds {
				related[kind] = true
			}
		}
		policies[i] = engine.Policy{ValidatingAdmissionPolicy: c.Policy, Params: c.Params(set[c.ID]), Related: c.ScanOnly()}
	}
	e, err := engine.New(policies, target)
	if err != nil {
		return nil, err
	}
	return &Judge{Controls: controls, engine: e, decoder: object.NewDecoder(), related: related}, nil
}

// world is what a judgement knows beside the object. It belongs to one goroutine.
type world struct {
	view       *view
	authorizer authorizer.UnconditionalAuthorizer
}

func newWorld(inv *Inventory) world { return world{newView(inv), inv.Authorizer()} }

// request is the creation of an object, as one that applies the manifest would ask for it.
func (j *Judge) request(o *object.Object, w world) engine.Request {
	return engine.Request{Operation: admission.Create, Object: o, Namespace: w.view.namespace(o), User: &user.DefaultInfo{Name: "vigie-scan"},
		Authorizer: w.authorizer,
		Related:    func(policy int) engine.Related { return w.view.related(j.Controls[policy], o) }}
}

// Trial is how a control judged one of its own examples.
type Trial struct {
	Control *control.Control
	Example control.Example
	OK      bool
	Reason  string // why not
}

// Try judges the examples of every control.
func (j *Judge) Try(ctx context.Context) ([]Trial, error) {
	var out []Trial
	for i, c := range j.Controls {
		for _, err := range j.engine.Check(i) {
			return nil, fmt.Errorf("%s: %w", c.Source, err)
		}
		examples, err := c.Examples()
		if err != nil {
			return nil, err
		}
		for _, example := range examples {
			t := Trial{Control: c, Example: example}
			t.Reason = j.try(ctx, i, example)
			t.OK = t.Reason == ""
			out = append(out, t)
		}
	}
	return out, nil
}

// RequestOf is what the API server would be asked about an example.
func (j *Judge) RequestOf(e control.Example) (engine.Request, error) {
	inv := NewInventory()
	o, err := j.decoder.Decode(e.Object)
	if err != nil {
		return engine.Request{}, err
	}
	inv.Add(o, j.related)
	for _, fields := range e.Related {
		other, err := j.decoder.Decode(fields)
		if err != nil {
			return engine.Request{}, err
		}
		inv.Add(other, j.related)
	}
	r := j.request(o, newWorld(inv))
	if e.Ephemeral {
		r.Operation, r.Subresource, r.Old = admission.Update, "ephemeralcontainers", o
	}
	return r, nil
}

// Review judges a request by all controls.
func (j *Judge) Review(ctx context.Context, r engine.Request) []engine.Verdict {
	return j.engine.Review(ctx, r)
}

func (j *Judge) try(ctx context.Context, policy int, e control.Example) (reason string) {
	r, err := j.RequestOf(e)
	if err != nil {
		return "it is no object: " + err.Error()
	}
	verdicts := j.engine.ReviewOnly(ctx, r, policy)
	switch {
	case len(verdicts) == 0 && e.Bad:
		return "the control does not look at this object"
	case len(verdicts) == 0:
		return ""
	case verdicts[0].State == engine.Unevaluated:
		return "it could not be evaluated: " + verdicts[0].Err
	case e.Bad && verdicts[0].State == engine.Passed:
		return "it passed"
	case !e.Bad && verdicts[0].State == engine.Failed:
		return "it failed: " + verdicts[0].Failures[0].Message
	}
	return ""
}
