// SPDX-License-Identifier: Apache-2.0

package l7

// State is how well a connection is understood.
type State int

// The states of a connection.
const (
	Unknown    State = iota // its protocol is still to be found out
	Understood              // its protocol is known
	Ignored                 // nothing more will come of it: chunks are not wanted
)

// Counts are what did not become requests, of all connections that share them.
type Counts struct {
	Unrecognised uint64 // connections whose protocol was not recognised
	Wrong        uint64 // connections that were taken for a protocol that they then did not speak
	Gaps         uint64 // places where bytes were missing that a parser needed
	Gone         uint64 // connections that could not be followed after such a place
	Crowded      uint64 // requests beyond those that can wait for their answers on a connection
}

// maxTries is how many turns of each side are looked at before a connection counts as not recognised.
const maxTries = 4

// Conn is one connection as one of its ends sees it. Not safe for concurrent use.
type Conn struct {
	protocols []Protocol
	emit      Emit
	counts    *Counts

	state    State
	protocol string
	parser   Parser
	client   int // index of the direction in which the client speaks, once the protocol is known
	streams  [2]stream
	last     int  // the direction that spoke last: -1 at the beginning
	whole    bool // it was met at its beginning
	tries    int
}

// Directions of a connection, as indexes.
const (
	received = iota
	sent
)

// stream is one direction.
type stream struct {
	buf     []byte
	at      uint64 // when the first byte of buf came
	skip    uint64 // bytes that will come and are not needed
	next    uint32 // place of the next byte
	begun   bool   // there was a chunk
	begins  bool   // what waits begins the connection
	skipped bool   // the parser is to be told that the bytes have passed
	lost    bool   // not looked at before the side's next turn
}

// NewConn is a connection of which nothing is known. counts is shared with other connections.
func NewConn(protocols []Protocol, counts *Counts, emit Emit) *Conn {
	return &Conn{protocols: protocols, emit: emit, counts: counts, last: -1}
}

// State says how well the connection is understood.
func (c *Conn) State() State { return c.state }

// Protocol names the parser; empty before the protocol is known.
func (c *Conn) Protocol() string { return c.protocol }

// Role is that of the process at this end, once the protocol is known: client or server.
func (c *Conn) Role() string {
	if c.client == sent {
		return "client"
	}
	return "server"
}

// Feed takes the next chunk of the connection.
func (c *Conn) Feed(k Chunk) {
	if c.state == Ignored {
		return
	}
	dir := received
	if k.Sent {
		dir = sent
	}
	s := &c.streams[dir]
	if c.last != dir {
		c.whole = c.whole || c.last < 0 && k.Begins
		c.last = dir
		c.turn(s)
	}
	data, size := k.Data, max(k.Size, len(k.Data))
	if !s.begun {
		s.begun, s.begins = true, k.Begins
		if c.whole && !k.Begins {
			c.unseen(dir)
		}
	} else if d := int(int32(k.Pos - s.next)); d < 0 {
		// Seen before: a look that left the bytes where they were (MSG_PEEK).
		again := min(-d, size)
		data, size = data[min(again, len(data)):], size-again
		k.Pos += uint32(again)
	} else if d > 0 {
		c.gap(dir, uint64(d), k.Time)
	}
	if size == 0 {
		return
	}
	s.next = k.Pos + uint32(size)
	c.data(dir, data, k.Time)
	if missing := size - len(data); missing > 0 {
		c.gap(dir, uint64(missing), k.Time)
	}
}

// Passed says that by t everything before end has passed in a direction, without being captured.
func (c *Conn) Passed(wasSent bool, end uint32, t uint64) {
	dir := received
	if wasSent {
		dir = sent
	}
	s := &c.streams[dir]
	if d := int32(end - s.next); s.begun && d > 0 {
		s.next = end
		c.gap(dir, uint64(d), t)
	}
}

// Waits reports whether the end of something that is not captured would tell more.
func (c *Conn) Waits() bool { return c.streams[received].skipped || c.streams[sent].skipped }

