// SPDX-License-Identifier: Apache-2.0

// Package prometheus counts events for /metrics. In: events of the hub. Out: a prometheus.Collector. Each family has
// a stated number of series at most; what there is no room for is counted in one series that has "other" in
// every label, so that sums stay right and names from outside cost no more than that.
package prometheus

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Metrics counts the events of some groups. It is an export.Exporter and a prometheus.Collector.
type Metrics struct {
	now     func() time.Time
	on      map[string]bool // groups
	vectors map[string]*vector
	order   []*vector
	counted atomic.Uint64
	self    []*prometheus.Desc // overflow, series, series_max
}

var (
	_ export.Exporter      = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// New counts for the groups that are named.
func New(groups []string, now func() time.Time) *Metrics {
	m := &Metrics{now: now, on: make(map[string]bool), vectors: make(map[string]*vector)}
	for _, g := range groups {
		m.on[g] = true
	}
	for _, f := range Families() {
		if m.on[f.Group] {
			v := newVector(f, buckets())
			m.vectors[f.Name], m.order = v, append(m.order, v)
		}
	}
	m.self = []*prometheus.Desc{
		prometheus.NewDesc("vigie_metric_overflow_total", "Observations that a full family of metrics counted under \"other\".", []string{"family"}, nil),
		prometheus.NewDesc("vigie_metric_series", "Series of a family of metrics, that of \"other\" included.", []string{"family"}, nil),
		prometheus.NewDesc("vigie_metric_series_max", "How many series a family of metrics may have, beside that of \"other\".", []string{"family"}, nil),
	}
	return m
}

// Name implements export.Exporter.
func (m *Metrics) Name() string { return "metrics" }

// Subscribe implements export.Exporter.
func (m *Metrics) Subscribe() pipeline.SubscribeOptions {
	var types []model.Type
	for group, wants := range map[string][]model.Type{GroupFlow: {model.TypeFlow, model.TypeDNS, model.TypeRequest}, GroupDNS: {model.TypeDNS},
		GroupRequest: {model.TypeRequest}, GroupPolicy: {model.TypeVerdict}, GroupAlert: {model.TypeAlert}, GroupWorkload: model.Types()} {
		if m.on[group] {
			types = append(types, wants...)
		}
	}
	return pipeline.SubscribeOptions{Name: m.Name(), Keep: func(e *model.Event) bool { return slices.Contains(types, e.Type) }}
}

// Reopen implements export.Exporter.
func (m *Metrics) Reopen() error { return nil }

// Stats implements export.Exporter.
func (m *Metrics) Stats() export.Stats { return export.Stats{Sent: m.counted.Load()} }

// Run implements export.Exporter.
func (m *Metrics) Run(sub *pipeline.Subscription) error {
	for {
		batch, err := sub.Next(context.Background())
		if errors.Is(err, pipeline.ErrClosed) {
			return nil
		}
		now := m.now()
		for _, e := range batch {
			m.count(now, e)
		}
		m.counted.Add(uint64(len(batch)))
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.order {
		ch <- v.desc
	}
	for _, d := range m.self {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.order {
		n, overflow := v.collect(ch)
		ch <- prometheus.MustNewConstMetric(m.self[0], prometheus.CounterValue, float64(overflow), v.Name)
		ch <- prometheus.MustNewConstMetric(m.self[1], prometheus.GaugeValue, float64(n), v.Name)
		ch <- prometheus.MustNewConstMetric(m.self[2], prometheus.GaugeValue, float64(v.Max), v.Name)
	}
}

// counting counts for one event.
type counting struct {
	m   *Metrics
	now time.Time
}

func (c counting) add(family string, n float64, values ...string) {
	if v := c.m.vectors[family]; v != nil {
		v.add(c.now, n, values...)
	}
}

func (c counting) observe(family string, d time.Duration, values ...string) {
	if v := c.m.vectors[family]; v != nil {
		v.observe(c.now, d.Seconds(), values...)
	}
}

// count counts an event.
func (m *Metrics) count(now time.Time, e *model.Event) {
	c := counting{m, now}
	if e.Process != nil && e.Flow == nil && !e.PreExisting {
		c.add(workloadEvents, float64(max(e.Count, 1)), workloadName(e.Process.Workload), string(e.Type))
	}
	switch {
	case e.Flow != nil:
		c.flow(e)
	case e.DNS != nil:
		c.dns(e)
	case e.Request != nil:
		c.request(e)
	case e.Verdict != nil:
		c.add(policyVerdicts, float64(max(e.Count, 1)), e.Verdict.Policy, string(e.Verdict.Operation), string(e.Verdict.Action))
	case e.Alert != nil:
		c.add(alerts, 1, e.Alert.Rule, string(e.Alert.Severity))
	}
}
