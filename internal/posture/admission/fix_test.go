// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	celgo "github.com/google/cel-go/cel"
	admv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/version"
	apiadmission "k8s.io/apiserver/pkg/admission"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/object"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// server is what an API server does with MutatingAdmissionPolicies: its own compiler and patches, without its matching.
type server struct {
	compilers []*plugincel.CompositedCompiler
	patchers  [][]patch.Patcher
	policies  []*admv1.MutatingAdmissionPolicy
}

func serverOf(t testing.TB, minor uint, b *Bundle) *server {
	t.Helper()
	s := &server{}
	for _, f := range b.Fixes {
		compiler, err := plugincel.NewCompositedCompiler(environment.MustBaseEnvSet(version.MajorMinor(1, minor)))
		if err != nil {
			t.Fatal(err)
		}
		options := plugincel.OptionalVariableDeclarations{HasAuthorizer: true}
		for _, v := range f.Policy.Spec.Variables {
			if r := compiler.CompileAndStoreVariable(mutation{v.Name, v.Expression, []*celgo.Type{celgo.AnyType, celgo.DynType}}, options, environment.NewExpressions); r.Error != nil {
				t.Fatalf("%s: %s: %v\n%s", f.Policy.Name, v.Name, r.Error, v.Expression)
			}
		}
		options.HasPatchTypes = true
		var patchers []patch.Patcher
		for _, m := range f.Policy.Spec.Mutations {
			e := compiler.CompileMutatingEvaluator(&patch.JSONPatchCondition{Expression: m.JSONPatch.Expression}, options, environment.NewExpressions)
			for _, err := range e.CompilationErrors() {
				t.Fatalf("%s: %v\n%s", f.Policy.Name, err, m.JSONPatch.Expression)
			}
			patchers = append(patchers, patch.NewJSONPatcher(e))
		}
		s.compilers, s.patchers, s.policies = append(s.compilers, compiler), append(s.patchers, patchers), append(s.policies, f.Policy)
	}
	return s
}

// mutate is what becomes of an object that is created, or of a pod to which containers that debug are added.
func (s *server) mutate(t testing.TB, r engine.Request) *object.Object {
	t.Helper()
	access, err := meta.Accessor(r.Object.API)
	if err != nil {
		t.Fatal(err)
	}
	now := r.Object
	interfaces := apiadmission.NewObjectInterfacesFromScheme(scheme.Scheme)
	for i, p := range s.policies {
		var old runtime.Object
		operation := apiadmission.Create
		if r.Subresource != "" {
			operation, old = apiadmission.Update, r.Old.API
		}
		if !slices.ContainsFunc(atomsOf(p.Spec.MatchConstraints), func(a atom) bool {
			return a.group == now.Resource.Group && a.version == now.Resource.Version && string(a.operation) == string(operation) &&
				a.resource == strings.TrimSuffix(now.Resource.Resource+"/"+r.Subresource, "/")
		}) {
			continue
		}
		for j, patcher := range s.patchers[i] {
			attributes := apiadmission.NewAttributesRecord(now.API, old, now.Served, access.GetNamespace(), access.GetName(), now.Resource, r.Subresource, operation, nil, false, nil)
			versioned := &apiadmission.VersionedAttributes{Attributes: attributes, VersionedKind: now.Served}
			versioned.VersionedObject.Set(now.API)
			if old != nil {
				versioned.VersionedOldObject.Set(old)
			}
			request := patch.Request{MatchedResource: now.Resource, ObjectInterfaces: interfaces, Namespace: r.Namespace, VersionedAttributes: versioned}
			ctx := s.compilers[i].CreateContext(t.Context())
			made, err := patcher.Patch(ctx, request, celconfig.RuntimeCELCostBudget)
			if err != nil {
				t.Fatalf("%s: mutation %d: %v\n%s", p.Name, j, err, p.Spec.Mutations[j].JSONPatch.Expression)
			}
			made.GetObjectKind().SetGroupVersionKind(now.Served)
			now = decode(t, fieldsOf(t, made)) // the defaults again
		}
	}
	return now
}

