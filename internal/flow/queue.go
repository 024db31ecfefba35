// SPDX-License-Identifier: Apache-2.0

package flow

// list is a conversation's place in a queue.
type list struct {
	in             *queue
	before, behind *conversation
	due            uint64 // ns since boot
}

// queue holds conversations in the order in which something is due of them. All that are put into one queue wait equally long,
// so that the order is that in which they came: no heap is needed, and a conversation leaves from anywhere in no time.
type queue struct{ first, last *conversation }

// put moves c to the end of the queue, from whichever it was in.
func (q *queue) put(c *conversation, due uint64) {
	c.leave()
	c.in, c.due, c.before = q, due, q.last
	if q.last != nil {
		q.last.behind = c
	} else {
		q.first = c
	}
	q.last = c
}

// take removes the first conversation when it is due; nil when none is.
func (q *queue) take(now uint64) *conversation {
	c := q.first
	if c == nil || c.due > now {
		return nil
	}
	c.leave()
	return c
}

func (c *conversation) leave() {
	q := c.in
	if q == nil {
		return
	}
	if c.before != nil {
		c.before.behind = c.behind
	} else {
		q.first = c.behind
	}
	if c.behind != nil {
		c.behind.before = c.before
	} else {
		q.last = c.before
	}
	c.list = list{}
}
