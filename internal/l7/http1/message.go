// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/model"
)

// part is where in a message a side is.
type part int

const (
	startLine part = iota
	headers
	body      // of known length, being skipped
	chunkSize // before a chunk's length
	chunkData // being skipped, with the line end behind it
	trailers
	untilClose
)

// message is what is known of the message that a side is sending.
type message struct {
	part
	first   uint64 // when its first byte came
	long    bool   // in the rest of a line that was cut
	length  uint64 // content-length
	lengths int    // how many there were
	coding  bool   // there was a transfer-encoding
	chunked bool   // and chunked was its last
	odd     bool   // its length is ambiguous
	framing bool   // the header before says where the message ends
	bytes   uint64 // of the body, so far
	status  int32
}

// header reads what says where the message ends.
func (m *message) header(line []byte) {
	if line[0] == ' ' || line[0] == '\t' { // folded (RFC 9112, section 5.2)
		m.odd = m.odd || m.framing
		return
	}
	m.framing = false
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return
	}
	switch len(name) {
	case len("content-length"):
		if !is(name, "content-length") {
			return
		}
		m.framing = true
		n, ok := size(bytes.Trim(value, " \t"), 10)
		if !ok || m.lengths > 0 && n != m.length || m.coding {
			m.odd = true
		}
		m.length, m.lengths = n, m.lengths+1
	case len("transfer-encoding"):
		if !is(name, "transfer-encoding") {
			return
		}
		m.framing = true
		m.odd = m.odd || m.lengths > 0 || m.coding
		m.coding = true
		codings := bytes.Split(value, []byte(","))
		m.chunked = is(bytes.Trim(codings[len(codings)-1], " \t"), "chunked")
	default:
		// "Content-Length :" and the like, which some servers take for the header.
		if n := len(name); n > 0 && (name[n-1] == ' ' || name[n-1] == '\t') {
			name = bytes.TrimRight(name, " \t")
			m.odd = m.odd || is(name, "content-length") || is(name, "transfer-encoding")
		}
	}
}

// is compares a name without regard to case; text is lower case.
func is(b []byte, text string) bool {
	if len(b) != len(text) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != text[i] {
			return false
		}
	}
	return true
}

// size reads a length: digits alone, or for a chunk (base 16) digits before ';'.
func size(b []byte, base uint64) (n uint64, ok bool) {
	digits := 0
	for _, c := range b {
		d := uint64(99)
		switch {
		case c >= '0' && c <= '9':
			d = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			d = uint64(c-'a') + 10
		case c >= 'A' && c <= 'F':
			d = uint64(c-'A') + 10
		case base == 16 && digits > 0 && (c == ';' || c == ' ' || c == '\t'):
			return n, true
		}
		if d >= base || n > 1<<56 {
			return 0, false
		}
		n = n*base + d
		digits++
	}
	return n, digits > 0
}

// request takes a request's first line.
func (p *parser) request(line []byte, t uint64) (step l7.Step, more bool) {
	method, target, version, ok := requestLine(line)
	if !ok || p.lost && (p.pending.Len() > 0 || p.reading) {
		// After a place that was missed: the rest of a body, perhaps one that looks like a request.
		return p.broken(l7.Client, t), false
	}
	p.lost = false
	r := &model.Request{Protocol: "http", Version: version, Method: method, Path: l7.PathTemplate(target)}
	if len(target) > 0 && target[0] != '/' && method != "CONNECT" {
		r.Host, r.Path = absolute(target)
	} else if method == "CONNECT" {
		r.Host, r.Path = l7.Host(target), ""
	}
	if !p.pending.Push(r, t) {
		p.counts.Crowded++
		return l7.Step{Next: l7.Done}, false
	}
	return step, true
}

