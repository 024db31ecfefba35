// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fields are the fields that paths name, below one message. Fields without any is the end of a path: all of the field.
type Fields map[string]Fields

// Resolve cuts a path into the names of fields, which it gives as in the .proto or as in JSON. It is nil when it leads
// nowhere in the message.
func Resolve(message protoreflect.MessageDescriptor, path string) []string {
	var names []string
	for name := range strings.SplitSeq(path, ".") {
		if message == nil {
			return nil
		}
		field := message.Fields().ByName(protoreflect.Name(name))
		if field == nil {
			field = message.Fields().ByJSONName(name)
		}
		if field == nil {
			return nil
		}
		names = append(names, string(field.Name()))
		if message = field.Message(); field.IsMap() {
			message = nil // its keys are no fields
		}
	}
	return names
}

// Add adds a path that Resolve made.
func (b Fields) Add(path []string) {
	for i, name := range path {
		below, known := b[name]
		switch {
		case known && len(below) == 0:
			return // all of it is named already
		case i == len(path)-1:
			b[name] = Fields{}
		case !known:
			below = Fields{}
			b[name] = below
		}
		b = below
	}
}

// Keep takes away what is not named.
func (b Fields) Keep(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		below, named := b[string(f.Name())]
		switch {
		case !named:
			m.Clear(f)
		case len(below) > 0:
			each(f, v, below.Keep)
		}
		return true
	})
}

// Remove takes away what is named.
func (b Fields) Remove(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		below, named := b[string(f.Name())]
		switch {
		case !named:
		case len(below) > 0:
			each(f, v, below.Remove)
		default:
			m.Clear(f)
		}
		return true
	})
}

// each calls do with the message of a field, or with each of its messages.
func each(f protoreflect.FieldDescriptor, v protoreflect.Value, do func(protoreflect.Message)) {
	if !f.IsList() {
		do(v.Message())
		return
	}
	for i := range v.List().Len() {
		do(v.List().Get(i).Message())
	}
}