// allFixes are all that can be made, overruling what manifests say.
func allFixes(t testing.TB) []FixChoice {
	t.Helper()
	var out []FixChoice
	for _, c := range controls(t) {
		if NotOnTheWayIn(c) == "" {
			out = append(out, FixChoice{Control: c, Overrule: true})
		}
	}
	return out
}

func sameObject(t testing.TB, a, b *object.Object) bool {
	t.Helper()
	one, err := json.Marshal(fieldsOf(t, a.API)) // as text: numbers of custom resources have another type when they were decoded
	if err != nil {
		t.Fatal(err)
	}
	two, err := json.Marshal(fieldsOf(t, b.API))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(one, two)
}

func fixesOf(t testing.TB, choices ...FixChoice) *Bundle {
	t.Helper()
	return compiled(t, Plan{Controls: nil, Fixes: choices})
}

// changesOf tells how many objects a choice mends, and requires that what it does not mend is left and good ones are as they were.
func changesOf(t *testing.T, j *scan.Judge, choice FixChoice) (mended, left int) {
	t.Helper()
	c := choice.Control
	b := fixesOf(t, choice)
	s := serverOf(t, 36, b)
	examples, err := c.Examples()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		r, err := j.RequestOf(e)
		if err != nil {
			t.Fatal(err)
		}
		if r.Subresource != "" {
			r.Old = before(t, r.Old)
		}
		after := s.mutate(t, r)
		if !e.Bad {
			if !sameObject(t, r.Object, after) {
				t.Errorf("%s: %s was changed:\n%s", c.ID, e.Name, difference(t, r.Object, after))
			}
			continue
		}
		again := r
		again.Object = after
		bad := false
		for _, v := range j.Review(t.Context(), again) {
			if j.Controls[v.Policy].ID == c.ID && v.State != engine.Passed {
				bad = true
			}
		}
		switch {
		case !bad:
			mended++
		case sameObject(t, r.Object, after):
			left++
		default:
			t.Errorf("%s: %s was changed and is bad:\n%s", c.ID, e.Name, difference(t, r.Object, after))
		}
	}
	return mended, left
}

func difference(t testing.TB, a, b *object.Object) string {
	t.Helper()
	one, err := json.Marshal(a.API)
	if err != nil {
		t.Fatal(err)
	}
	two, err := json.Marshal(b.API)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("before %s\nafter  %s", one, two)
}

// TestEveryFixOnTheWayIn makes each control's fix of all its examples as an API server would. The bad ones must be good afterwards, and the
// good ones as they were. A fix that is a default must mend something where it overrules nothing, and one that is not, and could break something, must mend
// nothing like that.
func TestEveryFixOnTheWayIn(t *testing.T) {
	_, newest := engine.Supported()
	carried := 0
	for _, c := range controls(t) {
		if c.Fix == nil {
			continue
		}
		if why := NotOnTheWayIn(c); why != "" {
			if !strings.HasPrefix(c.ID, "api-removed-") {
				t.Errorf("%s: %s", c.ID, why)
			}
			continue
		}
		carried++
		t.Run(c.ID, func(t *testing.T) {
			j, err := scan.NewJudge([]*control.Control{c}, newest, nil)
			if err != nil {
				t.Fatal(err)
			}
			if mended, left := changesOf(t, j, FixChoice{Control: c, Overrule: true}); left > 0 || mended == 0 {
				t.Errorf("%d objects were mended, %d left as they were", mended, left)
			}
			if c.Fix.Risk == "" && !c.Fix.Default || !slices.ContainsFunc(c.Fix.Edits, func(e control.Edit) bool { return e.Remove == "" && e.Set != control.Found }) {
				return
			}
			fills := *c
			fix := *c.Fix
			fix.Default = true
			fills.Fix = &fix
			if mended, left := changesOf(t, j, FixChoice{Control: &fills}); (mended > 0) != c.Fix.Default {
				t.Errorf("default is %v: without overruling %d objects are mended, %d left", c.Fix.Default, mended, left)
			}
		})
	}
	if carried < 55 {
		t.Errorf("only %d fixes can be made on the way in", carried)
	}
}

