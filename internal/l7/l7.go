// SPDX-License-Identifier: Apache-2.0

// Package l7 understands what is said on connections. In: for each connection, the bytes that were sent and received,
// as far as they were captured (Chunk). Out: requests with their answers (model.Request), redacted: no body, no value of a
// query, no credential and no literal leaves this package. It is pure: it does no I/O and reads no clock.
//
// A Conn puts the chunks of a connection in order, finds out which protocol it speaks, and feeds a Parser of that protocol,
// which knows nothing of calls and gaps. Each protocol is a folder; protocols/ lists them.
package l7

import "github.com/vigie-io/vigie/internal/model"

// Side is an end of a connection by its role in the protocol.
type Side int

// The sides: who asks, and who answers.
const (
	Client Side = iota
	Server
)

// Other is the side that a side talks to.
func (s Side) Other() Side { return 1 - s }

// Chunk is what one call moved in one direction.
type Chunk struct {
	Time uint64 // when the call returned: nanoseconds on the clock of all chunks of a connection
	Sent bool   // by the process at this end; else it was received
	// Pos is the place of the first byte in all that goes in this direction, modulo 2³², from any beginning.
	Pos  uint32
	Data []byte // the first bytes; valid only during the call
	Size int    // how many bytes the call moved: the rest was not captured
	// Begins: nothing went in this direction before.
	Begins bool
}

// Parser makes requests of what the two sides of one connection say, in the order in which it is said. Whatever the
// pieces, the requests are the same.
type Parser interface {
	// Parse looks at the bytes of one side that wait; t is when the first of them came. It is called again
	// until it has no use for what is left. b is valid only during the call.
	Parse(s Side, b []byte, t uint64) Step
	// Lost says that bytes of a side are missing that were not skipped: a message of it is not complete. What comes next
	// from this side begins a message. It returns false when nothing more can be understood.
	Lost(s Side) bool
	// Close gives out what can still be told; t is when the connection ended.
	Close(t uint64)
}

// Step is what a parser did with what it was shown. The zero Step asks for more bytes.
type Step struct {
	Use int // bytes at the beginning that are done with
	// Skip is how many bytes after these the parser does not need to see. Parse is called after they have passed,
	// with whatever waits then, or with nothing.
	Skip uint64
	Next Next
}

// Next is how it goes on after a step.
type Next int

const (
	// More is the usual: there is more to be parsed.
	More Next = iota
	// Unplaced says that where the next message begins cannot be known: whatever comes before the side's next turn
	// is not looked at.
	Unplaced
	// Done says that what follows is of another protocol, and of no interest.
	Done
	// Wrong says that this is not the protocol, or broken beyond use.
	Wrong
)

// Emit takes a request that is complete; t is when that was. The parser fills what the protocol tells; the addresses
// are the caller's.
type Emit func(r *model.Request, t uint64)

// Match is how far bytes are like a protocol.
type Match int

// The degrees of likeness.
const (
	No     Match = iota
	Unsure       // more bytes will tell
	Yes
)

// Protocol is one application protocol.
type Protocol struct {
	Name string
	// Detect judges the first bytes that a side said. begins: the connection began with them; else they may be anything's
	// middle. It says Yes only to what hardly anything else begins with.
	Detect func(s Side, b []byte, begins bool) Match
	New    func(emit Emit, counts *Counts) Parser
}

// Bounds of what a connection can hold.
const (
	// MaxBuffer is how many bytes of each direction wait at most for the rest of their message.
	MaxBuffer = 8 << 10
	// MaxPending is how many requests wait at most for their answers.
	MaxPending = 64
	// MaxConnMemory is what one connection takes at the most, in bytes.
	MaxConnMemory = 96 << 10
)
