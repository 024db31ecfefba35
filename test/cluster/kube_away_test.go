// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// away is for how long the API server is away in TestAPIServerAway; agents have to stand ten minutes.
var away = flag.Duration("away", 0, "for how long the API server is away, beside what the test takes")

// ticking does something again and again, so that there is always something to see.
const ticking = `
apiVersion: v1
kind: Namespace
metadata: {name: starts}
---
apiVersion: batch/v1
kind: Job
metadata: {name: ticker, namespace: starts}
spec:
  template:
    metadata: {labels: {app: ticker}}
    spec:
      nodeName: n1
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - {name: main, image: lab.test/actor:1, imagePullPolicy: Never, args: [every, 500ms, run, /actor, env]}
`

// static is a pod that kubelet starts without an API server.
const static = `apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: starts, labels: {app: alone}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: "lab.test/actor:1", imagePullPolicy: Never, args: [every, 500ms, run, /actor, env]}
`

// TestAPIServerAway cuts a node off. What runs there keeps its name, also for an agent that starts meanwhile; a pod that starts has
// its own; both agents say how things are. When the node is back, so is everything else.
func TestAPIServerAway(t *testing.T) {
	c := lab.Boot(t, lab.Options{Nodes: 1, Kubelet: "staticPodPath: /etc/kubernetes/manifests"})
	c.Apply(t, ticking)
	a := startAgent(t, c, "n1", "away")
	named := func(list []*sighting) bool {
		return len(list) > 0 && list[len(list)-1].Process.Workload.Controller.Name == "ticker"
	}
	a.await(t, "the ticker to be seen", func() bool { return named(a.execsOf("starts")) })

	c.Link(t, "n1", false)
	a.await(t, "the API server to be missed", func() bool {
		return strings.Contains(a.output(t, "status"), "pods are named from the last known state")
	})
	if out, err := a.vigie("status").CombinedOutput(); err != nil {
		t.Errorf("the agent is not ready because the API server is away: %v\n%s", err, out)
	}
	seen := len(a.execsOf("starts"))
	a.await(t, "the ticker to be named on", func() bool { return len(a.execsOf("starts")) > seen+3 })

	for end := time.Now().Add(*away); time.Now().Before(end); {
		seen := len(a.execsOf("starts"))
		a.await(t, "the ticker to be named on", func() bool { return len(a.execsOf("starts")) > seen+3 && named(a.execsOf("starts")) })
	}
	if out := a.output(t, "status"); !strings.Contains(out, "pods are named from the last known state") {
		t.Errorf("after %v without the API server the status says\n%s", *away, out)
	}

	// A pod of which nobody but kubelet and the runtime knows.
	manifest := filepath.Join(a.dir, "alone.yaml")
	if err := os.WriteFile(manifest, []byte(static), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Output(t, "n1", "sh", "-c", "mkdir -p /etc/kubernetes/manifests && cp "+manifest+" /etc/kubernetes/manifests/")
	alone := func(ev *sighting) bool {
		return ev.Type == "exec" && ev.Process.Workload != nil && ev.Process.Workload.Name == "alone-n1"
	}
	a.await(t, "a static pod to be seen", func() bool { return len(a.events(alone)) > 5 })
	for _, ev := range a.events(a.startsHere) {
		w := ev.Process.Workload
		if w.Namespace == "" || w.Name == w.PodUID || w.Kind != "pod" || w.Container == "" {
			t.Errorf("without its names: %s %v: %+v", ev.Process.Binary, ev.Process.Args, *w)
		}
	}

	// An agent that starts now knows what the one before knew.
	a.restart(t)
	a.await(t, "the ticker to be named by an agent that never met the API server", func() bool { return named(a.execsOf("starts")) })
	a.await(t, "the status to say what is known from when", func() bool {
		out := a.output(t, "status")
		return strings.Contains(out, "as it was known at") && strings.Contains(out, "pods are named from the state of")
	})
	if out := a.output(t, "pods", "-n", "starts"); !strings.Contains(out, "job/ticker") {
		t.Errorf("the pods that are known:\n%s", out)
	}

	c.Link(t, "n1", true)
	a.await(t, "everything to be read again", func() bool {
		out := a.output(t, "status")
		return strings.Contains(out, "n1: followed") && !strings.Contains(out, "has not answered")
	})
	a.await(t, "the static pod to be known", func() bool { return strings.Contains(a.output(t, "pods", "-n", "starts"), "alone-n1") })
}
