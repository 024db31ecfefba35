// SPDX-License-Identifier: Apache-2.0

package edit

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// editor finds the texts that may be the changed one. It need not be right: Apply looks at what they say.
type editor struct {
	text   []byte
	root   *yaml.Node
	lines  []int // where each line begins
	bounds map[*yaml.Node]int
}

func lineStarts(text []byte) []int {
	starts := []int{0}
	for i, b := range text {
		if b == '\n' && i+1 < len(text) {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// candidates are new texts, the likeliest first.
func (e *editor) candidates(op Op) [][]byte {
	e.bounds = map[*yaml.Node]int{}
	e.bound(e.root, len(e.lines)+1)
	parent, rest := deepest(e.root, op.Path)
	key := rest[0]
	if op.Remove {
		return e.remove(parent, key)
	}
	value := op.Value
	if op.Append {
		if target := at(e.root, op.Path); target != nil && target.Kind == yaml.SequenceNode {
			return e.appendTo(target, value)
		}
		value = []any{value}
	}
	for i := len(rest) - 1; i > 0; i-- {
		value = map[string]any{rest[i]: value}
	}
	if have := own(parent, key); have != nil {
		return e.replace(parent, keyNode(parent, key), have, value)
	}
	if parent.Kind == yaml.SequenceNode {
		if have := child(parent, key); have != nil {
			return e.replace(parent, nil, have, value)
		}
		return nil
	}
	return e.insert(parent, key, value)
}

// bound notes the line that is after a node and everything that may belong to it.
func (e *editor) bound(n *yaml.Node, line int) {
	e.bounds[n] = line
	step := 1
	if n.Kind == yaml.MappingNode {
		step = 2
	}
	if n.Kind == yaml.AliasNode {
		return
	}
	for i := 0; i < len(n.Content); i += step {
		end := line
		if i+step < len(n.Content) {
			end = n.Content[i+step].Line
		}
		e.bounds[n.Content[i]] = end
		e.bound(n.Content[i+step-1], max(end, n.Content[i].Line+1))
	}
}

// lastLine is the last line of an entry whose key, or dash, is indented by indent: without the empty lines and the comments
// that stand before what follows it.
func (e *editor) lastLine(first, bound, indent int) int {
	last := bound - 1
	for ; last > first; last-- {
		line := e.line(last)
		trimmed := bytes.TrimSpace(line)
		own := len(line)-len(bytes.TrimLeft(line, " ")) > indent
		if len(trimmed) == 0 || !own && (trimmed[0] == '#' || string(trimmed) == "-") {
			continue
		}
		break
	}
	return last
}

// line is one of the text, with its end.
func (e *editor) line(n int) []byte { return e.text[e.start(n):e.start(n+1)] }

// start is where a line begins; of the one after the last it is the end.
func (e *editor) start(n int) int {
	if n-1 >= len(e.lines) {
		return len(e.text)
	}
	return e.lines[max(n-1, 0)]
}

// offset is where a column of a line is; columns count characters.
func (e *editor) offset(line, column int) int {
	at := e.start(line)
	for ; column > 1 && at < len(e.text); column-- {
		_, n := utf8.DecodeRune(e.text[at:])
		at += n
	}
	return at
}

// newline is how the lines of the text end.
func (e *editor) newline() string {
	if i := bytes.IndexByte(e.text, '\n'); i > 0 && e.text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

func (e *editor) splice(start, end int, with string) []byte {
	return slices.Concat(e.text[:start], []byte(with), e.text[max(start, end):])
}

// after puts lines behind a line, which may be the last one and have no end.
func (e *editor) after(line int, add string) []byte {
	end := e.start(line + 1)
	if end == len(e.text) && end > 0 && e.text[end-1] != '\n' {
		return e.splice(end, end, e.newline()+strings.TrimSuffix(add, e.newline()))
	}
	return e.splice(end, end, add)
}

// insert makes a new entry of an object.
func (e *editor) insert(parent *yaml.Node, key string, value any) [][]byte {
	if parent.Kind != yaml.MappingNode {
		return nil
	}
	if isFlow(parent) || len(parent.Content) == 0 {
		return e.insertFlow(parent, func(json bool) string { return e.inline(key, json) + ": " + e.inline(value, json) })
	}
	first := parent.Content[0]
	indent := first.Column - 1
	text := e.block(key, value, indent)
	last := parent.Content[len(parent.Content)-2]
	return [][]byte{
		e.after(e.lastLine(last.Line, e.bounds[parent], indent), text),
		e.after(e.lastLine(first.Line, e.bounds[first], indent), text),
		e.after(e.bounds[parent]-1, text), // behind a text whose empty lines count
	}
}

// insertFlow puts an entry behind the last one of {...} or [...].
func (e *editor) insertFlow(parent *yaml.Node, entry func(json bool) string) [][]byte {
	start := e.skipProperties(e.offset(parent.Line, parent.Column))
	end := e.flowEnd(start)
	if end <= start+1 {
		return nil
	}
	if len(parent.Content) == 0 {
		return [][]byte{e.splice(start+1, end-1, entry(e.isJSON()))}
	}
	json := quoted(parent.Content[0]) && e.isJSON()
	lastValue := parent.Content[len(parent.Content)-1]
	at := e.valueEnd(lastValue, true)
	last := lastValue
	if parent.Kind == yaml.MappingNode {
		last = parent.Content[len(parent.Content)-2] // its key
	}
	between := e.separation(last, at, end)
	return [][]byte{e.splice(at, at, between+entry(json))}
}

// separation is what stands before a new entry: a line of its own, when the last one has that and the bracket does not follow it.
func (e *editor) separation(last *yaml.Node, from, bracket int) string {
	line := e.line(last.Line)
	before := line[:e.offset(last.Line, last.Column)-e.start(last.Line)]
	if len(bytes.TrimSpace(before)) == 0 && bytes.IndexByte(e.text[from:bracket], '\n') >= 0 {
		return "," + e.newline() + string(before)
	}
	return ", "
}

// appendTo puts a value behind the last element of a list.
func (e *editor) appendTo(list *yaml.Node, value any) [][]byte {
	if isFlow(list) || len(list.Content) == 0 {
		return e.insertFlow(list, func(json bool) string { return e.inline(value, json) })
	}
	last := list.Content[len(list.Content)-1]
	dash, ok := e.dash(last)
	if !ok {
		return nil
	}
	return [][]byte{e.after(e.lastLine(last.Line, e.bounds[list], dash), strings.Repeat(" ", dash)+"- "+e.inline(value, false)+e.newline())}
}

// dash is how far the dash of an element is indented; ok when it is the first on its line.
func (e *editor) dash(element *yaml.Node) (indent int, ok bool) {
	line := e.line(element.Line)
	indent = len(line) - len(bytes.TrimLeft(line, " "))
	return indent, indent < len(line) && line[indent] == '-' && indent < element.Column-1
}

// replace gives an entry another value; key is nil for an element of a list.
func (e *editor) replace(parent, key, have *yaml.Node, value any) [][]byte {
	if key != nil && have.Kind == yaml.ScalarNode && have.Value == "" && !quoted(have) { // nothing stands there
		start := e.scalarEnd(e.offset(key.Line, key.Column), key, isFlow(parent))
		colon := bytes.IndexByte(e.text[start:], ':')
		if colon < 0 {
			return nil
		}
		at := start + colon + 1
		out := [][]byte{}
		if _, isMap := value.(map[string]any); isMap && !isFlow(parent) {
			text := e.block(key.Value, value, key.Column-1)
			_, nested, _ := strings.Cut(text, "\n")
			out = append(out, e.after(key.Line, nested))
		}
		return append(out, e.splice(at, at, " "+e.inline(value, e.isJSON())))
	}
	start := e.offset(have.Line, have.Column)
	if have.Kind != yaml.AliasNode {
		start = e.skipProperties(start)
	}
	if have.Kind == yaml.ScalarNode || have.Kind == yaml.AliasNode || isFlow(have) {
		quote := have.Kind == yaml.ScalarNode && have.Style&yaml.DoubleQuotedStyle != 0 || e.isJSON()
		return [][]byte{e.splice(start, e.valueEnd(have, isFlow(parent)), e.inline(value, quote))}
	}
	if key == nil {
		return nil
	}
	last := e.lastLine(key.Line, e.bounds[key], key.Column-1)
	return [][]byte{e.splice(e.start(key.Line), e.start(last+1), e.block(key.Value, value, key.Column-1))}
}

// remove takes out an entry.
func (e *editor) remove(parent *yaml.Node, name string) [][]byte {
	i := indexOf(parent, name)
	if parent.Kind == yaml.SequenceNode {
		i, _ = strconv.Atoi(name) // change did it too
	}
	if i < 0 || i >= len(parent.Content) {
		return nil
	}
	width := 1
	if parent.Kind == yaml.MappingNode {
		width = 2
	}
	entry := parent.Content[i]
	start := e.offset(entry.Line, entry.Column)
	var next *yaml.Node
	if i+width < len(parent.Content) {
		next = parent.Content[i+width]
	}
	if isFlow(parent) {
		switch end := e.valueEnd(parent.Content[i+width-1], true); {
		case next != nil:
			return [][]byte{e.splice(start, e.offset(next.Line, next.Column), "")}
		case i > 0:
			return [][]byte{e.splice(e.valueEnd(parent.Content[i-1], true), end, "")}
		default:
			return [][]byte{e.splice(start, end, "")}
		}
	}
	indent := entry.Column - 1
	if width == 1 {
		indent, _ = e.dash(entry)
	}
	last := e.lastLine(entry.Line, e.bounds[entry], indent)
	if i == 0 && next == nil { // the only one: what is left is empty, not absent
		if width == 1 {
			return [][]byte{e.splice(e.start(entry.Line), e.start(last+1), strings.Repeat(" ", indent+2)+"[]"+e.newline())}
		}
		return [][]byte{e.splice(start, e.start(last+1), "{}"+e.newline())}
	}
	out := [][]byte{e.splice(e.start(entry.Line), e.start(last+1), "")}
	if next != nil { // the first of an object stands behind a dash: the next one takes its place
		out = append(out, e.splice(start, e.offset(next.Line, next.Column), ""))
	}
	return out
}
