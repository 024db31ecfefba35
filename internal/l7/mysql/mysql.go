// SPDX-License-Identifier: Apache-2.0

// Package mysql parses the protocol of MySQL and MariaDB (MySQL's documentation, "Client/Server Protocol"). In: what client
// and server of one connection say. Out: one request for each command: the statement's kind and table, latency and SQLSTATE.
// Parameters, rows, passwords and the text of statements are not kept.
package mysql

import (
	"bytes"
	"encoding/binary"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/sql"
	"github.com/vigie-io/vigie/internal/model"
)

// Protocol is MySQL, for the list of protocols.
func Protocol() l7.Protocol {
	return l7.Protocol{Name: "mysql", Detect: detect, New: func(emit l7.Emit, counts *l7.Counts) l7.Parser {
		return &parser{emit: emit, statements: make(map[uint32]statement)}
	}}
}

const (
	header   = 4   // length, of three bytes, and number
	maxText  = 512 // of a statement: how much of it is looked at
	maxNames = 64  // prepared statements that are remembered
)

// Commands of the client.
const (
	comQuit, comInitDB, comQuery, comFieldList = 0x01, 0x02, 0x03, 0x04
	comStatistics, comPing, comChangeUser      = 0x09, 0x0e, 0x11
	comBinlogDump, comBinlogGTID               = 0x12, 0x1e
	comPrepare, comExecute, comLongData        = 0x16, 0x17, 0x18
	comClose, comReset, comOption, comFetch    = 0x19, 0x1a, 0x1b, 0x1c
	comResetConnection                         = 0x1f
)

// Capabilities that a client asks for.
const (
	clientCompress     = 0x20
	clientTLS          = 0x800
	clientZstd         = 0x4000000
	clientDeprecateEOF = 0x1000000
)

func detect(s l7.Side, b []byte, begins bool) l7.Match {
	if len(b) < header+2 {
		if len(b) > 3 && b[3] != 0 || len(b) > 2 && b[2] != 0 {
			return l7.No
		}
		return l7.Unsure
	}
	n := length(b)
	if s == l7.Server {
		// The greeting: number 0, version 10, "8.0.36".
		if !begins || b[3] != 0 || b[4] != 10 || n < 40 || n > 300 {
			return l7.No
		}
		version, _, whole := bytes.Cut(b[5:], []byte{0})
		if !whole && len(b) < 64 {
			return l7.Unsure
		}
		if len(version) < 3 || version[0] < '0' || version[0] > '9' || !bytes.Contains(version[:3], []byte(".")) {
			return l7.No
		}
		return l7.Yes
	}
	if b[3] != 0 || b[4] != comQuery && b[4] != comPrepare || n < 4 {
		return l7.No
	}
	if len(b) < min(header+n, header+16) {
		return l7.Unsure
	}
	if kind, _ := sql.Statement(b[header+1 : min(len(b), header+n)]); kind == "" {
		return l7.No
	}
	return l7.Yes
}

