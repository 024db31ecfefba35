// SPDX-License-Identifier: Apache-2.0

package install

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// answering is a cluster whose API server gives the same answer to everything.
func answering(t *testing.T, answer string) *Cluster {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a}}], clusters: [{name: a, cluster: {server: "` + s.URL + `"}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(file, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRolledOut(t *testing.T) {
	const daemonSet = `{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a", "namespace": "n", "generation": 2}, "status": `
	const deployment = `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n", "generation": 2}, "spec": {"replicas": 2}, "status": `
	for name, c := range map[string]struct {
		object string
		want   bool
	}{
		"not seen":        {daemonSet + `{}}`, false},
		"old seen":        {daemonSet + `{"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2}}`, false},
		"pods are old":    {daemonSet + `{"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberReady": 2}}`, false},
		"not ready":       {daemonSet + `{"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 1}}`, false},
		"ready":           {daemonSet + `{"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2}}`, true},
		"relay not ready": {deployment + `{"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 1}}`, false},
		"relay ready":     {deployment + `{"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2}}`, true},
	} {
		cluster := answering(t, c.object)
		asked := &unstructured.Unstructured{}
		if err := asked.UnmarshalJSON([]byte(c.object)); err != nil {
			t.Fatal(err)
		}
		o, err := cluster.get(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		if got, why := rolledOut(o); got != c.want {
			t.Errorf("%s: rolled out %v (%s), want %v", name, got, why, c.want)
		}
	}
}

func TestInstalled(t *testing.T) {
	c := answering(t, `{"items": [{"metadata": {"name": "a", "namespace": "n"}}, {"metadata": {"name": "b", "namespace": "n", "ownerReferences": [{"kind": "Service", "name": "a"}]}}]}`)
	all, err := c.installed(t.Context())
	if err != nil || len(all) != len(kinds()) {
		t.Fatalf("found %d objects (%v), want one a kind", len(all), err)
	}
	if first, last := nameOf(&all[0]), all[len(all)-1].GetKind(); first != "DaemonSet n/a" || last != "Namespace" {
		t.Errorf("what goes first is %s, last a %s", first, last)
	}
}

func TestServed(t *testing.T) {
	crd := &unstructured.Unstructured{Object: map[string]any{"kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "x"}, "spec": map[string]any{"group": "vigie.io",
		"names": map[string]any{"kind": "WorkloadPolicy", "plural": "workloadpolicies"}, "versions": []any{map[string]any{"name": "v1alpha1", "storage": false, "served": true}, map[string]any{"name": "v1", "storage": true}}}}}
	k, err := served(crd)
	if err != nil || k.String() != "vigie.io/v1, Kind=WorkloadPolicy" || k.plural != "workloadpolicies" {
		t.Errorf("served is %v %s (%v)", k, k.plural, err)
	}
}
