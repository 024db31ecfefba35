// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// benchPods are the pods that loads run between, in the namespace that policies are about, and one on each node that nobody may reach
// as soon as there are policies.
const benchPods = `
apiVersion: v1
kind: Namespace
metadata: {name: measured}
---
apiVersion: v1
kind: Namespace
metadata: {name: others}
`

// loadPod is a pod that runs loads. Without the runtime's preemption, whose signals would interrupt system calls.
func loadPod(namespace, name, node string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: %[2]s, labels: {app: load, role: %[1]s}}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "lab.test/actor:1", imagePullPolicy: Never, args: [load], env: [{name: GODEBUG, value: asyncpreemptoff=1}]}]
`, name, namespace, node)
}

// bench is a cluster of two nodes in which pods are measured.
type bench struct {
	t testing.TB
	*lab.Cluster
	addresses map[string]string // of pods, by NAMESPACE/NAME
	agents    map[string]*nodeAgent
	canaries  map[string]string // by node
}

func newBench(b testing.TB) *bench {
	vigieBinary(b) // before minutes are spent
	c := lab.Boot(b, lab.Options{Nodes: 2})
	w := &bench{t: b, Cluster: c, addresses: map[string]string{}, agents: map[string]*nodeAgent{}, canaries: map[string]string{}}
	c.Apply(b, benchPods)
	c.Apply(b, loadPod("measured", "client", "n1")+loadPod("measured", "near", "n1")+loadPod("measured", "far", "n2")+
		loadPod("others", "canary-n1", "n1")+loadPod("others", "canary-n2", "n2"))
	for _, namespace := range []string{"measured", "others"} {
		want := map[string]int{"measured": 3, "others": 2}[namespace]
		c.Await(b, strings.Repeat("true ", want), "get", "pods", "-n", namespace, "-o", `jsonpath={range .items[*]}{.status.containerStatuses[0].ready} {end}`)
		out, err := c.Kubectl(b.Context(), "get", "pods", "-n", namespace, "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{"\n"}{end}`).Output()
		if err != nil {
			b.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			f := strings.Fields(line)
			w.addresses[namespace+"/"+f[0]] = f[1]
		}
	}
	for _, n := range c.NodeNames() {
		w.canaries[n] = w.addresses["others/canary-"+n]
	}
	return w
}

// orderPort is where a pod of `actor load` takes orders.
const orderPort = "9000"

// order gives a pod an order, from its own node, which may always reach it, and returns the answer.
func (w *bench) order(node, pod, what, address string, d time.Duration) (n int, elapsed time.Duration, err error) {
	conn, err := w.dial(node, pod)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(d + 30*time.Second)); err != nil {
		return 0, 0, err
	}
	fmt.Fprintln(conn, what, address, d)
	var got struct {
		Count   int           `json:"count"`
		Elapsed time.Duration `json:"elapsed_ns"`
		Error   string        `json:"error"`
	}
	if err := json.NewDecoder(conn).Decode(&got); err != nil {
		return 0, 0, fmt.Errorf("%s has no answer for %s: %w", pod, what, err)
	}
	if got.Error != "" {
		return 0, 0, errors.New(got.Error)
	}
	return got.Count, got.Elapsed, nil
}

func (w *bench) dial(node, pod string) (conn net.Conn, err error) {
	err = w.Do(node, func() error {
		conn, err = (&net.Dialer{FallbackDelay: -1, Timeout: 5 * time.Second}).Dial("tcp", net.JoinHostPort(w.addresses[pod], orderPort))
		return err
	})
	return conn, err
}

// startAgentOf starts the agent of a node with this arm's policies, and waits until they are in force there.
func (w *bench) startAgentOf(node string, a arm) time.Duration {
	w.t.Helper()
	if !a.agent {
		w.awaitCanary(node, true)
		return 0
	}
	began := time.Now()
	agent := w.agents[node]
	if agent == nil {
		agent = newAgent(w.t, w.Cluster, node, "bench", "--quiet", "--http", "off", "--tetragon-api", "off", "--hubble-api", "off", "--max-policies", "20000")
		w.agents[node] = agent
	}
	dir := filepath.Join(agent.dir, "policies")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		w.t.Fatal(err)
	}
	if a.count > 0 {
		if err := os.WriteFile(filepath.Join(dir, "all.yaml"), []byte(strings.Join(benchPolicies(a.count, a.selected), "---\n")), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	agent.run(w.t)
	w.awaitCanary(node, a.count == 0 && !a.cluster)
	return time.Since(began)
}

// awaitCanary waits until the pod that policies close is reached, or is not any more: then the arm is what it is called.
func (w *bench) awaitCanary(node string, reached bool) {
	w.t.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		if _, _, err = w.order("n1", "measured/client", "reach", w.canaries[node]+":9001", 250*time.Millisecond); (err == nil) == reached {
			return
		}
	}
	w.t.Fatalf("the pod on %s that policies close is reached: %v, want %v (%v)", node, !reached, reached, err)
}

