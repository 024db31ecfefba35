// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/expression"
)

// FileError is something wrong with a file of rules, with its place.
type FileError struct {
	Path         string
	Line, Column int // from 1; 0 when it is about the whole file
	Message      string
}

// Error is "PATH:LINE:COLUMN: what".
func (p *FileError) Error() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.Path, p.Line, p.Column, p.Message)
}

// FileErrors are all that is wrong, by file and place.
type FileErrors []*FileError

// Error has a problem on each line.
func (ps FileErrors) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

func (ps FileErrors) sorted() FileErrors {
	slices.SortStableFunc(ps, func(a, b *FileError) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			strings.Compare(a.Message, b.Message))
	})
	return ps
}

// scalar is a text of a file, with its place.
type scalar struct {
	text string
	node *yaml.Node
	from *reader
}

// bad notes a problem at the beginning of s.
func (s scalar) bad(format string, args ...any) { s.from.bad(s.node, format, args...) }

// badAt notes err, with its place inside of s where it has one. offset is where in s the expression begins.
func (s scalar) badAt(offset int, prefix string, err error) {
	var e *expression.Error
	if !errors.As(err, &e) {
		s.bad("%s%s", prefix, err)
		return
	}
	line, column := s.place(max(e.Line, 1), max(e.Column, 1)+offset)
	s.from.problems = append(s.from.problems, &FileError{s.from.path, line, column, prefix + e.Message})
}

// place is where in the file a line and column of the text stand.
func (s scalar) place(line, column int) (int, int) {
	n := s.node
	at := n.Line - 1 // index of the line of the file on which the text begins
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		at += line
		first := s.from.line(n.Line)
		return at + 1, column + len(first) - len(strings.TrimLeft(first, " "))
	case n.Style&yaml.FoldedStyle != 0:
		at++
	case line > 1:
		return n.Line, n.Column
	}
	// Lines of the file are joined with a space each.
	begin := 0 // column of the file, from 0, where the line's text begins
	if n.Style&yaml.FoldedStyle == 0 {
		begin = n.Column - 1
		if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			begin++
		}
	}
	for ; at < len(s.from.lines); at++ {
		rest := s.from.line(at)[min(begin, len(s.from.line(at))):]
		content := strings.TrimLeft(rest, " ")
		length := utf8.RuneCountInString(strings.TrimRight(content, " "))
		if column <= length+1 || at == len(s.from.lines)-1 {
			return at + 1, begin + len(rest) - len(content) + column
		}
		column -= length + 1
		begin = 0
	}
	return n.Line, n.Column
}
