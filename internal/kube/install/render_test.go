// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/vigie-io/vigie/deploy/helm"
)

func render(t *testing.T, values map[string]any) []*unstructured.Unstructured {
	t.Helper()
	objects, err := Render(Options{Namespace: "vigie-system", Version: "v1.2.3", Values: values})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func find(t *testing.T, objects []*unstructured.Unstructured, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range objects {
		if nameOf(o) == name {
			return o
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// as reads an object as its type: fields that the type does not have are errors.
func as(t *testing.T, o *unstructured.Unstructured, typed any) {
	t.Helper()
	data, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(typed); err != nil {
		t.Fatalf("%s: %v", nameOf(o), err)
	}
}

func TestAgentHasNamedPowersOnly(t *testing.T) {
	var ds appsv1.DaemonSet
	as(t, find(t, render(t, nil), "DaemonSet vigie-system/vigie-agent"), &ds)
	pod := ds.Spec.Template.Spec
	c := pod.Containers[0]
	s := c.SecurityContext
	if *s.Privileged || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the security context is %+v", s)
	}
	if want := []corev1.Capability{"BPF", "PERFMON", "NET_ADMIN", "DAC_READ_SEARCH"}; !slices.Equal(s.Capabilities.Add, want) || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("capabilities are %v without %v, want %v", s.Capabilities.Add, s.Capabilities.Drop, want)
	}
	if c.Image != "ghcr.io/vigie-io/vigie:v1.2.3" {
		t.Errorf("the image is %s", c.Image)
	}
	if c.ReadinessProbe.HTTPGet.Scheme != corev1.URISchemeHTTPS || c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" {
		t.Errorf("probes are %+v, %+v", c.ReadinessProbe.HTTPGet, c.LivenessProbe.HTTPGet)
	}
	for _, m := range c.VolumeMounts {
		if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("the mount %s has no volume", m.Name)
		}
	}

	as(t, find(t, render(t, map[string]any{"agent": map[string]any{"fanotify": true}}), "DaemonSet vigie-system/vigie-agent"), &ds)
	if got := ds.Spec.Template.Spec.Containers[0].SecurityContext.Capabilities.Add; !slices.Contains(got, "SYS_ADMIN") {
		t.Errorf("with fanotify the capabilities are %v", got)
	}
}

func TestWithoutRelayTheAgentStaysOnLoopback(t *testing.T) {
	objects := render(t, map[string]any{"relay": map[string]any{"enabled": false}})
	var ds appsv1.DaemonSet
	as(t, find(t, objects, "DaemonSet vigie-system/vigie-agent"), &ds)
	if p := ds.Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet; p.Host != "127.0.0.1" || p.Scheme != "" {
		t.Errorf("the probe is %+v", p)
	}
	for _, o := range objects {
		if strings.Contains(o.GetName(), "relay") || o.GetKind() == "Secret" {
			t.Errorf("there is a %s", nameOf(o))
		}
	}
}

func TestSecretIsGoodForItsUse(t *testing.T) {
	var s corev1.Secret
	as(t, find(t, render(t, nil), "Secret vigie-system/vigie-tls"), &s)
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.Data["ca.crt"]) {
		t.Fatal("ca.crt holds no certificate")
	}
	for _, name := range []string{"vigie", "vigie-relay", "vigie-relay.vigie-system.svc", "127.0.0.1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	relay := certificateOf(t, &s)
	for _, c := range []*x509.Certificate{pair.Leaf, relay} {
		if c.Issuer.CommonName == c.Subject.CommonName { // OpenSSL takes it for one that has signed itself
			t.Errorf("%s is also its issuer's name", c.Subject.CommonName)
		}
	}
	client := x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, Roots: x509.NewCertPool()}
	client.Roots.AppendCertsFromPEM(s.Data["relay-ca.crt"])
	if _, err := relay.Verify(client); err != nil {
		t.Errorf("the relay's certificate: %v", err)
	}
	if _, err := pair.Leaf.Verify(client); err == nil {
		t.Error("the certificate that every agent has is as good as the relay's")
	}
	if len(s.Data["token"]) != 26 || len(s.Data["agent-token"]) != 26 || string(s.Data["token"]) == string(s.Data["agent-token"]) {
		t.Errorf("the tokens are %q and %q", s.Data["token"], s.Data["agent-token"])
	}
}

// certificateOf is the relay's certificate, which fits its key.
func certificateOf(t *testing.T, s *corev1.Secret) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(s.Data["relay.crt"], s.Data["relay.key"])
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// No node has what opens the others: neither the relay's key nor the token of its users.
func TestAgentsHaveNoKeyToOthers(t *testing.T) {
	var d appsv1.DaemonSet
	as(t, find(t, render(t, nil), "DaemonSet vigie-system/vigie-agent"), &d)
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Secret == nil {
			continue
		}
		var keys []string
		for _, item := range v.Secret.Items {
			keys = append(keys, item.Key)
		}
		slices.Sort(keys)
		if want := []string{"agent-token", "relay-ca.crt", "tls.crt", "tls.key"}; !slices.Equal(keys, want) {
			t.Errorf("agents have %v of the secret, want %v", keys, want)
		}
	}
}