// stopAgents ends them, and removes what they leave for their next.
func (w *bench) stopAgents() {
	w.t.Helper()
	for node, a := range w.agents {
		if a.stop == nil {
			continue
		}
		a.stop()
		a.stop = nil
		w.Output(w.t, node, a.binary, "cleanup")
		for _, left := range []string{"history", "kube.json.zst", "kube-policies.json"} {
			if err := os.RemoveAll(filepath.Join(a.dir, left)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	end := time.Now().Add(10 * time.Second)
	for n := 1; n > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		n = 0
		for _, node := range w.NodeNames() {
			n += len(attached(w.t, w.Cgroup(w.t, node)))
		}
	}
}

// agentPID is the pid of a node's agent on this machine; 0 when it does not run.
func (a *nodeAgent) pid() int {
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0
	}
	for _, file := range list {
		args, err := os.ReadFile(file)
		if err == nil && strings.HasPrefix(string(args), a.binary+"\x00run\x00") && strings.Contains(string(args), "\x00"+a.socket()+"\x00") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err == nil {
				return pid
			}
		}
	}
	return 0
}

// cpu is what the agents that run have used so far (proc_pid_stat(5): in ticks of 10 ms).
func (w *bench) cpu() (sum time.Duration) {
	for _, a := range w.agents {
		if a.stop == nil {
			continue
		}
		stat := measure.SysText(fmt.Sprintf("/proc/%d/stat", a.pid()))
		_, after, _ := strings.Cut(stat, ") ")
		if f := strings.Fields(after); len(f) > 12 {
			for _, ticks := range f[11:13] {
				n, err := strconv.Atoi(ticks)
				if err != nil {
					w.t.Fatalf("read %q: %v", stat, err)
				}
				sum += time.Duration(n) * 10 * time.Millisecond
			}
		}
	}
	return sum
}

// benchPolicies are as many policies, each of which has peers and a port of its own. One of them allows the loads, where they are about
// the pods that are measured.
func benchPolicies(count int, selected bool) []string {
	namespace := "others"
	var list []string
	if selected {
		namespace = "measured"
		list = []string{`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: canaries, namespace: others}
spec: {podSelector: {}, policyTypes: [Ingress]}
`, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: loads, namespace: measured}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: load}}}], ports: [{port: 9001, endPort: 9003}]}]
  egress: [{to: [{podSelector: {matchLabels: {app: load}}}, {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: others}}}], ports: [{port: 9001, endPort: 9003}]}]
`}
	}
	for i := len(list); i < count; i++ {
		list = append(list, fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p%[2]d, namespace: %[1]s}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: app-%[2]d}}}, {ipBlock: {cidr: 172.%[3]d.%[4]d.0/24}}], ports: [{port: %[5]d}]}]
  egress: [{to: [{namespaceSelector: {matchLabels: {team: team-%[2]d}}}, {ipBlock: {cidr: 172.%[3]d.%[4]d.0/24}}], ports: [{port: %[5]d}]}]
`, namespace, i, 16+i/250%16, i%250, 10_000+i))
	}
	return list
}

// beats are the datagrams of a pod that came back, by when they were sent.
type beats struct {
	conn net.Conn
	sent chan time.Time
}

// beat has a pod send a datagram to another every so often.
func (w *bench) beat(node, pod, to string, pace time.Duration) *beats {
	w.t.Helper()
	conn, err := w.dial(node, pod)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	fmt.Fprintln(conn, "beat", w.addresses[to], pace)
	x := &beats{conn: conn, sent: make(chan time.Time, 1<<16)}
	go func() { // ends with the connection
		defer close(x.sent)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			if ns, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				select {
				case x.sent <- time.Unix(0, ns):
				default: // nobody looks
				}
			}
		}
	}()
	return x
}

// drain forgets those that have come.
func (x *beats) drain() {
	for {
		select {
		case <-x.sent:
		default:
			return
		}
	}
}
