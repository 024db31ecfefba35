// SPDX-License-Identifier: Apache-2.0

// Package http2 parses HTTP/2 (RFC 9113) and gRPC over it. In: what client and server of one connection say, from its
// beginning. Out: requests with status, latency and size. Header blocks are all decompressed, because each changes how the next is
// read (RFC 7541), and the few fields that are told are kept; of data only the length is read. When a header block
// is missed, the connection cannot be followed any longer.
package http2

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/net/http2/hpack"

	"github.com/vigie-io/vigie/internal/l7"
)

// Protocol is HTTP/2 with gRPC, for the list of protocols.
func Protocol() l7.Protocol {
	return l7.Protocol{Name: "http2", Detect: detect, New: func(emit l7.Emit, counts *l7.Counts) l7.Parser { return newParser(emit, counts) }}
}

// preface is what a client begins with.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

func detect(s l7.Side, b []byte, begins bool) l7.Match {
	if s == l7.Server {
		// A server's settings may come before the client's preface, which tells.
		if n := min(len(b), frameHeader-3); begins && string(b[min(n, 3):n]) == "\x04\x00\x00"[:max(n-3, 0)] && (n < 1 || b[0] == 0) {
			return l7.Unsure
		}
		return l7.No
	}
	switch n := min(len(b), len(preface)); {
	case string(b[:n]) != preface[:n]:
		return l7.No
	case n < len(preface):
		return l7.Unsure
	}
	return l7.Yes
}

// Frames (RFC 9113, section 6).
const (
	frameHeader = 9

	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePushPromise  = 5
	frameContinuation = 9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingTableSize = 1
)

const (
	maxTable  = 16 << 10  // of a dynamic table; RFC 7541 begins with 4 KiB, and few go beyond
	maxString = 16 << 10  // of a name or value, compressed
	maxBlock  = 256 << 10 // of all fields of a block, decompressed
)

// parser is one connection.
type parser struct {
	emit    l7.Emit
	counts  *l7.Counts
	sides   [2]side
	streams map[uint32]*stream
	began   bool // the preface was seen
}

// side is what one side is sending.
type side struct {
	table  *hpack.Decoder
	frame  frame
	left   int // bytes of the frame that belong to a header block and have not been read
	pad    int // bytes after them
	fields fields
	open   bool // a header block goes on in the next frame
	broken bool // it is too large
	size   int  // of the block so far
}

type frame struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

func newParser(emit l7.Emit, counts *l7.Counts) *parser {
	p := &parser{emit: emit, counts: counts, streams: make(map[uint32]*stream)}
	for i := range p.sides {
		s := &p.sides[i]
		s.table = hpack.NewDecoder(4096, s.field)
		s.table.SetMaxStringLength(maxString)
	}
	return p
}

// field takes one decompressed field.
func (s *side) field(f hpack.HeaderField) {
	if s.size += len(f.Name) + len(f.Value) + 32; s.size > maxBlock {
		s.broken = true
		s.table.SetEmitEnabled(false)
		return
	}
	s.fields.set(f.Name, f.Value)
}

// Parse implements l7.Parser.
func (p *parser) Parse(by l7.Side, b []byte, t uint64) l7.Step {
	if by == l7.Client && !p.began {
		if len(b) < len(preface) {
			return l7.Step{}
		}
		if !bytes.HasPrefix(b, []byte(preface)) {
			return l7.Step{Next: l7.Wrong}
		}
		p.began = true
		return l7.Step{Use: len(preface)}
	}
	s := &p.sides[by]
	if s.left > 0 {
		return p.block(by, b, 0, t)
	}
	if len(b) < frameHeader {
		return l7.Step{}
	}
	f := frame{length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: b[3], flags: b[4], stream: binary.BigEndian.Uint32(b[5:]) & 0x7fffffff}
	if s.open && f.kind != frameContinuation {
		return l7.Step{Next: l7.Wrong}
	}
	switch f.kind {
	case frameHeaders, framePushPromise, frameContinuation:
		return p.headers(by, f, b, t)
	case frameSettings:
		return p.settings(by, f, b)
	case frameData:
		p.data(by, f, t)
	case frameReset:
		p.reset(f, t)
	}
	return l7.Step{Use: frameHeader, Skip: uint64(f.length)}
}

// headers begins to read a header block, or goes on with one.
func (p *parser) headers(by l7.Side, f frame, b []byte, t uint64) l7.Step {
	s := &p.sides[by]
	before, pad := frameHeader, 0 // what stands before the block
	if f.kind != frameContinuation {
		if f.flags&flagPadded != 0 {
			before++
		}
		if f.kind == frameHeaders && f.flags&flagPriority != 0 {
			before += 5
		}
		if f.kind == framePushPromise {
			before += 4
		}
		if len(b) < before {
			return l7.Step{}
		}
		if f.flags&flagPadded != 0 {
			pad = int(b[frameHeader])
		}
		s.fields, s.size, s.frame = fields{}, 0, f
	} else if !s.open {
		return l7.Step{Next: l7.Wrong}
	}
	s.left, s.pad = f.length-(before-frameHeader)-pad, pad
	if s.left < 0 {
		return l7.Step{Next: l7.Wrong}
	}
	s.frame.flags = s.frame.flags&^flagEndHeaders | f.flags&flagEndHeaders
	s.open = true
	return p.block(by, b, before, t)
}

// block reads what there is of a header block, from b[at:] on.
func (p *parser) block(by l7.Side, b []byte, at int, t uint64) l7.Step {
	s := &p.sides[by]
	n := min(s.left, len(b)-at)
	if _, err := s.table.Write(b[at : at+n]); err != nil || s.broken {
		return l7.Step{Next: l7.Wrong}
	}
	if s.left -= n; s.left > 0 {
		return l7.Step{Use: at + n}
	}
	if s.frame.flags&flagEndHeaders != 0 {
		s.open = false
		if err := s.table.Close(); err != nil {
			return l7.Step{Next: l7.Wrong}
		}
		if s.frame.kind == frameHeaders {
			p.told(by, s.frame, &s.fields, t)
		}
	}
	return l7.Step{Use: at + n, Skip: uint64(s.pad)}
}

// settings reads how large the other side's table may be.
func (p *parser) settings(by l7.Side, f frame, b []byte) l7.Step {
	if f.flags&flagAck != 0 {
		return l7.Step{Use: frameHeader, Skip: uint64(f.length)}
	}
	if f.length%6 != 0 || f.length > 64*6 {
		return l7.Step{Next: l7.Wrong}
	}
	if len(b) < frameHeader+f.length {
		return l7.Step{}
	}
	for b := b[frameHeader : frameHeader+f.length]; len(b) > 0; b = b[6:] {
		if binary.BigEndian.Uint16(b) == settingTableSize {
			p.sides[by.Other()].table.SetAllowedMaxDynamicTableSize(min(binary.BigEndian.Uint32(b[2:]), maxTable))
		}
	}
	return l7.Step{Use: frameHeader + f.length}
}

// Lost implements l7.Parser. What is missing may have changed a table.
func (p *parser) Lost(l7.Side) bool { return false }

// Close implements l7.Parser.
func (p *parser) Close(t uint64) {
	for _, id := range p.ids() {
		p.end(id, t, false)
	}
}