// TestFixesCompile: the policies of all fixes are such that every version with mutation takes them, and not many.
func TestFixesCompile(t *testing.T) {
	b := compiled(t, Plan{Fixes: allFixes(t), Except: []string{"kube-system"}, Levels: &Levels{Label: "l", Default: "baseline"}, Now: noon()})
	count, size := 0, 0
	for _, f := range b.Fixes {
		count += len(f.Policy.Spec.Mutations)
		text, err := json.Marshal(f.Policy)
		if err != nil {
			t.Fatal(err)
		}
		size = max(size, len(text))
		if f.Binding.Spec.MatchResources == nil {
			t.Errorf("%s is bound to all namespaces", f.Policy.Name)
		}
		for _, minor := range []uint{33, 37} { // a new policy may use what the version before had, and mutation begins with 1.34
			doubts, err := checkMutating(fieldsOf(t, f.Policy), engine.Version{Major: 1, Minor: minor}, nil, nil)
			if err != nil || len(doubts) > 0 {
				t.Errorf("1.%d: %v %v", minor, err, doubts)
			}
		}
	}
	t.Logf("%d fixes, %d mutations in %d policies, the largest has %d bytes", len(allFixes(t)), count, len(b.Fixes), size)
	if len(b.Fixes) > 15 || size > 500_000 {
		t.Errorf("%d policies, %d bytes", len(b.Fixes), size)
	}
}

func choices(t *testing.T, texts ...string) []FixChoice {
	t.Helper()
	var out []FixChoice
	for _, text := range texts {
		f, err := ParseFix(text, controls(t))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// TestWhatAFixLeavesAlone: what is said stays where only defaults are filled in, and what does not hold for an object is not made of it.
func TestWhatAFixLeavesAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		fixes []string
		spec  string
		want  string // a part of the container and the pod, as JSON; empty: it is as it was
	}{
		"nothing is said":            {[]string{"run-as-non-root"}, `{"containers": [{"name": "a", "image": "b"}]}`, `"securityContext":{"runAsNonRoot":true}`},
		"the container says":         {[]string{"run-as-non-root"}, `{"containers": [{"name": "a", "image": "b", "securityContext": {"runAsNonRoot": false}}]}`, ""},
		"the pod says":               {[]string{"run-as-non-root"}, `{"securityContext": {"runAsNonRoot": false}, "containers": [{"name": "a", "image": "b"}]}`, ""},
		"overruled":                  {[]string{"run-as-non-root=overrule"}, `{"securityContext": {"runAsNonRoot": false}, "containers": [{"name": "a", "image": "b"}]}`, `"image":"b","imagePullPolicy":"Always","name":"a","resources":{},"securityContext":{"runAsNonRoot":true}`},
		"on Windows":                 {[]string{"read-only-root"}, `{"os": {"name": "windows"}, "containers": [{"name": "a", "image": "b"}]}`, ""},
		"what does not go with it":   {[]string{"privilege-escalation"}, `{"containers": [{"name": "a", "image": "b", "securityContext": {"capabilities": {"add": ["NET_RAW", "SYS_ADMIN"]}}}]}`, ""},
		"when that is taken away":    {[]string{"privilege-escalation", "capability-sys-admin", "privileged"}, `{"containers": [{"name": "a", "image": "b", "securityContext": {"privileged": true, "capabilities": {"add": ["NET_RAW", "SYS_ADMIN"]}}}]}`, `"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"add":["NET_RAW"]},"privileged":false}`},
		"a list that is there":       {[]string{"capabilities-drop-all"}, `{"containers": [{"name": "a", "image": "b", "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}]}`, ""},
		"a list that is appended to": {[]string{"capabilities-drop-all=overrule"}, `{"containers": [{"name": "a", "image": "b", "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}]}`, `"drop":["NET_RAW","ALL"]`},
		"only what is bad":           {[]string{"mount-propagation"}, `{"containers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "x", "mountPath": "/x", "mountPropagation": "HostToContainer"}, {"name": "y", "mountPath": "/y", "mountPropagation": "Bidirectional"}]}]}`, `"mountPropagation":"HostToContainer","name":"x"},{"mountPath":"/y","mountPropagation":"None"`},
		"a profile of its own":       {[]string{"seccomp-default=overrule"}, `{"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}, "containers": [{"name": "a", "image": "b", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]}`, `"localhostProfile":"x","type":"Localhost"`},
		"the token that is there": {[]string{"service-account-token"}, `{"volumes": [{"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}, {"name": "t", "emptyDir": {}}], "containers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}, {"name": "t", "mountPath": "/t"}]}]}`,
			`"volumeMounts":[{"mountPath":"/t","name":"t"}]`},
		"a token that was asked for": {[]string{"service-account-token"}, `{"automountServiceAccountToken": true, "volumes": [{"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}], "containers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}]}`, ""},
		"the number of a class":      {[]string{"system-priority"}, `{"priorityClassName": "system-node-critical", "priority": 2000001000, "containers": [{"name": "a", "image": "b"}]}`, `"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"restartPolicy"`},
		"ports of the host":          {[]string{"host-network"}, `{"hostNetwork": true, "containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80}]}]}`, `"ports":[{"containerPort":80,"protocol":"TCP"}]`},
	} {
		t.Run(name, func(t *testing.T) {
			var spec map[string]any
			if err := json.Unmarshal([]byte(tt.spec), &spec); err != nil {
				t.Fatal(err)
			}
			o := decode(t, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web-1", "namespace": "shop"}, "spec": spec})
			after := serverOf(t, 36, fixesOf(t, choices(t, tt.fixes...)...)).mutate(t, engine.Request{Object: o, Namespace: namespace("")})
			text, err := json.Marshal(fieldsOf(t, after.API))
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" && !sameObject(t, o, after) || !strings.Contains(string(text), tt.want) {
				t.Errorf("got %s, want %s", text, tt.want)
			}
		})
	}
}

