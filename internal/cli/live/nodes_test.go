// SPDX-License-Identifier: Apache-2.0

package live

import (
	"regexp"
	"testing"
	"time"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// on is an event as a relay tells it of a node.
func on(node string, e *model.Event) *model.Event {
	e.Node = node
	return e
}

// Of several nodes each line names its own, and what has the same name or the same pid there stays apart.
func TestSeveralNodes(t *testing.T) {
	m := newModel(TabTop)
	nodes := []*vigiev1.NodeStatus{{Name: "alpha", State: "connected"}, {Name: "beta", State: "connected"}, {Name: "gamma", State: "unavailable"}}
	m.Update(statusMsg{&vigiev1.Status{Host: "hub", Nodes: nodes}, &vigiev1.HealthResponse{Ready: true}})
	a, b := process(7, 1, "web.service", "/bin/web"), process(7, 1, "web.service", "/bin/web")
	child := process(8, 7, "web.service", "/bin/child")
	m.Update(processesMsg{{Node: "alpha", Processes: []*model.Process{a}}, {Node: "beta", Processes: []*model.Process{b, child}}})
	for range 20 {
		m.Update(eventsMsg{on("beta", event(model.TypeExec, b))})
	}
	m.Update(eventsMsg{on("alpha", event(model.TypeExec, a)), on("alpha", exitEvent(a, 3))})
	m.Update(tickMsg(start.Add(time.Second)))
	mustShow(t, m, "hub  relays 2 of 3 nodes", "2 workloads", "3 processes")
	lines := func(words ...string) {
		t.Helper()
		s := screenOf(t, m)
		for _, w := range words {
			if !regexp.MustCompile(w).MatchString(s) {
				t.Errorf("no line is like %q:\n%s", w, s)
			}
		}
	}
	lines(`NODE +WORKLOAD +PROCS`, `beta +web\.service +2 +20 `, `alpha +web\.service +1 +2\.0 `)
	press(m, "w")
	lines(`NODE +PROCESS +PID`, `beta +web +7 +20 `, `alpha +web +7 +2\.0 `)
	press(m, "w")
	lines(`NODE +PROCS .*STATE`, `beta +2 +20 .*connected`, `alpha +1 +2\.0 .*connected`, `gamma +0 +0 .*unavailable`)
	press(m, "home", "enter")
	mustShow(t, m, "filter: beta")
	lines(`beta +7 .*web`, `beta +8 .*└─ child`)
	mustHide(t, m, "alpha ")
	press(m, "esc", "tab")
	lines(`NODE +WORKLOAD +PROCESS`, `beta +web\.service +web\(7\) +exec +×20`, `alpha +web\.service +web\(7\) +exec .*exit 3`)
	press(m, "f", "alpha", "enter")
	mustHide(t, m, "beta ")

	// The workload under the cursor is the one of its node.
	press(m, "esc", "2", "w", "enter")
	mustShow(t, m, "filter: beta web.service")

	// The view of one host has nothing of this.
	one := newModel(TabTop)
	one.Update(running("", a))
	one.Update(eventsMsg{event(model.TypeExec, a)})
	mustHide(t, one, "NODE")
	press(one, "w", "w")
	mustShow(t, one, "WORKLOAD")
}
