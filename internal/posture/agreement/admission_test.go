// SPDX-License-Identifier: Apache-2.0

package agreement

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/engine"
)

const (
	shopPods       = "/api/v1/namespaces/shop/pods"
	exceptionsPath = "/apis/vigie.io/v1alpha1/policyexceptions"
)

// pod is one in the namespace shop; edit may change its spec's only container and its metadata.
func pod(name string, edit func(container, metadata map[string]any)) map[string]any {
	container := map[string]any{"name": "a", "image": "b"}
	metadata := map[string]any{"name": name, "namespace": "shop", "labels": map[string]any{}}
	if edit != nil {
		edit(container, metadata)
	}
	return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": map[string]any{"containers": []any{container}}}
}

func privileged(c, _ map[string]any) { c["securityContext"] = map[string]any{"privileged": true} }

// applied is what settings mean, given to the API server with the exceptions that it has.
func (s *server) applied(settings admission.Settings) *admission.Bundle {
	s.t.Helper()
	found, errs, err := s.rest.Exceptions(s.t.Context())
	if err != nil || len(errs) > 0 {
		s.t.Fatal(err, errs)
	}
	plan, errs, err := settings.Plan(found, time.Now())
	if err != nil || len(errs) > 0 {
		s.t.Fatal(err, errs)
	}
	if plan.Target, err = s.rest.Target(); err != nil {
		s.t.Fatal(err)
	}
	bundle, err := admission.Compile(plan)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.rest.Apply(s.t.Context(), bundle, false); err != nil {
		s.t.Fatal(err)
	}
	return bundle
}

// until sends a request until it has that code, with that text in its body: policies come into force a moment after they are applied.
func (s *server) until(what, method, path string, object any, code int, says string) answer {
	s.t.Helper()
	var a answer
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); {
		a = s.do(method, path, object)
		if a.code == code && strings.Contains(a.body, says) {
			return a
		}
	}
	s.t.Fatalf("%s: %d %s, want %d with %q", what, a.code, a.body, code, says)
	return a
}

func (s *server) want(what, method, path string, object any, code int, says string) {
	s.t.Helper()
	if a := s.do(method, path, object); a.code != code || !strings.Contains(a.body, says) {
		s.t.Errorf("%s: %d %s, want %d with %q", what, a.code, a.body, code, says)
	}
}

const dry = "?dryRun=All"

// TestAdmission takes a few controls through their life on a real API server: denied with their name, excused until a moment that
// the API server keeps by itself, not in the way of what is there, bound to levels of namespaces, and taken away.
func TestAdmission(t *testing.T) {
	s := startServer(t, "1.36")
	s.namespaces("shop", "lab")
	s.want("make a pod before there is a policy", http.MethodPost, shopPods, pod("old", privileged), http.StatusCreated, "")
	if err := s.rest.Define(t.Context()); err != nil {
		t.Fatal(err)
	}
	settings := admission.Settings{Controls: []string{"privileged", "host-pid"}, Step: admission.Deny, Except: []string{"lab"}}
	s.applied(settings)
	s.until("deny", http.MethodPost, shopPods+dry, pod("new", privileged), http.StatusUnprocessableEntity, "denied request: privileged: privileged container: a")
	s.want("a namespace that is left alone", http.MethodPost, "/api/v1/namespaces/lab/pods"+dry, inNamespace(pod("new", privileged), "lab"), http.StatusCreated, "")
	t.Run("what is there", func(t *testing.T) { s.on(t).whatIsThere() })
	t.Run("an exception", func(t *testing.T) { s.on(t).exception(settings) })
	t.Run("levels", func(t *testing.T) { s.on(t).levels() })
	t.Run("fixes", func(t *testing.T) { s.on(t).fixes() })
	t.Run("types", func(t *testing.T) { s.on(t).types() })
	t.Run("status and the end", func(t *testing.T) { s.on(t).statusAndEnd() })
}

// on is the server for a part of the test.
func (s *server) on(t *testing.T) *server {
	s.t = t
	return s
}

func inNamespace(o map[string]any, namespace string) map[string]any {
	o["metadata"].(map[string]any)["namespace"] = namespace //nolint:forcetypeassert // made by pod
	return o
}

// whatIsThere: a pod that was bad before may get a finalizer and lose it, and go; it may not be changed otherwise.
func (s *server) whatIsThere() {
	s.want("add a finalizer", http.MethodPatch, shopPods+"/old", map[string]any{"metadata": map[string]any{"finalizers": []any{"example.org/test"}}}, http.StatusOK, "")
	s.want("add a label", http.MethodPatch, shopPods+"/old", map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}}}, http.StatusUnprocessableEntity, "privileged")
	s.want("delete", http.MethodDelete, shopPods+"/old?gracePeriodSeconds=0", map[string]any{}, http.StatusOK, "")
	s.want("remove the finalizer", http.MethodPatch, shopPods+"/old", map[string]any{"metadata": map[string]any{"finalizers": nil}}, http.StatusOK, "")
	s.want("look for it", http.MethodGet, shopPods+"/old", nil, http.StatusNotFound, "")
}

