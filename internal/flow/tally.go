// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"math/bits"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

type duration = time.Duration

// tally is what went over an edge in a time. Tallies add up, and can be taken away again when their time has passed.
type tally struct {
	flows, denied, audited, failed uint64
	sent, received, retransmits    uint64
	rtt                            time.Duration // sum of
	rtts                           uint64        // so many
	asked                          [2]requests   // as clients and as servers saw them
}

// requests are counted with the distribution of their latencies.
type requests struct {
	n, errors uint64
	latency   *histogram
}

// flow counts a report of a flow.
func (t *tally) flow(ev *model.Event) {
	f, n := ev.Flow, uint64(max(ev.Count, 1))
	if f.Report == 1 {
		t.flows = n
		switch f.Verdict {
		case model.FlowAudited:
			t.audited = n
		case model.FlowFailed:
			t.failed = n
		}
	}
	if f.Verdict == model.FlowDenied && f.State == model.FlowClosed {
		t.denied = n
	}
	t.sent, t.received, t.retransmits = f.Interval.BytesSent, f.Interval.BytesReceived, uint64(f.Interval.Retransmits)
	if f.SRTT > 0 {
		t.rtt, t.rtts = f.SRTT, 1
	}
}

// add adds o, or takes it away where sign is -1.
func (t *tally) add(o *tally, sign int) {
	n := uint64(sign)
	t.flows += n * o.flows
	t.denied += n * o.denied
	t.audited += n * o.audited
	t.failed += n * o.failed
	t.sent += n * o.sent
	t.received += n * o.received
	t.retransmits += n * o.retransmits
	t.rtt += time.Duration(sign) * o.rtt
	t.rtts += n * o.rtts
	for i := range t.asked {
		t.asked[i].n += n * o.asked[i].n
		t.asked[i].errors += n * o.asked[i].errors
		if h := o.asked[i].latency; h != nil {
			if t.asked[i].latency == nil {
				t.asked[i].latency = new(histogram)
			}
			t.asked[i].latency.add(h, sign)
		}
	}
}

// requests are those of the side that saw more: where both ends are on this host, each saw the same ones.
func (t *tally) requests() *requests {
	if t.asked[destination].n > t.asked[source].n {
		return &t.asked[destination]
	}
	return &t.asked[source]
}

// histogram counts durations by size: four steps for each doubling, from a microsecond on. A quantile of it is right to a fifth.
type histogram [4 * 32]uint32

func (h *histogram) count(d time.Duration) { h[bucket(d)]++ }

func (h *histogram) add(o *histogram, sign int) {
	for i, n := range o {
		h[i] += uint32(sign) * n
	}
}

func bucket(d time.Duration) int {
	us := uint64(max(d/time.Microsecond, 4))
	octave := bits.Len64(us) - 1
	return min(octave*4+int(us>>(octave-2)&3), len(histogram{})-1)
}

// quantile is the duration that a share q of all does not exceed; 0 of none.
func (h *histogram) quantile(q float64) time.Duration {
	if h == nil {
		return 0
	}
	var all, seen uint64
	for _, n := range h {
		all += uint64(n)
	}
	for i, n := range h {
		if seen += uint64(n); n > 0 && float64(seen) >= q*float64(all) {
			// The middle of the step.
			return time.Duration((8+2*uint64(i&3)+1)<<(i/4)/8) * time.Microsecond
		}
	}
	return 0
}
