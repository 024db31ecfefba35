// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vigie-io/vigie/internal/model"
)

// register puts all metrics into a registry of its own.
func (s *Server) register() (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	all := append([]prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{server: s, d: newDescriptions()}}, s.config.Collectors...)
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return registry, nil
}

// Gatherer is everything that /metrics shows.
func (s *Server) Gatherer() prometheus.Gatherer { return s.metrics }

// metricsHandler serves /metrics.
func (s *Server) metricsHandler() http.Handler {
	return promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError})
}

// collector turns the backend's status into metrics when somebody asks for them.
type collector struct {
	server *Server
	d      descriptions
}

type descriptions struct {
	build, start, ready, events, lost, processes, evictions, stored, storedBytes, kept, keptBytes, keptOldest, queued, capacity, clients, sensor, runs,
	runTime, maps, policies, policyHits, exported, exportRetries, exportLost, exportWaiting, exportFailing *prometheus.Desc
}

func newDescriptions() descriptions {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("vigie_"+name, help, labels, nil)
	}
	return descriptions{
		build:         d("build_info", "Always 1; what is running.", "version", "commit", "goversion", "kernel"),
		start:         d("start_time_seconds", "When the agent started, in seconds since 1970."),
		ready:         d("ready", "1 when everything that was asked for works."),
		events:        d("events_total", "Events since the agent started, after folding.", "type"),
		lost:          d("lost_events_total", "Events lost since the agent started, by where and why.", "stage", "reason"),
		processes:     d("processes", "Process images in the table.", "state"),
		evictions:     d("process_evictions_total", "Ended process images dropped from the table to make room."),
		stored:        d("store_events", "Events in the memory store."),
		storedBytes:   d("store_bytes", "Estimated size of the memory store in bytes."),
		kept:          d("history_events", "Events in history on disk, with those that wait to be written."),
		keptBytes:     d("history_bytes", "Size of history on disk in bytes."),
		keptOldest:    d("history_oldest_seconds", "Time of the oldest event on disk, in seconds since 1970."),
		queued:        d("queue_length", "What waits in a queue, in its unit.", "queue", "unit"),
		capacity:      d("queue_capacity", "How much a queue holds at most, in its unit.", "queue", "unit"),
		clients:       d("subscribers", "Receivers of events.", "name"),
		sensor:        d("sensor_up", "1 for a sensor that runs.", "sensor", "rung"),
		runs:          d("program_runs_total", "Runs of a BPF program, while the kernel's statistics are on.", "sensor", "program"),
		runTime:       d("program_run_seconds_total", "Time spent in a BPF program, while the kernel's statistics are on.", "sensor", "program"),
		maps:          d("bpf_map_bytes", "Memory of BPF maps in bytes."),
		policies:      d("policies", "Policies, by mode and state.", "mode", "state"),
		exported:      d("export_sent_total", "Events that an exporter's destination took; of OTLP metrics, exports.", "exporter"),
		exportRetries: d("export_retries_total", "Events that an exporter sent again, once for each time.", "exporter"),
		exportLost:    d("export_lost_total", "Events that an exporter lost.", "exporter"),
		exportWaiting: d("export_waiting", "Events that wait in an exporter's queue.", "exporter"),
		exportFailing: d("export_failing", "1 while something keeps an exporter from delivering.", "exporter"),
		policyHits:    d("policy_hits_total", "What a policy denied, killed or, in mode audit, would have.", "policy"),
	}
}

// Descriptions are those of the metrics that are the server's own.
func Descriptions() []*prometheus.Desc {
	return newDescriptions().list()
}

func (d descriptions) list() []*prometheus.Desc {
	return []*prometheus.Desc{d.build, d.start, d.ready, d.events, d.lost, d.processes, d.evictions, d.stored, d.storedBytes, d.kept, d.keptBytes, d.keptOldest, d.queued,
		d.capacity, d.clients, d.sensor, d.runs, d.runTime, d.maps, d.policies, d.policyHits, d.exported, d.exportRetries, d.exportLost,
		d.exportWaiting, d.exportFailing}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.d.list() {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	st := c.server.self.Status()
	gauge(c.d.build, 1, st.Version, st.Commit, runtime.Version(), st.Kernel)
	gauge(c.d.start, float64(st.Started.UnixNano())/1e9)
	gauge(c.d.ready, oneIf(len(c.server.self.Problems()) == 0))
	for _, t := range model.Types() {
		count(c.d.events, float64(st.Events[t]), string(t))
	}
	for _, l := range st.Losses {
		count(c.d.lost, float64(l.Count), l.Stage, l.Reason)
	}
	gauge(c.d.processes, float64(st.ProcessTable.Live), "running")
	gauge(c.d.processes, float64(st.ProcessTable.Ended), "ended")
	count(c.d.evictions, float64(st.ProcessTable.Evictions))
	if h := st.History; h != nil {
		gauge(c.d.kept, float64(h.Events))
		gauge(c.d.keptBytes, float64(h.Bytes))
		if !h.Oldest.IsZero() {
			gauge(c.d.keptOldest, float64(h.Oldest.UnixNano())/1e9)
		}
	}
	gauge(c.d.stored, float64(st.Store.Events))
	gauge(c.d.storedBytes, float64(st.Store.Bytes))
	for _, q := range st.Queues {
		gauge(c.d.queued, float64(q.Length), q.Name, q.Unit)
		gauge(c.d.capacity, float64(q.Capacity), q.Name, q.Unit)
	}
	byName := map[string]int{"client": 0}
	for _, s := range append(st.Subscribers, c.server.streams.subscribers()...) {
		byName[s.Name]++
		if s.Exporter {
			count(c.d.exported, float64(s.Sent), s.Name)
			count(c.d.exportRetries, float64(s.Retried), s.Name)
			count(c.d.exportLost, float64(s.Lost), s.Name)
			gauge(c.d.exportWaiting, float64(s.Queued), s.Name)
			gauge(c.d.exportFailing, oneIf(s.Trouble != ""), s.Name)
		}
	}
	for name, n := range byName {
		gauge(c.d.clients, float64(n), name)
	}
	for _, s := range st.Sensors {
		gauge(c.d.sensor, oneIf(s.State == "on"), s.Name, s.Rung)
		for _, p := range s.Programs {
			count(c.d.runs, float64(p.RunCount), s.Name, p.Name)
			count(c.d.runTime, p.RunTime.Seconds(), s.Name, p.Name)
		}
	}
	gauge(c.d.maps, float64(st.MapBytes))
	states := make(map[[2]string]int)
	for _, p := range c.server.self.Policies() {
		states[[2]string{p.Mode, p.State}]++
		if p.State == PolicyFailed {
			continue // it hits nothing, and may have the name of one that does
		}
		var hits uint64
		for _, r := range p.Rules {
			hits += r.Hits
		}
		count(c.d.policyHits, float64(hits), p.Name)
	}
	for s, n := range states {
		gauge(c.d.policies, float64(n), s[0], s[1])
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
