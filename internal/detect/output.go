// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vigie-io/vigie/internal/expression"
)

// Bounds of an alert's message, in bytes.
const (
	maxValue   = 512
	maxMessage = 4096
)

// output is a template: text, and expressions in braces.
type output struct {
	parts []outputPart
}

type outputPart struct {
	text  string
	value *expression.Text // in place of text
}

// parseOutput checks a template; at is where in s the expression is that the error is about. {{ and }} are braces.
func parseOutput(l *expression.Language, s string) (_ *output, at int, _ error) {
	out := new(output)
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c:
			text.WriteByte(c)
			i++
		case c == '}':
			return nil, i, &expression.Error{Line: 1, Column: 1, Message: "a } that closes nothing: write }} for a brace"}
		case c == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, i, &expression.Error{Line: 1, Column: 1, Message: "a { without its }: write {{ for a brace"}
			}
			x, err := l.Text(s[i+1 : i+end])
			if err != nil {
				return nil, i + 1, err
			}
			out.parts = append(out.parts, outputPart{text: text.String()}, outputPart{value: x})
			text.Reset()
			i += end
		default:
			text.WriteByte(c)
		}
	}
	out.parts = append(out.parts, outputPart{text: text.String()})
	return out, 0, nil
}

// fill is the message for a subject. A value that cannot be told reads as what is wrong with it.
func (o *output) fill(s *expression.Subject) string {
	var b strings.Builder
	for _, p := range o.parts {
		if p.value == nil {
			b.WriteString(p.text)
			continue
		}
		v, err := p.value.Of(s)
		if err != nil {
			v = fmt.Sprintf("(%v)", err)
		}
		b.WriteString(cut(v, maxValue))
	}
	return cut(b.String(), maxMessage)
}

// cut shortens s to at most n bytes, an ellipsis included.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