// exception: one that ends in a few seconds lets a pod pass, and then does not, although nobody compiles anything again.
func (s *server) exception(settings admission.Settings) {
	document := func(name string, expires time.Time, spec map[string]any) map[string]any {
		full := map[string]any{"owner": "team", "reason": "it must", "expires": expires.UTC().Format(time.RFC3339), "controls": []any{"privileged"}}
		for k, v := range spec {
			full[k] = v
		}
		return map[string]any{"apiVersion": "vigie.io/v1alpha1", "kind": "PolicyException", "metadata": map[string]any{"name": name}, "spec": full}
	}
	s.until("the kind is served", http.MethodGet, exceptionsPath, nil, http.StatusOK, "")
	s.want("an exception for everything", http.MethodPost, exceptionsPath, document("all", time.Now().Add(time.Hour), nil), http.StatusUnprocessableEntity, "say which objects")
	end := time.Now().Add(10 * time.Second).Truncate(time.Second)
	s.want("an exception", http.MethodPost, exceptionsPath, document("web", end, map[string]any{"namespaces": []any{"shop"}, "names": []any{"web-*"}}), http.StatusCreated, "")
	s.applied(settings)
	s.until("excused", http.MethodPost, shopPods, pod("web-1", privileged), http.StatusCreated, "")
	a := s.do(http.MethodPost, shopPods+dry, pod("web-2", privileged))
	if got := a.audit["vigie-pods-deny/exceptions"]; a.code == http.StatusCreated && got != "web" {
		s.t.Errorf("the audit log names %q", got)
	}
	s.want("another name", http.MethodPost, shopPods+dry, pod("db", privileged), http.StatusUnprocessableEntity, "privileged")
	s.until("over", http.MethodPost, shopPods+dry, pod("web-3", privileged), http.StatusUnprocessableEntity, "privileged")
	if now := time.Now(); now.Before(end) {
		s.t.Errorf("it ended %s too early", end.Sub(now))
	}
	s.want("a change after the end", http.MethodPatch, shopPods+"/web-1", map[string]any{"metadata": map[string]any{"labels": map[string]any{"x": "y"}}}, http.StatusUnprocessableEntity, "privileged")
	if err := s.rest.SetExceptionState(s.t.Context(), "web", true); err != nil {
		s.t.Error(err)
	}
	s.want("its state", http.MethodGet, exceptionsPath+"/web", nil, http.StatusOK, `"state":"Expired"`)
	s.want("clean up", http.MethodDelete, shopPods+"/web-1?gracePeriodSeconds=0", map[string]any{}, http.StatusOK, "")
}

// levels: the standard of a namespace's label holds in it.
func (s *server) levels() {
	s.applied(admission.Settings{Controls: []string{"privileged", "run-as-non-root"}, Step: admission.Deny, Levels: &admission.LevelSettings{Label: admission.DefaultLevelLabel, Default: "baseline"}})
	s.until("the default is baseline: root is good", http.MethodPost, shopPods+dry, pod("new", nil), http.StatusCreated, "")
	s.want("privileged is not", http.MethodPost, shopPods+dry, pod("new", privileged), http.StatusUnprocessableEntity, "privileged:")
	label := func(level string) {
		s.want("label the namespace", http.MethodPatch, "/api/v1/namespaces/shop", map[string]any{"metadata": map[string]any{"labels": map[string]any{admission.DefaultLevelLabel: level}}}, http.StatusOK, "")
	}
	label("restricted")
	s.until("restricted", http.MethodPost, shopPods+dry, pod("new", nil), http.StatusUnprocessableEntity, "run-as-non-root:")
	label("privileged")
	s.until("privileged", http.MethodPost, shopPods+dry, pod("new", privileged), http.StatusCreated, "")
}

// fixes: what a manifest leaves out is set, and what it says stays.
func (s *server) fixes() {
	s.applied(admission.Settings{Controls: []string{"seccomp-default", "privilege-escalation"}, Step: admission.Deny, Fixes: []string{"seccomp-default", "capabilities-drop-all", "read-only-root", "privilege-escalation", "run-as-non-root", "service-account-token"}})
	deployments := "/apis/apps/v1/namespaces/shop/deployments" + dry
	labels := map[string]any{"a": "b"}
	template := map[string]any{"metadata": map[string]any{"labels": labels}, "spec": pod("x", nil)["spec"]}
	deployment := map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "web"},
		"spec": map[string]any{"selector": map[string]any{"matchLabels": labels}, "template": template}}
	for _, want := range []string{`"seccompProfile":{"type":"RuntimeDefault"}`, `"allowPrivilegeEscalation":false`, `"readOnlyRootFilesystem":true`, `"drop":["ALL"]`, `"runAsNonRoot":true`, `"automountServiceAccountToken":false`} {
		s.until("a deployment gets "+want, http.MethodPost, deployments, deployment, http.StatusCreated, want)
		s.until("a pod gets "+want, http.MethodPost, shopPods+dry, pod("new", nil), http.StatusCreated, want)
	}
	s.want("what is said stays", http.MethodPost, shopPods+dry, pod("new", func(c, _ map[string]any) {
		c["securityContext"] = map[string]any{"allowPrivilegeEscalation": true}
	}), http.StatusUnprocessableEntity, "privilege-escalation:")
	s.want("a privileged one cannot", http.MethodPost, shopPods+dry, pod("new", privileged), http.StatusUnprocessableEntity, "privilege-escalation:")
}