// Close says that the connection has ended.
func (c *Conn) Close(t uint64) {
	if c.state == Understood {
		c.parser.Close(t)
	} else if c.state == Unknown && c.last >= 0 {
		c.counts.Unrecognised++
	}
	c.end()
}

// turn is called when a direction begins to speak after the other.
func (c *Conn) turn(s *stream) {
	s.lost = false
	if c.state == Unknown {
		c.tries++
	}
}

// end leaves nothing to hold.
func (c *Conn) end() {
	c.state, c.parser = Ignored, nil
	c.streams = [2]stream{}
}

// data takes bytes that were captured; none, when bytes that were to be skipped have passed uncaptured.
func (c *Conn) data(dir int, b []byte, t uint64) {
	s := &c.streams[dir]
	for c.state != Ignored {
		n := min(s.skip, uint64(len(b)))
		s.skip, b = s.skip-n, b[n:]
		if s.lost || len(b) == 0 && (!s.skipped || s.skip > 0) {
			return
		}
		var rest []byte
		if len(s.buf) == 0 {
			s.at = t
			rest, b = c.look(dir, b, t), nil
		} else {
			n := min(MaxBuffer-len(s.buf), len(b))
			s.buf, b = append(s.buf, b[:n]...), b[n:]
			rest = c.look(dir, s.buf, t)
		}
		switch {
		case c.state == Ignored || s.lost:
			return
		case len(rest) >= MaxBuffer: // a message that is larger than anything that matters
			c.missing(dir)
			return
		case len(rest) == 0:
			s.buf = nil // most connections are idle most of the time
		default:
			s.buf = append(s.buf[:0], rest...)
		}
	}
}

// look shows bytes to the detectors or the parser and returns those that must wait.
func (c *Conn) look(dir int, b []byte, t uint64) []byte {
	if c.state == Unknown {
		return c.detect(dir, b, t)
	}
	return c.parse(dir, b, t)
}

// parse calls the parser until it has no use for what is left.
func (c *Conn) parse(dir int, b []byte, t uint64) []byte {
	s, side := &c.streams[dir], Server
	if dir == c.client {
		side = Client
	}
	for len(b) > 0 || s.skipped {
		s.skipped = false
		step := c.parser.Parse(side, b, s.at)
		b = b[step.Use:]
		if step.Use > 0 {
			s.at = t
		}
		switch step.Next {
		case Unplaced:
			s.lost, s.skip, s.buf = true, 0, nil
			return nil
		case Done:
			c.end()
			return nil
		case Wrong:
			c.counts.Wrong++
			c.end()
			return nil
		}
		if step.Skip > 0 {
			s.skipped = true
			n := min(step.Skip, uint64(len(b)))
			b, s.skip = b[n:], step.Skip-n
			if s.skip > 0 {
				return nil // b is used up
			}
			continue
		}
		if step.Use == 0 {
			return b
		}
	}
	return nil
}

// gap says that n bytes were not captured.
func (c *Conn) gap(dir int, n uint64, t uint64) {
	s := &c.streams[dir]
	if c.state == Ignored || s.lost {
		return
	}
	if s.skip >= n {
		if s.skip -= n; s.skip == 0 {
			c.data(dir, nil, t)
		}
		return
	}
	c.missing(dir)
}

// unseen says that bytes that a parser needs went by before those that come.
func (c *Conn) unseen(dir int) {
	c.counts.Gaps++
	if c.state != Understood {
		return
	}
	side := Server
	if dir == c.client {
		side = Client
	}
	if !c.parser.Lost(side) {
		c.counts.Gone++
		c.end()
	}
}

// missing says that bytes that were needed will not come.
func (c *Conn) missing(dir int) {
	s := &c.streams[dir]
	s.lost, s.skip, s.skipped, s.begins, s.buf = true, 0, false, false, nil
	c.unseen(dir)
}
