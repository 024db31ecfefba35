// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// Where a line of a manifest comes from, a rendering does not tell. So a chart is rendered twice: once as it is, and once with a mark at
// the end of every line of text in its templates, which says the template and the line. The mark is a comment of YAML, for
// functions that read YAML. Without the marks both must be the same; where they are not, because a function measured or hashed a
// text, that line is the template's nearest one that is.

var markInText = regexp.MustCompile(` #~(\d+):(\d+)~`)

// marked puts marks before the line ends that are text, and where an action that gives text ends a line.
func marked(text []byte, number int) []byte {
	at := map[int]bool{} // offsets of line ends
	rest, offset, previous := string(text), 0, ""
	for {
		before, after, more := strings.Cut(rest, "{{")
		lineEnds(before, offset, previous, more && strings.HasPrefix(after, "-"), at)
		if !more {
			break
		}
		end := actionEnd(after)
		previous = after[:end]
		offset += len(before) + len("{{") + end
		rest = after[end:]
	}
	var out bytes.Buffer
	line := 1
	for i, b := range text {
		ends := b == '\n' || b == '\r' && i+1 < len(text) && text[i+1] == '\n'
		if ends && (at[i] || b == '\r' && at[i+1]) && (i == 0 || text[i-1] != '\r') {
			fmt.Fprintf(&out, " #~%d:%d~", number, line)
		}
		out.WriteByte(b)
		if b == '\n' {
			line++
		}
	}
	return out.Bytes()
}

// actionEnd is where an action ends, behind its }}. What stands in quotes and comments does not end it.
func actionEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			end := strings.Index(s[i:], "*/")
			if end < 0 {
				return len(s)
			}
			i += end + 1
		case s[i] == '"' || s[i] == '`' || s[i] == '\'':
			quote := s[i]
			for i++; i < len(s) && s[i] != quote; i++ {
				if s[i] == '\\' && quote != '`' {
					i++
				}
			}
		case strings.HasPrefix(s[i:], "}}"):
			return i + len("}}")
		}
	}
	return len(s)
}

var controls = regexp.MustCompile(`^-?\s*(if|else|end|range|with|define|block|break|continue|/\*|\$\w*\s*:?=)`)

// lineEnds finds those of a text between two actions. Spaces that an action trims are not there; but the first of its lines ends what
// stands before it.
func lineEnds(text string, offset int, previous string, trimmed bool, at map[int]bool) {
	start, end := 0, len(text)
	const spaces = " \t\r\n"
	if strings.HasSuffix(previous, "-}}") {
		start = len(text) - len(strings.TrimLeft(text, spaces))
	}
	if trimmed {
		end = max(len(strings.TrimRight(text, spaces)), start)
		if first := strings.IndexByte(text[end:], '\n'); first >= 0 && (end > start || start == 0 && previous != "" && !controls.MatchString(previous)) {
			at[offset+end+first] = true
		}
	}
	for i := start; i < end; i++ {
		if text[i] == '\n' {
			at[offset+i] = true
		}
	}
}

// origin is where a line comes from.
type origin struct {
	source *source // nil: unknown
	line   int
}

// locator goes from a line of the rendered text to a template.
func (r *rendering) locator(s *source, text, withMarks string) manifest.Locate {
	lines := strings.Split(text, "\n")
	origins := make([]origin, len(lines))
	markedLines := strings.Split(withMarks, "\n")
	last := origin{source: s, line: 1}
	if len(markedLines) != len(lines) {
		markedLines = nil
	}
	for i := len(lines) - 1; i >= 0; i-- { // a line without a mark of its own was made by what stands before the next mark
		if markedLines != nil {
			if m := markInText.FindStringSubmatch(markedLines[i]); m != nil {
				number, _ := strconv.Atoi(m[1]) // digits
				line, _ := strconv.Atoi(m[2])
				if number < len(r.sources) {
					last = origin{r.sources[number], line}
				}
			}
		}
		origins[i] = last
	}
	return func(_ []string, at manifest.Place) manifest.Place {
		if at.Line < 1 || at.Line > len(origins) {
			at.File, at.Line, at.Column = s.file, 1, 1
			return at
		}
		from := origins[at.Line-1]
		at.Column = column(from, lines[at.Line-1], at.Column)
		at.File, at.Line = from.source.file, from.line
		return at
	}
}

// column is where in its template a value stands: moved by as much as the line is, as far as the line is the same; else where the line begins.
func column(from origin, rendered string, at int) int {
	lines := bytes.Split(from.source.Text, []byte("\n"))
	if from.line > len(lines) {
		return 1
	}
	line := strings.TrimRight(string(lines[from.line-1]), "\r")
	indent := len(line) - len(strings.TrimLeft(line, " \t"))
	shift := indent - (len(rendered) - len(strings.TrimLeft(rendered, " ")))
	column := at + shift
	before, _, action := strings.Cut(line, "{{")
	switch {
	case column < 1:
	case strings.TrimSpace(line) == strings.TrimSpace(rendered), column <= len(before):
		return column
	case action && strings.TrimSpace(before) != "" && strings.HasPrefix(strings.TrimSpace(rendered), strings.TrimSpace(before)):
		return len(before) + 1 // in, or behind, what an action gave
	}
	return indent + 1
}
