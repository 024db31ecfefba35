// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"fmt"
	"slices"
	"strings"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// mask is one tetragon.FieldFilter: it keeps the fields it names, or takes them away, in events of some types.
type mask struct {
	types   []tg.EventType // empty for all
	invert  bool           // all types but these
	exclude bool
	tree    branch
}

// branch is the fields that paths name, below one message. A branch without any is the end of a path: all of the field.
type branch map[string]branch

// compileMask checks that each path leads to a field of at least one of the types that the filter is for.
func compileMask(f *tg.FieldFilter) (*mask, error) {
	m := &mask{types: f.GetEventSet(), invert: f.GetInvertEventSet().GetValue(), tree: branch{}}
	switch f.GetAction() {
	case tg.FieldFilterAction_INCLUDE:
	case tg.FieldFilterAction_EXCLUDE:
		m.exclude = true
	default:
		return nil, fmt.Errorf("action %d is not known", f.GetAction())
	}
	for _, path := range f.GetFields().GetPaths() {
		names := m.resolve(path)
		if names == nil {
			return nil, fmt.Errorf("fields: no event of these types has a field %q", path)
		}
		m.tree.add(names)
	}
	return m, nil
}

func (b branch) add(path []string) {
	for i, name := range path {
		below, known := b[name]
		switch {
		case known && len(below) == 0:
			return // all of it is named already
		case i == len(path)-1:
			b[name] = branch{}
		case !known:
			below = branch{}
			b[name] = below
		}
		b = below
	}
}

// resolve cuts a path into the names of fields, which it gives as in the .proto or as in JSON. It is nil when it leads
// nowhere in any event type.
func (m *mask) resolve(path string) []string {
	for _, f := range eventFields() {
		if !m.concerns(tg.EventType(f.Number())) {
			continue
		}
		if names := resolveIn(f.Message(), strings.Split(path, ".")); names != nil {
			return names
		}
	}
	return nil
}

func resolveIn(message protoreflect.MessageDescriptor, path []string) []string {
	var names []string
	for _, name := range path {
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

// names reports whether a field at the top of an event is asked for.
func (m *mask) names(field string) bool {
	_, found := m.tree[field]
	return found && !m.exclude
}

func (m *mask) concerns(t tg.EventType) bool {
	return len(m.types) == 0 || slices.Contains(m.types, t) != m.invert
}

// apply changes e, which belongs to one client. What is outside of the event itself, such as its time, stays. A mask
// that names no field does nothing.
func (m *mask) apply(e *tg.GetEventsResponse) {
	r := e.ProtoReflect()
	field := r.WhichOneof(r.Descriptor().Oneofs().ByName("event"))
	if field == nil || len(m.tree) == 0 || !m.concerns(tg.EventType(field.Number())) {
		return
	}
	event := r.Mutable(field).Message()
	if m.exclude {
		m.tree.remove(event)
	} else {
		m.tree.keep(event)
	}
}

func (b branch) keep(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		below, named := b[string(f.Name())]
		switch {
		case !named:
			m.Clear(f)
		case len(below) > 0:
			each(f, v, below.keep)
		}
		return true
	})
}

func (b branch) remove(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		below, named := b[string(f.Name())]
		switch {
		case !named:
		case len(below) > 0:
			each(f, v, below.remove)
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
