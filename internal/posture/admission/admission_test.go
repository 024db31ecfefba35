// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/object"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

func noon() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

func namespace(level string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{DefaultLevelLabel: level}}}
}

func controls(t testing.TB, names ...string) []*control.Control {
	t.Helper()
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	picked, err := control.Select(all, names)
	if err != nil {
		t.Fatal(err)
	}
	return picked
}

func compiled(t testing.TB, p Plan) *Bundle {
	t.Helper()
	b, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func engineOf(t testing.TB, b *Bundle) *engine.Engine {
	t.Helper()
	var policies []engine.Policy
	for _, p := range b.Policies {
		policies = append(policies, engine.Policy{ValidatingAdmissionPolicy: p})
	}
	_, newest := engine.Supported()
	e, err := engine.New(policies, newest)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// failures are what a bundle says of a request: control → messages, without the control's name before them.
func failures(t testing.TB, b *Bundle, e *engine.Engine, r engine.Request) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, v := range e.Review(t.Context(), r) {
		if v.State == engine.Unevaluated {
			out["error"] = append(out["error"], v.Err)
		}
		for _, f := range v.Failures {
			i := slices.IndexFunc(b.Places, func(p Place) bool {
				return p.Policy == b.Policies[v.Policy].Name && p.Validation == f.Validation
			})
			id := b.Places[i].Control
			message, ok := strings.CutPrefix(f.Message, id+": ")
			if !ok {
				t.Errorf("%s does not name its control: %s", id, f.Message)
			}
			out[id] = append(out[id], message)
		}
	}
	return out
}

// TestABundleJudgesAsItsControls puts all examples before all controls one by one, and before the bundle of them.
func TestABundleJudgesAsItsControls(t *testing.T) {
	_, newest := engine.Supported()
	all := controls(t)
	judge, err := scan.NewJudge(all, newest, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := compiled(t, Plan{Controls: all, Step: Deny})
	e := engineOf(t, b)
	compared := 0
	for _, c := range all {
		if c.ScanOnly() || strings.HasPrefix(c.ID, "api-removed-") {
			continue
		}
		examples, err := c.Examples()
		if err != nil {
			t.Fatal(err)
		}
		for _, example := range examples {
			r, err := judge.RequestOf(example)
			if err != nil {
				t.Fatal(err)
			}
			if example.Ephemeral {
				r.Old = before(t, r.Old)
			}
			want := map[string][]string{}
			for _, v := range judge.Review(t.Context(), r) {
				for _, f := range v.Failures {
					if id := judge.Controls[v.Policy].ID; !judge.Controls[v.Policy].ScanOnly() {
						want[id] = append(want[id], f.Message)
					}
				}
			}
			compared += len(want)
			if got := failures(t, b, e, r); !maps.EqualFunc(got, want, slices.Equal) {
				t.Fatalf("%s: %s:\ncontrols %v\nbundle   %v", c.ID, example.Name, want, got)
			}
		}
	}
	t.Logf("%d policies, %d validations, %d failures compared", len(b.Policies), len(b.Places), compared)
	if compared < 10_000 || len(b.Policies) > 30 {
		t.Errorf("%d failures were compared, %d policies were made", compared, len(b.Policies))
	}
}

// before is a pod without its ephemeral containers.
func before(t *testing.T, o *object.Object) *object.Object {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o.API)
	if err != nil {
		t.Fatal(err)
	}
	if spec, ok := fields["spec"].(map[string]any); ok {
		delete(spec, "ephemeralContainers")
	}
	return decode(t, fields)
}

func decode(t testing.TB, fields map[string]any) *object.Object {
	t.Helper()
	o, err := object.NewDecoder().Decode(fields)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// pod is a privileged pod that is made at a moment.
func pod(t testing.TB, at time.Time, labels map[string]any) *object.Object {
	o := decode(t, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web-1", "namespace": "shop", "labels": labels},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "a", "image": "b", "securityContext": map[string]any{"privileged": true}}}}})
	m, err := meta.Accessor(o.API)
	if err != nil {
		t.Fatal(err)
	}
	m.SetCreationTimestamp(metav1.NewTime(at))
	return o
}

func except(t testing.TB, name string, spec map[string]any) *exception.Exception {
	t.Helper()
	full := map[string]any{"owner": "team", "reason": "it must", "expires": noon().Add(time.Hour).Format(time.RFC3339), "controls": []any{"privileged"}}
	maps.Copy(full, spec)
	e, err := exception.Parse(map[string]any{"apiVersion": exception.APIVersion, "kind": exception.Kind, "metadata": map[string]any{"name": name}, "spec": full})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAnExceptionEndsByItself(t *testing.T) {
	cs := controls(t, "privileged", "host-pid")
	set, errs := exception.NewSet([]*exception.Exception{except(t, "web", map[string]any{"namespaces": []any{"shop"}, "names": []any{"web-*"}})}, cs)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	b := compiled(t, Plan{Controls: cs, Step: Deny, Exceptions: set, Now: noon()})
	e := engineOf(t, b)
	for _, c := range []struct {
		name    string
		at      time.Time
		changed time.Time // by whom the object was changed last; zero: it is created
		fails   bool
	}{
		{"created before the end", noon(), time.Time{}, false},
		{"created after the end", noon().Add(2 * time.Hour), time.Time{}, true},
		{"created before, changed after the end", noon(), noon().Add(2 * time.Hour), true},
		{"created and changed before the end", noon(), noon().Add(time.Minute), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := engine.Request{Object: pod(t, c.at, nil)}
			if !c.changed.IsZero() {
				r.Operation, r.Old = "UPDATE", pod(t, c.at, map[string]any{"other": "x"})
				m, err := meta.Accessor(r.Object.API)
				if err != nil {
					t.Fatal(err)
				}
				at := metav1.NewTime(c.changed)
				m.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: "Update", APIVersion: "v1", Time: &at}})
			}
			got := failures(t, b, e, r)
			if _, fails := got["privileged"]; fails != c.fails || len(got["error"]) > 0 {
				t.Errorf("%v, want a failure: %v", got, c.fails)
			}
		})
	}
	if p := b.Policies[0]; len(p.Spec.AuditAnnotations) != 1 {
		t.Errorf("the audit log does not tell which exception held: %v", p.Spec.AuditAnnotations)
	}
	late := compiled(t, Plan{Controls: cs, Step: Deny, Exceptions: set, Now: noon().Add(time.Hour)})
	for _, v := range late.Policies[0].Spec.Variables {
		if strings.HasPrefix(v.Name, "vigie") {
			t.Errorf("what has expired is still in the policy: %s", v.Name)
		}
	}
}

