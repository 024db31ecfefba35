// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// TestNoExpressionCostsMoreThanItsBound counts what every expression of every control costs, on all examples.
func TestNoExpressionCostsMoreThanItsBound(t *testing.T) {
	controls, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	_, newest := engine.Supported()
	j, err := scan.NewJudge(controls, newest, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	engine.OnCost(t, func(text string, bound float64, cost uint64) {
		seen[text] = true
		if float64(cost) > bound {
			t.Errorf("cost %d, bound %.0f: %s", cost, bound, text)
		}
	})
	if _, err := j.Try(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(seen) < 250 {
		t.Errorf("only %d expressions were evaluated", len(seen))
	}
}

// TestNoExpressionCostsMoreThanItsBoundOnLongLists has lists in lists that are as long as the bound takes them to be.
func TestNoExpressionCostsMoreThanItsBoundOnLongLists(t *testing.T) {
	long := func(n int, make func(i int) string) string {
		parts := []string{}
		for i := range n {
			parts = append(parts, make(i))
		}
		return strings.Join(parts, ", ")
	}
	text := func(i int) string { return fmt.Sprintf("%q", strings.Repeat("x", 40)+fmt.Sprint(i)) }
	const n = 24
	list := long(n, text)
	container := func(i int) string {
		env := long(n, func(i int) string { return "{name: " + text(i) + ", value: " + text(i) + "}" })
		mounts := long(n, func(i int) string { return "{name: v" + fmt.Sprint(i) + ", mountPath: /" + fmt.Sprint(i) + "}" })
		ports := long(n, func(i int) string { return fmt.Sprintf("{name: p%d, containerPort: %d, hostPort: %d}", i, i+1, i+1) })
		claims := long(n, func(i int) string { return fmt.Sprintf("{name: c%d}", i) })
		return fmt.Sprintf("{name: c%d, image: %s, command: [%s], args: [%s], env: [%s], volumeMounts: [%s], ports: [%s], resources: {claims: [%s]}, securityContext: {capabilities: {add: [%s], drop: [%s]}}}",
			i, text(i), list, list, env, mounts, ports, claims, list, list)
	}
	spec := fmt.Sprintf("{containers: [%s], initContainers: [%s], volumes: [%s], resourceClaims: [%s]}", long(n, container), long(n, func(i int) string { return container(i + n) }),
		long(n, func(i int) string { return fmt.Sprintf("{name: v%d, persistentVolumeClaim: {claimName: d%d}}", i, i) }), long(n, func(i int) string { return fmt.Sprintf("{name: r%d}", i) }))
	labels := long(n, func(i int) string { return fmt.Sprintf("l%d: %s", i, text(i)) })
	docs := []string{
		"{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {" + labels + "}}, spec: " + spec + "}",
		"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: shop}, spec: {replicas: 2, selector: {matchLabels: {" + labels + "}}, template: {metadata: {labels: {" + labels + "}}, spec: " + spec + "}}}",
		"{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a, namespace: shop}, rules: [" + long(n, func(int) string {
			return "{apiGroups: [" + list + "], resources: [" + list + "], verbs: [" + list + "]}"
		}) + "]}",
	}
	for i := range n {
		docs = append(docs, fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: s%d, namespace: shop}, spec: {selector: {%s}, ports: [%s]}}", i, labels, long(n, func(i int) string { return fmt.Sprintf("{name: p%d, port: %d, targetPort: p%d}", i, i+1, i) })),
			fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b%d, namespace: shop}, roleRef: {kind: Role, name: a, apiGroup: rbac.authorization.k8s.io}, subjects: [%s]}", i, long(n, func(i int) string { return fmt.Sprintf("{kind: ServiceAccount, name: s%d, namespace: shop}", i) })))
	}
	controls, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	_, newest := engine.Supported()
	j, err := scan.NewJudge(controls, newest, nil)
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Int64
	engine.OnCost(t, func(text string, bound float64, cost uint64) {
		told.Add(1)
		if float64(cost) > bound {
			t.Errorf("cost %d, bound %.0f: %s", cost, bound, text)
		}
	})
	r, err := j.Run(t.Context(), []string{scan.Stdin}, strings.NewReader(strings.Join(docs, "\n---\n")))
	if err != nil {
		t.Fatal(err)
	}
	if r.Objects != len(docs) || told.Load() < 500 {
		t.Errorf("%d objects, %d expressions, problems: %v", r.Objects, told.Load(), r.Problems)
	}
}
