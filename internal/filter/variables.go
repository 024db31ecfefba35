// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"cel.dev/cel-go/cel"

	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

// variables gives an expression the event and its fields. A part that is not set reads as an empty
// one, so that file.path is "" and not an error for an event that is about something else; whether it
// is set is asked with has(event.file).
type variables struct{ event *pb.Event }

// ResolveName implements cel.Activation.
func (v variables) ResolveName(name string) (any, bool) {
	if name == "event" {
		return v.event, true
	}
	m := v.event.ProtoReflect()
	f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	if f == nil {
		return nil, false
	}
	if f.Message() != nil {
		return m.Get(f).Message().Interface(), true
	}
	return m.Get(f).Interface(), true
}

// Parent implements cel.Activation: there is none.
func (v variables) Parent() cel.Activation { return nil }
