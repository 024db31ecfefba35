// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"fmt"
	"slices"

	tg "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/vigie-io/vigie/internal/server/compat"
)

// mask is one tetragon.FieldFilter: it keeps the fields it names, or takes them away, in events of some types.
type mask struct {
	types   []tg.EventType // empty for all
	invert  bool           // all types but these
	exclude bool
	tree    compat.Fields
}

// compileMask checks that each path leads to a field of at least one of the types that the filter is for.
func compileMask(f *tg.FieldFilter) (*mask, error) {
	m := &mask{types: f.GetEventSet(), invert: f.GetInvertEventSet().GetValue(), tree: compat.Fields{}}
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
		m.tree.Add(names)
	}
	return m, nil
}

// resolve cuts a path into the names of fields, which it gives as in the .proto or as in JSON. It is nil when it leads
// nowhere in any event type.
func (m *mask) resolve(path string) []string {
	for _, f := range eventFields() {
		if !m.concerns(tg.EventType(f.Number())) {
			continue
		}
		if names := compat.Resolve(f.Message(), path); names != nil {
			return names
		}
	}
	return nil
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
		m.tree.Remove(event)
	} else {
		m.tree.Keep(event)
	}
}
