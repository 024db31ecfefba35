// SPDX-License-Identifier: Apache-2.0

package relay

import "time"

// clock is what is known of a node's clock: by how much it is ahead of the relay's. It is measured as NTP does: a question
// and its answer take some time, and the node's clock was read somewhere in it. The shortest of the last measurements says
// most. The zero clock has measured nothing.
type clock struct {
	last []reading // at most readings of them, oldest first
}

type reading struct {
	offset time.Duration // node's clock minus the relay's in the middle of the question and the answer
	trip   time.Duration // between the question and the answer
	coarse time.Duration // by how much the node's own statement may be off
}

const (
	readings = 8
	// tolerance is the offset that is not corrected: it is less than what agents themselves wait before they send.
	tolerance = 20 * time.Millisecond
)

// measure takes in that the node's clock said there while the relay's went from asked to answered. coarse is how exact
// the node's statement is: 0 for an agent that says it in nanoseconds.
func (c *clock) measure(asked, answered, there time.Time, coarse time.Duration) {
	trip := answered.Sub(asked)
	c.last = append(c.last, reading{offset: there.Sub(asked.Add(trip / 2)), trip: trip, coarse: coarse})
	if len(c.last) > readings {
		c.last = append([]reading(nil), c.last[1:]...)
	}
}

// offset is by how much the node is ahead, how far off that may be, and the shortest trip; 0 when nothing was measured.
func (c *clock) offset() (ahead, uncertainty, trip time.Duration) {
	best := -1
	for i, r := range c.last {
		if best < 0 || r.trip/2+r.coarse < c.last[best].trip/2+c.last[best].coarse {
			best = i
		}
	}
	if best < 0 {
		return 0, 0, 0
	}
	// A clock that was set since stands outside of what an earlier measurement allows: the latest one is true.
	newest := c.last[len(c.last)-1]
	r := c.last[best]
	if gap := (newest.offset - r.offset).Abs(); gap > newest.trip/2+newest.coarse+r.trip/2+r.coarse+tolerance {
		r = newest
	}
	return r.offset, r.trip/2 + r.coarse, r.trip
}

// correction is the offset where it matters: beyond what the measurement may be off, and what nobody notices.
func (c *clock) correction() time.Duration {
	ahead, uncertainty, _ := c.offset()
	if ahead.Abs() <= uncertainty+tolerance {
		return 0
	}
	return ahead
}