// requestHeader reads what is told of a request.
func (p *parser) requestHeader(line []byte) {
	ask := p.pending.Last()
	if ask == nil {
		return
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	switch {
	case is(name, "host"):
		if ask.Host == "" {
			ask.Host = l7.Host(bytes.Trim(value, " \t"))
		}
	case is(name, "traceparent"):
		l7.TraceParent(ask.Request, bytes.Trim(value, " \t"))
	}
}

// requestLine takes a request's first line apart. Of one that was cut the version is missing.
func requestLine(line []byte) (method string, target []byte, version string, ok bool) {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	if method = knownMethod(word); method == "" {
		return "", nil, "", false
	}
	i := bytes.LastIndexByte(rest, ' ')
	if i < 0 || !bytes.HasPrefix(rest[i+1:], []byte("HTTP/1.")) {
		return method, rest, "", len(line) >= maxLine && rest[0] == '/'
	}
	if string(rest[i+1:]) == "HTTP/1.0" {
		return method, rest[:i], "HTTP/1.0", true
	}
	return method, rest[:i], "HTTP/1.1", true
}

// absolute splits a URL in absolute form into its host and its path. "*" is left as it is.
func absolute(target []byte) (host, path string) {
	_, rest, ok := bytes.Cut(target, []byte("://"))
	if !ok {
		if string(target) == "*" {
			return "", "*"
		}
		return "", "/"
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		return l7.Host(rest), "/"
	}
	return l7.Host(rest[:end]), l7.PathTemplate(rest[end:])
}

// status takes an answer's first line.
func (p *parser) status(line []byte, t uint64) (step l7.Step, more bool) {
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return p.broken(l7.Server, t), false
	}
	m := &p.sides[l7.Server]
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return p.broken(l7.Server, t), false
		}
		m.status = m.status*10 + int32(c-'0')
	}
	if m.status < 100 {
		return p.broken(l7.Server, t), false
	}
	if m.status < 200 && m.status != 101 {
		return step, true // the answer is still to come
	}
	p.finish(t, false)
	if p.asked, p.reading = p.pending.Pop(); !p.reading {
		return step, true // it was asked for before the connection was looked at, or not in order
	}
	p.asked.Answered(t)
	p.asked.Status, p.asked.StatusText = m.status, http.StatusText(int(m.status))
	p.asked.Failed = m.status >= 400
	return step, true
}

// broken is for what is no message. It is a wrong guess unless something has been missed.
func (p *parser) broken(s l7.Side, t uint64) l7.Step {
	if !p.good && !p.missed {
		return l7.Step{Next: l7.Wrong}
	}
	return p.unplaced(s, t)
}

// end is called when the last byte of a message has passed.
func (p *parser) end(s l7.Side, t uint64) {
	m := p.sides[s]
	p.sides[s] = message{}
	if s == l7.Client {
		if ask := p.pending.Last(); ask != nil {
			ask.RequestBytes = m.bytes
		} else if p.reading {
			p.asked.RequestBytes = m.bytes // the answer has begun already
		}
		return
	}
	if m.status >= 200 || m.status == 101 {
		if p.reading {
			p.asked.ResponseBytes = m.bytes
		}
		p.finish(t, true)
	}
}

// finish gives out the request whose answer was being read. whole: its last byte was seen, at t.
func (p *parser) finish(t uint64, whole bool) {
	if !p.reading {
		return
	}
	ask := p.asked
	p.asked, p.reading = l7.Ask{}, false
	p.good = true
	at := ask.At + uint64(ask.Latency)
	if whole {
		ask.Ended(t)
		at = t
	}
	p.emit(ask.Request, at)
}

// methods are those of RFC 9110, PATCH, and those of WebDAV and its like that are in use.
var methods = [...]string{"GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND", "PROPPATCH",
	"MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "PURGE", "QUERY"}

func knownMethod(word []byte) string {
	for i := range methods {
		if string(word) == methods[i] {
			return methods[i]
		}
	}
	return ""
}

// detect knows a request by its whole first line.
func detect(s l7.Side, b []byte, _ bool) l7.Match {
	if s != l7.Client {
		return l7.No
	}
	word, rest, found := bytes.Cut(b, []byte(" "))
	if !found {
		for _, m := range methods {
			if strings.HasPrefix(m, string(word)) {
				return l7.Unsure
			}
		}
		return l7.No
	}
	if knownMethod(word) == "" {
		return l7.No
	}
	line, _, whole := bytes.Cut(rest, []byte("\n"))
	if !whole {
		if len(rest) > 512 && rest[0] == '/' {
			return l7.Yes // a long one
		}
		return l7.Unsure
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if i := bytes.LastIndexByte(line, ' '); i > 0 && (string(line[i+1:]) == "HTTP/1.1" || string(line[i+1:]) == "HTTP/1.0") {
		return l7.Yes
	}
	return l7.No
}
