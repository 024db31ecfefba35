// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

var (
	benchNodes = flag.Int("bench-nodes", 1000, "fake nodes, with ten pods of one Deployment each")
	benchWatch = flag.Duration("bench-watch", 5*time.Minute, "for how long the agent's requests are counted when nothing happens")
)

// podsOfNode is how many pods a fake node has, all of one Deployment.
const podsOfNode = 10

// scaled is the part of the page about a large cluster.
type scaled struct {
	About       about
	Nodes, Pods int
	Policies    int

	Alone, Settled, Policed memory // without the nodes; with them; with policies, too
	Restarted               memory // of an agent that found all of it
	Known                   time.Duration
	Follow, Start, Steady   apiLoad // while the pods are made; of an agent that starts; when nothing happens
	Open                    map[string]int
}

// memory is that of a process, in bytes (proc_pid_status(5)).
type memory struct{ RSS, Anon, File, Peak uint64 }

// apiLoad is what the agent asked of the API server in a time, by verb and resource.
type apiLoad struct {
	For      time.Duration
	Requests map[string]int
	Bytes    uint64 // received
}

// auditPolicy has the API server log what agents ask of it: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:vigie-system:vigie-agent"]}
- {level: None}
`

// BenchmarkClusterScale measures an agent, installed as users install it, in a cluster of many fake nodes and pods: its memory, and what
// it asks of the API server, by the API server's own audit log.
func BenchmarkClusterScale(b *testing.B) {
	if tree, err := lab.Tree(); err == nil {
		if _, err := lab.Find(tree, lab.DefaultMinor, "kwok"); errors.Is(err, lab.ErrNotBuilt) {
			b.Skip(err)
		}
	}
	settle := min(time.Minute, *benchWatch) // until memory is what it stays
	dir := b.TempDir()
	policy, log := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o644); err != nil {
		b.Fatal(err)
	}
	c := bootWithVigie(b, lab.Options{Nodes: 1, Grace: 30 * time.Minute, APIServer: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + log,
		"--max-requests-inflight=1000", "--max-mutating-requests-inflight=1000"}})
	part := scaled{Nodes: *benchNodes, Pods: *benchNodes * podsOfNode, Policies: 1000, About: begin(b, c)}
	vigie(b, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--set", "relay.enabled=false", "--image", vigieImage)
	quiet(b, settle)
	part.Alone = agentMemory(b, c)

	kwok := exec.CommandContext(b.Context(), filepath.Join(c.Tools.Kwok, "kwok"), "--kubeconfig", c.Kubeconfig, "--config", filepath.Join(c.Tools.Kwok, "stages.yaml"),
		"--manage-all-nodes=false", "--manage-nodes-with-annotation-selector", "kwok.x-k8s.io/node=fake", "--cidr", "10.64.0.1/12", "--node-ip", "10.32.0.1",
		"--server-address", "127.0.0.1:0")
	said := new(voice)
	kwok.Stdout, kwok.Stderr = said, said
	kwok.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // it dies with the thread that starts it, and others come and go
		started <- kwok.Start()
		ended <- kwok.Wait()
	}()
	if err := <-started; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = kwok.Process.Kill()
		<-ended // killed, as asked
		if b.Failed() {
			b.Logf("kwok said:\n%s", said.String()[max(0, len(said.String())-4000):])
		}
	})
	began, before := time.Now(), received(b, c)
	send := sender(b, c)
	makeMany(b, part.Nodes, func(i int) error { return makeNode(send, i) })
	b.Logf("%d nodes and Deployments made in %v", part.Nodes, time.Since(began).Round(time.Second))
	awaitFor(b, 20*time.Minute, "all pods to run", func() bool { return countRunning(b, c) >= part.Pods })
	b.Logf("%d pods run after %v", part.Pods, time.Since(began).Round(time.Second))
	awaitKnown(b, c, part.Pods)
	part.Follow = asked(b, log, began, received(b, c)-before)

	quiet(b, settle)
	part.Settled = agentMemory(b, c)
	began, before = time.Now(), received(b, c)
	quiet(b, *benchWatch)
	part.Steady = asked(b, log, began, received(b, c)-before)
	part.Open = openWatches(b, log)

	c.Apply(b, "{apiVersion: v1, kind: Namespace, metadata: {name: others}}")
	createPolicies(b, send, benchPolicies(part.Policies, false))
	quiet(b, settle)
	part.Policed = agentMemory(b, c)

	began = time.Now()
	if out, err := c.Kubectl(b.Context(), "-n", "vigie-system", "delete", "pod", agentOf(b, c, "n1")).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	awaitKnown(b, c, part.Pods)
	part.Known = time.Since(began)
	part.Start = asked(b, log, began, received(b, c))
	quiet(b, settle)
	part.Restarted = agentMemory(b, c)
	part.About.end()
	store(b, func(r *benchResults) { r.Scale = &part })
}

// quiet lets some time pass in which nothing is asked for: what is measured behind it is a state, not a change.
func quiet(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// makeNode makes a node that kwok has live, and a Deployment whose pods are bound to it.
func makeNode(send func(method, path, kind, body string) error, i int) error {
	name, app := fmt.Sprintf("fake-%04d", i), fmt.Sprintf("service-%04d", i)
	// Without the label kubernetes.io/os no agent is meant to run there.
	err := send("POST", "/api/v1/nodes", "application/json", fmt.Sprintf(`{"metadata": {"name": %[1]q, "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
		"labels": {"kubernetes.io/hostname": %[1]q, "topology.kubernetes.io/zone": "zone-%[2]d"}}, "spec": {"podCIDR": "10.%[3]d.%[4]d.0/24", "podCIDRs": ["10.%[3]d.%[4]d.0/24"]}}`,
		name, i%3, 64+i/256, i%256))
	if err != nil {
		return err
	}
	return send("POST", "/apis/apps/v1/namespaces/default/deployments", "application/json", fmt.Sprintf(`{"metadata": {"name": %[1]q}, "spec": {"replicas": %[3]d,
		"selector": {"matchLabels": {"app.kubernetes.io/name": %[1]q}}, "template": {"metadata": {"labels": {"app.kubernetes.io/name": %[1]q, "app.kubernetes.io/instance": %[1]q,
		"app.kubernetes.io/part-of": "shop"}, "annotations": {"checksum/config": "%064[4]d"}}, "spec": {"nodeName": %[2]q, "tolerations": [{"operator": "Exists"}],
		"containers": [{"name": "main", "image": "registry.example.org/%[1]s:1.2.3", "ports": [{"name": "http", "containerPort": 8080}],
		"env": [{"name": "LONG", "value": "%0500[4]d"}], "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}}}}`, app, name, podsOfNode, i))
}

// countRunning adds up what Deployments say of their pods: all pods are long to list.
func countRunning(t testing.TB, c *lab.Cluster) (n int) {
	t.Helper()
	quiet(t, 3*time.Second)
	out, err := c.Kubectl(t.Context(), "get", "deployments", "-n", "default", "-o", "jsonpath={.items[*].status.readyReplicas}", "--chunk-size=0").Output()
	if err != nil {
		return 0
	}
	for _, ready := range strings.Fields(string(out)) {
		one, err := strconv.Atoi(ready)
		if err != nil {
			t.Fatal(err)
		}
		n += one
	}
	return n
}

// awaitKnown waits until the agent knows that many pods.
func awaitKnown(t testing.TB, c *lab.Cluster, pods int) {
	t.Helper()
	known := regexp.MustCompile(`; (\d+) pods, `)
	awaitFor(t, 5*time.Minute, "the agent to know all pods", func() bool {
		out, err := c.Kubectl(t.Context(), "-n", "vigie-system", "exec", "daemonset/vigie-agent", "--", "/vigie", "status").CombinedOutput()
		m := known.FindSubmatch(out)
		if err != nil || m == nil {
			return false
		}
		n, err := strconv.Atoi(string(m[1]))
		return err == nil && n >= pods
	})
}

func awaitFor(t testing.TB, limit time.Duration, what string, met func() bool) {
	t.Helper()
	if err := await(t.Context(), limit, what, met); err != nil {
		t.Fatal(err)
	}
}

// agentMemory is that of the agent that runs on the node n1.
func agentMemory(t testing.TB, c *lab.Cluster) (m memory) {
	t.Helper()
	procs := agentProcesses(c, "n1")
	if len(procs) != 1 {
		t.Fatalf("%d agents run on n1", len(procs))
	}
	for line := range strings.Lines(measure.SysText(fmt.Sprintf("/proc/%d/status", procs[0]))) {
		field := map[string]*uint64{"VmRSS:": &m.RSS, "RssAnon:": &m.Anon, "RssFile:": &m.File, "VmHWM:": &m.Peak}
		if f := strings.Fields(line); len(f) == 3 && field[f[0]] != nil {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				t.Fatalf("read %q: %v", line, err)
			}
			*field[f[0]] = kib << 10
		}
	}
	t.Logf("the agent's memory: %+v", m)
	return m
}

// agentProcesses are the pids of `vigie run` in the pods of a node, as this machine numbers them.
func agentProcesses(c *lab.Cluster, node string) (pids []int) {
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	for _, file := range list {
		args, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(args), "/vigie\x00run\x00") {
			continue
		}
		if !strings.Contains(measure.SysText(filepath.Join(filepath.Dir(file), "cgroup")), "lab-"+filepath.Base(c.Dir)+"-"+node) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// received is how many bytes the agent of n1 has had from the API server, by its metrics.
func received(t testing.TB, c *lab.Cluster) uint64 {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = c.Do("n1", func() error {
			conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}}}
	var text []byte
	awaitFor(t, time.Minute, "the agent's metrics", func() bool {
		answer, err := client.Get("http://127.0.0.1:9780/metrics")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		text, err = io.ReadAll(answer.Body)
		return err == nil && answer.StatusCode == http.StatusOK
	})
	for line := range bytes.Lines(text) {
		if value, ok := strings.CutPrefix(string(line), "vigie_kube_received_bytes_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return uint64(n)
		}
	}
	t.Fatal("the agent does not count what it receives from the API server")
	return 0
}

// auditEvent is what is read of an event of the audit log.
type auditEvent struct {
	Stage          string
	Verb           string
	AuditID        string
	StageTimestamp time.Time
	ObjectRef      struct{ Resource, Subresource string }
	RequestURI     string
}

func (e *auditEvent) what() string {
	resource := e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		resource += "/" + e.ObjectRef.Subresource
	}
	if resource == "" {
		resource, _, _ = strings.Cut(e.RequestURI, "?")
	}
	return e.Verb + " " + resource
}

func auditEvents(t testing.TB, file string) (all []auditEvent) {
	t.Helper()
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e auditEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("read the audit log: %v: %s", err, lines.Bytes())
		}
		all = append(all, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// asked is what agents asked of the API server since then. A watch counts when it is opened, all else when it is answered.
func asked(t testing.TB, log string, since time.Time, received uint64) apiLoad {
	t.Helper()
	l := apiLoad{For: time.Since(since), Requests: map[string]int{}, Bytes: received}
	for _, e := range auditEvents(t, log) {
		if e.StageTimestamp.After(since) && e.counts() {
			l.Requests[e.what()]++
		}
	}
	t.Logf("in %v: %v, %d bytes", l.For.Round(time.Second), l.Requests, l.Bytes)
	return l
}

func (e *auditEvent) counts() bool {
	return e.Stage == map[bool]string{true: "ResponseStarted", false: "ResponseComplete"}[e.Verb == "watch"]
}

// openWatches are those that have begun and not ended, by resource.
func openWatches(t testing.TB, log string) map[string]int {
	t.Helper()
	open := map[string]string{}
	for _, e := range auditEvents(t, log) {
		switch {
		case e.Verb != "watch":
		case e.Stage == "ResponseStarted":
			open[e.AuditID] = e.ObjectRef.Resource
		default:
			delete(open, e.AuditID)
		}
	}
	count := map[string]int{}
	for _, resource := range open {
		count[resource]++
	}
	return count
}
