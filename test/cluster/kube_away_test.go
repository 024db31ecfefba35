// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
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

// noChildren denies what the runner does again and again: it starts itself as a child, which connects.
const noChildren = `
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: no-children, namespace: default}
spec:
  selector: {matchLabels: {role: runner}}
  mode: enforce
  onDenied: kill
  onAgentExit: keep
  processes: {deny: [{path: /actor, parent: /actor}]}
`

// held are pods under policies: a friend who may connect to the web server, a stranger who may not, and a runner whose child might, if
// it may be started.
type held struct {
	cluster *lab.Cluster
	server  string
	// How often those who may not came through until policies were in force.
	strangers, runners int
}

// runnersAnd is the network policy that lets in this role and the runner, who is stopped by another one.
func runnersAnd(role string) string {
	return strings.Replace(onlyFriends, "matchLabels: {role: friend}", "matchExpressions: [{key: role, operator: In, values: ["+role+", runner]}]", 1)
}

// hold starts the pods, then puts both policies in force.
func hold(t *testing.T, c *lab.Cluster) *held {
	t.Helper()
	c.Apply(t, web)
	_, addresses := webPods(t, c)
	h := &held{cluster: c, server: addresses["n1"] + ":8080"}
	runner := strings.Replace(knocker("runner", "runner", "n1", h.server), "connect, tcp", "run, /actor, connect, tcp", 1)
	c.Apply(t, knocker("friend", "friend", "n1", h.server)+knocker("stranger", "stranger", "n1", h.server)+runner)
	for _, pod := range []string{"friend", "stranger", "runner"} {
		awaitKnocks(t, c, "n1", pod)
	}
	c.Apply(t, runnersAnd("friend")+"---"+noChildren)
	awaitSilence(t, c, "n1", "stranger")
	awaitSilence(t, c, "n1", "runner")
	h.strangers, h.runners = knocks(t, c, "n1", "stranger"), knocks(t, c, "n1", "runner")
	return h
}

// check holds that policies are in force, and have been all the time.
func (h *held) check(t *testing.T, when string) {
	t.Helper()
	awaitKnocks(t, h.cluster, "n1", "friend")
	if n := knocks(t, h.cluster, "n1", "stranger"); n != h.strangers {
		t.Errorf("%s a pod that a network policy does not allow came through %d times", when, n-h.strangers)
	}
	if n := knocks(t, h.cluster, "n1", "runner"); n != h.runners {
		t.Errorf("%s a program that a policy denies ran %d times", when, n-h.runners)
	}
}

// listed holds that the agent tells both policies, as they are in force.
func (h *held) listed(t *testing.T, a *nodeAgent) {
	t.Helper()
	out := a.output(t, "policy", "list")
	for _, name := range []string{"NetworkPolicy/default/only-friends", "default/no-children"} {
		if !regexp.MustCompile(regexp.QuoteMeta(name) + `.*\benforce\b.*\bin force\b`).MatchString(out) {
			t.Errorf("the agent does not say that %s is in force:\n%s", name, out)
		}
	}
}

// saysSince is how a status tells for how long the API server has been away.
var saysSince = regexp.MustCompile(`has not answered for (\d+m)?\d+s`)

// kinds defines vigie's own kinds of policies.
func kinds(t *testing.T, c *lab.Cluster) {
	t.Helper()
	tree, err := lab.Tree()
	if err != nil {
		t.Fatal(err)
	}
	for _, plural := range []string{"workloadpolicies", "clusterworkloadpolicies"} {
		text, err := os.ReadFile(filepath.Join(tree, "api/crd/v1alpha1/vigie.io_"+plural+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		c.Apply(t, string(text))
		c.Await(t, "True", "get", "crd", plural+".vigie.io", "-o", `jsonpath={.status.conditions[?(@.type=="Established")].status}`)
	}
}

// TestAPIServerAway cuts a node off. What runs there keeps its name and stays under its policies, also with an agent that starts
// meanwhile; a pod that starts has its own name; both agents say how things are. When the node is back, so is everything else, and what
// was changed meanwhile is in force.
func TestAPIServerAway(t *testing.T) {
	c := lab.Boot(t, lab.Options{Nodes: 1, Kubelet: "staticPodPath: /etc/kubernetes/manifests"})
	kinds(t, c)
	c.Apply(t, ticking)
	a := startAgent(t, c, "n1", "away")
	h := hold(t, c)
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
	h.check(t, "without the API server")
	// What is changed now, the node cannot know.
	c.Apply(t, runnersAnd("stranger")+"---"+strings.Replace(noChildren, "mode: enforce", "mode: audit", 1))

	for end := time.Now().Add(*away); time.Now().Before(end); {
		seen := len(a.execsOf("starts"))
		a.await(t, "the ticker to be named on", func() bool { return len(a.execsOf("starts")) > seen+3 && named(a.execsOf("starts")) })
		h.check(t, "without the API server")
	}
	if out := a.output(t, "status"); !saysSince.MatchString(out) || !strings.Contains(out, "pods are named from the last known state") {
		t.Errorf("after %v without the API server the status says\n%s", *away, out)
	}
	h.listed(t, a)

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
	h.check(t, "while the agent was replaced without the API server")
	h.listed(t, a)

	c.Link(t, "n1", true)
	a.await(t, "everything to be read again", func() bool {
		out := a.output(t, "status")
		return strings.Contains(out, "n1: followed") && !strings.Contains(out, "has not answered")
	})
	a.await(t, "the static pod to be known", func() bool { return strings.Contains(a.output(t, "pods", "-n", "starts"), "alone-n1") })
	awaitKnocks(t, c, "n1", "stranger")
	awaitKnocks(t, c, "n1", "runner")
	awaitSilence(t, c, "n1", "friend")
	c.Apply(t, runnersAnd("friend"))
	awaitSilence(t, c, "n1", "stranger")
	awaitKnocks(t, c, "n1", "friend")
}
