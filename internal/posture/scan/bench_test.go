// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/posture/engine"
)

// shop is one application: a workload of two containers, and what stands beside it in a repository.
const shop = `apiVersion: apps/v1
kind: %[2]s
metadata:
  name: web-%[1]d
  namespace: shop
  labels: {app.kubernetes.io/name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web-%[1]d}}
  template:
    metadata: {labels: {app: web-%[1]d}}
    spec:
      serviceAccountName: web
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: app
        image: registry.example/web:1.2.3
        ports: [{containerPort: 8080, name: http}]
        env: [{name: MODE, value: fast}]
        resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 128Mi}}
        readinessProbe: {httpGet: {port: 8080}}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      - name: metrics
        image: registry.example/metrics:1
        resources: {requests: {cpu: 10m, memory: 16Mi}}
      volumes: [{name: tmp, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: web-%[1]d, namespace: shop}
spec: {selector: {app: web-%[1]d}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-%[1]d, namespace: shop}
data: {mode: fast}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: web-%[1]d, namespace: shop}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}, {apiGroups: [apps], resources: [deployments], verbs: [list]}]
---
`

// manifests is a stream of n objects.
func manifests(n int) io.Reader {
	kinds := []string{"Deployment", "StatefulSet", "Deployment", "DaemonSet"}
	var b strings.Builder
	for i := range n / 4 {
		fmt.Fprintf(&b, shop, i, kinds[i%len(kinds)])
	}
	return strings.NewReader(b.String())
}

// BenchmarkScan is a scan of 5,000 manifests by all controls, from bytes to a report.
func BenchmarkScan(b *testing.B) {
	_, newest := engine.Supported()
	j := defaultJudge(b, newest)
	b.ReportAllocs()
	before := cpu(b)
	defer func() { b.ReportMetric((cpu(b)-before).Seconds()/float64(b.N), "cpu-s/op") }()
	for b.Loop() {
		r, err := j.Run(b.Context(), []string{Stdin}, manifests(5000))
		if err != nil {
			b.Fatal(err)
		}
		if r.Objects != 5000 || r.Incomplete() {
			b.Fatalf("%d objects, problems: %v", r.Objects, r.Problems)
		}
	}
}

// cpu is what the process has used so far.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStart is what a scan of one file costs before and beside the file: controls, environment, programs of one kind.
func BenchmarkStart(b *testing.B) {
	_, newest := engine.Supported()
	for b.Loop() {
		if _, err := defaultJudge(b, newest).Run(b.Context(), []string{Stdin}, manifests(4)); err != nil {
			b.Fatal(err)
		}
	}
}
