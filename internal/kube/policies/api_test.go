// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/vigie-io/vigie/api/crd/v1alpha1"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// TestAPIServer holds that a real API server takes the kinds' definitions and policies as people write them, that what it has is
// followed, and that the status of several nodes becomes what `kubectl get` shows.
func TestAPIServer(t *testing.T) {
	c := lab.API(t, "")
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Options{Config: config, Kinds: Kinds(), Log: slog.New(slog.DiscardHandler), Again: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	defer running.Wait()
	defer cancel()
	object := func(kind, name string) (found *Object) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			list, synced := w.Objects()
			for _, o := range list {
				if synced && o.Kind == kind && o.Name == name {
					return o
				}
			}
		}
		t.Fatalf("%s %s is not followed: %v", kind, name, w.Problems())
		return nil
	}
	// What is not installed yet is found later.
	c.Apply(t, "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: closed, namespace: default}\nspec: {podSelector: {}}")
	object("NetworkPolicy", "closed")
	for _, file := range []string{"vigie.io_workloadpolicies.yaml", "vigie.io_clusterworkloadpolicies.yaml"} {
		if out, err := c.Kubectl(ctx, "apply", "-f", "../../../api/crd/v1alpha1/"+file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	c.Await(t, "True", "get", "crd", "workloadpolicies.vigie.io", "-o", `jsonpath={.status.conditions[?(@.type=="Established")].status}`)
	c.Await(t, "True", "get", "crd", "clusterworkloadpolicies.vigie.io", "-o", `jsonpath={.status.conditions[?(@.type=="Established")].status}`)
	c.Apply(t, `
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  mode: enforce
  processes: {allow: [/usr/sbin/nginx, {path: /bin/sh, by: /usr/sbin/nginx}]}
  network: {egress: {allow: [{to: {cidr: 10.0.0.0/8}, ports: [5432/tcp, 53], by: [/usr/sbin/nginx]}]}}
---
apiVersion: vigie.io/v1alpha1
kind: ClusterWorkloadPolicy
metadata: {name: shadow}
spec: {selector: {}, files: {deny: [/etc/shadow]}}
`)
	object("ClusterWorkloadPolicy", "shadow")
	web := object("WorkloadPolicy", "web")
	if got := string(web.JSON); !strings.Contains(got, `"path":"/bin/sh"`) || !strings.Contains(got, `"/usr/sbin/nginx"`) {
		t.Errorf("the API server made of it: %s", got)
	}
	for i, node := range []string{"n1", "n2", "n1"} {
		err := w.Report(ctx, web, v1alpha1.NodeStatus{Name: node, State: "in force", Mode: "enforce", Hits: int64(i + 1),
			Rules: []v1alpha1.RuleStatus{{Field: "processes.allow", Rung: "sched_process_exec", Guarantee: "killed before the first instruction", Hits: int64(i + 1)}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := c.Kubectl(ctx, "get", "workloadpolicies").CombinedOutput()
	if got := strings.Join(strings.Fields(string(out)), " "); err != nil || !strings.Contains(got, "web enforce in force 2/2 5 sched_process_exec") {
		t.Errorf("kubectl get workloadpolicies: %s, %v", out, err)
	}
	out, err = c.Kubectl(ctx, "get", "wlp", "web", "-o", "jsonpath={.status.nodes[*].name} {.status.nodes[0].rules[0].guarantee}").CombinedOutput()
	if string(out) != "n1 n2 killed before the first instruction" {
		t.Errorf("the nodes are %s, %v", out, err)
	}
	if err := w.Report(ctx, &Object{Kind: "WorkloadPolicy", Namespace: "default", Name: "gone"}, v1alpha1.NodeStatus{Name: "n1"}); err != nil {
		t.Errorf("the status of an object that is gone: %v", err)
	}
}
