// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// talkers are a server on each node behind a service, and on the first node one who may talk to it and one who may not.
const talkers = web + `
---
apiVersion: v1
kind: Pod
metadata: {name: friend, namespace: default, labels: {role: friend}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "lab.test/actor:1", imagePullPolicy: Never, args: [serve]}]
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: default, labels: {role: stranger}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "lab.test/actor:1", imagePullPolicy: Never, args: [serve]}]
`

const onlyFriends = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-friends, namespace: default}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}], ports: [{port: http}]}]
`

const onlyWeb = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-web, namespace: default}
spec:
  podSelector: {matchLabels: {role: friend}}
  policyTypes: [Egress]
  egress:
  - {to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}]}
  - {to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}], ports: [{port: 53, protocol: UDP}]}
`

// reaches polls until a pod reaches an address, or does not any more.
func reaches(t *testing.T, c *lab.Cluster, pod, address string, want bool) {
	t.Helper()
	var out []byte
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var err error
		if out, err = c.Kubectl(t.Context(), "exec", pod, "--", "/actor", "connect", "tcp", address).CombinedOutput(); (err == nil) == want {
			return
		}
	}
	t.Errorf("%s reaches %s: %v, want %v (%s)", pod, address, !want, want, out)
}

// TestNetworkPolicies holds that NetworkPolicies are in force on all nodes, for pods and services, from a pod's first packet on,
// and while the agent is replaced.
func TestNetworkPolicies(t *testing.T) {
	for _, o := range []lab.Options{{Nodes: 2, DNS: true, CNI: "ptp"}, {Nodes: 2, CNI: "bridge", Proxy: "nftables"}} {
		t.Run(o.CNI+o.Proxy, func(t *testing.T) {
			c := bootWithVigie(t, o)
			vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--set", "relay.enabled=false", "--image", vigieImage)
			c.Apply(t, talkers)
			_, addresses := webPods(t, c)
			c.Await(t, "true true", "get", "pods", "friend", "stranger", "-o", `jsonpath={.items[*].status.containerStatuses[0].ready}`)
			service, err := c.Kubectl(t.Context(), "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}").Output()
			if err != nil {
				t.Fatal(err)
			}
			targets := []string{addresses["n1"] + ":8080", addresses["n2"] + ":8080", string(service) + ":80"}
			for _, to := range targets {
				reaches(t, c, "stranger", to, true)
			}
			c.Apply(t, onlyFriends)
			for _, to := range targets {
				reaches(t, c, "stranger", to, false)
				reaches(t, c, "friend", to, true)
			}
			c.Apply(t, onlyWeb)
			stranger, err := c.Kubectl(t.Context(), "get", "pod", "stranger", "-o", "jsonpath={.status.podIP}").Output()
			if err != nil {
				t.Fatal(err)
			}
			reaches(t, c, "friend", string(stranger)+":8080", false)
			for _, to := range targets {
				reaches(t, c, "friend", to, true)
			}
			if o.DNS {
				if out := in(t, c, "friend", "dns", "web.default.svc.cluster.local"); !strings.Contains(out, string(service)) {
					t.Errorf("the friend resolves the service to %s", out)
				}
			}
			awaitEvent(t, c, "n1", "the verdict on the stranger", func(e event) bool {
				return e.Type == "verdict" && e.Verdict.Policy == "NetworkPolicy/default/only-friends" && e.Verdict.Action == "denied"
			}, "--type", "verdict")
			// The kubelet's probes come in all the while.
			webPods(t, c)
			workloadPolicies(t, c)
			firstPackets(t, c, targets[1])
			replaced(t, c, targets)
		})
	}
}

// workloadPolicies holds that vigie's own kinds are in force as objects, and that their status says so for all nodes.
func workloadPolicies(t *testing.T, c *lab.Cluster) {
	c.Apply(t, `
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: web, namespace: default}
spec: {selector: {matchLabels: {app: web}}, mode: audit, network: {egress: {allow: []}}}
---
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: wrong, namespace: default}
spec: {selector: {}, mode: audit, files: {deny: [no-path]}}
`)
	c.Await(t, fmt.Sprintf("in force %d/%[1]d", c.Nodes), "get", "workloadpolicy", "web", "-o", "jsonpath={.status.state} {.status.inForce}")
	c.Await(t, fmt.Sprintf("failed 0/%d", c.Nodes), "get", "workloadpolicy", "wrong", "-o", "jsonpath={.status.state} {.status.inForce}")
	out, err := c.Kubectl(t.Context(), "get", "workloadpolicies").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "cgroup connect4/6") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := c.Kubectl(t.Context(), "delete", "workloadpolicies", "--all").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// firstPackets holds that pods which may not talk do not from their first packet on.
func firstPackets(t *testing.T, c *lab.Cluster, to string) {
	c.Apply(t, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: silent, namespace: default}
spec: {podSelector: {matchLabels: {role: silent}}, policyTypes: [Egress]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: silent, namespace: default}
spec:
  completions: 6
  parallelism: 3
  completionMode: Indexed
  backoffLimitPerIndex: 0
  template:
    metadata: {labels: {role: silent}}
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "lab.test/actor:1", imagePullPolicy: Never, args: [connect, tcp, "`+to+`"]}]
`)
	c.Await(t, "6", "get", "job", "silent", "-o", "jsonpath={.status.failed}")
	if out, err := c.Kubectl(t.Context(), "get", "job", "silent", "-o", "jsonpath={.status.succeeded}").Output(); err != nil || string(out) != "" {
		t.Errorf("%s of the pods that may not talk did, %v", out, err)
	}
}

// replaced holds that there is no moment without policies while the agent of a node is replaced.
func replaced(t *testing.T, c *lab.Cluster, targets []string) {
	containers := make([]string, 6) // each waits for an answer for some seconds
	for i := range containers {
		containers[i] = fmt.Sprintf(`{name: c%d, image: "lab.test/actor:1", imagePullPolicy: Never, args: [every, 20ms, connect, %s, "%s"]}`, i, []string{"tcp", "udp"}[i%2], targets[0])
	}
	c.Apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: knocking, namespace: default, labels: {role: stranger}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers: [`+strings.Join(containers, ", ")+`]
`)
	c.Await(t, strings.TrimSpace(strings.Repeat("true ", len(containers))), "get", "pod", "knocking", "-o", `jsonpath={.status.containerStatuses[*].ready}`)
	before := agentOf(t, c, "n1")
	if out, err := c.Kubectl(t.Context(), "-n", "vigie-system", "delete", "pod", before).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.Await(t, "2", "-n", "vigie-system", "get", "daemonset", "vigie-agent", "-o", "jsonpath={.status.numberReady}")
	for _, to := range targets {
		reaches(t, c, "stranger", to, false)
		reaches(t, c, "friend", to, true)
	}
	out, err := c.Kubectl(t.Context(), "logs", "knocking", "--all-containers").CombinedOutput()
	if err != nil || strings.Contains(string(out), "ok") {
		t.Errorf("while the agent was replaced somebody came through: %v\n%s", err, out)
	}
}
