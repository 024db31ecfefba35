// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector gives what Status says as metrics.
type Collector struct {
	client *Client

	up, synced, heard, watches, received, requests, objects, changes, events, reports *prometheus.Desc
}

// Collector makes it.
func (c *Client) Collector() *Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("vigie_kube_"+name, help, labels, nil)
	}
	return &Collector{client: c,
		up:       desc("up", "Whether the API server answered the last request (1) or not (0)."),
		synced:   desc("synced", "Whether everything has been read from the API server since the start (1) or is known from an earlier run (0)."),
		heard:    desc("last_heard_seconds", "Seconds since the API server was last heard of: an answer, an event or a bookmark. Absent before the first."),
		watches:  desc("watches", "Open watches."),
		received: desc("received_bytes_total", "Bytes of answers and events from the API server."),
		requests: desc("requests_total", "Requests to the API server, by method (WATCH opens a watch) and HTTP status, or none without an answer.", "method", "code"),
		objects:  desc("objects", "What is known of the cluster, by kind.", "kind"),
		changes:  desc("changes_total", "Objects that the API server told of after the first reading, by resource.", "resource"),
		events:   desc("events_total", "Kubernetes Events about pods: requests sent, occurrences folded into a count, limited, and not taken.", "outcome"),
		reports:  desc("reports_total", "Reports about pods: written, and occurrences limited and not taken.", "outcome"),
	}
}

// Describe implements prometheus.Collector.
func (m *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.synced, m.heard, m.watches, m.received, m.requests, m.objects, m.changes, m.events, m.reports} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := m.client.Status()
	gauge(m.up, truth(s.Away == nil && !s.Heard.IsZero()))
	gauge(m.synced, truth(s.Synced))
	if !s.Heard.IsZero() {
		gauge(m.heard, max(m.client.options.Now().Sub(s.Heard), 0*time.Second).Seconds())
	}
	gauge(m.watches, float64(s.Watches))
	count(m.received, s.BytesReceived)
	for k, n := range m.client.traffic.counts() {
		count(m.requests, n, k.Method, k.Code)
	}
	snapshot := m.client.view.Snapshot()
	gauge(m.objects, float64(s.OwnPods), "own_pods")
	gauge(m.objects, float64(s.Pods-s.OwnPods), "other_pods")
	gauge(m.objects, float64(len(snapshot.Namespaces)), "namespaces")
	gauge(m.objects, float64(len(snapshot.Nodes)), "nodes")
	gauge(m.objects, float64(len(snapshot.Services)), "services")
	for _, r := range s.Resources {
		count(m.changes, r.Changes, r.Name)
	}
	count(m.events, s.Events.Sent, "sent")
	count(m.events, s.Events.Folded, "folded")
	count(m.events, s.Events.Limited, "limited")
	count(m.events, s.Events.Unsent, "unsent")
	count(m.reports, s.Reports.Sent, "sent")
	count(m.reports, s.Reports.Limited, "limited")
	count(m.reports, s.Reports.Unsent, "unsent")
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
