// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

const (
	scanObjects = 5000
	barScanCPU  = 3 * time.Second
	barScanRSS  = 150 << 20
	barScanOne  = 150 * time.Millisecond
)

// The arms of the benchmark of scans.
const (
	scanAll    = "all controls"
	scanOne    = "one control" // what reading, decoding and printing take
	scanDouble = "all controls, twice the manifests"
	scanFile   = "one file"
	scanNone   = "no scan" // the program's own start
)

// scanned is one run of `vigie scan`.
type scanned struct {
	Arm  string        `json:"arm"`
	CPU  time.Duration `json:"cpu_ns"`
	Wall time.Duration `json:"wall_ns"`
	RSS  int64         `json:"rss_bytes"` // the most
}

// scans measures whole processes, which take turns in random order.
func (b *bench) scans(ctx context.Context) error {
	many, double, one := filepath.Join(b.dir, "many.yaml"), filepath.Join(b.dir, "double.yaml"), filepath.Join(b.dir, "one.yaml")
	if err := errors.Join(writeManifests(many, scanObjects), writeManifests(double, 2*scanObjects), writeManifests(one, 4)); err != nil {
		return err
	}
	arms := []struct {
		name string
		args []string
	}{
		{scanAll, []string{"scan", many}}, {scanOne, []string{"scan", "--control", "privileged", many}}, {scanDouble, []string{"scan", double}},
		{scanFile, []string{"scan", one}}, {scanNone, []string{"version"}},
	}
	for range b.n {
		b.rng.Shuffle(len(arms), func(i, j int) { arms[i], arms[j] = arms[j], arms[i] })
		for _, arm := range arms {
			s, err := b.scanned(ctx, arm.args)
			if err != nil {
				return fmt.Errorf("%s: %w", arm.name, err)
			}
			s.Arm = arm.name
			b.results.Scans = append(b.results.Scans, s)
		}
	}
	return nil
}

func (b *bench) scanned(ctx context.Context, args []string) (scanned, error) {
	cmd := exec.CommandContext(ctx, b.agent, args...)
	began := time.Now()
	err := cmd.Run()
	s := scanned{Wall: time.Since(began)}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1 is that something was found
		return s, fmt.Errorf("run %v: %w", args, err)
	}
	s.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.RSS = usage.Maxrss << 10
	}
	return s, nil
}

// writeManifests writes n objects: of each four one workload of two containers with what stands beside it in a repository.
func writeManifests(name string, n int) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	kinds := []string{"Deployment", "StatefulSet", "Deployment", "DaemonSet"}
	for i := range n / 4 {
		fmt.Fprintf(w, application, i, kinds[i%len(kinds)], i%97, i%13)
	}
	return w.Flush()
}

// application is one of a repository; the numbers are of the application, its image and its ports.
const application = `apiVersion: apps/v1
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
      - name: app-%[1]d
        image: registry.example/web-%[3]d:1.2.3
        ports: [{containerPort: 80%[4]d, name: http}]
        env: [{name: MODE, value: fast}]
        resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 128Mi}}
        readinessProbe: {httpGet: {port: http}}
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

// scanRows are the bars of scans.
func (r *results) scanRows() []row {
	if len(r.Scans) == 0 {
		return nil
	}
	pick := func(arm string, of func(scanned) float64) float64 {
		var list []float64
		for _, s := range r.Scans {
			if s.Arm == arm {
				list = append(list, of(s))
			}
		}
		return measure.Median(list)
	}
	cpu := func(s scanned) float64 { return float64(s.CPU) }
	rss := func(s scanned) float64 { return float64(s.RSS) }
	wall := func(s scanned) float64 { return float64(s.Wall) }
	seconds := func(ns float64) string { return fmt.Sprintf("%.2f s", ns/1e9) }
	mib := func(bytes float64) string { return fmt.Sprintf("%.0f MiB", bytes/(1<<20)) }
	time5, time10, space5, space10 := pick(scanAll, cpu), pick(scanDouble, cpu), pick(scanAll, rss), pick(scanDouble, rss)
	start := pick(scanFile, wall)
	rows := []row{
		{what: fmt.Sprintf("scan: CPU of %d manifests by all controls", scanObjects), bar: "≤ " + barScanCPU.String(), measured: seconds(time5),
			verdict: verdictOf(time5, float64(barScanCPU)), bound: fmt.Sprintf("By one control, which is reading, decoding and printing, %s. %d manifests take %s, %.2f times as much.",
				seconds(pick(scanOne, cpu)), 2*scanObjects, seconds(time10), time10/time5)},
		{what: fmt.Sprintf("scan: memory of %d manifests by all controls", scanObjects), bar: "≤ " + mib(barScanRSS), measured: mib(space5),
			verdict: verdictOf(space5, barScanRSS), bound: fmt.Sprintf("The most that was resident. %d manifests take %s, the program alone %s.", 2*scanObjects, mib(space10), mib(pick(scanNone, rss)))},
		{what: "scan: one file", bar: "≤ " + barScanOne.String(), measured: fmt.Sprintf("%.0f ms by the clock, %.0f ms of CPU", start/1e6, pick(scanFile, cpu)/1e6),
			verdict: verdictOf(start, float64(barScanOne)), bound: fmt.Sprintf("The program's own start takes %.0f ms; controls are compiled when the first object of a kind needs them.", pick(scanNone, wall)/1e6)},
	}
	return slices.Clip(rows)
}

func verdictOf(measured, bar float64) string {
	if measured <= bar {
		return "met"
	}
	return fmt.Sprintf("**not met**, %.2f of the bar", measured/bar)
}
