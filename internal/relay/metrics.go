// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"
)

// Relayed is how many events were passed on to clients, by type.
func (r *Relay) Relayed() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.relayed)
}

// Metrics are what Prometheus is told of the nodes.
func (r *Relay) Metrics() prometheus.Collector {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("vigie_relay_"+name, help, []string{"node"}, nil)
	}
	return &collector{relay: r,
		up:     d("node_up", "1 for a node whose agent answers."),
		events: d("node_events_total", "Events of the node that were passed on to clients."),
		lost:   d("node_lost_events_total", "Events of the node that were lost between it and clients."),
		late:   d("node_late_events_total", "Events of the node that stand behind younger ones of other nodes."),
		queued: d("node_queued_events", "Events of the node that wait for clients."),
		offset: d("node_clock_offset_seconds", "By how much the node's clock is ahead of the relay's."),
		trip:   d("node_round_trip_seconds", "Time from a question to the node's answer, the shortest of the last ones.")}
}

type collector struct {
	relay                                        *Relay
	up, events, lost, late, queued, offset, trip *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.events, c.lost, c.late, c.queued, c.offset, c.trip} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	seen := make(map[string]bool)
	for _, n := range c.relay.Nodes() {
		if seen[n.GetName()] {
			continue // two agents of one name: `vigie status` shows both
		}
		seen[n.GetName()] = true
		tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, n.GetName())
		}
		up := 0.0
		if n.GetState() == stateConnected {
			up = 1
		}
		tell(c.up, prometheus.GaugeValue, up)
		tell(c.events, prometheus.CounterValue, float64(n.GetEvents()))
		tell(c.lost, prometheus.CounterValue, float64(n.GetLost()))
		tell(c.late, prometheus.CounterValue, float64(n.GetLate()))
		tell(c.queued, prometheus.GaugeValue, float64(n.GetQueued()))
		tell(c.offset, prometheus.GaugeValue, float64(n.GetClockOffsetNs())/1e9)
		tell(c.trip, prometheus.GaugeValue, float64(n.GetRttNs())/1e9)
	}
}
