// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	pb "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// metrics sends what /metrics shows, every interval. What it sends are totals: an export that fails is not sent
// again, the next one says all of it. So it is no loss of events, but a gap in a curve.
type metrics struct {
	client   *client
	gatherer prometheus.Gatherer
	resource *resource.Resource
	version  string
	started  time.Time
	interval time.Duration
	options  export.Options

	sent, lost atomic.Uint64
	trouble    atomic.Pointer[string]
}

var _ export.Exporter = (*metrics)(nil)

func newMetrics(o Options, delivery export.Options, c *client) *metrics {
	return &metrics{client: c, gatherer: o.Gatherer, resource: agentResource(o), version: o.Version, started: o.Started, interval: o.Interval,
		options: delivery}
}

// Name implements export.Exporter.
func (m *metrics) Name() string { return m.options.Name }

// Subscribe implements export.Exporter: no events.
func (m *metrics) Subscribe() pipeline.SubscribeOptions {
	return pipeline.SubscribeOptions{Name: m.options.Name, Keep: func(*model.Event) bool { return false }}
}

// Reopen implements export.Exporter.
func (m *metrics) Reopen() error { return nil }

// Stats implements export.Exporter.
func (m *metrics) Stats() export.Stats {
	s := export.Stats{Sent: m.sent.Load(), Lost: m.lost.Load()}
	if t := m.trouble.Load(); t != nil {
		s.Trouble = *t
	}
	return s
}

// Run implements export.Exporter. The last export is when the subscription ends.
func (m *metrics) Run(sub *pipeline.Subscription) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), m.interval)
		_, err := sub.Next(ctx)
		cancel()
		ended := errors.Is(err, pipeline.ErrClosed)
		within := export.DefaultTimeout
		if ended {
			within = export.DefaultDrain
		}
		m.export(within)
		if ended {
			return m.client.close()
		}
	}
}

// export sends the metrics as they are now.
func (m *metrics) export(within time.Duration) {
	request, points, err := m.collect(time.Now())
	var answer collector.ExportMetricsServiceResponse
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		err = m.client.send(ctx, request, points, &answer)
		if _, err = dealtWith(points, err, answer.GetPartialSuccess().GetRejectedDataPoints(), answer.GetPartialSuccess().GetErrorMessage()); err == nil {
			m.sent.Add(1)
			if m.trouble.Swap(nil) != nil {
				m.options.Log.Info("metrics are exported again", "exporter", m.options.Name, "lost", m.lost.Load())
			}
			return
		}
	}
	m.lost.Add(1)
	text := err.Error()
	if m.trouble.Swap(&text) == nil {
		m.options.Log.Error("metrics can't be exported: the next export says what this one would have", "exporter", m.options.Name, "error", err)
	}
}

// collect makes a request of all metrics, and says how many points it has.
func (m *metrics) collect(now time.Time) (request []byte, points int, err error) {
	families, err := m.gatherer.Gather()
	if err != nil && len(families) == 0 {
		return nil, 0, &export.NamedError{Name: "gather", Err: fmt.Errorf("gather metrics: %w", err)}
	}
	scope := &pb.ScopeMetrics{Scope: &common.InstrumentationScope{Name: "vigie", Version: m.version}}
	for _, f := range families {
		scope.Metrics = append(scope.Metrics, convert(f, uint64(m.started.UnixNano()), uint64(now.UnixNano())))
		points += len(f.GetMetric())
	}
	r := &collector.ExportMetricsServiceRequest{ResourceMetrics: []*pb.ResourceMetrics{{Resource: m.resource, ScopeMetrics: []*pb.ScopeMetrics{scope}}}}
	return marshal(r), points, nil
}

// convert makes an OTLP metric of a family, by the rules of OpenTelemetry's specification of compatibility with Prometheus.
func convert(f *dto.MetricFamily, started, now uint64) *pb.Metric {
	m := &pb.Metric{Name: f.GetName(), Description: f.GetHelp()}
	number := func(x *dto.Metric, v float64, from uint64) *pb.NumberDataPoint {
		return &pb.NumberDataPoint{Attributes: labels(x), StartTimeUnixNano: from, TimeUnixNano: now, Value: &pb.NumberDataPoint_AsDouble{AsDouble: v}}
	}
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		sum := &pb.Sum{AggregationTemporality: pb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE, IsMonotonic: true}
		for _, x := range f.GetMetric() {
			sum.DataPoints = append(sum.DataPoints, number(x, x.GetCounter().GetValue(), started))
		}
		m.Data = &pb.Metric_Sum{Sum: sum}
	case dto.MetricType_HISTOGRAM:
		h := &pb.Histogram{AggregationTemporality: pb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE}
		for _, x := range f.GetMetric() {
			h.DataPoints = append(h.DataPoints, histogram(x, started, now))
		}
		m.Data = &pb.Metric_Histogram{Histogram: h}
	case dto.MetricType_SUMMARY:
		s := new(pb.Summary)
		for _, x := range f.GetMetric() {
			p := &pb.SummaryDataPoint{Attributes: labels(x), StartTimeUnixNano: started, TimeUnixNano: now, Count: x.GetSummary().GetSampleCount(),
				Sum: x.GetSummary().GetSampleSum()}
			for _, q := range x.GetSummary().GetQuantile() {
				p.QuantileValues = append(p.QuantileValues, &pb.SummaryDataPoint_ValueAtQuantile{Quantile: q.GetQuantile(), Value: q.GetValue()})
			}
			s.DataPoints = append(s.DataPoints, p)
		}
		m.Data = &pb.Metric_Summary{Summary: s}
	default:
		g := new(pb.Gauge)
		for _, x := range f.GetMetric() {
			g.DataPoints = append(g.DataPoints, number(x, x.GetGauge().GetValue()+x.GetUntyped().GetValue(), 0))
		}
		m.Data = &pb.Metric_Gauge{Gauge: g}
	}
	return m
}

// histogram turns counts that each include those below into counts of each bucket alone.
func histogram(x *dto.Metric, started, now uint64) *pb.HistogramDataPoint {
	h := x.GetHistogram()
	sum := h.GetSampleSum()
	p := &pb.HistogramDataPoint{Attributes: labels(x), StartTimeUnixNano: started, TimeUnixNano: now, Count: h.GetSampleCount(), Sum: &sum}
	var below uint64
	for _, b := range h.GetBucket() {
		if math.IsInf(b.GetUpperBound(), 1) {
			continue
		}
		p.ExplicitBounds = append(p.ExplicitBounds, b.GetUpperBound())
		p.BucketCounts = append(p.BucketCounts, b.GetCumulativeCount()-below)
		below = b.GetCumulativeCount()
	}
	p.BucketCounts = append(p.BucketCounts, h.GetSampleCount()-below)
	return p
}

func labels(x *dto.Metric) attributes {
	var a attributes
	for _, l := range x.GetLabel() {
		a.text(l.GetName(), l.GetValue())
	}
	return a
}
