// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// ask runs a reading command against the cluster's relay, and returns all that it says.
func ask(t testing.TB, c *lab.Cluster, args ...string) string {
	t.Helper()
	program, err := product()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, _ := exec.CommandContext(ctx, program, append(args, "--cluster", "--kubeconfig", c.Kubeconfig)...).CombinedOutput()
	return string(out) // what is wrong stands in it
}

// awaitSaid asks until the answer has all of these.
func awaitSaid(t testing.TB, c *lab.Cluster, want []string, args ...string) {
	t.Helper()
	said := ""
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		said = ask(t, c, args...)
		if !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(said, s) }) {
			return
		}
	}
	t.Fatalf("%v does not come to say %q, but\n%s", args, want, said)
}

// followed are the events that a command follows, as it prints them.
type followed struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (f *followed) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.Write(b)
}

// has counts the programs with an argument that a node has seen start: what enters the node's namespaces has it too. What came
// twice is not counted but told.
func (f *followed) has(node, argument string) (n int, twice bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[int]bool)
	for line := range bytes.Lines(f.out.Bytes()) {
		var e struct {
			Node    string
			Seq     int
			Process struct{ Args []string }
		}
		if json.Unmarshal(line, &e) == nil && e.Node == node && slices.Contains(e.Process.Args, argument) {
			n++
			twice = twice || seen[e.Seq]
			seen[e.Seq] = true
		}
	}
	return n, twice
}

// said reports whether a text came.
func (f *followed) said(text string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.Contains(f.out.Bytes(), []byte(text))
}

// tail is the end of what came.
func (f *followed) tail() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.out.Bytes()
	return string(b[max(0, len(b)-2000):])
}

func (f *followed) await(t *testing.T, node, argument string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if n, _ := f.has(node, argument); n > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nothing of %s came from %s, but\n%s", argument, node, f.tail())
		}
	}
}

// mark runs a program on a node whose argument is like no other.
func mark(t testing.TB, c *lab.Cluster, node, text string) string {
	t.Helper()
	m := fmt.Sprintf("%s-%d", text, time.Now().UnixNano())
	c.Output(t, node, "echo", m)
	return m
}

// follow follows the execs of the whole cluster until the test ends, and returns when those of each node come.
func follow(t testing.TB, c *lab.Cluster, args ...string) *followed {
	t.Helper()
	program, err := product()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	events := new(followed)
	cmd := exec.CommandContext(ctx, program, append([]string{"events", "-f", "-o", "json", "--type", "exec", "--cluster", "--kubeconfig", c.Kubeconfig}, args...)...)
	cmd.Stdout, cmd.Stderr = events, events
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
	})
	for _, node := range c.NodeNames() {
		for end := time.Now().Add(2 * time.Minute); ; { // until the stream is open
			first := mark(t, c, node, "first")
			time.Sleep(time.Second)
			if n, _ := events.has(node, first); n > 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("nothing comes from %s, but\n%s", node, events.tail())
			}
		}
	}
	return events
}

// The cluster through one address, by a port-forward that the command makes itself. A node that is cut off is told, slows nobody,
// and what it saw meanwhile comes when it is healed.
func TestClusterThroughItsRelay(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 2})
	if said := ask(t, c, "status"); !strings.Contains(said, "there is no relay in cluster") {
		t.Errorf("without a relay: %s", said)
	}
	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--image", vigieImage)
	awaitSaid(t, c, []string{"relays 2 nodes", "n1 ", "n2 ", "connected"}, "status")

	events := follow(t, c)
	mark := func(node, text string) string { return mark(t, c, node, text) }
	awaitSaid(t, c, []string{"NODE", "n1 ", "n2 ", "COMMAND"}, "ps", "--flat")
	awaitSaid(t, c, []string{"n1", "n2"}, "query", "top", "--by", "node", "--type", "exec", "--measure", "events")

	where, err := c.Kubectl(t.Context(), "-n", "vigie-system", "get", "pods", "-l", "app.kubernetes.io/component=relay", "-o", "jsonpath={.items[0].spec.nodeName}").Output()
	if err != nil {
		t.Fatal(err)
	}
	here, other := "n1", "n2"
	if string(where) == "n2" {
		here, other = "n2", "n1"
	}
	c.Link(t, other, false)
	awaitSaid(t, c, []string{"relays 1 of 2 nodes", "unavailable"}, "status")
	meanwhile := mark(other, "meanwhile")
	events.await(t, here, mark(here, "others"))
	if n, _ := events.has(other, meanwhile); n != 0 {
		t.Errorf("%d events came from a node that is cut off", n)
	}
	c.Link(t, other, true)
	awaitSaid(t, c, []string{"relays 2 nodes"}, "status")
	events.await(t, other, meanwhile)
	if _, twice := events.has(other, meanwhile); twice {
		t.Error("what the node saw while it was cut off came twice")
	}
}
