// SPDX-License-Identifier: Apache-2.0

// Package postgres parses PostgreSQL's protocol, version 3 (PostgreSQL's documentation, "Frontend/Backend Protocol"). In: what
// client and server of one connection say. Out: one request for each query: its kind and table, latency and SQLSTATE. Parameters,
// rows, passwords and the text of queries are not kept.
package postgres

import (
	"bytes"
	"encoding/binary"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/sql"
	"github.com/vigie-io/vigie/internal/model"
)

// Protocol is PostgreSQL, for the list of protocols.
func Protocol() l7.Protocol {
	return l7.Protocol{Name: "postgresql", Detect: detect, New: func(emit l7.Emit, counts *l7.Counts) l7.Parser {
		return &parser{emit: emit, counts: counts, statements: make(map[string]statement), portals: make(map[string]statement)}
	}}
}

// Codes in the place of a version in a start-up message.
const (
	version3      = 3 << 16
	codeCancel    = 80877102
	codeTLS       = 80877103
	codeGSS       = 80877104
	startupHeader = 8
)

const (
	header    = 5
	maxLength = 1 << 30
	maxText   = 512 // of a query: how much of it is looked at
	maxNames  = 64  // prepared statements that are remembered
)

func detect(s l7.Side, b []byte, begins bool) l7.Match {
	if s != l7.Client {
		return l7.No
	}
	if begins {
		if len(b) < startupHeader {
			if len(b) == 0 || b[0] == 0 {
				return l7.Unsure
			}
		} else if startup(b) {
			return l7.Yes
		}
	}
	if len(b) == 0 || b[0] != 'Q' && b[0] != 'P' {
		return l7.No
	}
	if len(b) < header+8 {
		return l7.Unsure
	}
	n := binary.BigEndian.Uint32(b[1:])
	if n < 8 || n > 1<<24 {
		return l7.No
	}
	text := b[header:min(len(b), int(n)+1)]
	if b[0] == 'P' {
		i := bytes.IndexByte(text, 0)
		if i < 0 {
			return l7.No
		}
		text = text[i+1:]
	}
	if kind, _ := sql.Statement(text); kind == "" {
		return l7.No
	}
	return l7.Yes
}

// startup reports whether b begins with a start-up message.
func startup(b []byte) bool {
	n, code := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	switch code {
	case codeTLS, codeGSS:
		return n == 8
	case codeCancel:
		return n >= 16 && n <= 272
	}
	return code>>16 == version3>>16 && code&0xffff <= 2 && n >= 9 && n <= 10000
}

// statement is what is told of a query.
type statement struct{ kind, table string }

// step is something that the client has asked for, in order: a query, or a point where both sides meet.
type step struct {
	l7.Ask        // no request: a sync
	simple   bool // ends when the server is ready, not with its own result
	answered bool
}

type parser struct {
	emit       l7.Emit
	counts     *l7.Counts
	statements map[string]statement // prepared, by name
	portals    map[string]statement
	steps      []step
	asksTLS    bool // the server's next byte says whether it speaks TLS
	good       bool
}

// Parse implements l7.Parser.
func (p *parser) Parse(s l7.Side, b []byte, t uint64) l7.Step {
	if len(b) == 0 {
		return l7.Step{}
	}
	if s == l7.Client && b[0] == 0 {
		return p.startup(b)
	}
	if s == l7.Server && p.asksTLS {
		p.asksTLS = false
		if b[0] == 'S' || b[0] == 'G' {
			return l7.Step{Next: l7.Done}
		}
		if b[0] == 'N' {
			return l7.Step{Use: 1}
		}
	}
	if len(b) < header {
		return l7.Step{}
	}
	n := binary.BigEndian.Uint32(b[1:])
	if n < 4 || n > maxLength || !known(s, b[0]) {
		return p.broken()
	}
	length := int(n) - 4
	want := 0
	if s == l7.Client && (b[0] == 'Q' || b[0] == 'P' || b[0] == 'B' || b[0] == 'E') || s == l7.Server && b[0] == 'E' {
		want = min(length, maxText)
	}
	if len(b) < header+want {
		return l7.Step{}
	}
	body := b[header : header+want]
	if s == l7.Client {
		p.asked(b[0], body, t)
	} else {
		p.answered(b[0], body, t)
	}
	return l7.Step{Use: header + want, Skip: uint64(length - want)}
}

// known reports whether a side has a message of a type.
func known(s l7.Side, c byte) bool {
	if s == l7.Client {
		return bytes.IndexByte([]byte("QPBEDSCHFXpdcf"), c) >= 0
	}
	return bytes.IndexByte([]byte("RKSZTDCIEN123ntsGHWAVvdc"), c) >= 0
}

