// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"
	"slices"

	"github.com/vigie-io/vigie/internal/store/segment"
)

// Figures lists what can be counted. Durations are in seconds.
func Figures() []string {
	return []string{"events", "flows", "bytes", "bytes_sent", "bytes_received", "retransmits", "requests", "errors", "error_rate",
		"latency_p50", "latency_p90", "latency_p99", "rtt"}
}

// group is one row while it is counted.
type group struct {
	events, flows, requests, errors uint64
	sent, received, retransmits     uint64
	rttSum                          float64
	rtts                            uint64
	latency                         histogram
}

// values are the figures of a group.
func (g *group) values(figures []string) []float64 {
	out := make([]float64, len(figures))
	for i, f := range figures {
		switch f {
		case "events":
			out[i] = float64(g.events)
		case "flows":
			out[i] = float64(g.flows)
		case "bytes":
			out[i] = float64(g.sent + g.received)
		case "bytes_sent":
			out[i] = float64(g.sent)
		case "bytes_received":
			out[i] = float64(g.received)
		case "retransmits":
			out[i] = float64(g.retransmits)
		case "requests":
			out[i] = float64(g.requests)
		case "errors":
			out[i] = float64(g.errors)
		case "error_rate":
			if g.events > 0 {
				out[i] = float64(g.errors) / float64(g.events)
			}
		case "latency_p50":
			out[i] = g.latency.quantile(0.5)
		case "latency_p90":
			out[i] = g.latency.quantile(0.9)
		case "latency_p99":
			out[i] = g.latency.quantile(0.99)
		case "rtt":
			if g.rtts > 0 {
				out[i] = g.rttSum / float64(g.rtts) / 1e9
			}
		}
	}
	return out
}

func (g *group) parts() *Parts {
	return &Parts{Events: g.events, Errors: g.errors, RTTSum: g.rttSum / 1e9, RTTs: g.rtts, Latencies: g.latency.buckets}
}

// histogram counts durations in buckets of 1/32 of a power of two: a quantile is off by at most 1.6 %.
type histogram struct {
	buckets map[uint16]uint64
	n       uint64
}

const perDoubling = 32

func (h *histogram) add(ns int64, n uint64) {
	if ns <= 0 {
		return
	}
	if h.buckets == nil {
		h.buckets = make(map[uint16]uint64)
	}
	h.buckets[uint16(math.Log2(float64(ns))*perDoubling)] += n
	h.n += n
}

// quantile is in seconds; 0 when nothing was counted.
func (h *histogram) quantile(q float64) float64 {
	if h.n == 0 {
		return 0
	}
	order := make([]uint16, 0, len(h.buckets))
	for b := range h.buckets {
		order = append(order, b)
	}
	slices.Sort(order)
	left := uint64(math.Ceil(q * float64(h.n)))
	for _, b := range order {
		if h.buckets[b] >= left {
			return math.Exp2((float64(b)+0.5)/perDoubling) / 1e9
		}
		left -= h.buckets[b]
	}
	return 0
}

// plan is how the rows of one family are counted: the columns that are read, and what is made of them.
type plan struct {
	family  *segment.Family
	columns []string
	keys    []keyOf
	measure func(*line, *group)
}

// line is one row of cells.
type line struct {
	cells [][]segment.Cell
	row   int
}

// place is where a column of the plan is among the cells; -1 when the family has none of that name.
type place int

func (l *line) text(p place) string {
	if p < 0 {
		return ""
	}
	return l.cells[p][l.row].Text
}

func (l *line) number(p place) int64 {
	if p < 0 {
		return 0
	}
	return l.cells[p][l.row].Number
}

func (l *line) known(p place) bool { return p >= 0 && l.cells[p][l.row].Known }

// column has a column read.
func (p *plan) column(name string) place {
	if p.family.Column(name) == nil {
		return -1
	}
	if i := slices.Index(p.columns, name); i >= 0 {
		return place(i)
	}
	p.columns = append(p.columns, name)
	return place(len(p.columns) - 1)
}

func newPlan(f *segment.Family, by, figures []string) *plan {
	p := &plan{family: f}
	for _, name := range by {
		p.keys = append(p.keys, p.key(name))
	}
	p.measure = p.measures(figures)
	return p
}