func TestWhatStaysAsItIsMayBeChanged(t *testing.T) {
	b := compiled(t, Plan{Controls: controls(t, "privileged"), Step: Deny})
	e := engineOf(t, b)
	deleted := pod(t, noon(), map[string]any{"a": "b"})
	m, err := meta.Accessor(deleted.API)
	if err != nil {
		t.Fatal(err)
	}
	at := metav1.NewTime(noon())
	m.SetDeletionTimestamp(&at)
	finalized := pod(t, noon(), nil)
	if m, err = meta.Accessor(finalized.API); err != nil {
		t.Fatal(err)
	}
	m.SetFinalizers([]string{"example.org/f"})
	for name, c := range map[string]struct {
		old, now *object.Object
		fails    bool
	}{
		"a finalizer": {pod(t, noon(), nil), finalized, false},
		"a label":     {pod(t, noon(), nil), pod(t, noon(), map[string]any{"a": "b"}), true},
		"deleted":     {pod(t, noon(), nil), deleted, false},
		"created":     {nil, pod(t, noon(), nil), true},
	} {
		r := engine.Request{Object: c.now, Old: c.old}
		if c.old != nil {
			r.Operation = "UPDATE"
		}
		if got := failures(t, b, e, r); len(got["privileged"]) > 0 != c.fails || len(got["error"]) > 0 {
			t.Errorf("%s: %v, want a failure: %v", name, got, c.fails)
		}
	}
}

func TestLevels(t *testing.T) {
	cs := controls(t, "privileged", "run-as-non-root", "image-digest")
	for _, standard := range []string{"privileged", "baseline", "restricted"} {
		b := compiled(t, Plan{Controls: cs, Step: Deny, Levels: &Levels{Label: DefaultLevelLabel, Default: standard}})
		e := engineOf(t, b)
		for label, want := range map[string][]string{
			"privileged": {"image-digest"}, "baseline": {"image-digest", "privileged"}, "restricted": {"image-digest", "privileged", "run-as-non-root"},
		} {
			for _, said := range []bool{true, false} {
				ns := namespace(label)
				if !said {
					ns.Labels = nil
					want = levelWants(standard)
				}
				got := failures(t, b, e, engine.Request{Object: pod(t, noon(), nil), Namespace: ns})
				if ids := slices.Sorted(maps.Keys(got)); !slices.Equal(ids, want) {
					t.Errorf("default %s, namespace %v: %v, want %v", standard, ns.Labels, ids, want)
				}
			}
		}
	}
}

