// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// awaitAnswer polls until a command that asks the cluster's relay says what is wanted.
func awaitAnswer(t *testing.T, c *lab.Cluster, wanted func(string) bool, args ...string) {
	t.Helper()
	dir, err := product()
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, err = exec.CommandContext(ctx, dir+"/vigie", append(args, "--cluster", "--kubeconfig", c.Kubeconfig)...).CombinedOutput()
		cancel()
		if wanted(string(out)) {
			return
		}
	}
	t.Fatalf("vigie %s: waited in vain (%v); it says\n%s", strings.Join(args, " "), err, out[max(0, len(out)-4000):])
}

// TestClusterThroughItsRelay: what `vigie install` brings answers for all nodes through one address, and says which are away.
func TestClusterThroughItsRelay(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 2, Grace: 5 * time.Second})
	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--set", "relay.nodeSelector={kubernetes.io/hostname: n1}", "--image", vigieImage)
	c.Apply(t, web)
	names, addresses := webPods(t, c)
	awaitAnswer(t, c, func(out string) bool { return strings.Contains(out, "relays 2 nodes") }, "status")

	mark := fmt.Sprintf("/mark-%d", time.Now().UnixNano())
	for node, pod := range names {
		in(t, c, pod, "get", "http://"+addresses["n1"]+":8080"+mark+"-"+node)
	}
	awaitAnswer(t, c, func(out string) bool { return strings.Contains(out, mark+"-n1") && strings.Contains(out, mark+"-n2") },
		"events", "--since", "10m", "--type", "exec", "--workload", "web-*", "-o", "json")

	c.Kill(t, "n2")
	awaitAnswer(t, c, func(out string) bool { return strings.Contains(out, "1 of 2 nodes") && strings.Contains(out, "n2") }, "status")
}
