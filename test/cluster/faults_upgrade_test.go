// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// replaceAgent has one node's agent run from another image; the other nodes keep theirs.
func replaceAgent(t testing.TB, c *lab.Cluster, node, image string) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}, "template": {"spec": {"containers": [{"name": "agent", "image": %q}]}}}}`, image)
	if out, err := c.Kubectl(t.Context(), "-n", "vigie-system", "patch", "daemonset", "vigie-agent", "-p", patch).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	old := agentOf(t, c, node)
	if out, err := c.Kubectl(t.Context(), "-n", "vigie-system", "delete", "pod", old).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// nodeLine is what the relay's status says of a node: its name, state, since when, version, clock, and so on.
func nodeLine(said, node string) []string {
	for line := range strings.Lines(said) {
		if f := strings.Fields(line); len(f) > 4 && f[0] == node {
			return f
		}
	}
	return nil
}

// awaitVersions waits until the relay says that these are the versions of the nodes' agents.
func awaitVersions(t testing.TB, c *lab.Cluster, want map[string]string) {
	t.Helper()
	said := ""
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		said = ask(t, c, "status")
		right := true
		for node, version := range want {
			line := nodeLine(said, node)
			right = right && line != nil && line[1] == "connected" && line[3] == version
		}
		if right {
			return
		}
	}
	t.Fatalf("the versions do not come to be %v, but\n%s", want, said)
}

// pinsOf are the network policies that agents keep pinned on a node, one folder an agent.
func pinsOf(t testing.TB, c *lab.Cluster, node string) []string {
	t.Helper()
	return strings.Fields(c.Output(t, node, "sh", "-c", "ls -d /sys/fs/bpf/vigie/*-pods/agent-* 2>/dev/null; true"))
}

// While an upgrade is under way one node has the new version and one the old. Both are in the relay's streams, nothing of what the one that
// is replaced missed is lost, and policies hold: what the old one left pinned the new one takes over, and removes.
func TestTwoVersions(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 2}, nextImage)
	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--image", vigieImage)
	awaitVersions(t, c, map[string]string{"n1": "1", "n2": "1"})
	c.Apply(t, web)
	_, addresses := webPods(t, c)
	c.Apply(t, onlyFriends)
	for i, node := range c.NodeNames() {
		// A server's own node judges what comes in: each is asked from the other node.
		other := c.NodeNames()[1-i]
		c.Apply(t, knocker("friend-"+node, "friend", node, addresses[other]+":8080")+knocker("stranger-"+node, "stranger", node, addresses[other]+":8080"))
	}
	for _, node := range c.NodeNames() {
		c.Await(t, "true true", "get", "pods", "friend-"+node, "stranger-"+node, "-o", `jsonpath={.items[*].status.containerStatuses[0].ready}`)
		awaitKnocks(t, c, node, "friend-"+node)
		awaitSilence(t, c, node, "stranger-"+node)
	}
	strangers := map[string]int{}
	for _, node := range c.NodeNames() {
		strangers[node] = knocks(t, c, node, "stranger-"+node)
	}
	before := pinsOf(t, c, "n2")
	if len(before) != 1 {
		t.Errorf("the agent of n2 has pinned %v", before)
	}

	events := follow(t, c)
	replaceAgent(t, c, "n2", nextImage)
	meanwhile := mark(t, c, "n2", "meanwhile") // nobody reads the rings now
	awaitVersions(t, c, map[string]string{"n1": "1", "n2": "2"})
	events.await(t, "n2", meanwhile)
	if _, twice := events.has("n2", meanwhile); twice {
		t.Error("what happened while the agent was replaced came twice")
	}
	for _, node := range c.NodeNames() {
		events.await(t, node, mark(t, c, node, "of both versions"))
		awaitKnocks(t, c, node, "friend-"+node)
	}
	awaitFor(t, time.Minute, "the new agent to have taken over what the old one left", func() bool {
		now := pinsOf(t, c, "n2")
		return len(now) == 1 && !slices.Contains(before, now[0])
	})
	workloadPolicies(t, c)
	c.Apply(t, strings.Replace(onlyFriends, "role: friend", "role: nobody", 1))
	for _, node := range c.NodeNames() {
		awaitSilence(t, c, node, "friend-"+node)
	}

	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--image", nextImage)
	awaitVersions(t, c, map[string]string{"n1": "2", "n2": "2"})
	for _, node := range c.NodeNames() {
		events.await(t, node, mark(t, c, node, "of the new version"))
		if n := knocks(t, c, node, "stranger-"+node); n != strangers[node] {
			t.Errorf("from %s a pod that may not came through %d times during the upgrade", node, n-strangers[node])
		}
	}
}

// An uninstall that is killed, wherever it is, is completed by the next: nothing stays in the cluster, nor on nodes.
func TestUninstallInterrupted(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 2})
	c.Apply(t, web)
	webPods(t, c)
	for _, n := range c.NodeNames() {
		c.Output(t, n, "rm", "-rf", "/var/lib/vigie") // the node sees what this machine's agents left in its own
	}
	before := traces(t, c)
	there := func(args ...string) bool {
		out, err := c.Kubectl(t.Context(), append([]string{"get", "--ignore-not-found", "-o", "name"}, args...)...).Output()
		return err == nil && len(out) > 0
	}
	const inSystem = "--namespace=vigie-system"
	for what, reached := range map[string]func() bool{
		"agents go":         func() bool { return there(inSystem, "daemonset", "vigie-cleaner") },
		"agents are gone":   func() bool { return !there(inSystem, "daemonset", "vigie-agent") },
		"nodes are cleaned": func() bool { return there(inSystem, "pods", "-l", "app.kubernetes.io/component=cleaner") },
		"rights are gone":   func() bool { return !there("clusterrolebinding", "vigie-agent") },
	} {
		vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--image", vigieImage)
		c.Apply(t, onlyFriends) // so that something is pinned
		awaitFor(t, time.Minute, "pins", func() bool { return len(pinsOf(t, c, "n1")) > 0 && len(pinsOf(t, c, "n2")) > 0 })
		first := cli(t, c, "uninstall")
		said := new(voice)
		first.Stdout, first.Stderr = said, said
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- first.Wait() }()
		awaitFor(t, 2*time.Minute, what, reached)
		_ = first.Process.Kill() // it may have ended
		if err := <-ended; err == nil {
			t.Logf("%s: the first uninstall had ended", what)
		} else {
			t.Logf("%s: the first uninstall had come to\n%s", what, said)
			vigie(t, c, "uninstall")
		}
		if out, err := c.Kubectl(t.Context(), "delete", "networkpolicy", "only-friends").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if after := differ(before, traces(t, c)); after != "" {
			t.Errorf("%s: after the second uninstall\n%s", what, after)
		}
	}
}

// A policy that its kind's schema does not allow is refused by the API server, which names the field. One that the schema allows and that
// says nothing sensible is refused by the agents, in its status: what was in force of it stays, and so do all others.
func TestObjectsThatDoNotValidate(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 1})
	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--set", "relay.enabled=false", "--image", vigieImage)
	c.Apply(t, web)
	_, addresses := webPods(t, c)
	c.Apply(t, knocker("knocking", "any", "n1", addresses["n1"]+":8080"))
	awaitKnocks(t, c, "n1", "knocking")

	policy := func(name, spec string) string {
		return "---\n{apiVersion: vigie.io/v1alpha1, kind: WorkloadPolicy, metadata: {name: " + name + ", namespace: default}, spec: {selector: {matchLabels: {role: any}}, " + spec + "}}\n"
	}
	state := func(name, want string) {
		t.Helper()
		c.Await(t, want, "get", "workloadpolicy", name, "-o", "jsonpath={.status.state} {.status.inForce}")
	}
	const closed = "mode: enforce, network: {egress: {allow: []}}"
	c.Apply(t, policy("closed", closed))
	state("closed", "in force 1/1")
	awaitSilence(t, c, "n1", "knocking")

	for field, spec := range map[string]string{"spec.mode": "mode: sometimes", "spec.files.deny": "mode: audit, files: {deny: {}}", "spec.what": "mode: audit, what: ever"} {
		apply := c.Kubectl(t.Context(), "apply", "--server-side", "-f", "-")
		apply.Stdin = strings.NewReader(policy("refused", spec))
		if out, err := apply.CombinedOutput(); err == nil || !strings.Contains(string(out), field[len("spec"):]) {
			t.Errorf("%s: the API server says (%v) %s", spec, err, out)
		}
	}
	if out, err := c.Kubectl(t.Context(), "get", "workloadpolicy", "refused").CombinedOutput(); err == nil {
		t.Errorf("a policy that was refused is there: %s", out)
	}

	c.Apply(t, policy("wrong", "mode: enforce, files: {deny: [no-path]}"))
	state("wrong", "failed 0/1")
	message := func(name string) string {
		out, err := c.Kubectl(t.Context(), "get", "workloadpolicy", name, "-o", "json").Output()
		var o struct {
			Status struct {
				Nodes []struct{ Name, Message string }
			}
		}
		if err == nil {
			err = json.Unmarshal(out, &o)
		}
		if err != nil || len(o.Status.Nodes) != 1 || o.Status.Nodes[0].Name != "n1" {
			t.Fatalf("the status of %s: %v: %s", name, err, out)
		}
		return o.Status.Nodes[0].Message
	}
	if m := message("wrong"); !strings.Contains(m, "files.deny") {
		t.Errorf("the status of the wrong policy does not name the field: %q", m)
	}
	// The good one turns bad.
	c.Apply(t, policy("closed", "mode: enforce, files: {deny: [no-path]}"))
	state("closed", "degraded 0/1")
	if m := message("closed"); !strings.Contains(m, "files.deny") {
		t.Errorf("the status does not name the field: %q", m)
	}
	awaitSilence(t, c, "n1", "knocking")
	c.Apply(t, policy("other", "mode: audit, files: {deny: [{path: /etc/x, access: [read]}]}"))
	state("other", "in force 1/1")
	c.Apply(t, policy("closed", "mode: audit, network: {egress: {allow: []}}"))
	state("closed", "in force 1/1")
	awaitKnocks(t, c, "n1", "knocking")
}
