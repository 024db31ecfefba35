// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// garbage is how much memory may be waiting for the collector, in bytes, however much is in use. A fixed share of what
// is in use (GOGC) would collect too often on a quiet host, where little is, and let a host with 50,000 processes take
// half as much again.
const garbage = 12 << 20

// collector keeps the garbage collector's target at a fixed amount of garbage.
type collector struct {
	before  int // the target that it found
	percent int
	live    []metrics.Sample
	wait    int // calls of adjust, about one a second, until memory is given back again
}

// What a start or a large change of policies needed for a moment goes back to the system when so many bytes of it lie idle:
// soon after the start, and then once a minute at most, since it takes a collection. Go's own scavenger takes minutes.
const (
	idle    = garbage / 2
	startUp = 5  // calls of adjust
	calm    = 60 // as well
)

// newCollector takes over the target, unless the environment sets one (GOGC): then it is nil, which does nothing.
func newCollector() *collector {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	c := &collector{percent: 100, wait: startUp, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}}
	c.before = debug.SetGCPercent(c.percent)
	return c
}

// adjust sets the target by what is in use now. Changing it stops the world for some microseconds, so that small
// differences do not.
func (c *collector) adjust() {
	if c == nil {
		return
	}
	metrics.Read(c.live)
	if c.wait--; c.wait <= 0 && c.live[1].Value.Uint64() > idle {
		c.wait = calm
		debug.FreeOSMemory()
	}
	percent := gcPercent(c.live[0].Value.Uint64())
	if diff := percent - c.percent; diff > c.percent/8 || -diff > c.percent/8 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

func (c *collector) restore() {
	if c != nil {
		debug.SetGCPercent(c.before)
	}
}

// gcPercent is the target that lets garbage gather beside so many bytes in use.
func gcPercent(live uint64) int {
	return int(min(max(garbage*100/max(live, 1), 15), 400))
}
