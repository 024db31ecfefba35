// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong in a policy, with its place. Line and Column count from 1; Field is empty when
// the text is no YAML.
type Error struct {
	Source       string
	Line, Column int
	Field        string // "spec.files.deny[0].access[1]"
	Problem      string // what is wrong; what to write instead
}

// Error is "SOURCE:LINE:COLUMN: FIELD: PROBLEM".
func (e *Error) Error() string {
	place := fmt.Sprintf("%s:%d:%d: ", e.Source, e.Line, e.Column)
	if e.Field != "" {
		place += e.Field + ": "
	}
	return place + e.Problem
}

// Errors is everything that is wrong, in the order of the text.
type Errors []*Error

// Error has a line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.As.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// maxErrors is how many errors are told: who makes more has one mistake often.
const maxErrors = 100

// report collects errors.
type report struct {
	source string
	errors Errors
	cut    bool
}

func (r *report) add(line, column int, field, problem string) {
	if len(r.errors) == maxErrors {
		r.cut = true
		return
	}
	r.errors = append(r.errors, &Error{Source: r.source, Line: max(line, 1), Column: max(column, 1), Field: field, Problem: problem})
}

// err is everything that was collected, or nil.
func (r *report) err() error {
	if len(r.errors) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errors, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if r.cut {
		last := r.errors[len(r.errors)-1]
		r.errors = append(r.errors, &Error{Source: r.source, Line: last.Line, Column: last.Column,
			Problem: fmt.Sprintf("there is more; these are the first %d", maxErrors)})
	}
	return r.errors
}
