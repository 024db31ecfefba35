// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// knocker is a pod that tries again and again to connect, and logs each time that it could.
func knocker(name, role, node, to string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: default, labels: {role: %s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers: [{name: c, image: "lab.test/actor:1", imagePullPolicy: Never, args: [every, 100ms, connect, tcp, "%s"]}]
`, name, role, node, to)
}

// knocks counts how often a knocker came through, by its log on its node: that needs no API server. None before it has begun.
func knocks(t testing.TB, c *lab.Cluster, node, pod string) int {
	t.Helper()
	return strings.Count(c.Output(t, node, "sh", "-c", "cat /var/log/pods/default_"+pod+"_*/c/*.log 2>/dev/null; true"), " ok\n")
}

// awaitKnocks waits until a pod comes through some more times.
func awaitKnocks(t testing.TB, c *lab.Cluster, node, pod string) {
	t.Helper()
	before := knocks(t, c, node, pod)
	awaitFor(t, time.Minute, pod+" to come through", func() bool { return knocks(t, c, node, pod) > before+2 })
}

// awaitSilence waits until a pod does not come through any more: an attempt that is denied lasts for three seconds.
func awaitSilence(t testing.TB, c *lab.Cluster, node, pod string) {
	t.Helper()
	awaitFor(t, time.Minute, pod+" to come through no more", func() bool {
		before := knocks(t, c, node, pod)
		quiet(t, 4*time.Second)
		return knocks(t, c, node, pod) == before
	})
}

// A node that is cut off enforces what it knows; who follows the cluster is told that it is gone, and that it is back. What was changed
// meanwhile is in force there a moment after.
func TestNodeCutOff(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 2})
	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--image", vigieImage,
		"--set", `relay.nodeSelector={kubernetes.io/os: linux, kubernetes.io/hostname: n1}`)
	c.Apply(t, web)
	_, addresses := webPods(t, c)
	server := addresses["n2"] + ":8080"
	c.Apply(t, onlyFriends+knocker("friend", "friend", "n2", server)+knocker("stranger", "stranger", "n2", server))
	c.Await(t, "true true", "get", "pods", "friend", "stranger", "-o", `jsonpath={.items[*].status.containerStatuses[0].ready}`)
	awaitKnocks(t, c, "n2", "friend")
	awaitSilence(t, c, "n2", "stranger")
	awaitSaid(t, c, []string{"relays 2 nodes", "connected"}, "status")
	told := follow(t, c)

	strangers := knocks(t, c, "n2", "stranger")
	c.Link(t, "n2", false)
	awaitSaid(t, c, []string{"relays 1 of 2 nodes", "unavailable"}, "status")
	awaitFor(t, time.Minute, "the follower to be told that n2 is away", func() bool { return told.said("node n2 is unavailable") })
	// Friends are closed out; the node cannot know.
	c.Apply(t, strings.Replace(onlyFriends, "role: friend", "role: nobody", 1))
	awaitKnocks(t, c, "n2", "friend")
	awaitSilence(t, c, "n2", "stranger")

	c.Link(t, "n2", true)
	awaitSaid(t, c, []string{"relays 2 nodes"}, "status")
	awaitFor(t, time.Minute, "the follower to be told that n2 is back", func() bool { return told.said("node n2 is connected") })
	awaitSilence(t, c, "n2", "friend")
	if n := knocks(t, c, "n2", "stranger"); n != strangers {
		t.Errorf("a pod that may not came through %d times while its node was cut off", n-strangers)
	}
}

// Agents are killed while policies are replaced: whom none of these policies allows never comes through, and what is in force at the
// end is what was applied last.
func TestAgentKilledWhilePoliciesAreReplaced(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 2})
	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--set", "relay.enabled=false", "--image", vigieImage)
	c.Apply(t, web)
	_, addresses := webPods(t, c)
	server := addresses["n2"] + ":8080"
	c.Apply(t, onlyFriends)
	c.Apply(t, knocker("friend", "friend", "n2", server)+knocker("stranger", "stranger", "n2", server)+knocker("sometimes", "sometimes", "n2", server))
	c.Await(t, "true true true", "get", "pods", "friend", "sometimes", "stranger", "-o", `jsonpath={.items[*].status.containerStatuses[0].ready}`)
	awaitKnocks(t, c, "n2", "friend")
	awaitSilence(t, c, "n2", "stranger")
	strangers := knocks(t, c, "n2", "stranger")

	variants := []string{onlyFriends, strings.Replace(onlyFriends, "matchLabels: {role: friend}", "matchExpressions: [{key: role, operator: In, values: [friend, sometimes]}]", 1)}
	const kills, each = 3, 10 // kubelet waits longer before each
	for kill := range kills {
		var before int
		awaitFor(t, time.Minute, "one agent to run on n2", func() bool {
			pids := agentProcesses(c, "n2")
			if len(pids) == 1 {
				before = pids[0]
			}
			return len(pids) == 1
		})
		for i := range each {
			c.Apply(t, variants[i%len(variants)])
			if i == each/2 {
				if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		awaitFor(t, 2*time.Minute, fmt.Sprintf("the agent to be started again after kill %d", kill+1), func() bool {
			pids := agentProcesses(c, "n2")
			return len(pids) == 1 && pids[0] != before
		})
	}
	c.Await(t, "2", "-n", "vigie-system", "get", "daemonset", "vigie-agent", "-o", "jsonpath={.status.numberReady}")
	c.Apply(t, variants[1])
	awaitKnocks(t, c, "n2", "sometimes")
	awaitKnocks(t, c, "n2", "friend")
	c.Apply(t, variants[0])
	awaitSilence(t, c, "n2", "sometimes")
	awaitKnocks(t, c, "n2", "friend")
	if n := knocks(t, c, "n2", "stranger"); n != strangers {
		t.Errorf("while agents were killed and policies replaced a pod that none of them allows came through %d times", n-strangers)
	}
}

// Three nodes hold what two do.
func TestThreeNodes(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 3})
	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--image", vigieImage)
	awaitSaid(t, c, []string{"relays 3 nodes", "n1 ", "n2 ", "n3 "}, "status")
	c.Apply(t, talkers)
	_, addresses := webPods(t, c)
	c.Await(t, "true true", "get", "pods", "friend", "stranger", "-o", `jsonpath={.items[*].status.containerStatuses[0].ready}`)
	c.Apply(t, onlyFriends)
	for _, address := range addresses {
		reaches(t, c, "stranger", address+":8080", false)
		reaches(t, c, "friend", address+":8080", true)
	}
	workloadPolicies(t, c)
	awaitSaid(t, c, []string{"n1", "n2", "n3"}, "query", "top", "--by", "node", "--type", "exec", "--measure", "events")
	vigie(t, c, "uninstall")
	reaches(t, c, "stranger", addresses["n3"]+":8080", true)
}