// TestAFixHoldsWhereItsControlDoes: not for what an exception excuses, nor in a namespace of a lower level.
func TestAFixHoldsWhereItsControlDoes(t *testing.T) {
	cs := controls(t, "read-only-root", "privileged")
	set, errs := exception.NewSet([]*exception.Exception{except(t, "web", map[string]any{"namespaces": []any{"shop"}, "names": []any{"web-*"}})}, cs)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	b := compiled(t, Plan{Fixes: choices(t, "privileged", "run-as-non-root"), Exceptions: set, Now: noon(), Levels: &Levels{Label: DefaultLevelLabel, Default: "baseline"}})
	s := serverOf(t, 36, b)
	for level, want := range map[string][]bool{"baseline": {true, false}, "restricted": {true, true}} {
		excused := pod(t, noon(), nil)
		after, err := json.Marshal(fieldsOf(t, s.mutate(t, engine.Request{Object: excused, Namespace: namespace(level)}).API))
		if err != nil {
			t.Fatal(err)
		}
		if got := []bool{strings.Contains(string(after), `"privileged":true`), strings.Contains(string(after), `"runAsNonRoot":true`)}; !slices.Equal(got, want) {
			t.Errorf("%s: privileged and not root are %v, want %v: %s", level, got, want, after)
		}
	}
}

// TestFixesOfALargePod: the budget of a policy lasts for a pod of many containers.
func TestFixesOfALargePod(t *testing.T) {
	var containers []any
	for i := range 100 {
		containers = append(containers, map[string]any{"name": fmt.Sprintf("c%d", i), "image": "registry.example/image:1", "ports": []any{map[string]any{"containerPort": int64(8000 + i)}},
			"volumeMounts": []any{map[string]any{"name": "v", "mountPath": "/v"}, map[string]any{"name": "w", "mountPath": "/w"}}})
	}
	o := decode(t, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "big", "namespace": "shop"}, "spec": map[string]any{"containers": containers,
		"volumes": []any{map[string]any{"name": "v", "hostPath": map[string]any{"path": "/v"}}, map[string]any{"name": "w", "emptyDir": map[string]any{}}}}})
	after, err := json.Marshal(fieldsOf(t, serverOf(t, 36, fixesOf(t, allFixes(t)...)).mutate(t, engine.Request{Object: o}).API))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"allowPrivilegeEscalation":false`, `"readOnlyRootFilesystem":true`, `"readOnly":true`, `"imagePullPolicy":"Always"`} {
		if n := strings.Count(string(after), want); n != 100 {
			t.Errorf("%d containers have %s", n, want)
		}
	}
}
