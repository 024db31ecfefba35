// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// keeping is a cluster with one DaemonSet. It refuses to delete: so an uninstall ends there. What it was asked is in the slice.
func keeping(t *testing.T, daemonSet string) (*Cluster, *[]string) {
	t.Helper()
	asked := new([]string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodDelete:
			*asked = append(*asked, "delete "+filepath.Base(r.URL.Path))
			http.Error(w, "interrupted", http.StatusInternalServerError)
		case r.Method == http.MethodPatch:
			*asked = append(*asked, "apply "+filepath.Base(r.URL.Path)+" "+string(body))
			_, _ = w.Write(body)
		case strings.HasSuffix(r.URL.Path, "/daemonsets"):
			_, _ = w.Write([]byte(`{"items": [` + daemonSet + `]}`))
		default:
			_, _ = w.Write([]byte(`{"items": []}`))
		}
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
	return c, asked
}

const agents = `{"metadata": {"name": "vigie-agent", "namespace": "n"}, "spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "linux"},
	"containers": [{"name": "agent", "image": "vigie:1"}]}}}}`

// An uninstall that ends before the agents are gone leaves a cleaner in the cluster, which waits.
func TestCleanerIsThereBeforeAgentsGo(t *testing.T) {
	c, asked := keeping(t, agents)
	if err := c.Uninstall(t.Context(), false); err == nil {
		t.Error("nothing could be deleted, and the uninstall is content")
	}
	if len(*asked) != 2 || !strings.HasPrefix((*asked)[0], "apply vigie-cleaner") || (*asked)[1] != "delete vigie-agent" {
		t.Fatalf("it asked %q", *asked)
	}
	for _, want := range []string{parked, "kubernetes.io/os", "vigie:1", "cleanup"} {
		if !strings.Contains((*asked)[0], want) {
			t.Errorf("the cleaner that waits has no %s: %s", want, (*asked)[0])
		}
	}
}

// The next uninstall has it work, where the agents' DaemonSet is gone already, and does not delete it before.
func TestCleanerOfAnInterruptedUninstall(t *testing.T) {
	agent := &unstructured.Unstructured{}
	if err := agent.UnmarshalJSON([]byte(strings.Replace(agents, "{", `{"apiVersion": "apps/v1", "kind": "DaemonSet", `, 1))); err != nil {
		t.Fatal(err)
	}
	waiting, err := cleanerOf(agent)
	if err == nil {
		err = unstructured.SetNestedField(waiting.Object, "true", append(selectorPath(), parked)...)
	}
	var data []byte
	if err == nil {
		waiting.Object["status"] = map[string]any{"observedGeneration": int64(1)}
		data, err = waiting.MarshalJSON()
	}
	if err != nil {
		t.Fatal(err)
	}
	c, asked := keeping(t, string(data))
	all, err := c.installed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	workloads, _ := split(all)
	cleaner, err := c.keepCleaner(t.Context(), workloads)
	if err != nil || cleaner == nil {
		t.Fatalf("the cleaner is %v, %v", cleaner, err)
	}
	if selector, _, err := unstructured.NestedStringMap(cleaner.Object, selectorPath()...); err != nil || len(selector) != 1 || selector["kubernetes.io/os"] != "linux" {
		t.Errorf("it selects %v, %v", selector, err)
	}
	if len(*asked) > 0 {
		t.Errorf("while it waits the cluster is asked %q", *asked)
	}
	// Ready cannot be read here; what matters is what is asked until then, and that nothing was deleted.
	if err := c.Uninstall(t.Context(), false); err == nil {
		t.Error("the cleaner is never ready, and the uninstall is content")
	}
	if at := slices.IndexFunc(*asked, func(s string) bool { return strings.HasPrefix(s, "delete") }); at < 1 || !strings.HasPrefix((*asked)[at-1], "apply vigie-cleaner") || strings.Contains((*asked)[at-1], parked) {
		t.Errorf("it asked %q", *asked)
	}
	if errors.Is(err, ErrPolicies) {
		t.Error(err)
	}
}
