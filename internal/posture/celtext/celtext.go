// SPDX-License-Identifier: Apache-2.0

// Package celtext writes and rewrites CEL as text. In and out: expressions of policies. Nothing is evaluated.
package celtext

import (
	"strconv"
	"strings"
)

// Quote is a string literal.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range s {
		switch {
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < ' ' || r == 0x7f:
			b.WriteString(`\x` + strconv.FormatInt(0x100+int64(r), 16)[1:])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// List is a list of string literals.
func List(all []string) string {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// Identifier is a name as CEL allows it: what it does not allow becomes _.
func Identifier(s string) string {
	out := []byte(s)
	for i, c := range out {
		if !letter(c) && (i == 0 || !digit(c)) {
			out[i] = '_'
		}
	}
	return string(out)
}

// Rename replaces names in an expression: variable is asked for each X of variables.X, and every params at the beginning of
// a selection becomes params, when that is not empty. Strings and comments stay as they are.
func Rename(text string, variable func(string) string, params string) string {
	names := map[string]string{}
	if params != "" {
		names["params"] = params
	}
	return rewrite(text, names, func(between, field string) string { return "variables" + between + variable(field) })
}

// Replace replaces whole selections: variable is asked for each X of variables.X, and what it gives stands in the place of both. What
// begins with a name of names begins with its value. Strings and comments stay as they are.
func Replace(text string, variable func(string) (by string, ok bool), names map[string]string) string {
	return rewrite(text, names, func(between, field string) string {
		by, ok := variable(field)
		switch {
		case !ok:
			return "variables" + between + field
		case strings.Contains(between, "?"):
			return "optional.of(" + by + ")"
		}
		return by
	})
}

// rewrite gives back the text with other names, and with what variable makes of each variables.X.
func rewrite(text string, names map[string]string, variable func(between, field string) string) string {
	var b strings.Builder
	s := scanner{text: text}
	for {
		start := s.at
		kind := s.next()
		if kind == end {
			return b.String()
		}
		word := text[start:s.at]
		if kind != name || s.selected {
			b.WriteString(word)
			continue
		}
		if by, ok := names[word]; ok {
			b.WriteString(by)
			continue
		}
		if word != "variables" {
			b.WriteString(word)
			continue
		}
		between, field := s.selection()
		if field == "" {
			b.WriteString(word + between)
			continue
		}
		b.WriteString(variable(between, field))
	}
}

type token int

const (
	end token = iota
	space
	name
	other
)

// scanner cuts an expression into tokens as far as renaming needs them.
type scanner struct {
	text     string
	at       int
	selected bool // the token follows a dot: it is a field
	dot      bool // the last token that is no space was a dot, perhaps with a question mark behind
}

func (s *scanner) next() token {
	if s.at >= len(s.text) {
		return end
	}
	s.selected = s.dot
	c := s.text[s.at]
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		s.at++
		return space
	case strings.HasPrefix(s.text[s.at:], "//"):
		if i := strings.IndexByte(s.text[s.at:], '\n'); i >= 0 {
			s.at += i + 1
		} else {
			s.at = len(s.text)
		}
		return space
	case letter(c):
		start := s.at
		for s.at < len(s.text) && (letter(s.text[s.at]) || digit(s.text[s.at])) {
			s.at++
		}
		s.dot = false
		if s.at < len(s.text) && isQuote(s.text[s.at]) && isPrefix(s.text[start:s.at]) {
			s.literal(strings.ContainsAny(s.text[start:s.at], "rR"))
			return other
		}
		return name
	case digit(c):
		for s.at < len(s.text) && (letter(s.text[s.at]) || digit(s.text[s.at])) {
			s.at++
		}
		s.dot = false
		return other
	case isQuote(c):
		s.dot = false
		s.literal(false)
		return other
	}
	s.dot = c == '.' || c == '?' && s.dot
	s.at++
	return other
}

// literal passes over a string, from its opening quote.
func (s *scanner) literal(raw bool) {
	quote := s.text[s.at : s.at+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s.text[s.at:], triple) {
		quote = triple
	}
	s.at += len(quote)
	for s.at < len(s.text) {
		switch {
		case strings.HasPrefix(s.text[s.at:], quote):
			s.at += len(quote)
			return
		case s.text[s.at] == '\\' && !raw:
			s.at = min(s.at+2, len(s.text))
		default:
			s.at++
		}
	}
}

// selection reads the dot and the field behind a name; before is what stands between.
func (s *scanner) selection() (before, field string) {
	start := s.at
	for s.at < len(s.text) {
		from := s.at
		switch kind := s.next(); {
		case kind == space || kind == other && s.dot:
		case kind == name && s.selected:
			return s.text[start:from], s.text[from:s.at]
		default: // no selection
			s.at = from
			return s.text[start:from], ""
		}
	}
	return s.text[start:s.at], ""
}

func letter(c byte) bool  { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func digit(c byte) bool   { return c >= '0' && c <= '9' }
func isQuote(c byte) bool { return c == '\'' || c == '"' }

func isPrefix(s string) bool { return strings.Trim(s, "rRbB") == "" && len(s) <= 2 }
