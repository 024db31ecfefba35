// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Text is an expression of which somebody wants the text: a number in decimal, a list with spaces between its elements.
type Text struct {
	language *Language
	program  func() (cel.Program, error)
	quick    func(*Subject) string // when a getter is enough
}

// Text compiles a source. Messages and maps have no text.
func (l *Language) Text(source string) (*Text, error) {
	checked, err := l.check(source)
	if err != nil {
		return nil, err
	}
	switch kind := checked.OutputType().Kind(); kind {
	case types.StructKind, types.MapKind:
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("is a %s: name one of its fields", checked.OutputType())}
	}
	t := &Text{language: l, program: l.program(checked)}
	if v, ok := (&guarder{language: l}).value(checked.NativeRep().Expr()); ok && !v.constant {
		switch v.kind {
		case isText:
			t.quick = v.getText
		case isNumber:
			t.quick = func(s *Subject) string { return strconv.FormatUint(v.getNumber(s), 10) }
		case isTexts:
			t.quick = func(s *Subject) string { return strings.Join(v.getTexts(s), " ") }
		}
	}
	return t, nil
}

// Of is the text for a subject.
func (t *Text) Of(s *Subject) (string, error) {
	if t.quick != nil {
		return t.quick(s), nil
	}
	program, err := t.program()
	if err != nil {
		return "", err
	}
	out, _, err := program.Eval(&variables{t.language, s})
	if err != nil {
		return "", err
	}
	return asText(out), nil
}

func asText(v ref.Val) string {
	if list, ok := v.(traits.Lister); ok {
		var parts []string
		for it := list.Iterator(); it.HasNext() == types.True; {
			parts = append(parts, asText(it.Next()))
		}
		return strings.Join(parts, " ")
	}
	if s, ok := v.ConvertToType(types.StringType).(types.String); ok {
		return string(s)
	}
	return fmt.Sprint(v.Value())
}
