// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// MaxDocument is the size in bytes above which a document is not read. The API server refuses requests above 3 MiB.
const MaxDocument = 3 << 20

// Reader splits a stream into documents.
type Reader struct {
	file string
	in   *bufio.Reader
	line int // lines read so far
	next []byte
	end  bool
}

// NewReader reads in, which errors and positions call file. A byte order mark says the encoding; without one it is UTF-8.
func NewReader(in io.Reader, file string) *Reader {
	decoded := transform.NewReader(in, unicode.BOMOverride(transform.Nop))
	return &Reader{file: file, in: bufio.NewReaderSize(decoded, 64<<10)}
}

// Next is the next document that holds anything; io.EOF after the last. Any other error ends the stream. What is
// wrong with a single document is in its Err.
func (r *Reader) Next() (*Document, error) {
	t, err := r.NextText()
	if err != nil {
		return nil, err
	}
	return t.Parse(), nil
}

// Text is a document that was not parsed yet. It is parsed apart from the reading, so that several can be at once.
type Text struct {
	File  string
	Line  int // of the file, the text's first
	Bytes []byte
	// Locate goes back to what the text was made of; nil when it is a file itself.
	Locate Locate
	err    *Error
}

// Locate is a place in what a text was made of. path is that of a value in its document, and nil when only the line is known.
type Locate func(path []string, in Place) Place

// NextText is the next document that holds anything, see Next.
func (r *Reader) NextText() (Text, error) {
	for !r.end {
		text, first, size, err := r.split()
		if err != nil {
			return Text{}, fmt.Errorf("read %s: %w", r.file, err)
		}
		if size > MaxDocument {
			return Text{File: r.file, Line: first, err: &Error{Line: first, Column: 1,
				Message: fmt.Sprintf("the document has %d bytes; the API server takes at most %d", size, MaxDocument)}}, nil
		}
		if !blank(text) {
			return Text{File: r.file, Line: first, Bytes: text}, nil
		}
	}
	return Text{}, io.EOF
}

// Parse makes a document of the text.
func (t Text) Parse() *Document {
	if t.err != nil {
		return &Document{File: t.File, Line: t.Line, Err: t.err}
	}
	return parse(t)
}

// split reads up to the next separator. size counts what was passed over too.
func (r *Reader) split() (text []byte, first, size int, err error) {
	first = r.line + 1
	text, r.next = r.next, nil
	size = len(text)
	if size > 0 {
		first = r.line
	}
	start := true // of a line
	for {
		part, err := r.in.ReadSlice('\n')
		if len(part) > 0 {
			if start {
				r.line++
				if rest, ok := separator(part); ok {
					if len(rest) > 0 {
						r.next = append([]byte("   "), rest...) // the columns stay
					}
					return text, first, size, nil
				}
				if marker(part, "...") {
					part = []byte("\n")
				}
			}
			start = part[len(part)-1] == '\n'
			size += len(part)
			if size <= MaxDocument {
				text = append(text, part...)
			}
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			r.end = true
			return text, first, size, nil
		default:
			return nil, first, size, err
		}
	}
}

// separator reports whether a line begins a document, and what of the document follows on it.
func separator(line []byte) (rest []byte, ok bool) {
	if !marker(line, "---") {
		return nil, false
	}
	rest = line[3:]
	if blank(rest) {
		return nil, true
	}
	return rest, true
}

func marker(line []byte, mark string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(mark))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// blank reports whether there are only spaces and comments.
func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && (line[0] != '%' || len(text) == 0) {
			return false
		}
	}
	return true
}

// invalid finds the first byte that is no UTF-8, or that YAML does not allow.
func invalid(text []byte) (line, column int, what string) {
	line, column = 1, 1
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			return line, column, "not UTF-8: save the file as UTF-8, or begin it with a byte order mark"
		case r == 0:
			return line, column, "a zero byte: this is no text"
		case r == '\n':
			line, column = line+1, 0
		}
		column++
		text = text[n:]
	}
	return 0, 0, ""
}