func levelWants(level string) []string {
	all := []string{"image-digest", "privileged", "run-as-non-root"}
	return all[:1+slices.Index(LevelNames(), level)]
}

func TestStepsAndWhatIsLeft(t *testing.T) {
	b := compiled(t, Plan{Controls: controls(t, "privileged", "host-pid", "service-selects-nothing", "image-registry"), Step: Warn, Steps: map[string]Step{"privileged": Deny},
		Except: []string{"kube-system"}, Params: map[string]map[string]string{"image-registry": {"registries": "it's/'x'"}}})
	var got []string
	for i, p := range b.Policies {
		got = append(got, fmt.Sprint(p.Name, " ", b.ControlsOf(p.Name), " ", b.Bindings[i].Spec.ValidationActions, " ", p.Labels[StepLabel]))
	}
	want := []string{"vigie-pods-warn [host-pid image-registry] [Warn Audit] warn", "vigie-pods-deny [privileged] [Deny Audit] deny"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if len(b.Left) != 1 || b.Left[0].Control != "service-selects-nothing" {
		t.Errorf("left: %v", b.Left)
	}
	if m := b.Bindings[0].Spec.MatchResources; m == nil || m.NamespaceSelector.MatchExpressions[0].Values[0] != "kube-system" {
		t.Errorf("binding: %+v", b.Bindings[0].Spec)
	}
}

// TestABundleIsTheSameEachTime: an apply that changes nothing must not make the API server compile everything anew.
func TestABundleIsTheSameEachTime(t *testing.T) {
	text := func() string {
		out, err := json.Marshal(compiled(t, Plan{Controls: controls(t), Step: Audit, Fixes: allFixes(t), Levels: &Levels{Label: "l", Default: "baseline"}}))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	first := text()
	for range 3 {
		if text() != first {
			t.Fatal("two bundles of one plan differ")
		}
	}
	if len(first) > 1<<20 {
		t.Errorf("the bundle has %d bytes", len(first))
	}
}

// TestTheBudgetLasts: all controls of pods share the budget of one policy.
func TestTheBudgetLasts(t *testing.T) {
	var containers []any
	for i := range 300 {
		var env []any
		for j := range 20 {
			env = append(env, map[string]any{"name": fmt.Sprintf("NAME_%d", j), "value": strings.Repeat("x", 40)})
		}
		containers = append(containers, map[string]any{"name": fmt.Sprintf("c%d", i), "image": "registry.example/image:1", "env": env, "command": []any{"sh", "-c", strings.Repeat("y", 100)},
			"ports": []any{map[string]any{"containerPort": int64(8000 + i)}}})
	}
	big := decode(t, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "big", "namespace": "shop"}, "spec": map[string]any{"containers": containers}})
	b := compiled(t, Plan{Controls: controls(t), Step: Deny})
	got := failures(t, b, engineOf(t, b), engine.Request{Object: big})
	if len(got["error"]) > 0 || len(got) < 10 {
		t.Errorf("%d controls failed: %v", len(got), got["error"])
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	for name, s := range map[string]Settings{
		"a step":    {Step: "strict"},
		"a level":   {Step: Audit, Levels: &LevelSettings{Label: "x", Default: "high"}},
		"a fix":     {Step: Audit, Fixes: []string{"image-digest"}},
		"a word":    {Step: Audit, Fixes: []string{"host-pid=always"}},
		"a control": {Step: Audit, Controls: []string{"none"}},
		"steps":     {Step: Audit, Steps: map[string]Step{"privileged": "x"}},
	} {
		if _, _, err := s.Plan(nil, noon()); err == nil {
			t.Errorf("%s that is not there is taken", name)
		}
	}
}

func fieldsOf(t testing.TB, o runtime.Object) map[string]any {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// TestLevelsInScansAndPolicies: what a rollout looks at is what the policy will be about.
func TestLevelsInScansAndPolicies(t *testing.T) {
	l := &Levels{Label: DefaultLevelLabel, Default: "baseline"}
	for id, want := range map[string][]bool{"privileged": {false, true, true, true}, "run-as-non-root": {false, false, true, false}, "image-digest": {true, true, true, true}} {
		for i, level := range []string{"privileged", "baseline", "restricted", "odd"} {
			if got := l.Applies(controls(t, id)[0], map[string]string{DefaultLevelLabel: level}); got != want[i] {
				t.Errorf("%s in a namespace that is %s: %v, want %v", id, level, got, want[i])
			}
		}
	}
	var none *Levels
	if !none.Applies(controls(t, "run-as-non-root")[0], nil) {
		t.Error("without levels a control does not hold everywhere")
	}
}
