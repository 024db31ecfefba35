// SPDX-License-Identifier: Apache-2.0

// Package http1 parses HTTP/1.0 and HTTP/1.1 (RFC 9112). In: what client and server of one connection say. Out: requests
// with status, latency and size. Of a message it reads the start line and a handful of headers, and skips the body.
//
// Where a message's length is ambiguous (two lengths that differ, a length beside chunks, a folded one), two readers
// may see two requests where others see one. This one then claims none: it waits for the side's next turn.
package http1

import (
	"bytes"
	"net/http"

	"github.com/vigie-io/vigie/internal/l7"
)

// Protocol is HTTP/1, for the list of protocols.
func Protocol() l7.Protocol {
	return l7.Protocol{Name: "http", Detect: detect, New: func(emit l7.Emit, counts *l7.Counts) l7.Parser { return &parser{emit: emit, counts: counts} }}
}

// maxLine is how much of a line is looked at. What is longer is cut: no header that is read is.
const maxLine = 4 << 10

// parser is one connection.
type parser struct {
	emit    l7.Emit
	counts  *l7.Counts
	sides   [2]message
	pending l7.Pending
	asked   l7.Ask // the request whose answer is being read
	reading bool   // there is one
	missed  bool   // requests or answers may have gone unseen: an answer that nobody asked for is no surprise
	lost    bool   // the client's next message is the first after such a place
	good    bool   // there was a request with its answer
}

// Parse implements l7.Parser.
func (p *parser) Parse(s l7.Side, b []byte, t uint64) l7.Step {
	m := &p.sides[s]
	switch m.part {
	case body, untilClose:
		p.end(s, t)
	case chunkData:
		m.part = chunkSize
	}
	used := 0
	for used < len(b) {
		line, n, whole := nextLine(b[used:])
		if n == 0 {
			break
		}
		used += n
		if m.long {
			m.long = !whole
			continue
		}
		m.long = !whole
		if step, more := p.line(s, line, t); !more {
			step.Use = used
			return step
		}
	}
	return l7.Step{Use: used}
}

// nextLine is a line without its end and how many bytes it takes; whole is false for the beginning of one that is too long.
func nextLine(b []byte) (line []byte, n int, whole bool) {
	i := bytes.IndexByte(b, '\n')
	switch {
	case i < 0 && len(b) < maxLine:
		return nil, 0, false
	case i < 0:
		return b, len(b), false
	}
	line = b[:i]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, i + 1, true
}

// line takes one line of a side. more: go on with the next one.
func (p *parser) line(s l7.Side, line []byte, t uint64) (step l7.Step, more bool) {
	m := &p.sides[s]
	switch m.part {
	case startLine:
		if len(line) == 0 {
			return step, true
		}
		*m = message{first: t, part: headers}
		if s == l7.Client {
			return p.request(line, t)
		}
		return p.status(line, t)
	case headers:
		if len(line) > 0 {
			m.header(line)
			if s == l7.Client {
				p.requestHeader(line)
			}
			return step, true
		}
		return p.bodyOf(s, t)
	case chunkSize:
		n, ok := size(line, 16)
		switch {
		case !ok:
			return p.unplaced(s, t), false
		case n == 0:
			m.part = trailers
			return step, true
		}
		m.part, m.bytes = chunkData, m.bytes+n
		return l7.Step{Skip: n + 2}, false // and the end of its line
	case trailers:
		if len(line) > 0 {
			return step, true
		}
		p.end(s, t)
		return step, false
	}
	return step, true
}

// bodyOf says what follows the headers.
func (p *parser) bodyOf(s l7.Side, t uint64) (step l7.Step, more bool) {
	m := &p.sides[s]
	if s == l7.Server {
		if m.status == 101 || p.asked.Request != nil && p.asked.Method == http.MethodConnect && m.status/100 == 2 {
			p.end(s, t)
			return l7.Step{Next: l7.Done}, false
		}
		if m.status < 200 || m.status == 204 || m.status == 304 || p.asked.Request != nil && p.asked.Method == http.MethodHead {
			p.end(s, t)
			return step, false
		}
	}
	switch {
	case m.odd:
		return p.unplaced(s, t), false
	case m.chunked:
		m.part = chunkSize
		return step, true
	case m.coding && s == l7.Client: // chunked is not its last: where it ends cannot be told
		return p.unplaced(s, t), false
	case m.length > 0:
		m.part, m.bytes = body, m.length
		return l7.Step{Skip: m.length}, false
	case s == l7.Server && (m.lengths == 0 || m.coding):
		m.part = untilClose
		return l7.Step{Skip: 1 << 62}, false
	}
	p.end(s, t)
	return step, false
}

// unplaced ends a message whose length cannot be known.
func (p *parser) unplaced(s l7.Side, t uint64) l7.Step {
	if s == l7.Client {
		p.lost = true
	} else {
		p.finish(t, false)
	}
	p.missed = true
	p.sides[s] = message{}
	return l7.Step{Next: l7.Unplaced}
}

// Lost implements l7.Parser.
func (p *parser) Lost(s l7.Side) bool {
	m := p.sides[s]
	p.sides[s] = message{}
	p.missed = true
	if s == l7.Server {
		p.finish(0, false)
		p.pending.Clear() // their answers may have gone by
		return true
	}
	p.lost = true
	// In the one message that waits for its answer: or else more requests than are known have been asked.
	return m.part != startLine && p.pending.Len() <= 1 || p.pending.Len() == 0
}

// Close implements l7.Parser.
func (p *parser) Close(t uint64) {
	p.finish(t, p.sides[l7.Server].part == untilClose)
	if p.good || !p.missed {
		p.pending.Unanswered(p.emit, t)
	}
}
