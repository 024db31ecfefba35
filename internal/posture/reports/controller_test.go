// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// definition is a kind of which any fields are taken.
func definition(group, version, plural, kind, scope string) string {
	return fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[3]s.%[1]s}
spec:
  group: %[1]s
  scope: %[5]s
  names: {plural: %[3]s, singular: %[6]s, kind: %[4]s}
  versions: [{name: %[2]s, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
`, group, version, plural, kind, scope, strings.ToLower(kind))
}

const pods = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 80}]}
`

// TestControllerOnAnAPIServer follows objects and an exception through their life, in both forms of reports.
func TestControllerOnAnAPIServer(t *testing.T) {
	c := lab.API(t, "1.36", "--disable-admission-plugins=ServiceAccount")
	var definitions strings.Builder
	for _, f := range Forms() {
		definitions.WriteString(definition(f.Namespaced.Group, f.Namespaced.Version, f.Namespaced.Resource, f.NamespacedKind, "Namespaced"))
		definitions.WriteString(definition(f.Cluster.Group, f.Cluster.Version, f.Cluster.Resource, f.ClusterKind, "Cluster"))
	}
	c.Apply(t, definitions.String())
	c.Apply(t, pods)
	client, err := cluster.Connect(cluster.Access{Kubeconfig: c.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Define(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.SaveSettings(t.Context(), &admission.Settings{Controls: []string{"privileged"}, Step: admission.Audit}); err != nil {
		t.Fatal(err)
	}
	j := judge(t, "privileged", "service-selects-nothing", "namespace-pod-security")
	wanted, _ := cluster.WantedBy(j.Controls, false)
	c.Apply(t, RBAC(wanted, "vigie-admit", cluster.SettingsNamespace, true, ""))
	controller := New(Config{Client: as(t, client, "vigie-admit"), Judge: j, Wanted: wanted, Interval: 100 * time.Millisecond, Admission: true, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := controller.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(done.Wait)
	t.Cleanup(stop)
	results := func(namespace, resource, kind string) []string {
		path := fmt.Sprintf(`-o=jsonpath={range .items[?(@.scope.kind=="%s")]}{range .results[*]}{.policy}={.result} {end}{.summary.fail}{end}`, kind)
		args := []string{"get", resource, path}
		if namespace != "" {
			args = append(args, "-n", namespace)
		}
		return args
	}
	for _, f := range Forms() {
		reports, clusterReports := f.Namespaced.Resource+"."+f.Namespaced.Group, f.Cluster.Resource+"."+f.Cluster.Group
		c.Await(t, "privileged=fail 1", results("shop", reports, "Pod")...)
		c.Await(t, "service-selects-nothing=fail 1", results("shop", reports, "Service")...)
		c.Await(t, "1", "get", clusterReports, `-o=jsonpath={.items[?(@.scope.name=="shop")].summary.fail}`)
	}
	reports := "reports.openreports.io"
	c.Apply(t, strings.ReplaceAll(strings.SplitN(pods, "---\n", 2)[1], "web", "db"))
	c.Await(t, "0", results("shop", reports, "Service")...)
	c.Apply(t, "apiVersion: vigie.io/v1alpha1\nkind: PolicyException\nmetadata: {name: db}\nspec: {owner: team, reason: it must, expires: \""+
		time.Now().Add(15*time.Second).UTC().Format(time.RFC3339)+"\", controls: [privileged], names: [db]}\n")
	only := `-o=jsonpath={.items[?(@.scope.name=="db")].results[?(@.policy=="privileged")].result}`
	c.Await(t, "skip", "get", reports, "-n", "shop", only)
	c.Await(t, "Active", "get", "policyexceptions.vigie.io", "db", "-o=jsonpath={.status.state}")
	expression := `-o=jsonpath={.spec.validations[0].expression}`
	if out, err := c.Kubectl(t.Context(), "get", "validatingadmissionpolicy", "vigie-pods-audit", expression).CombinedOutput(); err != nil || !strings.Contains(string(out), "vigieGood") {
		t.Errorf("admission was not compiled: %s %v", out, err)
	}
	c.Await(t, "Expired", "get", "policyexceptions.vigie.io", "db", "-o=jsonpath={.status.state}")
	c.Await(t, "fail", "get", reports, "-n", "shop", only)
	if out, err := c.Kubectl(t.Context(), "delete", "-n", "shop", "pod", "web", "--grace-period=0", "--force").CombinedOutput(); err != nil {
		t.Fatalf("%s %v", out, err)
	}
	c.Await(t, "", "get", reports, "-n", "shop", `-o=jsonpath={.items[?(@.scope.name=="web")].metadata.name}`)
	registry := prometheus.NewRegistry()
	if err := registry.Register(controller); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
	}
	for _, name := range []string{"vigie_posture_results", "vigie_posture_objects", "vigie_posture_reports_written_total", "vigie_posture_exceptions"} {
		if !found[name] {
			t.Errorf("no metric %s", name)
		}
	}
}

// as is a client that may only what a service account may.
func as(t *testing.T, c *cluster.Client, account string) *cluster.Client {
	t.Helper()
	config := rest.CopyConfig(c.Config)
	config.Impersonate.UserName = "system:serviceaccount:" + cluster.SettingsNamespace + ":" + account
	restricted, err := cluster.NewClient(config, account)
	if err != nil {
		t.Fatal(err)
	}
	return restricted
}

// TestRBAC: rights over admission and secrets are only given when they are asked for.
func TestRBAC(t *testing.T) {
	w, _ := cluster.WantedBy(judge(t, "privileged").Controls, false)
	with, without := RBAC(w, "a", "b", true, ""), RBAC(w, "a", "b", false, "l")
	if !strings.Contains(with, "mutatingadmissionpolicies") || strings.Contains(without, "mutatingadmissionpolicies") || strings.Contains(with, "secrets") ||
		strings.Count(with, "---\n") != 2 || strings.Count(without, "---\n") != 4 || strings.Contains(with, "leases") || !strings.Contains(without, "resourceNames: [vigie-admit]\n  verbs: [get, update]") || !strings.Contains(with, exception.APIVersion[:8]) {
		t.Errorf("%s", with)
	}
}
