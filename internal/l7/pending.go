// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Ask is a request that waits for its answer.
type Ask struct {
	*model.Request
	At uint64 // when its first byte came
}

// Answered sets the latency of the request whose answer began at t.
func (a *Ask) Answered(t uint64) {
	if t > a.At {
		a.Latency = time.Duration(t - a.At)
	}
}

// Ended sets the duration of the request whose answer ended at t.
func (a *Ask) Ended(t uint64) {
	if t > a.At {
		a.Duration = time.Duration(t - a.At)
	}
}

// Pending are the requests of a connection whose answers come in their order. The zero value is empty. It holds MaxPending.
type Pending struct {
	asks []Ask
}

// Push adds a request. It returns false when there is no room: then order is lost.
func (p *Pending) Push(r *model.Request, at uint64) bool {
	if len(p.asks) == MaxPending {
		return false
	}
	p.asks = append(p.asks, Ask{r, at})
	return true
}

// Pop takes the oldest; ok is false when there is none.
func (p *Pending) Pop() (a Ask, ok bool) {
	if len(p.asks) == 0 {
		return Ask{}, false
	}
	a = p.asks[0]
	n := copy(p.asks, p.asks[1:])
	p.asks[n] = Ask{}
	p.asks = p.asks[:n]
	return a, true
}

// Len is how many wait.
func (p *Pending) Len() int { return len(p.asks) }

// Last is the youngest; nil when there is none.
func (p *Pending) Last() *Ask {
	if len(p.asks) == 0 {
		return nil
	}
	return &p.asks[len(p.asks)-1]
}

// First is the oldest; nil when there is none.
func (p *Pending) First() *Ask {
	if len(p.asks) == 0 {
		return nil
	}
	return &p.asks[0]
}

// Clear forgets all.
func (p *Pending) Clear() { p.asks = nil }

// Unanswered gives out all that wait as requests that got no answer.
func (p *Pending) Unanswered(emit Emit, t uint64) {
	for _, a := range p.asks {
		a.NoAnswer = true
		a.Ended(t)
		emit(a.Request, t)
	}
	p.asks = nil
}
