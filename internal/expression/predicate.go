// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"cmp"
	"slices"
)

// predicate is a test that cannot fail, or a constant.
type predicate struct {
	test          func(*Subject) bool
	always, never bool
	cost          int // to order tests by
}

// The costs of tests, by what they do.
const (
	cheap     = iota // a number, a flag, a short text
	moderate         // a search in a text or a set
	expensive        // text must be made, a pattern
)

func constant(b bool) predicate { return predicate{always: b, never: !b} }

func (p *predicate) holds(s *Subject) bool {
	if p.test != nil {
		return p.test(s)
	}
	return p.always
}

func not(p predicate) predicate {
	if p.test == nil {
		return constant(p.never)
	}
	test := p.test
	return predicate{test: func(s *Subject) bool { return !test(s) }, cost: p.cost}
}

// all holds when each of list does. Cheap tests come first: none of them can fail, so the order is free.
func all(list []predicate) predicate {
	tests, cost := variable(list)
	if slices.ContainsFunc(list, func(p predicate) bool { return p.never }) {
		return constant(false)
	}
	switch len(tests) {
	case 0:
		return constant(true)
	case 1:
		return predicate{test: tests[0], cost: cost}
	case 2:
		a, b := tests[0], tests[1]
		return predicate{test: func(s *Subject) bool { return a(s) && b(s) }, cost: cost}
	}
	return predicate{test: func(s *Subject) bool {
		for _, test := range tests {
			if !test(s) {
				return false
			}
		}
		return true
	}, cost: cost}
}

// any holds when one of list does.
func anyHolds(list []predicate) predicate {
	tests, cost := variable(list)
	if slices.ContainsFunc(list, func(p predicate) bool { return p.always }) {
		return constant(true)
	}
	switch len(tests) {
	case 0:
		return constant(false)
	case 1:
		return predicate{test: tests[0], cost: cost}
	}
	return predicate{test: func(s *Subject) bool {
		for _, test := range tests {
			if test(s) {
				return true
			}
		}
		return false
	}, cost: cost}
}

// variable are the tests of those that are no constants, cheap ones first, and the highest cost.
func variable(list []predicate) (tests []func(*Subject) bool, cost int) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b predicate) int { return cmp.Compare(a.cost, b.cost) })
	for _, p := range list {
		if p.test != nil {
			tests, cost = append(tests, p.test), p.cost
		}
	}
	return tests, cost
}

// approximation encloses a condition: what is below implies it, it implies what is above. They are the same when it is exact.
type approximation struct {
	lower, upper predicate
	exact        bool
}

// unknown encloses what only CEL can tell.
func unknown() approximation {
	return approximation{lower: constant(false), upper: constant(true)}
}

func exactly(p predicate) approximation { return approximation{p, p, true} }

func negate(a approximation) approximation {
	if a.exact {
		return exactly(not(a.upper))
	}
	return approximation{lower: not(a.upper), upper: not(a.lower)}
}

// join makes one approximation of a list, with all or anyHolds.
func join(list []approximation, with func([]predicate) predicate) approximation {
	var lower, upper []predicate
	exact := true
	for _, a := range list {
		lower, upper = append(lower, a.lower), append(upper, a.upper)
		exact = exact && a.exact
	}
	out := approximation{upper: with(upper), exact: exact}
	if exact {
		out.lower = out.upper
	} else {
		out.lower = with(lower)
		// What is settled whatever the unknown parts are.
		out.exact = out.upper.never || out.lower.always
	}
	return out
}
