// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// figures are what /metrics shows.
type figures struct {
	rounds, judged, written, failures int
	exceptions, expired               int
	took                              time.Duration
	results                           map[resultKey]int
	of                                map[string][]resultKey // uid of an object → what it is counted in
}

type resultKey struct{ control, severity, result string }

// note counts an object's outcomes in place of what it was counted in before.
func (f *figures) note(uid string, outcomes []Outcome) {
	for _, k := range f.of[uid] {
		if f.results[k]--; f.results[k] == 0 {
			delete(f.results, k)
		}
	}
	delete(f.of, uid)
	for _, o := range outcomes {
		if o.Result == Pass {
			continue
		}
		k := resultKey{o.Control.ID, string(o.Control.Severity), o.Result}
		f.results[k]++
		f.of[uid] = append(f.of[uid], k)
	}
}

func (c *Controller) count(do func(*figures)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do(&c.figures)
}

// Describe implements prometheus.Collector: what there is depends on the cluster.
func (c *Controller) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Controller) Collect(out chan<- prometheus.Metric) {
	objects, broken := c.keeper.Size()
	c.mu.Lock()
	defer c.mu.Unlock()
	put := func(kind prometheus.ValueType, name, help string, value float64, labels ...string) {
		var names, values []string
		for i := 0; i+1 < len(labels); i += 2 {
			names, values = append(names, labels[i]), append(values, labels[i+1])
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("vigie_posture_"+name, help, names, nil), kind, value, values...)
	}
	f := &c.figures
	put(prometheus.GaugeValue, "objects", "Objects of the cluster that are known.", float64(objects))
	put(prometheus.CounterValue, "undecodable_total", "Objects that could not be decoded, and are not judged.", float64(broken))
	put(prometheus.CounterValue, "rounds_total", "Rounds in which something was judged.", float64(f.rounds))
	put(prometheus.CounterValue, "judged_total", "Objects that were judged, again or for the first time.", float64(f.judged))
	put(prometheus.CounterValue, "reports_written_total", "Reports that said something new.", float64(f.written))
	put(prometheus.CounterValue, "errors_total", "Reports and exceptions that could not be written or read.", float64(f.failures))
	put(prometheus.GaugeValue, "round_seconds", "How long the last round took.", f.took.Seconds())
	put(prometheus.GaugeValue, "exceptions", "PolicyExceptions, by whether they hold.", float64(f.exceptions), "state", "holds")
	put(prometheus.GaugeValue, "exceptions", "PolicyExceptions, by whether they hold.", float64(f.expired), "state", "expired")
	for k, n := range f.results {
		put(prometheus.GaugeValue, "results", "Objects that do not pass a control: fail, error, or skip for those excused.", float64(n), "control", k.control, "severity", k.severity, "result", k.result)
	}
}
