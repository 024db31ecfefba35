// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Test is a part of a filter that looks at one field of a process alone, of a flow at that of either end. Who stores events
// by column tries it on each different value, and makes no event that the filter would not keep.
type Test struct {
	Field  string             // workload_name, workload_kind, workload_id, binary, pid, exec_id or uid
	Text   func(string) bool  // of fields that are texts
	Number func(n int64) bool // of pid and uid
}

// Tests lists the parts of f that are tests. All of them must hold for an event to be kept, but for losses.
func (f *Filter) Tests() []Test {
	if f == nil {
		return nil
	}
	return f.tests
}

// OnlyTests reports whether f looks at nothing but Types, Span and Tests. Of flows the tests are of either end and f's own
// of one and the same: there, two tests are not all.
func (f *Filter) OnlyTests() bool {
	if f == nil {
		return true
	}
	types := f.Types()
	return f.where == nil && len(f.event) == 0 && len(f.process) == len(f.tests) &&
		(len(f.tests) < 2 || types != nil && !types[model.TypeFlow])
}

// Types is the event types that f may keep; nil for all.
func (f *Filter) Types() map[model.Type]bool {
	if f == nil || f.types == nil && !f.noFlows {
		return nil
	}
	list := f.types
	if list == nil {
		list = slices.DeleteFunc(model.Types(), func(t model.Type) bool { return t == model.TypeFlow })
	}
	types := make(map[model.Type]bool, len(list))
	for _, t := range list {
		types[t] = true
	}
	return types
}

// Span is the time of the events that f keeps: not before since, before until; zero for no bound.
func (f *Filter) Span() (since, until time.Time) {
	if f == nil {
		return time.Time{}, time.Time{}
	}
	return f.since, f.until
}

// OfTypes is a filter of types alone.
func OfTypes(types ...model.Type) *Filter {
	return &Filter{types: slices.Clone(types)}
}

// During is f for another time: not before since, before until; zero for no bound.
func (f *Filter) During(since, until time.Time) *Filter {
	during := Filter{}
	if f != nil {
		during = *f
	}
	during.since, during.until = since, until
	return &during
}
