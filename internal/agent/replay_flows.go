// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/flow"
	"github.com/vigie-io/vigie/internal/model"
)

// playedFlows makes the flows of a capture that has none: flows are recorded where they are asked for. Time is the capture's own.
type playedFlows struct {
	table    *flow.Table
	recorded bool         // the capture has its own
	offset   atomic.Int64 // from time since boot to wall clock
	newest   atomic.Int64 // wall clock of the newest event, ns since 1970
	now      uint64       // ns since boot
}

// wall is the capture's wall clock.
func (p *playedFlows) wall(boot uint64) time.Time {
	return time.Unix(0, int64(boot)+p.offset.Load()).UTC()
}

// add returns the events with the flows that come of them behind them.
func (p *playedFlows) add(events []*model.Event) []*model.Event {
	if p == nil {
		return events
	}
	for _, ev := range events {
		p.newest.Store(max(p.newest.Load(), ev.Time.UnixNano()))
		p.recorded = p.recorded || ev.Flow != nil
		if ev.BootTime == 0 || p.recorded {
			continue
		}
		p.offset.Store(ev.Time.UnixNano() - int64(ev.BootTime))
		p.now = max(p.now, ev.BootTime)
		p.table.See(ev)
	}
	return append(events, p.flush(false)...)
}

// flush returns the reports that are due; at the end of the capture those of what is still open, too.
func (p *playedFlows) flush(final bool) (out []*model.Event) {
	if p == nil || p.recorded {
		return nil
	}
	p.table.Flush(p.now, true, final, func(ev *model.Event) { out = append(out, ev) })
	return out
}
