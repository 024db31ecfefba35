// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mark is where a value stands. It is what stays of the parser's nodes, which are four times as large.
type mark struct {
	line, column       int32
	keyLine, keyColumn int32 // of the key in a mapping
	key, value         string
	children           []mark
	scalar, list       bool
}

// marking makes marks. What is aliased is marked once.
type marking struct {
	before int // lines of the file before the document
	done   map[*yaml.Node]mark
}

func (m marking) mark(n *yaml.Node) mark {
	target := n
	for target.Kind == yaml.AliasNode {
		target = target.Alias
	}
	if have, ok := m.done[target]; ok && target.Anchor != "" {
		return have
	}
	out := mark{line: int32(target.Line + m.before), column: int32(target.Column), scalar: target.Kind == yaml.ScalarNode, list: target.Kind == yaml.SequenceNode}
	switch target.Kind {
	case yaml.ScalarNode:
		out.value = target.Value
	case yaml.SequenceNode:
		out.children = make([]mark, len(target.Content))
		for i, c := range target.Content {
			out.children[i] = m.mark(c)
		}
	case yaml.MappingNode:
		m.mapping(&out, target)
	}
	if target.Anchor != "" {
		m.done[target] = out
	}
	return out
}

func (m marking) mapping(out *mark, n *yaml.Node) {
	out.children = make([]mark, 0, len(n.Content)/2)
	var merged []mark
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], m.mark(n.Content[i+1])
		if isMerge(key) {
			if value.list {
				for _, v := range value.children {
					merged = append(merged, v.children...)
				}
			} else {
				merged = append(merged, value.children...)
			}
			continue
		}
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		value.key, value.keyLine, value.keyColumn = key.Value, int32(key.Line+m.before), int32(key.Column)
		if n.Content[i+1].Kind == yaml.AliasNode && value.scalar {
			value.line, value.column = int32(n.Content[i+1].Line+m.before), int32(n.Content[i+1].Column)
		}
		out.children = append(out.children, value)
	}
	out.children = append(out.children, merged...) // after its own: the first of a name is found
}

func (n *mark) child(step string) *mark {
	if n.list {
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.children) {
			return &n.children[i]
		}
		return nil
	}
	for i := range n.children {
		if n.children[i].key == step {
			return &n.children[i]
		}
	}
	return nil
}

// Place is where a value stands.
type Place struct {
	File         string
	Line, Column int
	Value        string // the text, when it is a single value
	Found        bool   // the path is there; else the place is that of the nearest object above it
}

// At finds a path of keys and indices. What is not there is placed at the nearest object above that is.
func (d *Document) At(path []string) Place {
	if d.Err != nil {
		return Place{File: d.File, Line: d.Err.Line, Column: d.Err.Column}
	}
	path = append(append([]string{}, d.prefix...), path...)
	p := d.at(path)
	if d.locate != nil {
		p = d.locate(path, p)
	}
	return p
}

func (d *Document) at(path []string) Place {
	p := Place{File: d.File, Line: d.Line, Column: 1}
	n := d.root
	if n == nil {
		return p
	}
	p.Found = true
	for _, step := range path {
		next := n.child(step)
		if next == nil {
			p.Found = false
			break
		}
		n = next
	}
	p.Line, p.Column, p.Value = int(n.line), int(n.column), n.value
	if n.key != "" && (!n.scalar || !p.Found) {
		p.Line, p.Column = int(n.keyLine), int(n.keyColumn)
	}
	if !p.Found {
		p.Value = ""
	}
	return p
}

// Written reports whether the document has a text that places in it can be found in.
func (d *Document) Written() bool { return d.root != nil || d.Err != nil }

// PathString writes a path as people do: spec.containers[0].image.
func PathString(path []string) string {
	var b strings.Builder
	for i, step := range path {
		switch {
		case step != "" && strings.Trim(step, "0123456789") == "":
			b.WriteString("[" + step + "]")
		case strings.ContainsAny(step, ".[]/"):
			b.WriteString("[" + strconv.Quote(step) + "]")
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		}
	}
	return b.String()
}

// ParsePath is the path that PathString wrote.
func ParsePath(s string) []string {
	var path []string
	for s != "" {
		switch {
		case s[0] == '.':
			s = s[1:]
		case strings.HasPrefix(s, `["`):
			quoted, err := strconv.QuotedPrefix(s[1:])
			if err != nil {
				return append(path, s)
			}
			step, err := strconv.Unquote(quoted)
			if err != nil {
				return append(path, s)
			}
			path, s = append(path, step), strings.TrimPrefix(s[1+len(quoted):], "]")
		case s[0] == '[':
			index, rest, _ := strings.Cut(s[1:], "]")
			path, s = append(path, index), rest
		default:
			end := strings.IndexAny(s, ".[")
			if end < 0 {
				end = len(s)
			}
			path, s = append(path, s[:end]), s[end:]
		}
	}
	return path
}

// Unwritten is a document of an object that stands in no file, as JSON: what stands in it can be found, all of it on line 1. Errors:
// what is wrong with the JSON.
func Unwritten(file string, object []byte) (*Document, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.UseNumber()
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	root := markOf(value)
	return &Document{File: file, Line: 1, root: &root}, nil
}

func markOf(value any) mark {
	out := mark{line: 1, column: 1}
	switch v := value.(type) {
	case map[string]any:
		out.children = make([]mark, 0, len(v))
		for key, value := range v {
			child := markOf(value)
			child.key, child.keyLine, child.keyColumn = key, 1, 1
			out.children = append(out.children, child)
		}
	case []any:
		out.list, out.children = true, make([]mark, len(v))
		for i, value := range v {
			out.children[i] = markOf(value)
		}
	case nil:
		out.scalar, out.value = true, "null"
	default: // string, bool, json.Number
		out.scalar, out.value = true, fmt.Sprint(v)
	}
	return out
}
