// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// TestContainerdRestarted kills containerd, twice, and starts pods when it is back: what runs keeps its names, and what starts has them,
// container and image included, which the runtime alone tells.
func TestContainerdRestarted(t *testing.T) {
	c := lab.Boot(t, lab.Options{Nodes: 1})
	c.Apply(t, ticking)
	a := startAgent(t, c, "n1", "runtime")
	a.await(t, "the ticker to be seen", func() bool { return len(a.execsOf("starts")) > 0 })
	const each = 5
	for round := range 2 {
		c.Output(t, "n1", "sh", "-c", "kill -9 $(pidof containerd)")
		var pods strings.Builder
		for i := range each {
			pods.WriteString(client("starts", fmt.Sprintf("client-%d-%d", round, i), "n1", "env"))
		}
		c.Apply(t, pods.String())
		a.await(t, "the pods to end", func() bool {
			out, err := c.Kubectl(t.Context(), "get", "pods", "-n", "starts", "-l", "job=client", "-o", `jsonpath={range .items[*]}{.status.phase} {end}`).Output()
			return err == nil && strings.Count(string(out), "Succeeded") == (round+1)*each
		})
		seen := len(a.execsOf("starts"))
		a.await(t, "the ticker to go on", func() bool { return len(a.execsOf("starts")) > seen+2 })
	}
	containers := make(map[string]bool)
	for _, ev := range a.events(a.startsHere) {
		w := ev.Process.Workload
		if w.Kind != "pod" || w.Namespace != "starts" || w.Container == "" || w.Container == "main" && w.Image == "" || w.Labels["job"]+w.Labels["app"] == "" {
			t.Errorf("without its names: %s %v: %+v", ev.Process.Binary, ev.Process.Args, *w)
		}
		containers[w.Name+"/"+w.Container] = true
	}
	for round := range 2 {
		for i := range each {
			if name := fmt.Sprintf("client-%d-%d/main", round, i); !containers[name] {
				t.Errorf("%s was not seen", name)
			}
		}
	}
}
