// SPDX-License-Identifier: Apache-2.0

package live

import (
	"time"

	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/model"
)

const (
	// window is over how many whole seconds a rate is taken.
	window = 5
	// history is how many seconds the small curve goes back.
	history = 60
	// meterLimit bounds the workloads and the processes that are counted, each; idle ones go first.
	meterLimit = 4096
	// forget is after how many idle seconds a counter may go.
	forget = 30
)

// counts is how much happened. A folded event counts for all that it stands for, but for the uses of
// a capability: the kernel asks for those thousands of times a second without anything happening.
type counts struct{ events, execs, opens, writes, connects, dns, failed uint64 }

func (c *counts) add(e *model.Event) {
	n := weight(e)
	c.events += n
	failed := false
	switch {
	case e.Type == model.TypeExec:
		c.execs += n
	case e.Type == model.TypeExecFailed:
		failed = true
	case e.File != nil:
		switch e.File.Op {
		case model.FileRead:
			c.opens += n
		case model.FileWrite, model.FileCreate:
			c.opens += n
			c.writes += n
		default:
			c.writes += n
		}
		failed = e.File.Error != 0
	case e.Type == model.TypeConnect || e.Type == model.TypeAccept:
		c.connects += n
		failed = e.Socket != nil && e.Socket.Error != 0
	case e.DNS != nil:
		c.dns += n
		failed = e.DNS.Timeout || (e.DNS.RCode != "" && e.DNS.RCode != "NOERROR")
	}
	if failed {
		c.failed += n
	}
}

func weight(e *model.Event) uint64 {
	if e.Type == model.TypeCapability {
		return 1
	}
	return uint64(max(e.Count, 1))
}

func (c *counts) sum(o counts) {
	c.events += o.events
	c.execs += o.execs
	c.opens += o.opens
	c.writes += o.writes
	c.connects += o.connects
	c.dns += o.dns
	c.failed += o.failed
}

// gauge counts what happens in each of the last seconds.
type gauge struct {
	total  counts
	second int64 // of the newest bucket
	ring   [window + 1]counts
}

func (g *gauge) add(e *model.Event, second int64) {
	g.advance(second)
	g.ring[second%int64(len(g.ring))].add(e)
	g.total.add(e)
}

func (g *gauge) advance(second int64) {
	for s := max(g.second+1, second-int64(len(g.ring))+1); s <= second; s++ {
		g.ring[s%int64(len(g.ring))] = counts{}
	}
	g.second = max(g.second, second)
}

// last is what happened in the whole seconds of the window, the running one left out.
func (g *gauge) last(second int64) (c counts) {
	g.advance(second)
	for i, b := range g.ring {
		if int64(i) != second%int64(len(g.ring)) {
			c.sum(b)
		}
	}
	return c
}

// entity is a workload, a process or a node with what it does.
type entity struct {
	gauge
	node     string // empty for that of an agent that speaks for itself
	name     string
	workload *model.Workload
	process  *model.Process // nil for a workload and a node
	ended    bool
}

// workloadName names a workload of a node: nodes have workloads of the same name.
type workloadName struct{ node, name string }

// threadGroup names a process whatever its image is.
type threadGroup struct {
	node  string
	pid   uint32
	start uint64
}

func groupOf(node string, k model.ProcessKey) threadGroup { return threadGroup{node, k.PID, k.Start} }

// meter counts what happens, in all, by node, by workload and by process.
type meter struct {
	started   int64 // second of the first event or tick
	now       int64
	all       gauge
	curve     [history]uint64 // events of each second, at second % history
	nodes     map[string]*entity
	workloads map[workloadName]*entity
	processes map[threadGroup]*entity
}

func newMeter() *meter {
	return &meter{nodes: make(map[string]*entity), workloads: make(map[workloadName]*entity), processes: make(map[threadGroup]*entity)}
}

// tick moves the clock on; events count for the second of the latest tick.
func (m *meter) tick(now time.Time) {
	second := now.Unix()
	if m.started == 0 {
		m.started, m.now = second, second
	}
	for s := max(m.now+1, second-history+1); s <= second; s++ {
		m.curve[s%history] = 0
	}
	m.now = max(m.now, second)
	m.prune()
}

// add counts one event. The inventory is not something that happens.
func (m *meter) add(e *model.Event) {
	if e.PreExisting || e.Type == model.TypeLoss {
		return
	}
	m.all.add(e, m.now)
	m.curve[m.now%history] += weight(e)
	n := m.nodes[e.Node]
	if n == nil {
		n = &entity{node: e.Node, name: e.Node}
		m.nodes[e.Node] = n
	}
	n.add(e, m.now)
	p := e.Process
	if p == nil {
		return
	}
	name := workloadName{e.Node, show.Workload(p.Workload)}
	w := m.workloads[name]
	if w == nil {
		w = &entity{node: e.Node, name: name.name}
		m.workloads[name] = w
	}
	w.workload = p.Workload
	w.add(e, m.now)

	g := groupOf(e.Node, p.Key)
	pr := m.processes[g]
	if pr == nil {
		pr = &entity{node: e.Node}
		m.processes[g] = pr
	}
	pr.process, pr.workload, pr.name = p, p.Workload, show.Process(p)
	pr.add(e, m.now)
	pr.ended = e.Type == model.TypeExit
}

// seconds is how many whole seconds the rates stand for.
func (m *meter) seconds() float64 {
	return float64(min(max(m.now-m.started, 1), window))
}

// recent is the curve, oldest second first, without the running one.
func (m *meter) recent(n int) []uint64 {
	out := make([]uint64, 0, n)
	for s := m.now - int64(min(n, history-1)); s < m.now; s++ {
		out = append(out, m.curve[(s%history+history)%history])
	}
	return out
}

func (m *meter) prune() {
	// Ended processes show for a moment; live ones stay until there are too many.
	for g, e := range m.processes {
		if idle := m.now - e.second; e.ended && idle > window || len(m.processes) > meterLimit && idle > 1 {
			delete(m.processes, g)
		}
	}
	for k, e := range m.workloads {
		if len(m.workloads) > meterLimit && m.now-e.second > forget {
			delete(m.workloads, k)
		}
	}
}