// types: those of the API server say what is wrong with a policy about a custom resource, and with one about a kind of its own.
func (s *server) types() {
	size := map[string]any{"type": "object", "properties": map[string]any{"spec": map[string]any{"type": "object", "properties": map[string]any{"size": map[string]any{"type": "integer"}}}}}
	s.want("define a kind", http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "things.example.org"}, "spec": map[string]any{"group": "example.org", "scope": "Namespaced",
			"names": map[string]any{"plural": "things", "singular": "thing", "kind": "Thing"}, "versions": []any{map[string]any{"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": size}}}}}, http.StatusCreated, "")
	policy := func(group, resource, expression string) []map[string]any {
		return []map[string]any{{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": map[string]any{"name": "p"}, "spec": map[string]any{
			"matchConstraints": map[string]any{"resourceRules": []any{map[string]any{"apiGroups": []any{group}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"}, "resources": []any{resource}}}},
			"validations":      []any{map[string]any{"expression": expression}}}}}
	}
	for _, c := range []struct{ group, resource, expression, want string }{
		{"example.org", "things", "object.spec.size > 1", ""},
		{"example.org", "things", "object.spec.sise > 1", "undefined field 'sise'"},
		{"example.org", "things", "object.spec.size == 'a'", "no matching overload"},
		{"apps", "deployments", "object.spec.replicas > 1", ""},
		{"apps", "deployments", "object.spec.replica > 1", "undefined field 'replica'"},
	} {
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) { // the schema of a new kind comes a moment later
			types, err := s.rest.Types()
			if err != nil {
				s.t.Fatal(err)
			}
			_, served := types.KindOf(schema.GroupVersionResource{Group: c.group, Version: "v1", Resource: c.resource})
			doubts, _, err := admission.Check(policy(c.group, c.resource, c.expression), engine.Version{Major: 1, Minor: 36}, nil, types)
			if err != nil {
				s.t.Fatal(err)
			}
			said := fmt.Sprint(doubts)
			if ok := len(doubts) == 0 && c.want == "" || len(doubts) == 1 && c.want != "" && strings.Contains(said, c.want); ok && served {
				break
			}
			if time.Now().After(end) {
				s.t.Errorf("%s of %s: %s, want %q", c.expression, c.resource, said, c.want)
				break
			}
		}
	}
}

// statusAndEnd: the API server found nothing wrong with the types of the policies, and takes back what is wanted no more.
func (s *server) statusAndEnd() {
	bundle := s.applied(admission.Settings{Step: admission.Audit, Fixes: []string{"seccomp-default"}})
	var list []cluster.InForce
	for end := time.Now().Add(10 * time.Second); ; {
		var err error
		if list, err = s.rest.InForce(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
		if time.Now().After(end) || !slices.ContainsFunc(list, func(p cluster.InForce) bool { return !p.Checked }) {
			break
		}
	}
	if len(list) != len(bundle.Policies) {
		s.t.Errorf("%d policies are in force, %d were applied", len(list), len(bundle.Policies))
	}
	for _, p := range list {
		if p.Step != admission.Audit || !p.Bound || len(p.Controls) == 0 {
			s.t.Errorf("%+v", p)
		}
	}
	changes, err := s.rest.Apply(s.t.Context(), bundle, false)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range changes {
		if c.What != "unchanged" {
			s.t.Errorf("a second apply: %+v", c)
		}
	}
	counters, err := s.rest.Counters(s.t.Context())
	if err != nil || counters["vigie-pods-deny"]["deny"] == 0 {
		s.t.Errorf("counters %v, %v", counters, err)
	}
	doubts, checked, err := admission.Check(s.all(), engine.Version{Major: 1, Minor: 37}, nil, nil)
	if err != nil || len(doubts) > 0 || checked != len(bundle.Policies)+len(bundle.Fixes) {
		s.t.Errorf("%d policies of the cluster were checked: %v, %v", checked, doubts, err)
	}
	if _, err := s.rest.Apply(s.t.Context(), &admission.Bundle{}, false); err != nil {
		s.t.Fatal(err)
	}
	for _, path := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"} {
		if a := s.do(http.MethodGet, "/apis/admissionregistration.k8s.io/v1/"+path+"?labelSelector="+admission.OwnerLabel+"%3D"+admission.Owner, nil); !strings.Contains(a.body, `"items":[]`) {
			s.t.Errorf("left: %s", a.body)
		}
	}
}

func (s *server) all() []map[string]any {
	s.t.Helper()
	documents, err := s.rest.AllPolicies(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return documents
}
