// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonCodec is the JSON of the API with the names of the definitions, as docs/events.md lists them and
// `-o json` prints them: process.exec_id, not process.execId. Requests may use either.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) Marshal(v any) ([]byte, error) { return jsonCodec{}.MarshalAppend(nil, v) }

func (jsonCodec) MarshalAppend(dst []byte, v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("encode JSON: %T is no message", v)
	}
	return protojson.MarshalOptions{UseProtoNames: true}.MarshalAppend(dst, m)
}

func (c jsonCodec) MarshalStable(v any) ([]byte, error) { return c.Marshal(v) }

func (jsonCodec) IsBinary() bool { return false }

func (jsonCodec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("decode JSON: %T is no message", v)
	}
	if len(b) == 0 {
		b = []byte("{}") // a body left out asks for the defaults
	}
	return protojson.UnmarshalOptions{DiscardUnknown: false}.Unmarshal(b, m)
}
