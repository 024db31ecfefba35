// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

func picked(t *testing.T, ids ...string) []*control.Control {
	t.Helper()
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	out, err := control.Select(all, ids)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatControlsWant(t *testing.T) {
	w, left := WantedBy(picked(t, "hpa-single-replica", "service-selects-nothing"), false)
	for group, resources := range map[string][]string{"": {"namespaces", "services", "pods", "replicationcontrollers"}, "apps": {"deployments"}, "autoscaling": {"horizontalpodautoscalers"},
		"rbac.authorization.k8s.io": {"clusterroles", "rolebindings"}} {
		for _, r := range resources {
			if len(w[schema.GroupResource{Group: group, Resource: r}]) == 0 {
				t.Errorf("%s of %q is not wanted: %v", r, group, w)
			}
		}
	}
	if len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	all, left := WantedBy(picked(t), false)
	if len(all[secrets()]) > 0 || !slices.Contains(left, "service-account-token-secret") {
		t.Errorf("secrets are wanted: %v, left %v", all[secrets()], left)
	}
	if all, left := WantedBy(picked(t), true); len(all[secrets()]) == 0 || len(left) > 0 {
		t.Errorf("secrets are not wanted: left %v", left)
	}
}

const objects = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: x, controller: true}]}
spec: {containers: [{name: a, image: b}]}
---
apiVersion: v1
kind: Pod
metadata: {name: naked, namespace: other}
spec: {containers: [{name: a, image: b}]}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden, namespace: shop}
`

// TestReadAnAPIServer reads page by page, as one who may only what the printed role allows.
func TestReadAnAPIServer(t *testing.T) {
	c := lab.API(t, "1.36", "--disable-admission-plugins=ServiceAccount")
	c.Apply(t, objects)
	admin, err := Connect(Access{Kubeconfig: c.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	if admin.Name == "" {
		t.Error("the cluster has no name")
	}
	w, _ := WantedBy(picked(t), false)
	c.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: vigie-system}\n")
	c.Apply(t, w.RBAC("vigie-scan", "vigie-system"))
	config := rest.CopyConfig(admin.Config)
	config.Impersonate.UserName = "system:serviceaccount:vigie-system:vigie-scan"
	client, err := NewClient(config, "restricted")
	if err != nil {
		t.Fatal(err)
	}
	read := func(w Wanted, o Options) (map[string]bool, *Summary) {
		t.Helper()
		found := map[string]bool{}
		s, err := client.Read(t.Context(), w, o, func(o Object) error {
			if found[o.Path] {
				t.Errorf("%s comes twice", o.Path)
			}
			found[o.Path] = o.Theirs
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found, s
	}
	found, s := read(w, Options{Page: 2})
	for path, theirs := range map[string]bool{"/api/v1/namespaces/shop/pods/web-1": true, "/api/v1/namespaces/other/pods/naked": false, "/apis/apps/v1/namespaces/shop/replicasets/web": false,
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin": true, "/api/v1/namespaces/shop": false} {
		if got, ok := found[path]; !ok || got != theirs {
			t.Errorf("%s: found %v, theirs %v, want %v", path, ok, got, theirs)
		}
	}
	if len(s.Missing) > 0 || s.Objects != len(found) {
		t.Errorf("%+v", s)
	}
	if found, _ := read(w, Options{All: true, Except: []string{"other"}}); found["/api/v1/namespaces/shop/pods/web-1"] || len(found) == 0 || hasPart(found, "/other") {
		t.Errorf("all but one namespace: %v", found)
	}
	if found, _ := read(w, Options{Namespaces: []string{"other"}}); !hasPart(found, "/other/") || hasPart(found, "/shop/") {
		t.Errorf("one namespace: %v", found)
	}
	withSecrets, _ := WantedBy(picked(t), true)
	if _, s := read(withSecrets, Options{}); len(s.Missing) != 1 || s.Missing[0].Resource != secrets() {
		t.Errorf("what is not allowed is not told: %+v", s.Missing)
	}
	enough := errors.New("enough")
	if _, err := client.Read(t.Context(), w, Options{}, func(Object) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if target, err := client.Target(); err != nil || fmt.Sprint(target) != "1.36" {
		t.Errorf("version %v %v", target, err)
	}
}

func hasPart(found map[string]bool, part string) bool {
	for path := range found {
		if strings.Contains(path, part) {
			return true
		}
	}
	return false
}

func TestCounters(t *testing.T) {
	got, err := parseCounters([]byte(`# TYPE apiserver_validating_admission_policy_check_total counter
apiserver_validating_admission_policy_check_total{enforcement_action="deny",error_type="no_error",policy="vigie-pods-deny",policy_binding="vigie-pods-deny"} 3
apiserver_validating_admission_policy_check_total{enforcement_action="deny",error_type="compile",policy="vigie-pods-deny",policy_binding="vigie-pods-deny"} 1
apiserver_validating_admission_policy_check_total{enforcement_action="audit",error_type="no_error",policy="other",policy_binding="other"} 7
`))
	if err != nil || got["vigie-pods-deny"]["deny"] != 4 || got["other"]["audit"] != 7 {
		t.Errorf("%v %v", got, err)
	}
}
