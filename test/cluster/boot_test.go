// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// web is a pod on each node behind a service, with each kind of probe.
const web = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: lab.test/actor:1
        imagePullPolicy: Never
        args: [serve]
        ports: [{containerPort: 8080, name: http}]
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
        livenessProbe: {exec: {command: [/actor, get, "http://127.0.0.1:8080/healthz"]}, periodSeconds: 5}
        startupProbe: {tcpSocket: {port: http}, periodSeconds: 1}
        securityContext: {runAsNonRoot: true, runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
`

// webPods waits until the pods of web are ready and returns their names and addresses by node.
func webPods(t testing.TB, c *lab.Cluster) (names, addresses map[string]string) {
	t.Helper()
	c.Await(t, strings.Repeat("true ", c.Nodes), "get", "pods", "-l", "app=web", "-o", `jsonpath={range .items[*]}{.status.containerStatuses[0].ready} {end}`)
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ NodeName string }
			Status   struct{ PodIP string }
		}
	}
	out, err := c.Kubectl(t.Context(), "get", "pods", "-l", "app=web", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	names, addresses = map[string]string{}, map[string]string{}
	for _, p := range list.Items {
		names[p.Spec.NodeName], addresses[p.Spec.NodeName] = p.Metadata.Name, p.Status.PodIP
	}
	return names, addresses
}

// in runs the actor in a pod.
func in(t testing.TB, c *lab.Cluster, pod string, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), append([]string{"exec", pod, "--", "/actor"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("in %s: %v: %v: %s", pod, args, err, out)
	}
	return string(out)
}

func TestPodsTalk(t *testing.T) {
	for _, o := range []lab.Options{
		{Nodes: 2, DNS: true, CNI: "ptp", Proxy: "iptables"},
		{Nodes: 2, DNS: true, CNI: "bridge", Proxy: "nftables"},
		{Nodes: 2, DNS: true, CNI: "bridge", Proxy: "iptables", Minor: "1.35"},
	} {
		t.Run(o.CNI+" "+o.Proxy+o.Minor, func(t *testing.T) {
			c := lab.Boot(t, o)
			version, err := c.Kubectl(t.Context(), "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}").Output()
			if err != nil || strings.Count(string(version), "v"+c.Minor+".") != o.Nodes {
				t.Errorf("the nodes run %s (%v), want %s", version, err, c.Minor)
			}
			c.Apply(t, web)
			names, addresses := webPods(t, c)
			for from := range names {
				for to, address := range addresses {
					if out := in(t, c, names[from], "get", "http://"+address+":8080/"); !strings.HasPrefix(out, names[to]+" saw ") {
						t.Errorf("the pod of %s reaches on %s: %s", from, to, out)
					}
				}
				if out := in(t, c, names[from], "get", "http://web.default.svc.cluster.local/"); !strings.Contains(out, " saw ") {
					t.Errorf("the service says %s", out)
				}
			}
			if out, err := c.Kubectl(t.Context(), "logs", names["n1"]).CombinedOutput(); err != nil || !strings.Contains(string(out), "listens at :8080") {
				t.Errorf("logs: %s, %v", out, err)
			}
		})
	}
}

func TestNodesDieAndReturn(t *testing.T) {
	c := lab.Boot(t, lab.Options{Nodes: 2, Grace: 5 * time.Second})
	ready := func(node, want string) {
		t.Helper()
		c.Await(t, want, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	}
	c.Apply(t, web)
	webPods(t, c)

	c.Kill(t, "n2")
	ready("n2", "Unknown")
	ready("n1", "True")
	c.Start(t, "n2")
	ready("n2", "True")
	reached(t, c)

	c.Link(t, "n2", false)
	ready("n2", "Unknown")
	c.Link(t, "n2", true)
	ready("n2", "True")
	reached(t, c)
}

// reached waits until the pod of n1 reaches that of n2. What the API server says of a node that was away is old for a while.
func reached(t testing.TB, c *lab.Cluster) {
	t.Helper()
	var out []byte
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		names, addresses := webPods(t, c)
		var err error
		if out, err = c.Kubectl(t.Context(), "exec", names["n1"], "--", "/actor", "get", "http://"+addresses["n2"]+":8080/").CombinedOutput(); err == nil && strings.HasPrefix(string(out), names["n2"]) {
			return
		}
	}
	t.Fatalf("the pod of n1 does not reach that of n2: %s", out)
}

func TestTwoClustersAtOnce(t *testing.T) {
	for _, name := range []string{"one", "other"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := lab.Boot(t, lab.Options{})
			c.Apply(t, web)
			names, _ := webPods(t, c)
			conn, err := c.Dial(t.Context(), "tcp", "10.89.0.1:6443")
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if out := in(t, c, names["n1"], "cat", "/proc/self/cgroup"); !strings.Contains(out, "kubepods") {
				t.Errorf("the pod's cgroups are\n%s", out)
			}
		})
	}
}

func TestAPIServerAlone(t *testing.T) {
	for _, minor := range lab.Minors() {
		t.Run(minor, func(t *testing.T) {
			c := lab.API(t, minor)
			c.Apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
			out, err := c.Kubectl(t.Context(), "get", "--raw", "/version").Output()
			if err != nil || !strings.Contains(string(out), `"gitVersion": "v`+minor+".") {
				t.Errorf("the API server says (%v)\n%s", err, out)
			}
		})
	}
}
