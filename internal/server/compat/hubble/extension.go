// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"

	fl "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/vigie-io/vigie/internal/model"
)

const structType = "type.googleapis.com/google.protobuf.Struct"

// extend puts the event itself into the flow: the process with its arguments and its parent, both ends, the counters. It is
// the event's JSON (docs/events.md) as a google.protobuf.Struct and not a vigie.v1.Event, because a client that was not made
// with vigie's definitions fails to print JSON with a type in it that it does not know: `hubble observe -o json` would end
// with an error at the first flow.
func (c *converter) extend(f *fl.Flow, e *model.Event) {
	s := structWriter{in: e.AppendJSON(nil, c.agent().boot)}
	if s.fields(); s.err == nil { // a flow without its process would be better than none, but the JSON of events is tested
		f.Extensions = &anypb.Any{TypeUrl: structType, Value: s.out}
	}
}

// structWriter writes JSON as the bytes of a google.protobuf.Struct, without the tree of messages in between: for an event
// that would be some seven hundred allocations for each flow and client. in is JSON without spaces, as the model writes it.
type structWriter struct {
	in, out []byte
	err     error
}

// The fields of Struct, its map's entries, ListValue and Value (google/protobuf/struct.proto).
const (
	structFields, listValues = 1, 1
	entryKey, entryValue     = 1, 2
	valueNull, valueNumber   = 1, 2
	valueString, valueBool   = 3, 4
	valueStruct, valueList   = 5, 6
)

// fields writes the fields of an object.
func (s *structWriter) fields() {
	s.each('{', '}', func() {
		s.message(structFields, func() {
			s.text(entryKey)
			s.expect(':')
			s.message(entryValue, s.value)
		})
	})
}

func (s *structWriter) value() {
	if len(s.in) == 0 {
		s.fail()
		return
	}
	switch s.in[0] {
	case '{':
		s.message(valueStruct, s.fields)
	case '[':
		s.message(valueList, func() {
			s.each('[', ']', func() { s.message(listValues, s.value) })
		})
	case '"':
		s.text(valueString)
	default:
		s.literal()
	}
}

// literal writes a number, true, false or null.
func (s *structWriter) literal() {
	n := bytes.IndexAny(s.in, ",]}")
	if n < 0 {
		n = len(s.in)
	}
	word := string(s.in[:n])
	s.in = s.in[n:]
	switch word {
	case "true", "false":
		s.out = protowire.AppendTag(s.out, valueBool, protowire.VarintType)
		s.out = protowire.AppendVarint(s.out, protowire.EncodeBool(word == "true"))
	case "null":
		s.out = protowire.AppendTag(s.out, valueNull, protowire.VarintType)
		s.out = protowire.AppendVarint(s.out, 0)
	default:
		x, err := strconv.ParseFloat(word, 64)
		if err != nil {
			s.fail()
		}
		s.out = protowire.AppendTag(s.out, valueNumber, protowire.Fixed64Type)
		s.out = protowire.AppendFixed64(s.out, math.Float64bits(x))
	}
}

// text writes a string.
func (s *structWriter) text(field protowire.Number) {
	end := 1
	for end < len(s.in) && s.in[end] != '"' {
		if s.in[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(s.in) || s.in[0] != '"' {
		s.fail()
		return
	}
	quoted := s.in[:end+1]
	s.in = s.in[end+1:]
	plain := quoted[1:end]
	if bytes.IndexByte(plain, '\\') >= 0 {
		var unquoted string
		if json.Unmarshal(quoted, &unquoted) != nil {
			s.fail()
		}
		plain = []byte(unquoted)
	}
	s.out = protowire.AppendTag(s.out, field, protowire.BytesType)
	s.out = protowire.AppendBytes(s.out, plain)
}

// message writes a field whose length is known only when its content is written.
func (s *structWriter) message(field protowire.Number, content func()) {
	s.out = protowire.AppendTag(s.out, field, protowire.BytesType)
	begin := len(s.out)
	content()
	length := len(s.out) - begin
	for range protowire.SizeVarint(uint64(length)) {
		s.out = append(s.out, 0)
	}
	copy(s.out[len(s.out)-length:], s.out[begin:begin+length])
	protowire.AppendVarint(s.out[:begin], uint64(length))
}

// each calls member for each member of an object or a list.
func (s *structWriter) each(open, end byte, member func()) {
	s.expect(open)
	for s.err == nil {
		if len(s.in) == 0 {
			s.fail()
			return
		}
		switch s.in[0] {
		case end:
			s.in = s.in[1:]
			return
		case ',':
			s.in = s.in[1:]
		}
		member()
	}
}

func (s *structWriter) expect(c byte) {
	if len(s.in) == 0 || s.in[0] != c {
		s.fail()
		return
	}
	s.in = s.in[1:]
}

func (s *structWriter) fail() {
	if s.err == nil {
		s.err = errors.New("this is not the JSON of an event")
	}
	s.in = nil
}
