// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxLabels is how many labels a family may have.
const maxLabels = 4

// Other stands in every label of the series that takes what a full family has no room for.
const Other = "other"

// A full family forgets, once in forgetEvery, the series to which nothing was added for staleAfter: workloads come and go.
const (
	staleAfter  = time.Hour
	forgetEvery = time.Minute
)

type labels [maxLabels]string

// Family says what a metric is, and how many series it has at most beside the one of Other.
type Family struct {
	Group     string // what turns it on
	Name      string
	Help      string
	Labels    []string
	Max       int
	Histogram bool
}

// vector holds the series of a family.
type vector struct {
	Family
	desc    *prometheus.Desc
	buckets []float64 // of histograms

	mu       sync.Mutex
	series   map[labels]*series
	overflow uint64 // observations that went to Other
	forgot   time.Time
}

type series struct {
	value   float64  // a counter's, a histogram's sum
	count   uint64   // a histogram's
	buckets []uint64 // of a histogram, each alone
	touched time.Time
}

func newVector(f Family, buckets []float64) *vector {
	v := &vector{Family: f, desc: prometheus.NewDesc(f.Name, f.Help, f.Labels, nil), series: make(map[labels]*series)}
	if f.Histogram {
		v.buckets = buckets
	}
	return v
}

// add adds to a counter.
func (v *vector) add(now time.Time, n float64, values ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.find(now, values).value += n
}

// observe adds a value to a histogram.
func (v *vector) observe(now time.Time, x float64, values ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.find(now, values)
	if s.buckets == nil {
		s.buckets = make([]uint64, len(v.buckets))
	}
	if i, _ := slices.BinarySearch(v.buckets, x); i < len(s.buckets) {
		s.buckets[i]++
	}
	s.count++
	s.value += x
}

// find is the series with these values, or that of Other. Called with v.mu held.
func (v *vector) find(now time.Time, values []string) *series {
	var key labels
	copy(key[:], values)
	s := v.series[key]
	if s == nil {
		if len(v.series) >= v.Max && !v.forget(now) {
			v.overflow++
			key = v.other()
			s = v.series[key]
		}
		if s == nil {
			s = new(series)
			v.series[key] = s
		}
	}
	s.touched = now
	return s
}

// forget drops what is stale, and reports whether there is room now.
func (v *vector) forget(now time.Time) bool {
	if now.Sub(v.forgot) < forgetEvery {
		return false
	}
	v.forgot = now
	other := v.other()
	for key, s := range v.series {
		if key != other && now.Sub(s.touched) >= staleAfter {
			delete(v.series, key)
		}
	}
	return len(v.series) < v.Max
}

func (v *vector) other() (key labels) {
	for i := range v.Labels {
		key[i] = Other
	}
	return key
}

// collect sends the series, and says how many there are and what overflowed.
func (v *vector) collect(ch chan<- prometheus.Metric) (n int, overflow uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, s := range v.series {
		values := key[:len(v.Labels)]
		if !v.Histogram {
			ch <- prometheus.MustNewConstMetric(v.desc, prometheus.CounterValue, s.value, values...)
			continue
		}
		below, cumulative := uint64(0), make(map[float64]uint64, len(v.buckets))
		for i, bound := range v.buckets {
			below += s.buckets[i]
			cumulative[bound] = below
		}
		ch <- prometheus.MustNewConstHistogram(v.desc, s.count, s.value, cumulative, values...)
	}
	return len(v.series), v.overflow
}
