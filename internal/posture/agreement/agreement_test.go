// SPDX-License-Identifier: Apache-2.0

package agreement

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	admv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// TestScanAndAdmissionAgree puts every control's examples before the API server's own plug-in too, with all controls in it at
// once, and requires the same failures with the same messages.
func TestScanAndAdmissionAgree(t *testing.T) {
	controls, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	// The version is the plug-in's own, see environment.DefaultCompatibilityVersion.
	j, err := scan.NewJudge(controls, engine.Version{Major: 1, Minor: 36}, nil)
	if err != nil {
		t.Fatal(err)
	}
	plugin := startPlugin(t, j.Controls)
	interfaces := admission.NewObjectInterfacesFromScheme(scheme.Scheme)
	compared, failures := 0, 0
	for _, c := range j.Controls {
		examples, err := c.Examples()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range examples {
			r, err := j.RequestOf(e)
			if err != nil {
				t.Fatal(err)
			}
			if r.Object.Served != r.Object.Kind {
				continue // a version that no API server serves any more
			}
			want := byPlugin(t, plugin, interfaces, r)
			got := byEngine(t, j, r)
			compared, failures = compared+1, failures+len(got)
			if !maps.EqualFunc(want, got, slices.Equal) {
				t.Errorf("%s: %s:\nplug-in %v\nscan    %v", c.ID, e.Name, want, got)
			}
		}
	}
	t.Logf("%d objects, %d failures", compared, failures)
	if compared < 1000 || failures < 10_000 {
		t.Errorf("only %d objects with %d failures were compared", compared, failures)
	}
}

// nobody may do anything: no control asks.
func nobody(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionNoOpinion, "", nil
}

// byEngine are the messages of the controls that fail, by id.
func byEngine(t testing.TB, j *scan.Judge, r engine.Request) map[string][]string {
	out := map[string][]string{}
	for _, v := range j.Review(t.Context(), r) {
		c := j.Controls[v.Policy]
		if c.ScanOnly() {
			continue
		}
		for _, f := range v.Failures {
			out[c.ID] = append(out[c.ID], f.Message)
		}
		if v.State == engine.Unevaluated {
			out[c.ID] = append(out[c.ID], "error")
		}
	}
	return out
}

// caught is a request whose audit annotations are kept.
type caught struct {
	admission.Attributes
	annotations map[string]string
}

func (c *caught) AddAnnotation(key, value string) error {
	c.annotations[key] = value
	return nil
}

func byPlugin(t testing.TB, plugin *validating.Plugin, o admission.ObjectInterfaces, r engine.Request) map[string][]string {
	t.Helper()
	var old runtime.Object
	if r.Old != nil {
		old = r.Old.API
	}
	namespace := r.Object.Namespace
	if r.Object.Kind.Kind == "Namespace" {
		namespace = r.Object.Name
	}
	a := &caught{annotations: map[string]string{}, Attributes: admission.NewAttributesRecord(r.Object.API, old, r.Object.Kind, namespace, r.Object.Name,
		r.Object.Resource, r.Subresource, r.Operation, nil, false, &user.DefaultInfo{Name: "vigie-scan"})}
	if err := plugin.Validate(t.Context(), a, o); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	text, ok := a.annotations["validation.policy.admission.k8s.io/validation_failure"]
	if !ok {
		return out
	}
	var list []validating.ValidationFailureValue
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if strings.Contains(f.Message, "resulted in error") {
			f.Message = "error"
		}
		out[f.Policy] = append(out[f.Policy], f.Message)
	}
	return out
}

// startPlugin is the plug-in as in an API server, on informers that know the controls, a binding for each and their parameters.
func startPlugin(t testing.TB, controls []*control.Control) *validating.Plugin {
	t.Helper()
	var objects []runtime.Object
	for _, ns := range []string{"default", "shop", "web", "b", "kube-system", "a"} {
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns, Labels: map[string]string{corev1.LabelMetadataName: ns}}})
	}
	for _, c := range controls {
		if c.ScanOnly() {
			continue
		}
		objects = append(objects, defaulted(c.Policy))
		binding := &admv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: c.ID},
			Spec: admv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: c.ID, ValidationActions: []admv1.ValidationAction{admv1.Audit}}}
		if params := c.Params(nil); params != nil {
			deny := admv1.DenyAction
			binding.Spec.ParamRef = &admv1.ParamRef{Name: c.ID, Namespace: "default", ParameterNotFoundAction: &deny}
			data := map[string]string{}
			for name, p := range c.Parameters {
				data[name] = p.Default
			}
			objects = append(objects, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: c.ID, Namespace: "default"}, Data: data})
		}
		objects = append(objects, binding)
	}
	plugin, err := validating.NewPlugin(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion})
	mapper.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	plugin.SetExternalKubeClientSet(client)
	plugin.SetExternalKubeInformerFactory(factory)
	plugin.SetRESTMapper(mapper)
	plugin.SetDynamicClient(dynamicfake.NewSimpleDynamicClient(scheme.Scheme))
	plugin.SetDrainedNotification(ctx.Done())
	plugin.SetUnconditionalAuthorizer(authorizer.AuthorizerFunc(nobody))
	if err := plugin.ValidateInitialization(); err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	t.Cleanup(factory.Shutdown)
	t.Cleanup(stop) // before the factory's shutdown, which waits
	if !plugin.WaitForReady() {
		t.Fatal("the plug-in is not ready after 10 s")
	}
	return plugin
}

// defaulted is a policy as the API server stores it.
func defaulted(p *admv1.ValidatingAdmissionPolicy) *admv1.ValidatingAdmissionPolicy {
	p = p.DeepCopy()
	m := p.Spec.MatchConstraints
	m.NamespaceSelector, m.ObjectSelector = &metav1.LabelSelector{}, &metav1.LabelSelector{}
	if m.MatchPolicy == nil {
		equivalent := admv1.Equivalent
		m.MatchPolicy = &equivalent
	}
	fail := admv1.Fail
	p.Spec.FailurePolicy = &fail
	return p
}
