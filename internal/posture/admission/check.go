// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	admv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/version"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
)

// Doubt is what a policy would do wrong in a version of Kubernetes.
type Doubt struct {
	Policy  string
	Message string
	Dead    bool // it compiles, and is about a version of the API that is not there any more: it never judges anything
	Types   bool // it compiles, and names a field or uses a value as the schema of a kind does not have it
	Note    bool // of Types: for some of the policy's kinds only, or so today already
}

// Known is the version whose CEL stands for another: itself, or the newest that this build knows when that is older.
func Known(target engine.Version) (used engine.Version, exact bool) {
	_, newest := engine.Supported()
	if target.Major == newest.Major && target.Minor > newest.Minor {
		return newest, false
	}
	return target, true
}

// Check compiles policies, whoever made them, as an API server of that version would. Documents of other kinds are
// passed over; checked counts the others. types are those of the target; nil: they are not checked.
func Check(documents []map[string]any, target engine.Version, removed []*control.Control, types Types) (doubts []Doubt, checked int, err error) {
	if _, err := engine.New(nil, target); err != nil {
		return nil, 0, err
	}
	for _, d := range documents {
		kind, _ := d["kind"].(string)
		apiVersion, _ := d["apiVersion"].(string)
		if group, _, _ := strings.Cut(apiVersion, "/"); group != admv1.GroupName {
			continue
		}
		var found []Doubt
		switch kind {
		case "ValidatingAdmissionPolicy":
			found, err = checkValidating(d, target, removed, types)
		case "MutatingAdmissionPolicy":
			found, err = checkMutating(d, target, removed, types)
		default:
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		checked++
		doubts = append(doubts, found...)
	}
	return doubts, checked, nil
}

func checkValidating(d map[string]any, target engine.Version, removed []*control.Control, types Types) ([]Doubt, error) {
	p := &admv1.ValidatingAdmissionPolicy{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(d, p); err != nil {
		return []Doubt{{Policy: nameOf(d), Message: "cannot be read: " + err.Error()}}, nil
	}
	policy := engine.Policy{ValidatingAdmissionPolicy: p}
	if p.Spec.ParamKind != nil {
		policy.Params = map[string]any{}
	}
	e, err := engine.New([]engine.Policy{policy}, target)
	if err != nil {
		return []Doubt{{Policy: p.Name, Message: err.Error()}}, nil
	}
	var out []Doubt
	for _, err := range e.Check(0) {
		out = append(out, Doubt{Policy: p.Name, Message: err.Error()})
	}
	return more(out, p.Name, typedValidating(p), target, removed, types)
}

// more adds what is wrong beside what does not compile.
func more(out []Doubt, policy string, p typed, target engine.Version, removed []*control.Control, types Types) ([]Doubt, error) {
	if types != nil && len(out) == 0 { // else the same would be told for each kind
		found, err := typeDoubts(policy, p, target, types)
		if err != nil {
			return nil, err
		}
		out = found
	}
	return append(out, dead(policy, p.match, target, removed)...), nil
}

func nameOf(d map[string]any) string {
	m, _ := d["metadata"].(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// mutation is an expression as the API server's compiler wants it.
type mutation struct {
	name, text string
	returns    []*celgo.Type
}

// GetExpression implements the API server's interfaces.
func (m mutation) GetExpression() string { return m.text }

// GetName implements the API server's interfaces.
func (m mutation) GetName() string { return m.name }

// ReturnTypes implements the API server's interfaces.
func (m mutation) ReturnTypes() []*celgo.Type { return m.returns }

func checkMutating(d map[string]any, target engine.Version, removed []*control.Control, types Types) ([]Doubt, error) {
	p := &admv1.MutatingAdmissionPolicy{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(d, p); err != nil {
		return []Doubt{{Policy: nameOf(d), Message: "cannot be read: " + err.Error()}}, nil
	}
	compiler, err := plugincel.NewCompositedCompiler(environment.MustBaseEnvSet(version.MajorMinor(target.Major, target.Minor)))
	if err != nil {
		return []Doubt{{Policy: p.Name, Message: err.Error()}}, nil
	}
	options := plugincel.OptionalVariableDeclarations{HasParams: p.Spec.ParamKind != nil, HasAuthorizer: true}
	var out []Doubt
	note := func(where string, r plugincel.CompilationResult) {
		if r.Error != nil {
			out = append(out, Doubt{Policy: p.Name, Message: where + ": " + r.Error.Error()})
		}
	}
	for _, v := range p.Spec.Variables {
		note("variable "+v.Name, compiler.CompileAndStoreVariable(mutation{v.Name, v.Expression, []*celgo.Type{celgo.AnyType, celgo.DynType}}, options, environment.NewExpressions))
	}
	for i, m := range p.Spec.MatchConditions {
		note(fmt.Sprintf("matchConditions[%d]", i), compiler.CompileCELExpression(mutation{"", m.Expression, []*celgo.Type{celgo.BoolType}}, options, environment.NewExpressions))
	}
	options.HasPatchTypes = true
	for i, m := range p.Spec.Mutations {
		switch {
		case m.JSONPatch != nil:
			note(fmt.Sprintf("mutations[%d]", i), compiler.CompileCELExpression(mutation{"", m.JSONPatch.Expression, []*celgo.Type{celgo.ListType(celgo.ObjectType("JSONPatch"))}}, options, environment.NewExpressions))
		case m.ApplyConfiguration != nil:
			note(fmt.Sprintf("mutations[%d]", i), compiler.CompileCELExpression(mutation{"", m.ApplyConfiguration.Expression, []*celgo.Type{celgo.ObjectType("Object")}}, options, environment.NewExpressions))
		}
	}
	return more(out, p.Name, typedMutating(p), target, removed, types)
}

var removedIn = regexp.MustCompile(`^api-removed-1-(\d+)$`)

// removedBy is the minor version that removed what a control is about; ok is false for controls about other things.
func removedBy(c *control.Control) (minor uint, ok bool) {
	id := removedIn.FindStringSubmatch(c.ID)
	if id == nil {
		return 0, false
	}
	_, err := fmt.Sscan(id[1], &minor)
	return minor, err == nil
}

// dead finds rules about versions of the API that the target does not serve. Which those are is in the controls about
// removed versions.
func dead(policy string, m *admv1.MatchResources, target engine.Version, controls []*control.Control) []Doubt {
	if m == nil {
		return nil
	}
	var out []Doubt
	for _, c := range controls {
		minor, ok := removedBy(c)
		if !ok || minor > target.Minor {
			continue
		}
		gone := atomsOf(c.Policy.Spec.MatchConstraints)
		for _, a := range atomsOf(m) {
			if slices.ContainsFunc(gone, func(g atom) bool { return g.group == a.group && g.version == a.version && g.resource == a.resource }) {
				d := Doubt{Policy: policy, Dead: true, Message: fmt.Sprintf("it is about %s, which Kubernetes 1.%d removed", strings.TrimPrefix(a.key(), "/"), minor)}
				if !slices.Contains(out, d) {
					out = append(out, d)
				}
			}
		}
	}
	return out
}
