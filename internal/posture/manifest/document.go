// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document is one document of a file.
type Document struct {
	File  string
	Line  int            // of the file, where the document begins; 1 is the first
	Value map[string]any // as JSON would have it: map, slice, string, bool, int64, float64, nil
	Err   *Error         // why there is no Value

	root   *mark
	locate Locate
	prefix []string // of the place in the document, when it is an item of a list
}

// Item is the path in the document of an object that is an item of a list; nil when the object is the document.
func (d *Document) Item() []string { return d.prefix }

// Error is what is wrong with a document. Line and Column are those of the file.
type Error struct {
	Line, Column int
	Message      string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message) }

var errLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s*)?(?:line (\d+): )?`)

// parse makes a document of its text; first is its first line in the file.
func parse(t Text) *Document {
	file, first, text := t.File, t.Line, t.Bytes
	d := &Document{File: file, Line: first, locate: t.Locate}
	fail := func(line, column int, message string) *Document {
		d.Err = &Error{Line: first + max(line, 1) - 1, Column: max(column, 1), Message: message}
		if d.locate != nil {
			at := d.locate(nil, Place{File: file, Line: d.Err.Line, Column: d.Err.Column})
			d.File, d.Err.Line, d.Err.Column = at.File, at.Line, at.Column
		}
		return d
	}
	if line, column, what := invalid(text); what != "" {
		return fail(line, column, what)
	}
	if trimmed := bytes.TrimSpace(text); trimmed[0] == '{' || trimmed[0] == '[' {
		text = indentJSON(text)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		m := errLine.FindStringSubmatch(err.Error())
		line, _ := strconv.Atoi(m[1]) // "" is no line: 0
		return fail(line, 1, "not YAML: "+strings.TrimSpace(err.Error()[len(m[0]):]))
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) == 0 {
		return fail(1, 1, "the document is empty")
	}
	top := root.Content[0]
	d.Line = first + top.Line - 1 // past comments and empty lines
	c := converter{nodes: maxNodes}
	value, err := c.value(top, 0)
	if err != nil {
		var at *Error
		errors.As(err, &at) // the converter has no other
		return fail(at.Line, at.Column, at.Message)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return fail(top.Line, top.Column, "a "+kindName(top)+" where an object should be")
	}
	m := marking{first - 1, map[*yaml.Node]mark{}}
	marks := m.mark(top)
	d.root, d.Value = &marks, object
	return d
}

// indentJSON replaces tabs that indent, which JSON allows and YAML does not. No column changes.
func indentJSON(text []byte) []byte {
	if bytes.IndexByte(text, '\t') < 0 {
		return text
	}
	out := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		indent := len(line) - len(bytes.TrimLeft(line, " \t"))
		out = append(append(out, bytes.Repeat([]byte{' '}, indent)...), line[indent:]...)
	}
	return out
}

// Items are the objects in a document: its items when it is a List, else the document itself.
func (d *Document) Items() []*Document {
	kind, _ := d.Value["kind"].(string)
	items, ok := d.Value["items"].([]any)
	if d.Err != nil || !ok || !strings.HasSuffix(kind, "List") {
		return []*Document{d}
	}
	var out []*Document
	for i, item := range items {
		child := &Document{File: d.File, root: d.root, locate: d.locate, prefix: append(append([]string{}, d.prefix...), "items", strconv.Itoa(i))}
		at := child.At(nil)
		child.Line = at.Line
		if object, ok := item.(map[string]any); ok {
			child.Value = object
		} else {
			child.Err = &Error{Line: at.Line, Column: at.Column, Message: "an item of the list is no object"}
		}
		out = append(out, child.Items()...)
	}
	return out
}