// length is a packet's, without its header.
func length(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

type statement struct{ kind, table string }

// phase is where in an answer the server is.
type phase int

const (
	first    phase = iota // its first packet is to come
	columns               // their definitions
	rows                  // up to an end or an error
	prepared              // what follows the answer to a prepare: nothing that is told
)

type parser struct {
	emit       l7.Emit
	statements map[uint32]statement // prepared, by number
	loggingIn  bool                 // the server has greeted, and not yet let in
	answered   bool                 // the client has answered the greeting
	noEOF      bool                 // CLIENT_DEPRECATE_EOF
	asked      l7.Ask
	waits      bool // asked waits for its answer
	begun      bool // which has begun
	preparing  statement
	phase      phase
	left       uint64 // column definitions that are still to come
	good       bool
	first      bool // the connection's first packet was seen
}

// Parse implements l7.Parser.
func (p *parser) Parse(s l7.Side, b []byte, t uint64) l7.Step {
	if len(b) < header {
		return l7.Step{}
	}
	n := length(b)
	want := min(n, maxText)
	if s == l7.Server {
		want = min(n, 64)
	}
	if len(b) < header+want {
		return l7.Step{}
	}
	body := b[header : header+want]
	var next l7.Next
	if s == l7.Client {
		next = p.client(b[3], body, t)
	} else {
		next = p.server(b[3], body, n, t)
	}
	return l7.Step{Use: header + want, Skip: uint64(n - want), Next: next}
}

// client takes a packet of the client.
func (p *parser) client(number byte, body []byte, t uint64) l7.Next {
	if p.loggingIn {
		return p.login(body)
	}
	if number != 0 || len(body) == 0 {
		return l7.More // goes on with one that was too large, or with a file
	}
	p.finish(0, 0) // an answer whose end was not seen
	r := &model.Request{Protocol: "mysql"}
	switch body[0] {
	case comQuit, comClose, comLongData:
		return l7.More // no answer
	case comBinlogDump, comBinlogGTID:
		return l7.Done
	case comQuery, comPrepare:
		kind, table := sql.Statement(body[1:])
		if kind == "" {
			kind = "QUERY"
		}
		r.Method, r.Resource = kind, table
		if body[0] == comPrepare {
			p.preparing = statement{kind, table}
			r.Method = "PREPARE"
		}
	case comExecute:
		r.Method = "EXECUTE" // it was prepared before the connection was looked at
		if len(body) >= 5 {
			if st, ok := p.statements[binary.LittleEndian.Uint32(body[1:])]; ok {
				r.Method, r.Resource = st.kind, st.table
			}
		}
	default:
		if r.Method = command(body[0]); r.Method == "" {
			return p.broken()
		}
	}
	p.asked, p.waits, p.begun, p.phase, p.left = l7.Ask{Request: r, At: t}, true, false, first, 0
	return l7.More
}

// command names the commands that have no statement.
func command(c byte) string {
	switch c {
	case comInitDB:
		return "USE"
	case comFieldList:
		return "FIELD LIST"
	case comStatistics:
		return "STATISTICS"
	case comPing:
		return "PING"
	case comChangeUser:
		return "CHANGE USER"
	case comReset, comResetConnection:
		return "RESET"
	case comOption:
		return "SET OPTION"
	case comFetch:
		return "FETCH"
	}
	return ""
}

// login takes what the client says before it is let in: its capabilities first.
func (p *parser) login(body []byte) l7.Next {
	if p.answered || len(body) < 4 {
		return l7.More
	}
	p.answered = true
	flags := binary.LittleEndian.Uint32(body)
	if flags&(clientTLS|clientCompress|clientZstd) != 0 && (flags&clientTLS == 0 || len(body) == 32) {
		return l7.Done // encrypted from here on, or compressed
	}
	p.noEOF = flags&clientDeprecateEOF != 0
	return l7.More
}

func (p *parser) broken() l7.Next {
	p.waits = false
	if p.good {
		return l7.Unplaced
	}
	return l7.Wrong
}

// server takes a packet of the server, n bytes long.
func (p *parser) server(number byte, body []byte, n int, t uint64) l7.Next {
	if !p.first && number == 0 && n > 40 && body[0] == 10 {
		p.first, p.loggingIn = true, true
		return l7.More
	}
	p.first = true
	if p.loggingIn {
		if p.answered && len(body) > 0 && body[0] == 0 {
			p.loggingIn = false // OK
		}
		return l7.More
	}
	if !p.waits || len(body) == 0 || p.phase == prepared {
		return l7.More
	}
	if !p.begun {
		p.begun = true
		p.asked.Answered(t)
	}
	switch p.phase {
	case first:
		return p.begin(body, n, t)
	case columns:
		p.column(body, n, t)
	case rows:
		if body[0] == 0xff {
			p.fail(body, t)
		} else if body[0] == 0xfe && (n < 9 || p.noEOF) {
			p.resultEnd(body, n, t)
		}
	}
	return l7.More
}

// begin takes the first packet of an answer or of one of its results.
func (p *parser) begin(body []byte, n int, t uint64) l7.Next {
	switch {
	case body[0] == 0xff:
		p.fail(body, t)
	case body[0] == 0xfb: // wants a file of the client
	case body[0] == 0 && p.asked.Method == "PREPARE" && p.preparing.kind != "":
		if n == 12 && len(body) == 12 {
			if len(p.statements) >= maxNames {
				clear(p.statements)
			}
			p.statements[binary.LittleEndian.Uint32(body[1:])] = p.preparing
		}
		p.preparing = statement{}
		p.finish(t, t)
		p.phase = prepared
	case body[0] == 0 || body[0] == 0xfe || p.asked.Method == "STATISTICS":
		p.okEnd(body, t)
	default:
		count, _, ok := lengthEncoded(body)
		if !ok || count == 0 || count > 4096 {
			return p.broken()
		}
		p.phase, p.left = columns, count
		if p.asked.Method == "FIELD LIST" {
			p.phase = rows
		}
	}
	return l7.More
}

// column takes a column's definition, or what stands between them and the rows.
func (p *parser) column(body []byte, n int, t uint64) {
	if body[0] == 0xff {
		p.fail(body, t)
		return
	}
	if p.left > 0 {
		p.left--
		if p.left == 0 && p.noEOF {
			p.phase = rows
		}
		return
	}
	p.phase = rows
	if body[0] != 0xfe || n >= 9 {
		p.noEOF = true // its capabilities were not seen: this is a row
	}
}

const moreResults = 0x8

// okEnd ends an answer without rows, if no other result follows: OK, affected rows, last id, status.
func (p *parser) okEnd(body []byte, t uint64) {
	rest := body[1:]
	for range 2 {
		_, n, ok := lengthEncoded(rest)
		if !ok {
			p.finish(t, t)
			return
		}
		rest = rest[n:]
	}
	if len(rest) >= 2 && rest[0]&moreResults != 0 {
		return
	}
	p.finish(t, t)
}

// resultEnd ends rows: EOF, warnings, status; or an OK in its place.
func (p *parser) resultEnd(body []byte, n int, t uint64) {
	if p.noEOF && n >= 7 {
		p.phase = first
		p.okEnd(body, t)
		return
	}
	if len(body) >= 5 && body[3]&moreResults != 0 {
		p.phase = first
		return
	}
	p.finish(t, t)
}

// fail ends an answer with an error: code, '#', SQLSTATE.
func (p *parser) fail(body []byte, t uint64) {
	p.asked.Failed = true
	if len(body) >= 9 && body[3] == '#' {
		p.asked.StatusText = state(body[4:9])
	}
	p.finish(t, t)
}

func state(b []byte) string {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	return string(b)
}

// lengthEncoded reads an integer of one to nine bytes.
func lengthEncoded(b []byte) (v uint64, n int, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	switch b[0] {
	case 0xfc:
		n = 3
	case 0xfd:
		n = 4
	case 0xfe:
		n = 9
	case 0xfb, 0xff:
		return 0, 0, false
	default:
		return uint64(b[0]), 1, true
	}
	if len(b) < n {
		return 0, 0, false
	}
	for i := n - 1; i > 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v, n, true
}

// finish gives out the command whose answer has begun; ended is 0 when its end was not seen.
func (p *parser) finish(t, ended uint64) {
	if !p.waits || !p.begun {
		return
	}
	p.waits, p.good = false, true
	if ended != 0 {
		p.asked.Ended(ended)
	} else {
		t = p.asked.At + uint64(p.asked.Latency)
	}
	p.emit(p.asked.Request, t)
}

// Lost implements l7.Parser.
func (p *parser) Lost(s l7.Side) bool {
	if p.loggingIn {
		return false // whether it goes on in the clear cannot be known
	}
	p.finish(0, 0)
	if s == l7.Client {
		p.waits = false // a command may have gone by
	}
	return true
}

// Close implements l7.Parser.
func (p *parser) Close(t uint64) {
	p.finish(0, 0)
	if p.waits && p.good {
		p.asked.NoAnswer = true
		p.asked.Ended(t)
		p.emit(p.asked.Request, t)
	}
	p.waits = false
}