// A secret of a version whose agents and users had one token, and whose relay had no certificate, is completed: agents of both versions
// take the relay's token while one replaces the other.
func TestSecretOfAnOlderVersionIsCompleted(t *testing.T) {
	s := renderedWith(t, "ca.crt", "tls.crt", "tls.key", "token")
	if certificateOf(t, s) == nil || string(s.Data["agent-token"]) != "old token" || string(s.Data["tls.key"]) != "old tls.key" {
		t.Errorf("it becomes %q", s.Data)
	}
}

func TestSecretThatIsThereStays(t *testing.T) {
	names := []string{"ca.crt", "tls.crt", "tls.key", "token", "relay-ca.crt", "relay.crt", "relay.key", "agent-token"}
	s := renderedWith(t, names...)
	for _, name := range names {
		if string(s.Data[name]) != "old "+name {
			t.Errorf("%s is %q", name, s.Data[name])
		}
	}
}

// renderedWith is the secret as it is rendered where one with these keys is there.
func renderedWith(t *testing.T, names ...string) *corev1.Secret {
	t.Helper()
	there := map[string]any{}
	for _, name := range names {
		there[name] = base64.StdEncoding.EncodeToString([]byte("old " + name))
	}
	objects, err := Render(Options{Namespace: "vigie-system", Version: "v1", Lookup: func(kind, namespace, name string) (map[string]any, error) {
		if kind != "Secret" || namespace != "vigie-system" || name != "vigie-tls" {
			t.Errorf("looked up %s %s/%s", kind, namespace, name)
		}
		return map[string]any{"data": there}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var s corev1.Secret
	as(t, find(t, objects, "Secret vigie-system/vigie-tls"), &s)
	return &s
}

func TestEveryObjectIsMarked(t *testing.T) {
	for _, o := range render(t, map[string]any{"namespace": map[string]any{"create": true}}) {
		l := o.GetLabels()
		if l["app.kubernetes.io/part-of"] != "vigie" || l["app.kubernetes.io/managed-by"] != Service {
			t.Errorf("%s bears %v: uninstall would not find it", nameOf(o), l)
		}
		if _, err := kindOf(o); err != nil {
			t.Error(err)
		}
	}
}

func TestValues(t *testing.T) {
	for name, c := range map[string]struct {
		values map[string]any
		want   string // in the error; empty: none
	}{
		"none":               {nil, ""},
		"unknown":            {map[string]any{"agents": 1}, "there is no value agents"},
		"unknown below":      {map[string]any{"agent": map[string]any{"fantoify": true}}, "there is no value agent.fantoify"},
		"map for a word":     {map[string]any{"agent": map[string]any{"fanotify": map[string]any{}}}, "the value agent.fanotify is map[]"},
		"word for a map":     {map[string]any{"agent": "on"}, "the value agent is on"},
		"free names":         {map[string]any{"agent": map[string]any{"config": map[string]any{"l7": "all", "rules": "off"}}}, ""},
		"maps are merged":    {map[string]any{"relay": map[string]any{"nodeSelector": map[string]any{"zone": "a"}}}, ""},
		"null takes away":    {map[string]any{"agent": map[string]any{"resources": map[string]any{"limits": nil}}}, ""},
		"below a free name":  {map[string]any{"agent": map[string]any{"resources": map[string]any{"limits": map[string]any{"cpu": "1"}}}}, ""},
		"list over the list": {map[string]any{"agent": map[string]any{"tolerations": []any{}}}, ""},
	} {
		_, err := Render(Options{Namespace: "n", Version: "v", Values: c.values})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	var ds appsv1.DaemonSet
	as(t, find(t, render(t, map[string]any{"agent": map[string]any{"nodeSelector": map[string]any{"zone": "a"}, "resources": map[string]any{"limits": nil}}}), "DaemonSet vigie-system/vigie-agent"), &ds)
	pod := ds.Spec.Template.Spec
	if len(pod.NodeSelector) != 2 || pod.Containers[0].Resources.Limits != nil || pod.Containers[0].Resources.Requests == nil {
		t.Errorf("node selector %v, resources %v", pod.NodeSelector, pod.Containers[0].Resources)
	}
}

func TestPrintedIsReadAgain(t *testing.T) {
	objects := render(t, nil)
	data, err := Print(objects)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(string(data))
	if err != nil || len(again) != len(objects) {
		t.Fatalf("%d objects printed, %d read (%v)", len(objects), len(again), err)
	}
	for i := range objects {
		if nameOf(objects[i]) != nameOf(again[i]) {
			t.Errorf("%s became %s", nameOf(objects[i]), nameOf(again[i]))
		}
	}
}

// TestKindsAreThoseOfTheAPI holds that the chart has what is generated: a chart can hold copies only.
func TestKindsAreThoseOfTheAPI(t *testing.T) {
	const generated = "../../../api/crd/v1alpha1"
	chart, err := helm.Chart()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := filepath.Glob(generated + "/*.yaml")
	if err != nil || len(ours) == 0 {
		t.Fatalf("no kinds are generated (%v)", err)
	}
	copies, err := fs.Glob(chart, "kinds/*.yaml")
	if err != nil || len(copies) != len(ours) {
		t.Errorf("the chart has the kinds %v (%v), generated are %v", copies, err, ours)
	}
	for _, file := range ours {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := fs.ReadFile(chart, "kinds/"+filepath.Base(file))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the chart's %s is another (%v): cp %s deploy/helm/vigie/kinds/", filepath.Base(file), err, strings.TrimPrefix(file, "../../../"))
		}
	}
}