func (p *parser) broken() l7.Step {
	if p.good {
		p.steps = nil
		return l7.Step{Next: l7.Unplaced}
	}
	return l7.Step{Next: l7.Wrong}
}

func (p *parser) startup(b []byte) l7.Step {
	if len(b) < startupHeader {
		return l7.Step{}
	}
	if !startup(b) {
		return p.broken()
	}
	n, code := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	p.asksTLS = code == codeTLS || code == codeGSS
	return l7.Step{Use: startupHeader, Skip: uint64(n) - startupHeader}
}

// asked takes a message of the client.
func (p *parser) asked(kind byte, body []byte, t uint64) {
	switch kind {
	case 'Q':
		st := p.statement(body)
		p.push(step{Ask: p.ask(st, t), simple: true})
	case 'P': // name, query
		name, rest, ok := bytes.Cut(body, []byte{0})
		if ok && len(name) < 64 {
			remember(p.statements, string(name), p.statement(rest))
		}
	case 'B': // portal, statement
		portal, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		if len(portal) < 64 {
			remember(p.portals, string(portal), p.statements[string(name)])
		}
	case 'E':
		portal, _, _ := bytes.Cut(body, []byte{0})
		st := p.portals[string(portal)]
		if st.kind == "" {
			st.kind = "EXECUTE" // it was prepared before the connection was looked at
		}
		p.push(step{Ask: p.ask(st, t)})
	case 'S':
		p.push(step{Ask: l7.Ask{At: t}})
	}
}

func (p *parser) statement(text []byte) statement {
	kind, table := sql.Statement(bytes.TrimRight(text, "\x00"))
	if kind == "" {
		kind = "QUERY"
	}
	return statement{kind, table}
}

// remember keeps a bounded number of names.
func remember(m map[string]statement, name string, s statement) {
	if len(m) >= maxNames {
		clear(m) // what is used again is prepared again, or told as EXECUTE
	}
	m[name] = s
}

func (p *parser) ask(st statement, t uint64) l7.Ask {
	return l7.Ask{Request: &model.Request{Protocol: "postgresql", Method: st.kind, Resource: st.table}, At: t}
}

func (p *parser) push(s step) {
	if len(p.steps) >= l7.MaxPending {
		p.counts.Crowded++
		return
	}
	p.steps = append(p.steps, s)
}

// answered takes a message of the server.
func (p *parser) answered(kind byte, body []byte, t uint64) {
	switch kind {
	case 'R', 'K', 'S', 'N', 'A', 'v': // log-in, and what can come at any time
		return
	case 'Z':
		p.ready(t)
		return
	}
	if len(p.steps) == 0 {
		return
	}
	s := &p.steps[0]
	if s.Request == nil {
		return // what is only prepared
	}
	if !s.answered {
		s.answered = true
		s.Answered(t)
	}
	switch kind {
	case 'E':
		s.Failed, s.StatusText = true, state(body)
		if !s.simple {
			p.end(t)
			// The server passes over everything up to the next sync.
			for len(p.steps) > 0 && p.steps[0].Request != nil {
				p.steps = p.steps[1:]
			}
		}
	case 'C', 'I', 's':
		if !s.simple {
			p.end(t)
		}
	}
}

// ready ends a simple query, or a sync with what it still waits for.
func (p *parser) ready(t uint64) {
	for len(p.steps) > 0 {
		s := p.steps[0]
		if s.Request == nil {
			p.steps = p.steps[1:]
			return
		}
		p.end(t)
		if s.simple {
			return
		}
	}
}

// end gives out the first step.
func (p *parser) end(t uint64) {
	s := p.steps[0]
	p.steps = p.steps[1:]
	s.Ended(t)
	p.good = true
	p.emit(s.Request, t)
}

// state is the SQLSTATE of an error: the field C.
func state(body []byte) string {
	for len(body) > 1 {
		field, rest, ok := bytes.Cut(body[1:], []byte{0})
		if body[0] == 'C' && len(field) == 5 && ok {
			for _, c := range field {
				if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
					return ""
				}
			}
			return string(field)
		}
		body = rest
	}
	return ""
}

// Lost implements l7.Parser.
func (p *parser) Lost(s l7.Side) bool {
	// The answer that began is told without its end. Which others came cannot be known.
	if s == l7.Server && len(p.steps) > 0 && p.steps[0].answered {
		first := p.steps[0]
		p.good = true
		p.emit(first.Request, first.At+uint64(first.Latency))
	}
	p.steps, p.asksTLS = nil, false
	return true
}

// Close implements l7.Parser.
func (p *parser) Close(t uint64) {
	for _, s := range p.steps {
		if s.Request != nil && p.good {
			s.NoAnswer = !s.answered
			p.emit(s.Request, t)
		}
	}
	p.steps = nil
}
