// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"github.com/vigie-io/vigie/internal/expression"
	"github.com/vigie-io/vigie/internal/model"
)

// where is a compiled CEL expression over the shape of vigie.v1.Event.
type where struct {
	condition *expression.Condition
	boot      string
}

func compileExpression(source, boot string) (*where, error) {
	language, err := expression.New(expression.Definitions{})
	if err != nil {
		return nil, err
	}
	c, err := language.Condition(source)
	if err != nil {
		return nil, err
	}
	return &where{c, boot}, nil
}

func (w *where) holds(e *model.Event) bool {
	holds, err := w.condition.Holds(&expression.Subject{Event: e, Boot: w.boot})
	return err == nil && holds
}