// add counts rows. Errors: *InvalidError when there are too many groups.
func (p *plan) add(cells [][]segment.Cell, out *groups) error {
	if len(cells) == 0 || len(cells[0]) == 0 {
		return nil
	}
	l := line{cells: cells}
	for l.row = range cells[0] {
		out.key = out.key[:0]
		for i, key := range p.keys {
			if i > 0 {
				out.key = append(out.key, 0)
			}
			out.key = key(&l, out.key)
		}
		g := out.byKey[string(out.key)]
		if g == nil {
			if len(out.byKey) >= maxGroups {
				return invalid("by: there are more than %d different rows: count by less, or filter", maxGroups)
			}
			g = new(group)
			out.byKey[string(out.key)] = g
		}
		out.events++
		p.measure(&l, g)
	}
	return nil
}

// measures makes the function that counts a row, reading no column that figures do not need.
func (p *plan) measures(figures []string) func(*line, *group) {
	steps := []func(*line, *group, uint64){}
	count := p.column("count")
	wants := func(names ...string) bool {
		return slices.ContainsFunc(figures, func(f string) bool { return slices.Contains(names, f) })
	}
	if wants("flows") {
		steps = append(steps, p.flows())
	}
	if wants("requests") && p.family.Name == "request" {
		steps = append(steps, func(_ *line, g *group, n uint64) { g.requests += n })
	}
	if wants("errors", "error_rate") {
		failed := p.failed()
		steps = append(steps, func(l *line, g *group, n uint64) {
			if failed(l) {
				g.errors += n
			}
		})
	}
	if wants("bytes", "bytes_sent", "bytes_received") {
		sent, received := p.bytes()
		steps = append(steps, func(l *line, g *group, _ uint64) {
			g.sent += uint64(l.number(sent))
			g.received += uint64(l.number(received))
		})
	}
	if wants("retransmits") {
		at := p.first("interval_retransmits", "retransmits")
		steps = append(steps, func(l *line, g *group, _ uint64) { g.retransmits += uint64(l.number(at)) })
	}
	if wants("latency_p50", "latency_p90", "latency_p99") {
		at := p.column("latency_ns")
		steps = append(steps, func(l *line, g *group, n uint64) { g.latency.add(l.number(at), n) })
	}
	if wants("rtt") {
		at := p.column("srtt_ns")
		steps = append(steps, func(l *line, g *group, _ uint64) {
			if l.known(at) {
				g.rttSum += float64(l.number(at))
				g.rtts++
			}
		})
	}
	return func(l *line, g *group) {
		n := uint64(max(1, l.number(count)))
		g.events += n
		for _, step := range steps {
			step(l, g, n)
		}
	}
}

// first is the first of columns that the family has.
func (p *plan) first(names ...string) place {
	for _, name := range names {
		if at := p.column(name); at >= 0 {
			return at
		}
	}
	return -1
}

// flows counts conversations: the first report of a flow; connections that were tried and taken.
func (p *plan) flows() func(*line, *group, uint64) {
	report, typ := p.column("report"), p.column(segment.ColumnType)
	switch p.family.Name {
	case "flow":
		return func(l *line, g *group, _ uint64) {
			if l.number(report) <= 1 {
				g.flows++
			}
		}
	case "network":
		return func(l *line, g *group, n uint64) {
			if t := l.text(typ); t == "connect" || t == "accept" {
				g.flows += n
			}
		}
	}
	return func(*line, *group, uint64) {}
}

// bytes are the columns of payload: from the process out, and in. Of a request they are the bodies, and of a flow the
// directions are those of source and destination.
func (p *plan) bytes() (sent, received place) {
	if p.family.Name == "request" {
		return p.column("request_bytes"), p.column("response_bytes")
	}
	return p.first("interval_bytes_sent", "bytes_sent"), p.first("interval_bytes_received", "bytes_received")
}

// failed says of a row whether what it tells went wrong.
func (p *plan) failed() func(*line) bool {
	failed, noAnswer, timeout := p.column("failed"), p.column("no_answer"), p.column("timeout")
	code, verdict, action := p.column("rcode"), p.column("verdict"), p.column("action")
	failure := p.column("error")
	return func(l *line) bool {
		rcode, what := l.text(code), l.text(verdict)
		return l.known(failure) || l.number(failed) != 0 || l.number(noAnswer) != 0 || l.number(timeout) != 0 ||
			rcode != "" && rcode != "NOERROR" || what == "denied" || what == "failed" || l.text(action) == "denied" || l.text(action) == "killed"
	}
}
