// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// TestClocksDiffer has an agent whose clock is seven minutes ahead of the other's (its binary is linked so: all nodes share the machine's
// clock). The relay measures that and says so; what happens here and there in turns comes in that order, live and from the past; and each
// event shows its own node's time.
func TestClocksDiffer(t *testing.T) {
	c := bootWithVigie(t, lab.Options{Nodes: 2}, aheadImage)
	vigie(t, c, "install", "--apply", "--set", "image.pullPolicy=Never", "--image", vigieImage)
	awaitVersions(t, c, map[string]string{"n1": "1", "n2": "1"})
	replaceAgent(t, c, "n2", aheadImage)
	awaitVersions(t, c, map[string]string{"n1": "1", "n2": "ahead"})
	awaitSaid(t, c, []string{"ahead: events are put in order as if it were right"}, "status")

	said := ask(t, c, "status")
	if line := nodeLine(said, "n2"); line == nil || line[4] != "+7m" && !strings.HasPrefix(line[4], "+7m0") && !strings.HasPrefix(line[4], "+6m59.") {
		t.Errorf("the relay has measured something else:\n%s", said)
	}

	events := follow(t, c)
	began := time.Now()
	var marks []string // by turns on n1 and n2
	for range 5 {
		for _, node := range c.NodeNames() {
			m := mark(t, c, node, "in turn")
			events.await(t, node, m)
			marks = append(marks, m)
		}
	}
	ordered := func(what string, out []byte) {
		t.Helper()
		var seen []string
		at := map[string]time.Time{}
		for line := range bytes.Lines(out) {
			var e struct {
				Node    string
				Time    time.Time
				Process struct{ Args []string }
			}
			if json.Unmarshal(line, &e) != nil {
				continue // a line about nodes
			}
			i := slices.IndexFunc(marks, func(m string) bool { return slices.Contains(e.Process.Args, m) })
			if i < 0 || e.Node != c.NodeNames()[i%2] || slices.Contains(seen, marks[i]) {
				continue
			}
			seen, at[marks[i]] = append(seen, marks[i]), e.Time
		}
		if !slices.Equal(seen, marks) {
			t.Errorf("%s: in turns it was %q, and what comes is %q", what, marks, seen)
		}
		for i, m := range seen {
			if ahead := at[m].Sub(began); i%2 == 0 && ahead > time.Minute || i%2 == 1 && ahead < 7*time.Minute {
				t.Errorf("%s: %s on %s shows a time %v after the test's", what, m, c.NodeNames()[i%2], ahead)
			}
		}
	}
	events.mu.Lock()
	live := slices.Clone(events.out.Bytes())
	events.mu.Unlock()
	ordered("live", live)
	past := ask(t, c, "events", "-o", "json", "--type", "exec", "--since", "5m", "--last", "50000")
	ordered("the past", []byte(past))
	if n := strings.Count(past, marks[len(marks)-1]); n == 0 {
		t.Errorf("the last five minutes of a node whose clock is ahead are not found: %s", past[:min(len(past), 500)])
	}
}
