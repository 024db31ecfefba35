// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"cmp"
	"slices"
)

// canvas is what the rules of a tier say of ports: who comes first keeps what it has painted.
type canvas struct {
	painted []span // by first, never overlapping
	ports   int    // that are painted
}

type span struct {
	first, last uint16
	answer      Answer
}

func (c *canvas) full() bool { return c.ports == 1<<16 }

// paint gives the ports of s, as far as they have none, an answer.
func (c *canvas) paint(s span, a Answer) {
	i, _ := slices.BinarySearchFunc(c.painted, s.first, func(x span, first uint16) int { return cmp.Compare(x.last, first) })
	for next := int(s.first); next <= int(s.last); i++ {
		end := int(s.last)
		if i < len(c.painted) && int(c.painted[i].first) <= end {
			end = int(c.painted[i].first) - 1
		}
		if end >= next {
			c.painted = slices.Insert(c.painted, i, span{uint16(next), uint16(end), a})
			c.ports += end - next + 1
			i++
		}
		if i >= len(c.painted) {
			return
		}
		next = int(c.painted[i].last) + 1
	}
}

// at is the answer for a port; 0: there is none.
func (c *canvas) at(port int) Answer {
	i, _ := slices.BinarySearchFunc(c.painted, port, func(x span, port int) int { return cmp.Compare(int(x.last), port) })
	if i < len(c.painted) && int(c.painted[i].first) <= port {
		return c.painted[i].answer
	}
	return 0
}
