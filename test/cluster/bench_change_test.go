// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

var benchChanges = flag.Int("bench-changes", 20, "changes of a policy that are timed")

// changed is the part of the page about changes of policies.
type changed struct {
	About    about
	Policies int // that the cluster has beside the one that changes
	Changes  []change
}

// change is one change of a policy, from when the request to the API server began.
type change struct {
	Deny     bool                     `json:"deny"` // or what was denied is allowed again
	Answered time.Duration            `json:"answered_ns"`
	Nodes    map[string]time.Duration `json:"nodes"` // until it was in force there
}

// all is when it was in force on all nodes.
func (c *change) all() (most time.Duration) {
	for _, d := range c.Nodes {
		most = max(most, d)
	}
	return most
}

// beatPace is how exactly a change is seen.
const beatPace = 2 * time.Millisecond

// BenchmarkClusterChange measures how long a change of a policy takes until it is in force on all nodes, in a cluster that has 5,000:
// from the request to the API server to the first datagram, of a pod on each node, that is treated otherwise.
func BenchmarkClusterChange(b *testing.B) {
	w := newBench(b)
	w.Apply(b, "{apiVersion: v1, kind: Namespace, metadata: {name: probes}}\n"+loadPod("probes", "probe-n1", "n1")+loadPod("probes", "probe-n2", "n2"))
	w.Await(b, "true true", "get", "pods", "-n", "probes", "-o", `jsonpath={range .items[*]}{.status.containerStatuses[0].ready} {end}`)
	out, err := w.Kubectl(b.Context(), "get", "pods", "-n", "probes", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{"\n"}{end}`).Output()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		w.addresses["probes/"+f[0]] = f[1]
	}
	part := changed{Policies: 5000}
	part.About = begin(b, w.Cluster)
	send := sender(b, w.Cluster)
	createPolicies(b, send, benchPolicies(part.Policies, false))
	const path = "/apis/networking.k8s.io/v1/namespaces/probes/networkpolicies"
	if err := send("POST", path, "application/json", `{"metadata": {"name": "probe"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}}`); err != nil {
		b.Fatal(err)
	}
	probes := map[string]*beats{}
	for _, node := range w.NodeNames() {
		w.startAgentOf(node, arm{name: armWatching, agent: true, cluster: true})
		probes[node] = w.beat(node, "probes/probe-"+node, "measured/near", beatPace)
	}
	for i := range 2 * *benchChanges {
		c := change{Deny: i%2 == 0, Nodes: map[string]time.Duration{}}
		egress := map[bool]string{true: "[]", false: "[{}]"}[c.Deny]
		quiet(b, 500*time.Millisecond) // the one before is over, also where its status is written
		for _, p := range probes {
			p.drain()
		}
		began := time.Now()
		if err := send("PATCH", path+"/probe", "application/merge-patch+json", `{"spec": {"egress": `+egress+`}}`); err != nil {
			b.Fatal(err)
		}
		c.Answered = time.Since(began)
		for node, p := range probes {
			at, ok := p.turned(began, c.Deny)
			if !ok {
				b.Fatalf("change %d, deny %v: nothing changed on %s", i, c.Deny, node)
			}
			c.Nodes[node] = at
		}
		b.Logf("deny %v: answered after %v, in force after %v", c.Deny, c.Answered.Round(time.Millisecond), c.Nodes)
		part.Changes = append(part.Changes, c)
	}
	part.About.end()
	store(b, func(r *benchResults) { r.Change = &part })
}

// turned is how long after began datagrams were treated otherwise: when the last was sent that came back, or the first. None for a
// second means that none will.
func (x *beats) turned(began time.Time, deny bool) (after time.Duration, ok bool) {
	deadline := time.After(time.Minute)
	silent := time.NewTimer(time.Second)
	defer silent.Stop()
	var last time.Time
	for {
		select {
		case sent, open := <-x.sent:
			switch {
			case !open:
				return 0, false
			case deny:
				last = sent
				silent.Reset(time.Second)
			case sent.After(began):
				return sent.Sub(began), true
			}
		case <-silent.C:
			if deny {
				return max(last.Sub(began), 0), true
			}
		case <-deadline:
			return 0, false
		}
	}
}

// createPolicies makes them in the API server.
func createPolicies(t testing.TB, send func(method, path, kind, body string) error, list []string) {
	t.Helper()
	makeMany(t, len(list), func(i int) error {
		var o struct {
			Metadata struct{ Namespace string }
		}
		data, err := yaml.YAMLToJSON([]byte(list[i]))
		if err == nil {
			err = json.Unmarshal(data, &o)
		}
		if err != nil {
			return fmt.Errorf("policy %d: %w", i, err)
		}
		return send("POST", "/apis/networking.k8s.io/v1/namespaces/"+o.Metadata.Namespace+"/networkpolicies", "application/json", string(data))
	})
}

// kubernetesVersion is what the API server says it is.
func kubernetesVersion(t testing.TB, c *lab.Cluster) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), "version", "-o", "json").Output()
	var v struct {
		ServerVersion struct{ GitVersion string }
	}
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	if err != nil {
		t.Fatalf("ask for the version: %v: %s", err, out)
	}
	return v.ServerVersion.GitVersion
}
