// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// podStarts is how many pods TestNamedAtOnce starts; 1000 is what identity has to hold for.
var podStarts = flag.Int("pod-starts", 60, "how many pods are started to see whether each is named at once")

// reusedPods is how many pods TestReusedAddressesInTheCluster makes and deletes at once; 200 is what identity has to hold for.
var reusedPods = flag.Int("reused-pods", 60, "how many pods share few addresses, on two nodes")

// wave is how many pods run at once: a kubelet takes 110.
const wave = 60

// client is a pod that connects to the web service once.
func client(namespace, name, node string, args ...string) string {
	if len(args) == 0 {
		args = []string{"get", "http://10.96.77.7/"}
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {job: client}}
spec:
  nodeName: %s
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: lab.test/actor:1, imagePullPolicy: Never, args: ["%s"]}
`, name, namespace, node, strings.Join(args, `", "`))
}

// server is a Deployment of one pod on a node, behind a service at 10.96.77.7.
func server(node string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeName: %s
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: lab.test/actor:1, imagePullPolicy: Never, args: [serve], ports: [{containerPort: 8080, name: http}], readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.77.7, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: starts}
`, node)
}

// TestNamedAtOnce starts pods. The first program of each container, the runtime's own included, carries the names of pod and
// container; so does the first conversation, with the service's name, and at its other end, which knows the pod by address alone.
func TestNamedAtOnce(t *testing.T) {
	c := lab.Boot(t, lab.Options{Nodes: 2})
	c.Apply(t, server("n2"))
	c.Await(t, "1", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
	near, far := startAgent(t, c, "n1", "near"), startAgent(t, c, "n2", "far")

	started := make(map[string]bool)
	for first := 0; first < *podStarts; first += wave {
		var pods strings.Builder
		n := min(wave, *podStarts-first)
		for i := range n {
			name := fmt.Sprintf("client-%d", first+i)
			started[name] = true
			pods.WriteString(client("starts", name, "n1"))
		}
		c.Apply(t, pods.String())
		near.await(t, "a wave of pods to end", func() bool {
			out, err := c.Kubectl(t.Context(), "get", "pods", "-n", "starts", "-o", `jsonpath={range .items[*]}{.status.phase} {end}`).Output()
			return err == nil && strings.Count(string(out), "Succeeded") == n
		})
		if out, err := c.Kubectl(t.Context(), "delete", "pods", "-n", "starts", "--all", "--wait=true").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// Of the one kernel each agent also sees some of the other node's sockets, so the direction is looked at, too.
	of := func(a *nodeAgent, direction string) []*sighting {
		return a.events(func(ev *sighting) bool {
			return ev.Type == "flow" && ev.Flow.Direction == direction && ev.Flow.Source.Workload != nil && ev.Flow.Source.Workload.Namespace == "starts"
		})
	}
	// Each container of a pod of this node, by its cgroup: whatever the agent believes.
	programs, unnamed := 0, 0
	containers := make(map[string]map[string]bool)
	for _, ev := range near.events(near.startsHere) {
		w := ev.Process.Workload
		if !strings.HasPrefix(w.Name, "client-") {
			if w.Node == "n1" || w.Name == w.PodUID || w.Name == "" || w.Kind != "pod" {
				unnamed++
				t.Errorf("a program without its pod's name: %s %v: %+v", ev.Process.Binary, ev.Process.Args, *w)
			}
			continue
		}
		programs++
		if w.Kind != "pod" || w.Namespace != "starts" || !started[w.Name] || w.Container == "" || w.PodUID == "" || w.Node != "n1" || w.ServiceAccount != "default" || w.Labels["job"] != "client" {
			unnamed++
			t.Errorf("the program %s %v is of %+v", ev.Process.Binary, ev.Process.Args, *w)
		}
		if containers[w.Name] == nil {
			containers[w.Name] = make(map[string]bool)
		}
		containers[w.Name][w.Container] = true
	}
	for name := range started {
		if near.hasLost() {
			break
		}
		if !containers[name]["POD"] || !containers[name]["main"] {
			t.Errorf("of pod %s were seen %v", name, containers[name])
		}
	}
	t.Logf("%d pods, %d programs in them, %d without a name", len(started), programs, unnamed)

	// What was lost, on a machine that is too busy, was counted and told: it is nobody's name.
	near.await(t, "a conversation of each pod", func() bool { return near.hasLost() || len(sources(of(near, "outbound"))) == len(started) })
	// Each pod ends in a moment: how many of them the API server tells of in time depends on how busy the machine is.
	fromAfar := func(ev *sighting) bool {
		return ev.Type == "flow" && ev.Flow.Direction == "inbound" && ev.Flow.Destination.Port == 8080 && strings.HasPrefix(ev.Flow.Source.Address, "10.244.1.")
	}
	far.await(t, "a conversation of each pod, from the other end", func() bool { return far.hasLost() || len(far.events(fromAfar)) >= len(started) })
	t.Logf("from afar %d conversations, %d pods named", len(far.events(fromAfar)), len(sources(of(far, "inbound"))))
	if len(sources(of(far, "inbound"))) == 0 {
		t.Error("no pod is named from afar")
	}
	for _, ev := range of(near, "outbound") {
		if f := ev.Flow; f.Source.Workload.Container != "main" || f.Service == nil || f.Service.Name != "web" || f.Service.Namespace != "default" {
			t.Errorf("the conversation of %s: service %+v, to %s", f.Source.Workload.Name, f.Service, f.Destination.Address)
		}
	}
	for _, ev := range of(far, "inbound") {
		if w := ev.Flow.Source.Workload; !started[w.Name] || w.Node != "n1" || w.Labels["job"] != "client" {
			t.Errorf("from afar: %+v", *w)
		}
		if w := ev.Flow.Destination.Workload; w == nil || w.Controller.Kind != "Deployment" || w.Controller.Name != "web" || w.Container != "web" {
			t.Errorf("the server: %+v", w)
		}
	}
}

// sources are the names of pods that began a conversation.
func sources(list []*sighting) map[string]bool {
	names := make(map[string]bool)
	for _, ev := range list {
		names[ev.Flow.Source.Workload.Name] = true
	}
	return names
}

// TestReusedAddressesInTheCluster: pods are made and deleted at once, again and again, on nodes with few more addresses than pods, so that
// each is given to the next pod in the moment in which it is free. What the server's node says of
// a conversation, by address, is never another pod than the one whose process the client's node saw.
func TestReusedAddressesInTheCluster(t *testing.T) {
	c := lab.Boot(t, lab.Options{Nodes: 3})
	c.Apply(t, server("n3"))
	c.Await(t, "1", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
	far := startAgent(t, c, "n3", "far")
	clients := []*nodeAgent{startAgent(t, c, "n1", "near"), startAgent(t, c, "n2", "near")}
	const rounds = 3
	each := *reusedPods / 2
	for i, node := range []string{"n1", "n2"} {
		c.Output(t, node, "sed", "-i", fmt.Sprintf(`s|"subnet": "[^"]*"|&, "rangeEnd": "10.244.%d.%d"|`, i+1, each+6), "/etc/cni/net.d/10-lab.conflist")
	}
	for round := range rounds {
		var pods strings.Builder
		for i := range each {
			for _, node := range []string{"n1", "n2"} {
				pods.WriteString(client("starts", fmt.Sprintf("client-%s-%d-%d", node, round, i), node, "every", "200ms", "get", "http://10.96.77.7/"))
			}
		}
		c.Apply(t, pods.String())
		far.await(t, "all pods to run", func() bool {
			out, err := c.Kubectl(t.Context(), "get", "pods", "-n", "starts", "-o", `jsonpath={range .items[*]}{.status.phase} {end}`).Output()
			return err == nil && strings.Count(string(out), "Running") == 2*each
		})
		// All at once, and the next ones at the same moment.
		if out, err := c.Kubectl(t.Context(), "delete", "pods", "-n", "starts", "--all", "--wait=false").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	far.await(t, "all pods to go", func() bool {
		out, err := c.Kubectl(t.Context(), "get", "pods", "-n", "starts", "-o", "name").Output()
		return err == nil && len(out) == 0
	})

	// By the client's address and port, and when.
	type conversation struct {
		name string
		at   time.Time
	}
	truth := make(map[string][]conversation)
	key := func(e *end) string { return fmt.Sprintf("%s:%d", e.Address, e.Port) }
	for _, a := range clients {
		for _, ev := range a.events(func(ev *sighting) bool {
			return ev.Type == "flow" && ev.Flow.Source.Workload != nil && ev.Flow.Direction != "inbound"
		}) {
			k := key(&ev.Flow.Source)
			truth[k] = append(truth[k], conversation{ev.Flow.Source.Workload.Name, ev.Time})
		}
	}
	addresses, right, unknown, wrong := make(map[string]map[string]bool), 0, 0, 0
	for _, ev := range far.events(func(ev *sighting) bool {
		return ev.Type == "flow" && ev.Flow.Destination.Port == 8080 && ev.Flow.Direction == "inbound"
	}) {
		k := key(&ev.Flow.Source)
		var is string
		for _, one := range truth[k] {
			if ev.Time.Sub(one.at).Abs() < 10*time.Second {
				is = one.name
			}
		}
		if is == "" {
			continue // a probe, or one that its own node has not told
		}
		if addresses[ev.Flow.Source.Address] == nil {
			addresses[ev.Flow.Source.Address] = make(map[string]bool)
		}
		addresses[ev.Flow.Source.Address][is] = true
		switch w := ev.Flow.Source.Workload; {
		case w == nil:
			unknown++
		case w.Name == is:
			right++
		default:
			wrong++
			t.Errorf("a conversation of %s from %s is said to be of %s", is, k, w.Name)
		}
	}
	reused := 0
	for _, names := range addresses {
		if len(names) > 1 {
			reused++
		}
	}
	t.Logf("%d conversations named rightly, %d not named, %d wrongly; %d of %d addresses had several pods", right, unknown, wrong, reused, len(addresses))
	if right == 0 || reused == 0 || unknown > right {
		t.Errorf("too little was seen: %d right, %d unknown, %d reused addresses", right, unknown, reused)
	}
}
