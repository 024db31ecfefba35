// SPDX-License-Identifier: Apache-2.0

package object

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func decodeAs[T any](t *testing.T, fields map[string]any) T {
	t.Helper()
	o, err := NewDecoder().Decode(fields)
	if err != nil {
		t.Fatal(err)
	}
	typed, ok := o.API.(T)
	if !ok {
		t.Fatalf("decoded into a %T", o.API)
	}
	return typed
}

func podFields(spec map[string]any) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"}, "spec": spec}
}

func TestAPodGetsTheAPIsDefaults(t *testing.T) {
	p := decodeAs[*corev1.Pod](t, podFields(map[string]any{"hostNetwork": true, "securityContext": nil,
		"volumes": []any{map[string]any{"name": "v"}, map[string]any{"name": "h", "hostPath": map[string]any{"path": "/a"}}},
		"containers": []any{map[string]any{"name": "a", "image": "nginx", "ports": []any{map[string]any{"containerPort": int64(80)}},
			"resources":     map[string]any{"limits": map[string]any{"memory": "1Gi"}},
			"livenessProbe": map[string]any{"httpGet": map[string]any{"port": int64(80)}}}}}))
	c := p.Spec.Containers[0]
	for what, ok := range map[string]bool{
		"restart policy":   p.Spec.RestartPolicy == corev1.RestartPolicyAlways,
		"namespace":        p.Namespace == "default",
		"service links":    *p.Spec.EnableServiceLinks,
		"security context": p.Spec.SecurityContext != nil,
		"pull policy":      c.ImagePullPolicy == corev1.PullAlways,
		"host port":        c.Ports[0].HostPort == 80 && c.Ports[0].Protocol == corev1.ProtocolTCP,
		"request":          c.Resources.Requests.Memory().String() == "1Gi",
		"probe":            c.LivenessProbe.PeriodSeconds == 10 && c.LivenessProbe.HTTPGet.Path == "/",
		"empty volume":     p.Spec.Volumes[0].EmptyDir != nil,
		"host path":        p.Spec.Volumes[1].EmptyDir == nil && *p.Spec.Volumes[1].HostPath.Type == corev1.HostPathUnset,
	} {
		if !ok {
			t.Errorf("%s is not as the API server would have it", what)
		}
	}
}

func TestPullPolicies(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{"a": "Always", "a:latest": "Always", "a:1": "IfNotPresent", "r:5000/a": "Always", "r:5000/a:1": "IfNotPresent", "a@sha256:b": "IfNotPresent"} {
		if got := pullPolicy(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestOtherKindsGetTheirDefaults(t *testing.T) {
	object := func(apiVersion, kind string, spec map[string]any) map[string]any {
		return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": "a"}, "spec": spec}
	}
	d := decodeAs[*appsv1.Deployment](t, object("apps/v1", "Deployment", map[string]any{}))
	if *d.Spec.Replicas != 1 || d.Spec.Strategy.RollingUpdate.MaxSurge.String() != "25%" || d.Spec.Template.Spec.EnableServiceLinks != nil {
		t.Errorf("deployment: %+v", d.Spec)
	}
	s := decodeAs[*corev1.Service](t, object("v1", "Service", map[string]any{"type": "LoadBalancer", "ports": []any{map[string]any{"port": int64(80)}}}))
	if s.Spec.Ports[0].TargetPort.IntValue() != 80 || s.Spec.ExternalTrafficPolicy != "Cluster" || !*s.Spec.AllocateLoadBalancerNodePorts {
		t.Errorf("service: %+v", s.Spec)
	}
	c := decodeAs[*batchv1.CronJob](t, object("batch/v1", "CronJob", map[string]any{}))
	if *c.Spec.JobTemplate.Spec.BackoffLimit != 6 || c.Spec.ConcurrencyPolicy != "Allow" {
		t.Errorf("cron job: %+v", c.Spec)
	}
	n := decodeAs[*networkingv1.NetworkPolicy](t, object("networking.k8s.io/v1", "NetworkPolicy", map[string]any{"egress": []any{map[string]any{}}}))
	if len(n.Spec.PolicyTypes) != 2 {
		t.Errorf("network policy: %+v", n.Spec)
	}
	b := decodeAs[*rbacv1.ClusterRoleBinding](t, map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
		"metadata": map[string]any{"name": "a", "namespace": "wrong"}, "subjects": []any{map[string]any{"kind": "Group", "name": "g"}}})
	if b.Subjects[0].APIGroup != rbacv1.GroupName || b.Namespace != "" {
		t.Errorf("binding: %+v", b)
	}
}

func TestWhatIsNoObject(t *testing.T) {
	d := NewDecoder()
	if _, err := d.Decode(map[string]any{"replicas": int64(1)}); !errors.Is(err, ErrNotObject) {
		t.Errorf("values of a chart: %v", err)
	}
	_, err := d.Decode(podFields(map[string]any{"containers": []any{map[string]any{"name": true}}}))
	var field *FieldError
	if !errors.As(err, &field) || !reflect.DeepEqual(field.Path, []string{"spec", "containers", "name"}) || !strings.Contains(field.Message, "want a string") {
		t.Errorf("a name that is a boolean: %v", err)
	}
	o, err := d.Decode(podFields(map[string]any{"contaniers": []any{}}))
	if err != nil || !reflect.DeepEqual(o.Unknown, []string{"spec.contaniers"}) {
		t.Errorf("a field that pods do not have: %v %v", o, err)
	}
}

func TestKindsThatHaveNoStruct(t *testing.T) {
	for kind, want := range map[string]string{"Gateway": "gateways", "HTTPRoute": "httproutes", "NetworkPolicy": "networkpolicies", "IngressClass": "ingressclasses", "Thing": "things"} {
		o, err := NewDecoder().Decode(map[string]any{"apiVersion": "example.org/v1", "kind": kind, "metadata": map[string]any{"name": "a", "namespace": "b"}})
		if err != nil || o.Resource.Resource != want || o.Namespace != "b" {
			t.Errorf("%s: %+v %v", kind, o, err)
		}
	}
}

func TestVersionsThatAreServedNoMore(t *testing.T) {
	o, err := NewDecoder().Decode(map[string]any{"apiVersion": "extensions/v1beta1", "kind": "Deployment", "metadata": map[string]any{"name": "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := o.API.(*appsv1.Deployment); !ok || o.Kind.Group != "extensions" || o.Served.Group != "apps" || o.Resource.String() != "extensions/v1beta1, Resource=deployments" {
		t.Errorf("%+v", o)
	}
}
